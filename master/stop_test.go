package master

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/service"
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
		{"restart", []found{listed(service.Default.Stopper(), "active", "restart")}, refuser{}, "start " + service.Default.Stopper() + ": "},
		{"host", []found{listed(service.Default.Stopper(), "active", "stop"), socket},
			refuser{"Get": {dbus.MakeVariant("stopping")}}, "stop " + socket.Name + ": "},
		{"service", []found{listed(service.Default.Stopper(), "active", "stop"), socket}, refuser{}, "stop " + socket.Name + ": "},
		{"worker", []found{listed(service.Default.WorkerName(1, 1), "active", "stop")}, refuser{}, "read State of /job: "},
		{"crash", []found{listed(service.Default.WorkerName(1, 1), "failed", "")}, refuser{}, "read properties of /u: "},
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
		"ListUnitsByPatterns": {[]found{listed(service.Default.Stopper(), "active", "restart"), listed(service.Default.Master(), "active", "")}}})
	if err := os.WriteFile(string(m.opt.Run), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context()); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}

// TestStopDelays has a stop wait for drain.delay while somebody is served, and only then.
func TestStopDelays(t *testing.T) {
	stopper, socket, serving := listed(service.Default.Stopper(), "deactivating", "stop"), listed("fdt-listen@x.socket", "active", ""), listed(service.Default.WorkerName(1, 1), "active", "")
	told := errors.New("told")
	for _, c := range []struct {
		name, delay string
		list        []found
		waits       bool
		want        string
	}{
		{"waits", "20m", []found{stopper, socket, serving}, true, "told"},
		{"is over", "1ms", []found{stopper, socket, serving}, true, "stop fdt-listen@x.socket: "},
		{"none", "0s", []found{stopper, socket, serving}, false, "stop fdt-listen@x.socket: "},
		{"nobody serves", "20m", []found{stopper, socket, listed(service.Default.WorkerName(1, 1), "deactivating", "")}, false, "stop fdt-listen@x.socket: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, log := against(t, refuser{"ListUnitsByPatterns": {c.list}, "Get": {dbus.MakeVariant("running")}})
			m.living = nil // as in the stopper
			if err := errors.Join(os.MkdirAll(m.opt.Etc, 0o700), os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), []byte("drain: {delay: "+c.delay+"}\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
			ctx, end := context.WithCancelCause(t.Context())
			said := ""
			m.opt.Status = func(line string) error {
				if said = line; c.want == "told" {
					end(told)
				}
				return nil
			}
			if err := m.Stop(ctx); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			m.helpers.Wait()
			if waits := strings.Contains(log.String(), "clients are still let in"); waits != c.waits || waits != strings.HasPrefix(said, "stopping: clients are let in for "+c.delay) {
				t.Errorf("%q; %s", said, log)
			}
		})
	}
}

// TestCalledOff: a start that comes within drain.delay finds the generation that serves as it was, and leaves it alone.
func TestCalledOff(t *testing.T) {
	socket, serving := listed(socketA, "active", ""), listed(service.Default.WorkerName(1, 1), "active", "")
	for name, c := range map[string]struct {
		list []found
		step Step
		want bool
	}{
		"nothing was closed": {[]found{socket, serving}, Idle, true},
		"a listener was":     {[]found{listed(socketA, "inactive", ""), serving}, Idle, false},
		"a listener will be": {[]found{listed(socketA, "active", "stop"), serving}, Idle, false},
		"a worker was told":  {[]found{socket, serving, listed(service.Default.WorkerName(1, 2), "deactivating", "")}, Idle, false},
		"no worker serves":   {[]found{socket}, Idle, false},
		"in a rollout":       {[]found{socket, serving, listed(service.Default.WorkerName(2, 1), "active", "")}, Idle, false},
		"of another":         {[]found{socket, serving}, Opening, false},
	} {
		m, _ := against(t, refuser{"ListUnitsByPatterns": {c.list}, "Get": {dbus.MakeVariant(uint64(1))}})
		m.living, m.step, m.applied = nil, c.step, goal(1, 1, socketA)
		v, err := m.read()
		if err != nil || m.whole(v) != c.want {
			t.Errorf("%s: %t, %v", name, !c.want, err)
		}
	}
}
