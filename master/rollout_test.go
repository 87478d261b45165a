package master

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/internal/service"
)

// TestNoState has a directory where the state should be: no rollout begins, and at a cold start the listeners are closed.
func TestNoState(t *testing.T) {
	m, _ := against(t, refuser{})
	if err := errors.Join(os.MkdirAll(filepath.Join(string(m.opt.Run), "state.json"), 0o700), os.MkdirAll(m.opt.Run.Path(1), 0o700),
		os.Mkdir(m.opt.Etc, 0o700), os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	m.state.Next, m.state.Previous = 2, 1
	for what, try := range map[string]func() error{"reload": m.reload, "rollback": m.rollback} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "state.json") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := m.cold(view{}); err != nil || m.step != TakingBack || !strings.Contains(m.failure.Error(), "state.json") {
		t.Errorf("cold: %v in %s, for %v", err, m.step, m.failure)
	}
	if err := errors.Join(os.RemoveAll(m.opt.Run.Path(1)), os.Remove(filepath.Dir(m.opt.Run.Path(1)))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Dir(m.opt.Run.Path(1)), nil, 0o600), os.Remove(filepath.Join(string(m.opt.Run), "state.json"))); err != nil {
		t.Fatal(err)
	}
	if err := m.cold(view{}); err != nil || m.step != TakingBack || !strings.Contains(m.failure.Error(), "generation") {
		t.Errorf("cold: %v in %s, for %v", err, m.step, m.failure)
	}
}

// TestLastGood starts with a broken configuration from the last good one, which a systemd that refuses to read units fails.
func TestLastGood(t *testing.T) {
	m, _ := against(t, refuser{})
	if err := errors.Join(os.Mkdir(string(m.opt.Run), 0o700), os.Mkdir(m.opt.LastGood, 0o700),
		os.WriteFile(filepath.Join(m.opt.LastGood, "config.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	m.state.Next = 1
	if err := m.cold(view{}); err != nil || m.step != TakingBack || m.coldSource != m.opt.LastGood || errorName(m.failure) != refused {
		t.Errorf("%v: %s of %s for %v", err, m.step, m.coldSource, m.failure)
	}
	if err := m.wantRestart(); err != nil || !m.recheck {
		t.Errorf("%v, to be looked at again: %t", err, m.recheck)
	}
	if err := m.takenBack(); !errors.Is(err, ErrNothingToServe) || errorName(err) != refused {
		t.Error(err)
	}
}

// TestMisconfigured tells a start that is of no use before somebody mends the configuration from one that may heal.
func TestMisconfigured(t *testing.T) {
	for name, c := range map[string]struct {
		etc, good string // configurations; empty: there is none
		workers   []worker
		other     string // configuration of the default service, which serves; this one is another then
		hopeless  bool
	}{
		"a fault and no last good one":       {etc: "wrokers: {}", hopeless: true},
		"none at all":                        {hopeless: true},
		"faults in both":                     {etc: "wrokers: {}", good: "{", hopeless: true},
		"workers are left to be stopped":     {etc: "wrokers: {}", workers: []worker{{unit: "fdt-worker@1-0.service", gen: 1, phase: draining}}},
		"the last good one is another's now": {etc: "wrokers: {}", good: "listen: {x: {address: /run/a}}", other: "listen: {x: {address: /run/a}}"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := against(t, refuser{"ListUnitsByPatterns": {[]found{}}})
			m.opt.Root, m.state.Next = t.TempDir(), 2
			err := errors.Join(os.Mkdir(string(m.opt.Run), 0o700), os.Mkdir(m.opt.LastGood, 0o700), os.MkdirAll(m.opt.Etc, 0o700))
			if c.etc != "" {
				err = errors.Join(err, os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), []byte(c.etc), 0o600))
			}
			if c.good != "" {
				err = errors.Join(err, os.WriteFile(filepath.Join(m.opt.LastGood, "config.yaml"), []byte(c.good), 0o600))
			}
			if c.other != "" {
				shop, perr := service.Parse("shop")
				etc := filepath.Join(m.opt.Root, "etc/fdt")
				err = errors.Join(err, perr, os.MkdirAll(etc, 0o700), os.WriteFile(filepath.Join(etc, "config.yaml"), []byte(c.other), 0o600))
				m.opt.Service = shop
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := m.cold(view{workers: c.workers}); err != nil {
				t.Fatal(err)
			}
			err = m.takenBack()
			if !errors.Is(err, ErrNothingToServe) || errors.Is(err, ErrMisconfigured) != c.hopeless {
				t.Errorf("hopeless %t: %v", errors.Is(err, ErrMisconfigured), err)
			}
			if _, ok := errors.AsType[config.Faults](err); !ok {
				t.Errorf("the faults are lost: %v", err)
			}
		})
	}
}

// TestHangup logs a reload's failure, unless it is the master that leaves.
func TestHangup(t *testing.T) {
	m, log := against(t, refuser{})
	ctx, cancel := context.WithCancel(t.Context())
	m.wasStopping = true
	var owner sync.WaitGroup
	owner.Go(func() { m.handle(<-m.requests) })
	m.Reload(ctx)
	owner.Wait()
	if !strings.Contains(log.String(), ErrStopping.Error()) {
		t.Error(log)
	}
	log.Reset()
	owner.Go(func() {
		<-m.requests
		cancel()
	})
	for range 2 { // it is told of the first
		m.Reload(ctx)
	}
	owner.Wait()
	if log.Len() != 0 {
		t.Error(log)
	}
}

// TestLeavesUnchecked: a self-check ends though nobody is there to hear of it, and is of no account for another process.
func TestLeavesUnchecked(t *testing.T) {
	m, _ := against(t, refuser{})
	m.applied, m.pending = goal(1, 1), goal(2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.check(ctx, worker{unit: "w", gen: 2, slot: 1})
	m.helpers.Wait()
	m.memos["w"] = new(memo)
	m.concluded(checked{unit: "w"})
	m.concluded(checked{unit: "gone"})
	if v := m.memos["w"].verdict; v != unasked || len(m.memos) != 1 {
		t.Errorf("verdict %d; %d remembered", v, len(m.memos))
	}
	if names := m.closed(worker{}); names != nil { // no rollout is under way
		t.Errorf("%v are closed for good", names)
	}
}

// TestUntold has nobody listen for the status.
func TestUntold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	m, log := against(t, refuser{})
	m.opt.Status = notify.Status
	m.show()
	m.shown = ""
	m.showStop()
	if n := strings.Count(log.String(), "systemd cannot be told the status"); n != 2 {
		t.Errorf("told %d times:\n%s", n, log)
	}
}

// TestAlone asks for what is not there: an earlier generation, a worker that answers, a job of a socket.
func TestAlone(t *testing.T) {
	m, log := against(t, refuser{})
	m.callers = []request{{reply: make(chan answer, 1)}}
	reply := m.callers[0].reply
	if err := m.rollback(); err != nil {
		t.Error(err)
	}
	m.flush()
	if a := <-reply; !errors.Is(a.err, ErrNoPrevious) {
		t.Error(a)
	}
	m.last.workers = []worker{{unit: "w", gen: 1, slot: 1, phase: draining}}
	m.hurry(1, hurryWithin)
	m.helpers.Wait()
	if !strings.Contains(log.String(), "a worker cannot be told to end sooner") {
		t.Error(log)
	}
	sockets := map[string]socket{}
	if m.socket(found{Name: "s.socket", Active: "activating"}, sockets); sockets["s.socket"].job != "start" {
		t.Errorf("%+v", sockets)
	}
}
