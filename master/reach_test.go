package master

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/config"
)

// TestReach follows one unix socket through what may become of it.
func TestReach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	// Tests' directories are below /tmp, of which the service has its own.
	was := sandbox
	sandbox = config.Sandbox{}
	t.Cleanup(func() { sandbox = was })
	listen := func() {
		t.Helper()
		_ = os.Remove(path)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = l.Close() })
	}
	at := uint64(0)
	var r reached
	look := func(active string) reached {
		t.Helper()
		m, _ := against(t, refuser{"Get": {dbus.MakeVariant(at)}})
		m.applied = goal(1, 1, socketA)
		m.applied.paths = map[string]string{socketA: path}
		r.looked = time.Time{}
		var err error
		if r, err = m.reach(found{Name: socketA, Active: active, Path: "/u"}, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look("inactive"); r.open || r.lost || r.since == 0 {
		t.Errorf("never open: %+v", r)
	}
	before := r.since
	if r := look("inactive"); r.since != before {
		t.Errorf("closed as before: since %d, not %d", r.since, before)
	}
	listen()
	at = uint64(monotonic())
	if r := look("active"); !r.open || r.lost || uint64(r.since) != at {
		t.Errorf("open: %+v", r)
	}
	listen()
	if r := look("active"); !r.lost {
		t.Errorf("another socket in its place: %+v", r)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := look("active"); !r.lost {
		t.Errorf("gone: %+v", r)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := look("active"); !r.lost {
		t.Errorf("a file in its place: %+v", r)
	}
	listen()
	at++
	if r := look("active"); r.lost || uint64(r.since) != at {
		t.Errorf("opened anew: %+v", r)
	}
	m, _ := against(t, refuser{})
	if again, err := m.reach(found{Name: socketA, Active: "active", Path: "/u"}, r); err != nil || again != r {
		t.Errorf("asked again at once: %+v, %v", again, err)
	}
	r.looked = time.Time{}
	if _, err := m.reach(found{Name: socketA, Active: "active", Path: "/u"}, r); errorName(err) != refused {
		t.Error(err)
	}
	// What the process may not see tells nothing.
	m.applied = goal(1, 1, socketA)
	m.applied.paths = map[string]string{socketA: path + "/below"}
	if file, gone := m.file(socketA); file != nil || gone {
		t.Errorf("%v, gone %t", file, gone)
	}
	sandbox = was
	m.applied.paths[socketA] = "/tmp/absent"
	if file, gone := m.file(socketA); file != nil || gone {
		t.Errorf("%v, gone %t", file, gone)
	}
}

// TestHealing: what the master does for its own reasons rejects no configuration, and its failure is told until all is
// well again.
func TestHealing(t *testing.T) {
	m, _ := against(t, refuser{})
	if err := errors.Join(os.MkdirAll(m.opt.Run.Path(1), 0o700), os.WriteFile(filepath.Join(m.opt.Run.Path(1), "config.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	m.state.Next, m.state.Applied, m.state.Rejected = 2, 1, "as before"
	m.applied = goal(1, 1)
	if err := m.heal(); err != nil || m.step != TakingBack || !m.state.Healing { // systemd refuses the reload of the units
		t.Fatalf("%v, %s, %+v", err, m.step, m.state)
	}
	if m.state.Rejected != "as before" || m.status().Degraded != "daemon-reload: Reload is refused" {
		t.Errorf("%+v", m.status())
	}
	adopting := New(m.opt)
	adopting.state, adopting.sd = m.state, m.sd
	if !adopting.adopt() || adopting.failure.Error() != m.state.Degraded {
		t.Errorf("the next master goes on with %v", adopting.failure)
	}
	if err := m.happen(TakenBack, nil); err != nil || m.state.Healing || m.state.Rejected != "as before" {
		t.Errorf("%v, %+v", err, m.state)
	}
	if err := errors.Join(os.RemoveAll(string(m.opt.Run)), os.WriteFile(string(m.opt.Run), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.healed(); err == nil || m.state.Degraded == "" {
		t.Errorf("what cannot be saved is forgotten: %v, %q", err, m.state.Degraded)
	}
}
