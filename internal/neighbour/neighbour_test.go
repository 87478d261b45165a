package neighbour

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// host is a root directory.
type host struct {
	*testing.T
	root string
}

func (h host) write(name, text string) {
	h.Helper()
	name = filepath.Join(h.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		h.Fatal(err)
	}
}

// serve has a service serve, and be about to serve, configurations.
func (h host) serve(s service.Service, texts ...string) {
	h.Helper()
	dir := snapshot.Dir(filepath.Join(h.root, s.Run()))
	h.write(s.Run()+"/generation/.keep", "")
	for i, text := range texts {
		h.write("tmp/config.yaml", text)
		if err := dir.Take(i+1, filepath.Join(h.root, "tmp")); err != nil {
			h.Fatal(err)
		}
	}
	state := snapshot.State{Next: 9, Applied: 1, Draining: []int{3}}
	if len(texts) > 1 {
		state.Pending = 2
	}
	if err := dir.WriteState(state); err != nil {
		h.Fatal(err)
	}
}

func TestWanted(t *testing.T) {
	h := host{t, t.TempDir()}
	named := func(name string) service.Service {
		s, err := service.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	shop, bank, idle := named("shop"), named("bank"), named("idle")
	load := func(text string) *config.Config {
		t.Helper()
		c, err := config.Parse([]config.Text{{Name: "config.yaml", Text: text}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	h.write("etc/fdt/config.yaml", "listen: {draft: {address: '127.0.0.1:1', auth: program}}")
	h.serve(service.Default, "{listen: {local: {address: /run/a}, tcp: {address: '127.0.0.1:80', auth: program}}, metrics: {address: '[::]:9'}}",
		"listen: {local: {address: /run/a}, more: {address: '127.0.0.1:81', auth: program}}", "listen: {gone: {address: /run/gone}}")
	h.write("etc/fdt/bank/config.yaml", "listen: {vault: {address: /run/vault}}")
	h.write("etc/fdt/faulty/config.yaml", "lisetn: {}")
	h.write("etc/fdt/shop/config.yaml", "listen: {local: {address: /run/a}}")

	h.write("etc/fdt/broken/config.yaml", "lisetn: {}")
	h.write("var/lib/fdt@faulty/last-good/config.yaml", "listen: {x: {address: /run/kept}}")
	for _, c := range []struct {
		of        service.Service
		text      string
		lost, won string
	}{
		{shop, "listen: {x: {address: /run/x}}", "", ""},
		{shop, "listen: {x: {address: /run/a}}", "two services want /run/a: fdt@shop (listen.x.address) and fdt (listen.local.address)", ""},
		{shop, "listen: {x: {address: '0.0.0.0:80', auth: program}}", "two services want 0.0.0.0:80 and 127.0.0.1:80: fdt@shop (listen.x.address) and fdt (listen.tcp.address)", ""},
		{shop, "listen: {x: {address: '127.0.0.1:81', auth: program}}", "and fdt (listen.more.address)", ""},
		{shop, "listen: {x: {address: ['[::1]:9', '127.0.0.1:9'], auth: program}}", "two services want [::1]:9 and [::]:9: fdt@shop (listen.x.address) and fdt (metrics.address)", ""},
		{shop, "{listen: {x: {address: /run/x}}, metrics: {address: '127.0.0.1:80'}}", "fdt@shop (metrics.address) and fdt (listen.tcp.address)", ""},
		{shop, "listen: {x: {address: '127.0.0.1:1', auth: program}}", "", ""}, // fdt would like to have it, and does not
		{shop, "listen: {x: {address: /run/gone}}", "", ""},                    // fdt is about to let go of it
		// What nobody serves is the first one's that is configured to have it.
		{shop, "listen: {x: {address: /run/vault}}", "fdt@bank (listen.vault.address): give one", ""},
		{service.Default, "listen: {x: {address: /run/vault}}", "", "fdt@bank (listen.vault.address): fdt@bank does not get it"},
		{service.Default, "listen: {x: {address: /run/kept}}", "", "fdt@faulty (listen.x.address)"},
		{shop, "listen: {x: {address: /run/kept}}", "fdt@faulty (listen.x.address)", ""},
		{bank, "listen: {x: {address: /run/kept}}", "", "fdt@faulty (listen.x.address)"},
		{service.Default, "listen: {x: {address: /run/a}}", "", "fdt@shop (listen.local.address)"},
		{bank, "listen: {x: {address: [/run/vault, /run/a]}}", "/run/a: fdt@bank", ""},
		{idle, "listen: {x: {address: [/run/a, '127.0.0.1:80'], auth: program}}", "/run/a|127.0.0.1:80", ""},
		// The default address, and every other in a directory of another one.
		{shop, "", "listen.local.address: /run/fdt/.s.PGSQL.7432 is in the directory of fdt, and not of fdt@shop: say address: /run/fdt@shop/.s.PGSQL.7432", ""},
		{service.Default, "listen: {x: {address: /run/fdt@bank/s}}", "/run/fdt@bank/s is in the directory of fdt@bank, and not of fdt: say address: /run/fdt/s", ""},
		{shop, "listen: {x: {address: /run/fdt@shop/s}}", "", ""},
	} {
		expect(t, c.text, c.lost, Lost(h.root, c.of, load(c.text)))
		expect(t, c.text, c.won, Won(h.root, c.of, load(c.text)))
	}

	// A directory of messages has one log of transactions that knows of what is prepared there.
	const outbox = "{listen: {x: {address: /run/x}}, resources: {outbox: {type: spool, directory: /srv/DIR}}}"
	out := func(dir string) string { return strings.ReplaceAll(outbox, "DIR", dir) }
	h.write("etc/fdt/clerk/config.yaml", strings.Replace(out("out/box"), "/run/x", "/run/clerk", 1))
	for dir, want := range map[string]string{
		"out/box":      "resources.outbox.directory: two services want /srv/out/box: fdt@shop (resources.outbox.directory) and fdt@clerk (resources.outbox.directory): give one of them another directory",
		"out":          "two services want /srv/out and /srv/out/box: ",
		"out/box/more": "two services want /srv/out/box/more and /srv/out/box: ",
		"out/box2":     "",
	} {
		expect(t, dir, want, Lost(h.root, shop, load(out(dir))))
		expect(t, dir, "", Lost(h.root, service.Default, load(out(dir))))
	}
	expect(t, "out/box", "fdt@clerk (resources.outbox.directory): fdt@clerk does not get it", Won(h.root, service.Default, load(out("out/box"))))

	// Who serves it has it, also where the default service is configured to have it at its next start.
	h.serve(shop, "listen: {x: {address: /run/later}}")
	if err := snapshot.Dir(filepath.Join(h.root, "run/fdt")).WriteState(snapshot.State{Next: 9}); err != nil {
		t.Fatal(err)
	}
	h.write("etc/fdt/config.yaml", "listen: {more: {address: [/run/later, /run/next]}}")
	expect(t, "served", "", Lost(h.root, shop, load("listen: {x: {address: /run/later}}")))
	expect(t, "served and more", "/run/next: fdt@shop", Lost(h.root, shop, load("listen: {x: {address: [/run/later, /run/next]}}")))
	more := load("listen: {more: {address: [/run/later, /run/next]}}")
	expect(t, "served by another", "/run/later: fdt (", Lost(h.root, service.Default, more))
	got := Refuse(h.root, service.Default, more)
	if want := "listen.more.address: two services want /run/later: fdt (listen.more.address) and fdt@shop (listen.x.address): give one of them another address"; got == nil || got.Error() != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// expect demands texts, separated by bars, one in each.
func expect(t *testing.T, of, want string, got []Wanted) {
	t.Helper()
	var texts []string
	if want != "" {
		texts = strings.Split(want, "|")
	}
	if len(texts) != len(got) {
		t.Errorf("%s: %v, want %v", of, got, texts)
		return
	}
	for i, text := range texts {
		if !strings.Contains(got[i].Error(), text) || !strings.Contains(got[i].What, got[i].Address.String()) || got[i].Address == (config.Address{}) != strings.HasSuffix(got[i].Path, ".directory") {
			t.Errorf("%s: %v, want %s", of, got[i], text)
		}
	}
}
