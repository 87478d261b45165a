package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// TestForgotten: an acknowledged outcome is told to nobody any more, counts for nothing, and its name is free, though its claim
// is there until what was forgotten is durable.
func TestForgotten(t *testing.T) {
	p := newFastPlace(t)
	root := txn.Principal{User: "root", Operator: true}
	m := p.open(t, func(o *txn.Options) { o.Limits.Kept = 1 })
	defer closeAll(t, m)
	s := m.NewSession(alice)
	acknowledged := func() {
		t.Helper()
		prepared(t, m, "x")
		wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
		wantErr(t, s.Acknowledge(), nil)
	}
	acknowledged()
	claim := p.claim(t)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	_, err := m.Show(t.Context(), "x")
	wantErr(t, err, txn.ErrUnknownGID)
	wantErr(t, m.Forget(t.Context(), root, "x"), txn.ErrUnknownGID)
	p.wantNoneOpen(t, m)
	list, err := m.List(t.Context())
	if len(list) > 0 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if n, err := m.ForgetAll(t.Context(), root, time.Now()); n != 0 || err != nil {
		t.Errorf("%d were forgotten, %v", n, err)
	}
	acknowledged() // its name is free, and what was kept of it is gone
	if p.claim(t) != claim {
		t.Error("another name")
	}
	wantErr(t, m.Scan(t.Context()), nil) // leaves it to the sweep
	done := p.atWork(t)
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	p.claim(t)
	done()
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	p.wantNoClaim(t)
	acknowledged()
	wantErr(t, txn.Rotate(m, t.Context()), nil)
	prepared(t, m, "x") // the sweep meets the next one's claim
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, errors.Join(os.Remove(claim), txn.Sweep(m, t.Context())), nil)
	acknowledged()
	wantErr(t, errors.Join(os.Remove(claim), os.Mkdir(claim, 0o700)), nil)
	wantErr(t, txn.Sweep(m, t.Context()), syscall.EISDIR)
	wantErr(t, errors.Join(os.Remove(claim), txn.Sweep(m, t.Context())), nil)
	p.wantTidy(t)
}

// TestForgottenByTheDead: what a worker had noted to be forgotten, and died before it was durable, goes with the next scan.
func TestForgottenByTheDead(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b prepare:x rollback-prepared:x ack die", ""); !killed {
		t.Fatal("not killed")
	}
	p.claim(t)
	m := p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantNoClaim(t)
}

// TestForgetHeuristic: what an operator decided and had forgotten leaves its name free.
func TestForgetHeuristic(t *testing.T) {
	p := newFastPlace(t)
	root := txn.Principal{User: "root", Operator: true}
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	wantErr(t, m.Decide(t.Context(), root, "x", txn.Abort), nil)
	wantErr(t, m.Forget(t.Context(), root, "x"), nil)
	prepared(t, m, "x")
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
}

// TestForgetWithoutRoom: where the claim has no room for a further line, what is forgotten is forced at once.
func TestForgetWithoutRoom(t *testing.T) {
	p := newFastPlace(t)
	full := new(atomic.Bool)
	m := p.open(t, failing("write claim", func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}))
	prepared(t, m, "x")
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	full.Store(true)
	wantErr(t, s.Acknowledge(), nil)
	p.wantNoClaim(t)
	closeAll(t, m)

	sync := new(atomic.Bool)
	m = p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if sync.Load() && (step == "write claim" || step == "sync") {
				return syscall.EIO
			}
			return nil
		})
	})
	prepared(t, m, "x")
	s = m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	sync.Store(true)
	wantErr(t, s.Acknowledge(), txn.ErrPoisoned)
	p.claim(t)
	closeAll(t, m)
}

// TestForgottenNotForced: while what is forgotten cannot be made durable, its claim stays.
func TestForgottenNotForced(t *testing.T) {
	p := newFastPlace(t)
	sync := new(atomic.Bool)
	m := p.open(t, failing("sync", func() error {
		if sync.Load() {
			return syscall.EIO
		}
		return nil
	}))
	prepared(t, m, "x")
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	sync.Store(true)
	wantErr(t, txn.Sweep(m, t.Context()), txn.ErrPoisoned)
	p.claim(t)
	closeAll(t, m)
}

func (p place) wantNoClaim(t *testing.T) {
	t.Helper()
	if all, err := filepath.Glob(p.dir("claims") + "/x-*"); len(all) > 0 || err != nil {
		t.Errorf("left: %q, %v", all, err)
	}
}
