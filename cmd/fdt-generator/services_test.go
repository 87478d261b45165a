package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/snapshot"
)

// shopFiles are what is written for the service shop with one listener, whose name begins in a way.
var shopFiles = []string{"fdt-listen-shop@.service", "fdt-listen-shop@unix-shop-*.socket", "fdt-metrics-shop@.service",
	"fdt-sockets@shop.target.wants/fdt-listen-shop@unix-shop-*.socket", "fdt-worker-shop@.service", "fdt-worker-shop@.service.d/50-fdt.conf"}

// have tells whether each of some files, by patterns, was written.
func (h host) have(patterns ...string) (all bool) {
	h.t.Helper()
	all = true
	for _, p := range patterns {
		if found, err := filepath.Glob(filepath.Join(h.out, p)); err != nil || len(found) != 1 {
			all = false
		}
	}
	return all
}

// packaged puts the package's templates where it installs them.
func (h host) packaged() {
	h.t.Helper()
	for _, name := range []string{"fdt-worker@.service", "fdt-listen@.service", "fdt-metrics@.service"} {
		text, err := os.ReadFile("../../packaging/systemd/" + name)
		if err != nil {
			h.t.Fatal(err)
		}
		h.write("usr/lib/systemd/system/"+name, string(text))
	}
}

// TestServices: each service has units of its own, and no fault of one costs another any.
func TestServices(t *testing.T) {
	h := newHost(t)
	h.packaged()
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.write("etc/fdt/shop/config.yaml", listen("/run/shop"))
	if code, said, _, wanted := h.run(); code != 0 || said != "" || len(wanted) != 1 || !h.have(shopFiles...) {
		t.Errorf("code %d, %v wanted: %s", code, wanted, said)
	}
	text, err := os.ReadFile(filepath.Join(h.out, "fdt-worker-shop@.service"))
	for _, line := range []string{"# Written by fdt-generator: fdt-worker@.service for fdt@shop. To change it: systemctl edit fdt-worker-shop@.service\n[Unit]\n",
		"\nEnvironment=FDT_SERVICE=shop\n", "\nEnvironment=FDT_CONTROL=/run/fdt@shop/worker/%i.sock\n", "\nSlice=system-fdt\\x2dshop.slice\n"} {
		if !strings.Contains("\n"+string(text), line) {
			t.Errorf("%v: the template has no line %q:\n%s", err, line, text)
		}
	}

	for name, want := range map[string]string{"shop": "fdt-sockets@shop.target.wants", "": "fdt-sockets.target.wants"} {
		out, stderr := t.TempDir(), new(strings.Builder)
		code := run([]string{"-root", h.root, "-service=" + name, out}, stderr)
		if found, _ := filepath.Glob(out + "/*.wants"); code != 0 || stderr.Len() > 0 || len(found) != 1 || filepath.Base(found[0]) != want {
			t.Errorf("of %q alone: code %d, %v: %s", name, code, found, stderr)
		}
	}

	h.out = t.TempDir()
	h.write("etc/fdt/config.yaml", "lisetn: {}")
	if code, said, _, wanted := h.run(); code != 1 || !strings.Contains(said, `no key "lisetn"`) || len(wanted) != 0 || !h.have(shopFiles...) {
		t.Errorf("with a fault in the default service's: code %d, %v wanted: %s", code, wanted, said)
	}

	h.out = t.TempDir()
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.write("etc/fdt/shop/config.yaml", "lisetn: {}")
	if code, said, _, wanted := h.run(); code != 1 || !strings.Contains(said, "etc/fdt/shop/config.yaml:1:1: ") || len(wanted) != 1 || h.have(shopFiles[0]) {
		t.Errorf("with a fault in the other's: code %d, %v wanted: %s", code, wanted, said)
	}
}

