package txn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// stopHere stops this process as a whole; it goes on by SIGCONT. The signal is
// this thread's, so that it takes not another step.
func stopHere() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// stopped starts a worker and waits until it has stopped at the step. goOn lets
// it go on to its end and returns what it said.
func (p place) stopped(t *testing.T, script, step string) (goOn func() string) {
	t.Helper()
	cmd := p.stop(t, script, step)
	return func() string {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the slow worker: %v\n%s", err, cmd.Stdout)
		}
		return fmt.Sprint(cmd.Stdout)
	}
}

// stop starts a worker and waits until it has stopped at the step.
func (p place) stop(t *testing.T, script, step string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envPlace+"="+p.root, envScript+"="+script, envDie+"=stop "+step)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	if !status.Stopped() {
		t.Fatalf("the worker did not come by %q", step)
	}
	return cmd
}

// tree names all that the resources hold.
func (p place) tree(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, name := range []string{"a", "b"} {
		if err := filepath.WalkDir(p.dir(name), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestSlowWorker: a worker that is stopped for as long as one likes is alive.
// Recovery neither fences it nor tells its branches anything.
func TestSlowWorker(t *testing.T) {
	const (
		external = "begin put:a put:b prepare:x commit-prepared:x"
		local    = "begin put:a put:b commit"
	)
	for _, test := range []struct{ script, step string }{
		{external, "got prepare a"},
		{external, "vote: prepared"},
		{external, "vote: durable"},
		{external, "decide: durable"},
		{external, "got resolve a"},
		{local, "got prepare a"},
		{local, "commit: durable"},
		{local, "got commit prepared a"},
	} {
		t.Run(test.script+"/"+test.step, func(t *testing.T) {
			p := newFastPlace(t)
			goOn := p.stopped(t, test.script, test.step)
			logs, err := filepath.Glob(p.dir("log") + "/*.log")
			if err != nil || len(logs) != 1 {
				t.Fatalf("logs: %v, %v", logs, err)
			}
			f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			free, err := ofd.TryLock(f)
			if err != nil || free {
				t.Errorf("the stopped worker's log is free: %t, %v", free, err)
			}
			if err := ofd.Close(f); err != nil {
				t.Fatal(err)
			}
			before := p.tree(t)
			m := p.open(t)
			defer closeAll(t, m)
			for range 3 {
				p.recover(t, m)
			}
			if after := p.tree(t); !slices.Equal(before, after) {
				t.Errorf("recovery changed\n%v to\n%v", before, after)
			}
			if n := m.Counts().Pending; n != 0 {
				t.Errorf("recovery took over %d", n)
			}
			words := strings.Fields(test.script)
			if said := goOn(); !strings.Contains(said, "did "+words[len(words)-1]) {
				t.Errorf("the commit was not acknowledged: %s", said)
			}
			p.wantMessages(t, 1, 1)
			p.recover(t, m)
			p.wantMessages(t, 1, 1)
			p.wantNoneOpen(t, m)
			p.wantTidy(t)
		})
	}
}

// referee sees what all recoverers do at the resources.
type referee struct {
	t    *testing.T
	mu   sync.Mutex
	in   map[*txn.Manager]int // unfinished listings, which only who holds the lock makes once it has begun its incarnation
	told map[string]txn.Decision
}

// watched is a spool that a recoverer reaches under the referee's eyes.
type watched struct {
	*spool.Spool

	ref  *referee
	mine **txn.Manager
	meet func() // called within a scan
}

func (w watched) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	w.ref.mu.Lock()
	w.ref.in[*w.mine]++
	for m, n := range w.ref.in {
		if m != *w.mine && n > 0 {
			w.ref.t.Error("two recover at once")
		}
	}
	w.ref.mu.Unlock()
	defer func() {
		w.ref.mu.Lock()
		w.ref.in[*w.mine]--
		w.ref.mu.Unlock()
	}()
	w.meet()
	return w.Spool.InDoubt(ctx, id)
}

func (w watched) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	key := w.Name() + " " + gid.String()
	w.ref.mu.Lock()
	if was, ok := w.ref.told[key]; ok && was != d {
		w.ref.t.Errorf("%s was told %s, then %s", key, was, d)
	}
	w.ref.told[key] = d
	w.ref.mu.Unlock()
	return w.Spool.Resolve(ctx, gid, d, p)
}

// TestTwoRecoverers: two workers recover again and again what others left in
// every state. They agree, and each transaction ends once as its log says.
func TestTwoRecoverers(t *testing.T) {
	p := newFastPlace(t)
	const put = "begin put:a put:b "
	for _, dead := range []struct{ script, die string }{
		{put + "prepare:voting", "got prepare a"},
		{put + "prepare:d1 " + put + "prepare:d2 " + put + "prepare:c commit-prepared:c", "send resolve b"},
		{put + "prepare:d3 " + put + "prepare:r rollback-prepared:r", "send resolve b"},
		{put + "commit", "got prepare a"},
		{put + "commit", "got commit prepared a"},
	} {
		if _, killed := p.worker(t, dead.script, dead.die); !killed {
			t.Fatal("not killed")
		}
	}
	ref := &referee{t: t, in: map[*txn.Manager]int{}, told: map[string]txn.Decision{}}
	inScan, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var both [2]*txn.Manager
	for i := range both {
		both[i] = p.open(t, func(o *txn.Options) {
			o.Limits.Scan = time.Millisecond
			for j, r := range o.Resources {
				o.Resources[j] = watched{r.(*spool.Spool), ref, &both[i], func() {
					once.Do(func() { close(inScan) })
					<-goOn
				}}
			}
		})
		defer closeAll(t, both[i])
	}
	first := make(chan error, 1)
	go func() { first <- both[0].Scan(t.Context()) }()
	testwait.For(t, "the scan", inScan)
	wantErr(t, both[1].Scan(t.Context()), nil) // would wait for goOn if it recovered
	close(goOn)
	wantErr(t, testwait.For(t, "the scan's end", first), nil)
	for _, m := range both {
		burn(t, m)
	}

	ctx, stop := context.WithCancel(t.Context())
	var loops, scans sync.WaitGroup
	for _, m := range both {
		loops.Go(func() { wantErr(t, m.Recover(ctx), nil) })
		scans.Go(func() {
			for range 20 {
				wantErr(t, m.Scan(t.Context()), nil)
			}
		})
	}
	scans.Wait()
	stop()
	loops.Wait()
	for _, m := range both {
		retryUntilIdle(t, m)
	}
	for _, m := range both {
		p.recover(t, m)
	}

	p.wantMessages(t, 2, 2)
	names := func(m *txn.Manager) (all []string) {
		t.Helper()
		list, err := m.List(t.Context())
		wantErr(t, err, nil)
		for _, tx := range list {
			all = append(all, tx.Name()+" "+tx.Phase.String())
		}
		slices.Sort(all)
		return all
	}
	for _, m := range both {
		p.wantNoneOpen(t, m)
		want(t, names(m), "c committed", "d1 prepared", "d2 prepared", "d3 prepared", "r aborted")
		if n := m.Counts().InDoubt; n != 3 {
			t.Errorf("%d in doubt, want 3", n)
		}
	}
	s, o := both[0].NewSession(alice), both[1].NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "c"), txn.ErrAlreadyCommitted)
	wantErr(t, o.CommitPrepared(t.Context(), "r"), txn.ErrAlreadyRolledBack)
	wantErr(t, s.CommitPrepared(t.Context(), "voting"), txn.ErrUnknownGID)
	for _, err := range []error{
		o.CommitPrepared(t.Context(), "c"), o.Acknowledge(),
		s.RollbackPrepared(t.Context(), "r"), s.Acknowledge(),
		s.CommitPrepared(t.Context(), "d1"), s.Acknowledge(),
		o.RollbackPrepared(t.Context(), "d2"), o.Acknowledge(),
		o.CommitPrepared(t.Context(), "d3"), o.Acknowledge(),
	} {
		wantErr(t, err, nil)
	}
	for _, m := range both {
		p.recover(t, m)
		want(t, names(m))
	}
	p.wantMessages(t, 4, 4)
	p.wantTidy(t)
}

