package master

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// TestNotDirectory has a file where the runtime directory should be: whatever a rollout must keep fails, and says so.
func TestNotDirectory(t *testing.T) {
	m, log := against(t, refuser{})
	if err := os.WriteFile(string(m.opt.Run), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.state = snapshot.State{Next: 3, Applied: 1}
	m.applied = &target{gen: 1}
	cfg, _ := config.Load(m.opt.Etc)
	_, current := m.unitsCurrent()
	for what, err := range map[string]error{
		"save": m.save(m.state), "reject": m.reject(errTest), "prepare": m.prepare(m.opt.Etc), "forget": m.forget(7),
		"happen": m.happen(Failed, errTest), "mark": m.markRestart(),
	} {
		if !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := m.changeable(cfg); err == nil {
		t.Error("a configuration is compared with none")
	}
	if current == nil {
		t.Error("units of a generation without a snapshot are current")
	}
	if m.previous() != 0 {
		t.Error("a previous generation out of nothing")
	}
	if within := m.serving().Shutdown; within != time.Minute {
		t.Errorf("without any configuration: %s", within)
	}
	if got := m.unchanged(1, 2); len(got) != 0 {
		t.Errorf("%v", got)
	}
	m.step, m.untidy = Idle, true
	m.tidy()
	if m.adopt() {
		t.Error("a generation without a snapshot is adopted")
	}
	if m.state.Step = "dancing"; m.adopt() {
		t.Error("an unknown step is adopted")
	}
	for _, want := range []string{"the copies of earlier configurations cannot be listed", "resources cannot be compared", "not everything about it could be put in order",
		"generated units cannot be compared", "a generation's snapshot cannot be read"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, log)
		}
	}
}

// TestBegin goes as far as what systemd and the runtime directory let it.
func TestBegin(t *testing.T) {
	job := []any{"/job"}
	m, log := against(t, refuser{"StartUnit": job})
	if err := m.begin(false); errorName(err) != refused {
		t.Errorf("units that cannot be listed: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(string(m.opt.Run), "state.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(m.opt.Run), "generation"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.begin(false); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("generations that cannot be listed: %v", err)
	}
	if !strings.Contains(log.String(), "the state of the last master is lost") {
		t.Error(log)
	}
}

// TestPrepare has a configuration that holds, one that does not, and a systemd that does not read its units again.
func TestPrepare(t *testing.T) {
	m, log := against(t, refuser{"LoadUnit": {dbus.ObjectPath("/u")}})
	file := filepath.Join(m.opt.Etc, "config.yaml")
	if err := errors.Join(os.Mkdir(string(m.opt.Run), 0o700), os.Mkdir(m.opt.Etc, 0o700), os.WriteFile(file, []byte("dance: true\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.happen(Ready, nil); err == nil {
		t.Error("an event out of order")
	}
	m.state.Next = 1
	if err := m.prepare(m.opt.Etc); err == nil || !strings.Contains(err.Error(), "dance") {
		t.Error(err)
	}
	if left, err := m.opt.Run.Generations(); err != nil || len(left) != 0 {
		t.Errorf("snapshots %v %v", left, err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.prepare(m.opt.Etc); err != nil || m.step != TakingBack || errorName(m.failure) != refused {
		t.Errorf("%v: %s for %v", err, m.step, m.failure)
	}
	if !strings.Contains(log.String(), "the workers' unit cannot be read") {
		t.Error(log)
	}
	m.state.Applied, m.applied, m.pending = m.state.Pending, m.pending, nil
	if within := m.serving().Shutdown; within != time.Minute {
		t.Error(within)
	}
	if err := os.WriteFile(m.opt.Generated, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.opt.Generated += "/below"
	if _, err := m.unitsCurrent(); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if _, err := m.unitFiles(m.opt.Generated); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}

// TestDropsEveryProcedure: a configuration without procedures is not taken for the wish to drop them all.
func TestDropsEveryProcedure(t *testing.T) {
	m, _ := against(t, refuser{})
	m.opt.Etc, m.opt.Run = t.TempDir(), snapshot.Dir(t.TempDir())
	file := filepath.Join(m.opt.Etc, "config.yaml")
	put := func(text string) *config.Config {
		t.Helper()
		err := os.WriteFile(file, []byte(text), 0o600)
		cfg, invalid := config.Load(m.opt.Etc)
		if err := errors.Join(err, invalid); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	put("resources: {outbox: {type: spool, directory: /var/lib/fdt/outbox}}\nprocedures: {enqueue: {steps: [{on: outbox, put: x}]}}")
	if err := errors.Join(os.Mkdir(filepath.Join(string(m.opt.Run), "generation"), 0o700), m.opt.Run.Take(1, m.opt.Etc)); err != nil {
		t.Fatal(err)
	}
	m.applied = &target{gen: 1}
	if err := m.changeable(put("")); err == nil || !strings.Contains(err.Error(), "say procedures: {}") {
		t.Error(err)
	}
	if err := m.changeable(put("procedures: {}")); err != nil {
		t.Error(err)
	}
}