// TestServiceTakenAway serves on, and is then forgotten without a word.
func TestServiceTakenAway(t *testing.T) {
	h := newHost(t)
	h.packaged()
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.write("run/fdt@shop/generation/1/config.yaml", listen("/run/shop"))
	shop := snapshot.Dir(filepath.Join(h.root, "run/fdt@shop"))
	if err := shop.WriteState(snapshot.State{Next: 2, Applied: 1}); err != nil {
		t.Fatal(err)
	}
	if code, said, _, _ := h.run(); code != 0 || said != "" || !h.have(shopFiles...) {
		t.Errorf("code %d: %s", code, said)
	}
	h.out = t.TempDir()
	if err := shop.WriteState(snapshot.State{Next: 2}); err != nil {
		t.Fatal(err)
	}
	if code, said, _, _ := h.run(); code != 0 || said != "" || h.have(shopFiles[0]) {
		t.Errorf("stopped: code %d: %s", code, said)
	}
}

// TestServiceWithoutTemplates says so, and writes what it can.
func TestServiceWithoutTemplates(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.write("etc/fdt/shop/config.yaml", listen("/run/shop"))
	if code, said, _, _ := h.run(); code != 1 || !strings.Contains(said, "fdt-worker@.service: no such file") || !h.have(shopFiles[1], shopFiles[3], shopFiles[5]) {
		t.Errorf("code %d: %s", code, said)
	}
}

// TestContested: a service opens nothing that is another's by configuration, also where that one does not run.
func TestContested(t *testing.T) {
	h := newHost(t)
	h.packaged()
	h.write("etc/fdt/config.yaml", "listen: {pub: {address: '127.0.0.1:7500', auth: program}}")
	h.write("etc/fdt/shop/config.yaml", "listen: {web: {address: '0.0.0.0:7500', auth: program}}")
	const fault = "two services want 0.0.0.0:7500 and 127.0.0.1:7500: fdt@shop (listen.web.address) and fdt (listen.pub.address)"
	if code, said, _, wanted := h.run(); code != 1 || !strings.Contains(said, fault) || len(wanted) != 1 || h.have("fdt-listen-shop@tcp*.socket") {
		t.Errorf("code %d, %v wanted: %s", code, wanted, said)
	}
	h.out = t.TempDir()
	h.write("var/lib/fdt@shop/last-good/config.yaml", listen("/run/shop"))
	if code, said, _, _ := h.run(); code != 1 || !strings.Contains(said, fault) || !strings.Contains(said, "the last good one is used") || !h.have(shopFiles...) || h.have("fdt-listen-shop@tcp*.socket") {
		t.Errorf("with a last good one: code %d: %s", code, said)
	}
	h.out = t.TempDir()
	h.write("etc/fdt/shop/config.yaml", "") // has the address that is the default
	if code, said, _, _ := h.run(); code != 1 || !strings.Contains(said, "say address: /run/fdt@shop/.s.PGSQL.7432") || !h.have(shopFiles...) || h.have("fdt-listen-shop@*PGSQL*.socket") {
		t.Errorf("without listeners: code %d: %s", code, said)
	}
	// Who has it open keeps it, and the one that stood still meanwhile serves what it last could.
	h.out = t.TempDir()
	h.write("run/fdt@shop/generation/1/config.yaml", "listen: {web: {address: '0.0.0.0:7500', auth: program}}")
	if err := snapshot.Dir(filepath.Join(h.root, "run/fdt@shop")).WriteState(snapshot.State{Next: 2, Applied: 1}); err != nil {
		t.Fatal(err)
	}
	h.write("var/lib/fdt/last-good/config.yaml", listen("/run/etc"))
	if code, said, _, _ := h.run(); code != 1 || !strings.Contains(said, "fdt (listen.pub.address) and fdt@shop (listen.web.address)") || !h.have("fdt-listen-shop@tcp*.socket", "fdt-listen@unix-etc-*.socket") || h.have("fdt-listen@tcp*.socket") {
		t.Errorf("while the other has it open: code %d: %s", code, said)
	}
}
