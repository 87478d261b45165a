package txn_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// locked holds one of the log directory's locks until the test ends or unlock is called.
func (p place) locked(t *testing.T, name string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(p.dir("log/"+name), os.O_RDWR|os.O_CREATE, 0o640)
	wantErr(t, err, nil)
	ok, err := ofd.TryLock(f)
	if err != nil || !ok {
		t.Fatalf("lock %s: %v, %v", name, ok, err)
	}
	return func() { wantErr(t, ofd.Close(f), nil) }
}

// TestXactStatusOfMany: whoever asks how transactions ended waits for no lock
// that recovery holds, takes none, and reads a log once, not once for each question.
func TestXactStatusOfMany(t *testing.T) {
	p := newFastPlace(t)
	dead := p.open(t)
	s := dead.NewSession(alice)
	want := map[txn.XID]txn.XactStatus{}
	ask := func(m *txn.Manager) {
		t.Helper()
		for id, status := range want {
			if got, err := m.XactStatus(t.Context(), id); err != nil || got != status {
				t.Errorf("transaction %d is %q, %v, want %q", id, got, err, status)
			}
		}
	}
	run := func(m *txn.Manager, s *txn.Session, name string) {
		t.Helper()
		id := named(t, s)
		put(t, s, "a", name)
		wantErr(t, s.Commit(t.Context()), nil)
		want[id] = txn.XactCommitted
		id = named(t, s)
		wantErr(t, s.Rollback(t.Context()), nil)
		want[id] = txn.XactAborted
		id = named(t, s)
		put(t, s, "a", name)
		wantErr(t, s.Prepare(t.Context(), name), nil)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), name), nil)
		want[id] = txn.XactCommitted
	}
	run(dead, s, "dead")
	closeAll(t, dead)

	var opened atomic.Int64
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "open log" {
				opened.Add(1)
			}
			return nil
		})
	})
	defer closeAll(t, m)
	worker := p.open(t)
	defer closeAll(t, worker)
	s = worker.NewSession(alice)
	run(worker, s, "first")
	ask(m) // seals the dead one's log, once
	unlock := p.locked(t, "seal")
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		opened.Store(0)
		for i := range 20 {
			run(worker, s, fmt.Sprint(i))
			ask(m)
		}
	}()
	testwait.For(t, "answers while recovery has the lock", asked)
	unlock()
	if n := opened.Load(); n > 2 {
		t.Errorf("%d logs were opened for %d questions", n, 20*len(want))
	}
	wantErr(t, txn.Sweep(worker, t.Context()), nil)
	wantErr(t, txn.Rotate(worker, t.Context()), nil)
	ask(m) // of the new file
	if n := opened.Load(); n == 0 {
		t.Error("the rewritten log was not opened")
	}
}