// TestScanUnfinished: who finds another at its scan waits for that, and scans
// at once if that one does not come to the end of it.
func TestScanUnfinished(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b commit", "send prepare a"); !killed {
		t.Fatal("not killed")
	}
	rival, err := os.OpenFile(p.dir("log/recovery"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ofd.TryLock(rival); !ok {
		t.Fatal("the lock is held", err)
	}
	wantErr(t, os.WriteFile(p.dir("claims/counted"), []byte("1\n"), 0o600), nil)
	recover := func(until func(m *txn.Manager) bool) {
		t.Helper()
		m := p.open(t, func(o *txn.Options) { o.Limits.Scan = 1000 * time.Hour })
		ctx, stop := context.WithCancel(t.Context())
		recovered := make(chan error, 1)
		go func() { recovered <- m.Recover(ctx) }()
		testwait.Until(t, "what recovery is to see", func() bool { return until(m) })
		stop()
		wantErr(t, testwait.For(t, "the end of recovery", recovered), nil)
		closeAll(t, m)
	}
	told, freed := false, false
	recover(func(m *txn.Manager) bool {
		if txn.OldestInDoubt(m) == 1 && !told { // it has found the other at work
			told = true
			wantErr(t, os.WriteFile(p.dir("claims/counted"), []byte("3\n"), 0o600), nil)
		}
		return txn.OldestInDoubt(m) == 3
	})
	if len(p.messages(t)) == 0 {
		t.Error("scanned beside another")
	}
	recover(func(m *txn.Manager) bool {
		if txn.OldestInDoubt(m) == 3 && !freed {
			freed = true
			wantErr(t, ofd.Close(rival), nil)
		}
		return !m.Stats().Scanned.IsZero() && m.Counts().Pending == 0
	})
	p.wantTidy(t)
	p.wantMessages(t, 0, 0)
}

// TestFrozen: a process that was stopped with the locks of recovery does not
// keep the others out for ever.
func TestFrozen(t *testing.T) {
	for _, test := range []struct{ script, step string }{
		{"scan", "list logs"}, // with "recovery" and "seal"
		{"begin put:a put:b prepare:x scan", "list claims"},
	} {
		t.Run(test.step, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, "begin put:a put:b commit", "commit: durable"); !killed {
				t.Fatal("not killed")
			}
			p.reboot(t)
			frozen := p.stop(t, test.script, test.step)
			m := p.open(t, func(o *txn.Options) { txn.SetFrozen(o, 10*time.Millisecond) })
			defer closeAll(t, m)
			ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
			defer cancel()
			_, err := m.ResolveAll(ctx, root, 0)
			wantErr(t, err, nil)
			p.wantMessages(t, 1, 1)
			var died *exec.ExitError
			if err := frozen.Wait(); !errors.As(err, &died) || !died.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("the stopped process: %v", err)
			}
		})
	}
}

