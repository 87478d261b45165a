package master

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// TestContested: what another service serves is refused, but for what this one has open; and a socket that cannot listen is told with who
// else wants its address.
func TestContested(t *testing.T) {
	m, _ := against(t, refuser{})
	m.opt.Root = t.TempDir()
	m.opt.Service, _ = service.Parse("shop")
	write := func(dir, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const text = "{listen: {web: {address: /run/a}}, metrics: {address: '127.0.0.1:9'}}"
	theirs := filepath.Join(m.opt.Root, "run/fdt")
	write(theirs+"/generation/1", text)
	if err := snapshot.Dir(theirs).WriteState(snapshot.State{Next: 2, Applied: 1}); err != nil {
		t.Fatal(err)
	}
	write(m.opt.Run.Path(7), text)
	cfg, err := m.opt.Run.Load(7)
	if err != nil {
		t.Fatal(err)
	}
	listener, metrics := unit.SocketName(m.opt.Service, cfg.Listen["web"].Addresses[0]), unit.MetricsName(m.opt.Service, *cfg.Metrics.Address)

	refused := func(want string) {
		t.Helper()
		got := ""
		if err := errors.Join(m.contested(cfg)...); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const listening = "listen.web.address: two services want /run/a: fdt@shop (listen.web.address) and fdt (listen.web.address): give one of them another address"
	const telling = "metrics.address: two services want 127.0.0.1:9: fdt@shop (metrics.address) and fdt (metrics.address): give one of them another address"
	refused(listening + "\n" + telling)
	m.last.sockets = map[string]socket{listener: {open: true}}
	refused(telling)
	m.last.metrics = map[string]socket{metrics: {open: true}}
	refused("")

	said := func(name string) string { return strings.Join(m.rivals(name), "; ") }
	if got := said(listener); got != "" {
		t.Errorf("of no generation: %s", got)
	}
	m.applied = &target{gen: 6}
	if got := said(listener); got != "" {
		t.Errorf("of a generation without a snapshot: %s", got)
	}
	m.pending = &target{gen: 7}
	for _, name := range []string{listener, metrics} {
		if got := said(name); !strings.HasPrefix(got, "two services want ") || !strings.HasSuffix(got, ": give one of them another address") || strings.Contains(got, "; ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := said("another"); got != "" {
		t.Errorf("of another: %s", got)
	}

	// A start is refused as a reload is, unless there is a last good configuration.
	m.applied, m.pending, m.last.sockets, m.last.metrics = nil, nil, nil, nil
	m.state.Next = 8
	write(m.opt.Etc, text)
	if err := m.cold(view{}); err != nil || m.step != TakingBack || m.failure == nil || m.failure.Error() != listening+"\n"+telling {
		t.Errorf("a start: %v, %v: %v", err, m.step, m.failure)
	}
	write(m.opt.LastGood, text)
	if err := m.cold(view{}); err != nil || m.step != TakingBack || m.instead != "" {
		t.Errorf("with a last good configuration that is no better: %v, %v: %q", err, m.step, m.instead)
	}
	write(m.opt.LastGood, "listen: {web: {address: /run/b}}")
	if err := m.cold(view{}); err != nil || m.instead != "the last good configuration serves, for "+listening+"\n"+telling {
		t.Errorf("with a last good configuration: %v, %q", err, m.instead)
	}
}
