package master

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/unit"
)

// listed is a unit as systemd lists it.
func listed(name, active, job string) found {
	return found{Name: name, Active: active, JobType: job, Path: "/u", JobPath: "/job", JobID: 1}
}

// TestStopRefused has a stop meet a systemd that refuses one call, wherever it may be.
func TestStopRefused(t *testing.T) {
	socket := listed("fdt-listen@x.socket", "active", "")
	for _, c := range []struct {
		name string
		list []found
		r    refuser
		want string
	}{
		{"restart", []found{listed(unit.Stopper, "active", "restart")}, refuser{}, "start " + unit.Stopper + ": "},
		{"host", []found{listed(unit.Stopper, "active", "stop"), socket},
			refuser{"Get": {dbus.MakeVariant("stopping")}}, "stop " + socket.Name + ": "},
		{"service", []found{listed(unit.Stopper, "active", "stop"), socket}, refuser{}, "stop " + socket.Name + ": "},
		{"worker", []found{listed(unit.WorkerName(1, 1), "active", "stop")}, refuser{}, "read State of /job: "},
		{"crash", []found{listed(unit.WorkerName(1, 1), "failed", "")}, refuser{}, "read properties of /u: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r["ListUnitsByPatterns"] = []any{c.list}
			m, log := against(t, c.r)
			if err := os.MkdirAll(filepath.Join(string(m.opt.Run), "state.json"), 0o700); err != nil {
				t.Fatal(err)
			}
			m.living = nil // as in the stopper
			if err := m.Stop(t.Context()); errorName(err) != refused || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if !strings.Contains(log.String(), "the state cannot be read") {
				t.Error(log)
			}
		})
	}
}

// TestMarkRefused restarts with a file in the place of the runtime directory.
func TestMarkRefused(t *testing.T) {
	m, _ := against(t, refuser{"StartUnit": {dbus.ObjectPath("/job")},
		"ListUnitsByPatterns": {[]found{listed(unit.Stopper, "active", "restart"), listed(unit.Master, "active", "")}}})
	if err := os.WriteFile(string(m.opt.Run), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context()); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}
