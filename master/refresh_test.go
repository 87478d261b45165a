package master

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/service"
)

// TestRefresh has a generator write what systemd has, or something else, and a systemd that takes it or not.
func TestRefresh(t *testing.T) {
	opening := refuser{"Reload": {}, "ListUnitsByPatterns": {[]found{listed(service.Default.Sockets(), "inactive", "start")}}}
	with := func(r refuser, member string, answer any) refuser {
		r = maps.Clone(r)
		r[member] = []any{answer}
		return r
	}
	for _, c := range []struct {
		name   string
		script string
		r      refuser
		want   string // the error
		said   string // in the log
	}{
		{name: "nothing is new", script: "echo same >$1/fdt-listen@a.socket", r: refuser{}},
		{name: "another", script: "echo other >$1/fdt-listen@a.socket", r: with(opening, "StartUnit fail", dbus.ObjectPath("/job")), said: "has changed"},
		{name: "a fault of the generator", script: "echo broken >&2; echo same >$1/fdt-listen@a.socket; exit 1", r: refuser{}, said: "broken"},
		{name: "systemd cannot reload", script: "true", r: refuser{}, want: "daemon-reload: Reload is refused"},
		{name: "systemd cannot list", script: "true", r: refuser{"Reload": {}}, want: "list units: ListUnitsByPatterns is refused"},
		{name: "a stop meanwhile", script: "true", r: with(opening, "ListUnitsByPatterns", []found{listed(service.Default.Sockets(), "active", "stop")})},
		{name: "a stop in this moment", script: "true", r: with(opening, "StartUnit fail", &dbus.Error{Name: "org.freedesktop.systemd1.TransactionIsDestructive"}),
			said: "something else was asked for meanwhile"},
		{name: "systemd cannot start", script: "true", r: opening, want: "start fdt-sockets.target: StartUnit is refused"},
		{name: "what is to be cannot be read", script: "rm -r $1; ln -s $1 $1", r: refuser{}, want: "read the units as they are to be: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, log := against(t, c.r)
			m.opt.Generator = filepath.Join(t.TempDir(), "generator")
			if err := errors.Join(os.Mkdir(m.opt.Generated, 0o700), os.WriteFile(filepath.Join(m.opt.Generated, "fdt-listen@a.socket"), []byte("same\n"), 0o600),
				os.WriteFile(m.opt.Generator, []byte("#!/bin/sh\nshift\n"+c.script+"\n"), 0o700)); err != nil { //nolint:gosec // it is to be run
				t.Fatal(err)
			}
			err := m.Refresh(t.Context())
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if !strings.Contains(log.String(), c.said) {
				t.Errorf("%q is not in %s", c.said, log)
			}
		})
	}
}

// TestRefreshFails where it can do nothing at all.
func TestRefreshFails(t *testing.T) {
	m, _ := against(t, refuser{})
	m.opt.Generator = "/bin/false"
	if err := os.WriteFile(m.opt.Generated, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to go"))
	m.opt.Generated = filepath.Join(m.opt.Generated, "below") // ENOTDIR
	if err := m.Refresh(ctx); err == nil || !strings.HasPrefix(err.Error(), "read the units as they are: ") {
		t.Error(err)
	}
	m.opt.Generated = t.TempDir()
	if err := os.WriteFile(filepath.Join(m.opt.Generated, "fdt-listen@a.socket"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Refresh(ctx); err == nil || err.Error() != "told to go" {
		t.Error(err)
	}
	t.Setenv("TMPDIR", "/nowhere")
	if err := m.Refresh(ctx); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