// TestStoppedForAWhile: only who was stopped each time is killed, and only if it
// is the very process that took the lock.
func TestStoppedForAWhile(t *testing.T) {
	p := newFastPlace(t)
	goOn := p.stopped(t, "scan", "list claims")
	m := p.open(t, func(o *txn.Options) { txn.SetFrozen(o, time.Hour) })
	defer closeAll(t, m)
	for range 3 {
		wantErr(t, m.Scan(t.Context()), nil)
	}
	if said := goOn(); !strings.Contains(said, "did scan") {
		t.Errorf("said %q", said)
	}
	lock := p.dir("log/recovery")
	for _, text := range []string{"", "no process\n", fmt.Sprintf("%d 1\n", os.Getpid()), "4194305 7\n"} {
		f, err := os.OpenFile(lock, os.O_RDWR, 0)
		wantErr(t, err, nil)
		if ok, err := ofd.TryLock(f); !ok {
			t.Fatal(err)
		}
		wantErr(t, os.WriteFile(lock, []byte(text), 0o600), nil)
		n := p.open(t, func(o *txn.Options) { txn.SetFrozen(o, time.Nanosecond) })
		for range 2 {
			wantErr(t, n.Scan(t.Context()), nil)
		}
		closeAll(t, n)
		wantErr(t, ofd.Close(f), nil)
	}
}
