package master

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// places makes the directories of a master that is to write state and snapshots, and read an empty configuration.
func places(t *testing.T, m *Master) {
	t.Helper()
	if err := errors.Join(os.Mkdir(string(m.opt.Run), 0o700), os.Mkdir(m.opt.Etc, 0o700),
		os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// A stop that systemd takes between a look and the start of what it asks for is not taken back, and no fault.
func TestStopSinceTheLook(t *testing.T) {
	m, _ := against(t, refuser{"StartUnit fail": {&dbus.Error{Name: "org.freedesktop.systemd1.TransactionIsDestructive"}}})
	companion := companionOf(service.Default, "fdt-listen@a.socket")
	if err := m.apply([]action{{verb: doStart, unit: companion}}); err != nil {
		t.Error(err)
	}
}

// TestAdvanceRefused has systemd list units and refuse to start any, at each place in a rollout.
func TestAdvanceRefused(t *testing.T) {
	none := refuser{"ListUnitsByPatterns": {[]found{}}}
	t.Run("idle", func(t *testing.T) {
		m, _ := against(t, none)
		m.applied = goal(1, 1)
		if _, err := m.advance(); errorName(err) != refused {
			t.Error(err)
		}
	})
	t.Run("starting", func(t *testing.T) {
		m, _ := against(t, none)
		places(t, m)
		m.state.Next, m.state.Pending, m.step, m.pending = 2, 1, Starting, goal(1, 1)
		if _, err := m.advance(); !errors.Is(err, ErrNothingToServe) || errorName(err) != refused {
			t.Error(err)
		}
	})
	t.Run("a stop that a start overtook", func(t *testing.T) {
		m, _ := against(t, none)
		m.wasStopping = true
		if _, err := m.advance(); errorName(err) != refused || m.wasStopping {
			t.Errorf("%v, still stopping: %t", err, m.wasStopping)
		}
	})
	t.Run("a start that overtook a stop", func(t *testing.T) {
		m, _ := against(t, refuser{"StartUnit": {dbus.ObjectPath("/job")}, "ListUnitsByPatterns": {[]found{}}})
		places(t, m)
		m.wasStopping = true
		if _, err := m.advance(); !errors.Is(err, ErrNothingToServe) || m.state.Next != 2 {
			t.Errorf("%v; the next generation is %d", err, m.state.Next)
		}
	})
	t.Run("what is wanted cannot begin", func(t *testing.T) {
		m, _ := against(t, none)
		if err := os.WriteFile(string(m.opt.Run), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		m.state.Next = 1
		m.wanted = []request{{kind: kindReload, reply: make(chan answer, 1)}}
		if _, err := m.advance(); !errors.Is(err, syscall.ENOTDIR) {
			t.Error(err)
		}
	})
}

// TestMixedWishes lets a reload wait for its own turn behind a rollback.
func TestMixedWishes(t *testing.T) {
	m, _ := against(t, refuser{"ListUnitsByPatterns": {[]found{}}})
	back, again := request{kind: kindRollback, reply: make(chan answer, 1)}, request{kind: kindReload, reply: make(chan answer, 1)}
	m.wanted = []request{back, again, back}
	if _, err := m.advance(); err != nil {
		t.Fatal(err)
	}
	m.flush()
	if a := <-back.reply; !errors.Is(a.err, ErrNoPrevious) || len(again.reply) != 0 {
		t.Errorf("%v; the reload has %d answers", a.err, len(again.reply))
	}
	if len(m.wanted) != 2 || m.wanted[0].kind != kindReload || m.wanted[1].kind != kindRollback {
		t.Errorf("still wanted: %+v", m.wanted)
	}
}

// TestInstead follows why the configuration that serves is not the one in /etc/fdt: of a rollback that fails nothing is left for the
// reload after it, and a generation that is rolled for a closed listener keeps it.
func TestInstead(t *testing.T) {
	m, _ := against(t, refuser{})
	places(t, m)
	if err := errors.Join(m.opt.Run.Take(1, m.opt.Etc), m.opt.Run.Take(2, m.opt.Etc)); err != nil {
		t.Fatal(err)
	}
	m.state.Previous, m.state.Applied, m.state.Next, m.applied = 1, 2, 3, goal(2, 1)
	if err := m.rollback(); err != nil || m.step != TakingBack || !strings.Contains(m.instead, "rolled back to the configuration of generation 1") {
		t.Fatalf("%v: %s, instead for %q", err, m.step, m.instead)
	}
	if err := m.happen(TakenBack, nil); err != nil || m.instead != "" || m.state.Rejected == "" {
		t.Errorf("taken back: %v, instead for %q, rejected for %q", err, m.instead, m.state.Rejected)
	}
	m.step, m.state.Pending, m.state.Next, m.pending = Retiring, 4, 5, goal(4, 1)
	if err := m.happen(Retired, nil); err != nil || m.state.Applied != 4 || m.state.Rejected != "" {
		t.Errorf("the reload that went well: %v, %d serves, rejected for %q", err, m.state.Applied, m.state.Rejected)
	}

	if err := m.opt.Run.Take(4, m.opt.Etc); err != nil {
		t.Fatal(err)
	}
	m.state.Rejected = "rolled back"
	if err := m.idle(view{now: m.retry.until}, &decision{reopen: "fdt-listen@x.socket"}); err != nil || m.instead != "rolled back" {
		t.Errorf("a listener was closed: %v, instead for %q", err, m.instead)
	}
}

// TestGone has a unit that failed for good and was forgotten before a look, and one that systemd restarted between two.
func TestGone(t *testing.T) {
	m, _ := against(t, refuser{"ListUnitsByPatterns": {[]found{listed(service.Default.WorkerName(2, 2), "failed", "")}},
		"GetAll": {map[string]dbus.Variant{"Result": dbus.MakeVariant("success"), "NRestarts": dbus.MakeVariant(uint32(2))}}})
	m.step, m.pending = Starting, goal(2, 2)
	m.memo(service.Default.WorkerName(2, 1)).asked = noon
	m.memo(service.Default.WorkerName(1, 1)).asked = noon
	v, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(v.workers, func(a, b worker) int { return a.slot - b.slot })
	if len(v.workers) != 2 || v.workers[0].phase != crashed || !strings.Contains(v.workers[0].words, "ended before it was READY") {
		t.Errorf("%+v", v.workers)
	}
	if w := v.worker(service.Default.WorkerName(2, 2)); w.phase != starting || w.restarts != 2 {
		t.Errorf("%+v", w)
	}
	if m.memos[service.Default.WorkerName(1, 1)] != nil {
		t.Error("a worker that is gone is remembered")
	}
	if unlessGone(dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}) != nil {
		t.Error("a unit that is gone is an error")
	}
}

// TestDeathToldOnce looks at a dead worker before and after systemd has scheduled its restart, and at the next that dies.
func TestDeathToldOnce(t *testing.T) {
	died := func(restarts uint32, invocation byte) map[string]dbus.Variant {
		return map[string]dbus.Variant{"Result": dbus.MakeVariant("signal"), "ExecMainStatus": dbus.MakeVariant(int32(9)),
			"NRestarts": dbus.MakeVariant(restarts), "InvocationID": dbus.MakeVariant([]byte{invocation})}
	}
	m, journal := against(t, refuser{})
	for i, look := range []struct {
		service map[string]dbus.Variant
		told    int
	}{{died(0, 1), 1}, {died(1, 1), 1}, {died(1, 2), 2}, {died(2, 2), 2}} {
		sd, err := connect(refuser{"GetAll": {look.service}}.serve(t), m.prompts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sd.Close() })
		m.sd = sd
		if w, _, err := m.worker(found{Name: service.Default.WorkerName(2, 2), Active: "activating", Sub: "auto-restart", Path: "/u"}, 2, 2); err != nil || !strings.Contains(w.words, "SIGKILL") {
			t.Errorf("look %d: %+v, %v", i, w, err)
		}
		if got := strings.Count(journal.String(), "a worker failed"); got != look.told {
			t.Errorf("look %d: told %d times, want %d:\n%s", i, got, look.told, journal.String())
		}
	}
}

// TestBeginsNot has a snapshot that cannot be taken, and a state that cannot be kept once it was.
func TestBeginsNot(t *testing.T) {
	m, _ := against(t, refuser{})
	places(t, m)
	m.state.Next = 1
	snapshots := filepath.Dir(m.opt.Run.Path(1))
	if err := os.WriteFile(snapshots, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.prepare(m.opt.Etc); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(snapshots), os.Mkdir(filepath.Join(string(m.opt.Run), "state.json"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := m.prepare(m.opt.Etc); err == nil || m.step != Idle || m.state.Pending != 0 || m.pending != nil {
		t.Errorf("%v: %s of %+v", err, m.step, m.state)
	}
	if left, err := m.opt.Run.Generations(); err != nil || len(left) != 0 {
		t.Errorf("snapshots %v %v", left, err)
	}
	if m.state.Next != 3 {
		t.Errorf("numbers are used twice: next is %d", m.state.Next)
	}
}

// TestRestartRejected rolls the snapshot that serves where a restart finds a configuration with faults; the next master adopts
// that rollout though systemd does not read its units again.
func TestRestartRejected(t *testing.T) {
	m, log := against(t, refuser{})
	places(t, m)
	if err := errors.Join(m.opt.Run.Take(1, m.opt.Etc), m.markRestart(),
		os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), []byte("dance: true\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.state.Applied, m.state.Next, m.applied = 1, 2, goal(1, 1)
	if err := m.wantRestart(); err != nil || m.step != TakingBack || m.state.Pending != 2 || !strings.Contains(m.instead, "dance") {
		t.Errorf("%v: %s of %+v, instead for %q", err, m.step, m.state, m.instead)
	}
	m.step, m.pending = Idle, nil
	if !m.adopt() || m.step != TakingBack || m.pending == nil || m.failure == nil {
		t.Errorf("adopted: %s of %+v for %v", m.step, m.pending, m.failure)
	}
	for _, want := range []string{"the one that served goes on serving", "systemd could not read the units again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, log)
		}
	}
}

// TestStopReconnects loses systemd in the middle of a stop, asks a worker for its counts again and again, and ends when it is told to.
func TestStopReconnects(t *testing.T) {
	job := []any{dbus.ObjectPath("/job")}
	m, _ := against(t, refuser{"StopUnit": job, "ListUnitsByPatterns": {[]found{listed(service.Default.Stopper(), "active", "stop"),
		listed(service.Default.WorkerName(1, 1), "deactivating", "")}}})
	ended, end := context.WithCancelCause(t.Context())
	told, asked := errors.New("told"), 0
	answering(t, m, 1, 1, func() {
		if asked++; asked == 2 {
			end(told)
		}
	})
	first := true
	m.opt.Status = func(string) error {
		if !first {
			return nil
		}
		first, m.shown = false, "" // so that the same line is sent once more
		return errors.Join(m.sd.Close(), errTest)
	}
	if err := m.Stop(ended); !errors.Is(err, told) {
		t.Error(err)
	}
	m.helpers.Wait()
	if first {
		t.Error("systemd was not lost")
	}
}

// answering is a worker that is asked for its counts.
func answering(t *testing.T, m *Master, gen, slot int, asked func()) {
	t.Helper()
	path := m.controlPath(gen, slot)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Handlers: control.Handlers{control.OpStatus: func(context.Context, json.RawMessage) (any, error) {
		asked()
		return control.Status{}, nil
	}}}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
}

// TestLooksAgain loses systemd while the master serves, before a look and before it waits.
func TestLooksAgain(t *testing.T) {
	m, _ := against(t, refuser{"StartUnit": {dbus.ObjectPath("/job")}, "ListUnitsByPatterns": {[]found{listed(service.Default.WorkerName(1, 1), "activating", "start")}}})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", m.opt.Private) // refuses the name
	places(t, m)
	if err := errors.Join(m.opt.Run.Take(1, m.opt.Etc), m.opt.Run.WriteState(snapshot.State{Schema: 1, Next: 2, Pending: 1, Step: Starting.String()})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var failed atomic.Bool
	m.log = slog.New(slog.NewTextHandler(onWrite(func(line []byte) {
		if bytes.Contains(line, []byte("the master cannot go on")) {
			failed.Store(true)
		}
	}), nil))
	var was *systemd
	reconnected := false
	m.opt.Status = func(string) error {
		reconnected = reconnected || was != nil && m.sd != was
		if failed.Load() && reconnected {
			cancel()
			return nil
		}
		// Which of the two it comes by is a matter of chance.
		was, m.shown = m.sd, ""
		m.prompts.prompt()
		return m.sd.Close()
	}
	if err := m.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestReopenLater has a closed listener wait for its turn after a rollout that the master began by itself.
func TestReopenLater(t *testing.T) {
	m, _ := against(t, refuser{})
	m.applied = goal(1, 1)
	m.retry.next(noon)
	d := decision{reopen: socketA}
	if err := m.idle(view{now: noon}, &d); err != nil || !d.wake.Equal(m.retry.until) {
		t.Errorf("look again at %s, want %s: %v", d.wake, m.retry.until, err)
	}
}

// TestNoJournal: a worker's last words are not to be had, and that is said.
func TestNoJournal(t *testing.T) {
	m, log := against(t, refuser{})
	t.Setenv("PATH", t.TempDir())
	if words := m.journalWords("fdt-worker@1-1.service", "", 7); words != "" || !strings.Contains(log.String(), "the journal cannot be read") {
		t.Errorf("%q; %s", words, log)
	}
}

// full is a directory in memory without room for another block.
func full(t *testing.T, dir string) (free func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunFull has /run without room: what is asked for is refused with the reason, which is written down; a restart waits
// for room; and where nothing serves the listeners are closed.
func TestRunFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts: run as root")
	}
	m, log := against(t, refuser{"ListUnitsByPatterns": {[]found{}}})
	if err := os.Mkdir(string(m.opt.Run), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", string(m.opt.Run), "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no mount in this place: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(string(m.opt.Run), 0) })
	if err := errors.Join(os.Mkdir(m.opt.Etc, 0o700), os.WriteFile(filepath.Join(m.opt.Etc, "config.yaml"), nil, 0o600),
		m.opt.Run.Take(1, m.opt.Etc)); err != nil {
		t.Fatal(err)
	}
	m.state.Applied, m.state.Next, m.applied = 1, 2, goal(1, 0)
	if err := m.save(m.state); err != nil {
		t.Fatal(err)
	}
	free := full(t, string(m.opt.Run))
	for range 3 {
		r := request{kind: kindReload, reply: make(chan answer, 1)}
		m.wanted = []request{r}
		if _, err := m.advance(); err != nil {
			t.Fatal(err)
		}
		m.flush()
		if a := <-r.reply; !errors.Is(a.err, syscall.ENOSPC) {
			t.Errorf("the reload is answered %v", a.err)
		}
		if st, err := m.opt.Run.ReadState(); err != nil || !strings.Contains(st.Rejected, "no space left") || st.Applied != 1 {
			t.Errorf("written down: %+v, %v", st, err)
		}
	}
	if err := m.markRestart(); err != nil {
		t.Fatal(err)
	}
	if err := m.wantRestart(); err != nil || !m.recheck || !strings.Contains(log.String(), "cannot take over yet") {
		t.Errorf("a restart: %v, %s", err, log)
	}
	d := decision{}
	if err := m.idle(view{now: time.Now()}, &d); err != nil || !d.wake.Equal(m.retry.until) || !m.recheck {
		t.Errorf("looks again at %s, not at %s: %v", d.wake, m.retry.until, err)
	}
	free()
	if err := m.idle(view{now: m.retry.until}, &d); err != nil || m.recheck || m.pending == nil {
		t.Errorf("with room again: %v, pending %v", err, m.pending)
	}

	// Nothing serves, and no snapshot is left that could make room.
	m.step = Idle
	if err := m.nothing(view{}); err != nil {
		t.Fatal(err)
	}
	full(t, string(m.opt.Run))
	if err := m.cold(view{}); err != nil || m.step != TakingBack || !errors.Is(m.failure, syscall.ENOSPC) {
		t.Errorf("a cold start: %v in %s, for %v", err, m.step, m.failure)
	}
	if err := m.happen(TakenBack, nil); !errors.Is(err, ErrNothingToServe) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("taken back: %v", err)
	}
	for _, name := range []string{"counts.json.new", "state.json.new"} { // not even that
		_ = os.Remove(filepath.Join(string(m.opt.Run), name))
	}
	full(t, string(m.opt.Run))
	if err := m.cold(view{}); err != nil || m.step != TakingBack || !strings.Contains(log.String(), "the state cannot be written") {
		t.Errorf("a cold start without a state: %v in %s", err, m.step)
	}
}
