package txn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// told is what a client heard of its transaction.
type told int

const (
	openEnd told = iota // an error that leaves the outcome open, or nothing
	yes
	no
	wrong // answers that contradict each other
)

// hear turns the answer to COMMIT, or to COMMIT PREPARED, into what it says.
func hear(err error) told {
	switch {
	case err == nil:
		return yes
	case txn.InDoubt(err), errors.Is(err, txn.ErrHeuristicHazard):
		return openEnd
	}
	return no
}

// once fails the n-th call of many, and counts them.
type once struct {
	at, n atomic.Int64
}

func (o *once) fault(string) error {
	if o.n.Add(1) == o.at.Load() {
		return syscall.EIO
	}
	return nil
}

// flaky is a spool of which any call may fail before or after it was done.
type flaky struct {
	*spool.Spool

	o *once
}

func (f flaky) Name() string { return f.Spool.Name() }

func (f flaky) Identity(ctx context.Context) (string, error) {
	id, err := f.Spool.Identity(ctx)
	return id, errors.Join(err, f.o.fault(""))
}

func (f flaky) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	if err := f.o.fault(""); err != nil {
		return nil, err
	}
	b, err := f.Spool.Enlist(ctx, opt)
	return flakyBranch{b.(*spool.Branch), f.o}, err
}

func (f flaky) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	list, err := f.Spool.InDoubt(ctx, id)
	return list, errors.Join(err, f.o.fault(""))
}

func (f flaky) Fence(ctx context.Context, id txn.LogID, n uint64) error {
	return errors.Join(f.Spool.Fence(ctx, id, n), f.o.fault(""))
}

func (f flaky) Forget(ctx context.Context, gid txn.GID) error {
	return errors.Join(f.o.fault(""), f.Spool.Forget(ctx, gid), f.o.fault(""))
}

func (f flaky) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if err := f.o.fault(""); err != nil {
		return 0, err
	}
	how, err := f.Spool.Resolve(ctx, gid, d, p)
	return how, errors.Join(err, f.o.fault(""))
}

type flakyBranch struct {
	*spool.Branch

	o *once
}

func (b flakyBranch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if err := b.o.fault(""); err != nil {
		return 0, err
	}
	vote, err := b.Branch.Prepare(ctx, gid)
	return vote, errors.Join(err, b.o.fault(""))
}

func (b flakyBranch) ExecLast(ctx context.Context, gid txn.GID, last txn.Statement) (txn.Outcome, bool, error) {
	err := b.Put(ctx, []byte(last.SQL))
	if err == nil {
		_, err = b.Prepare(ctx, gid)
	}
	return txn.Outcome{}, err == nil, err
}

func (b flakyBranch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	return errors.Join(b.o.fault(""), b.Branch.CommitPrepared(ctx, gid))
}

func (b flakyBranch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if err := b.o.fault(""); err != nil {
		return err
	}
	return b.Branch.RollbackPrepared(ctx, gid)
}

func (b flakyBranch) Rollback(ctx context.Context) error {
	return errors.Join(b.Branch.Rollback(ctx), b.o.fault(""))
}

// history is a client's work; it returns what it was told.
type history struct {
	name string
	run  func(ctx context.Context, m *txn.Manager) told
}

func write(ctx context.Context, s *txn.Session) error {
	if err := s.Begin(ctx, txn.TxOptions{}); err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		b, err := s.Branch(ctx, name)
		if err == nil {
			err = b.(flakyBranch).Put(ctx, []byte("message"))
		}
		if err != nil {
			s.Fail(err)
			return errors.Join(err, s.Rollback(ctx))
		}
	}
	return nil
}

// vote writes and hands the transaction to a coordinator as x; it returns yes
// for the vote, or else what was heard.
func vote(ctx context.Context, s *txn.Session) told {
	if write(ctx, s) != nil {
		return no // which rolled back
	}
	return hear(s.Prepare(ctx, "x"))
}

var histories = []history{
	{"local", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if write(ctx, s) != nil {
			return no
		}
		return hear(s.Commit(ctx))
	}},
	{"unsolicited", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if s.Begin(ctx, txn.TxOptions{}) != nil {
			return no
		}
		b, err := s.Branch(ctx, "a")
		if err == nil {
			err = b.(flakyBranch).Put(ctx, []byte("message"))
		}
		if err == nil {
			_, _, err = s.ExecLast(ctx, "b", txn.Statement{SQL: "message"})
		}
		if err != nil {
			s.Fail(err)
			_ = s.Rollback(ctx)
			return no
		}
		return hear(s.Commit(ctx))
	}},
	{"commit", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if heard := vote(ctx, s); heard != yes {
			return heard
		}
		for range 5 { // as a coordinator does that has decided
			if t := hear(s.CommitPrepared(ctx, "x")); t == yes {
				_ = s.Acknowledge()
				return yes
			}
		}
		return openEnd
	}},
	{"rollback", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if heard := vote(ctx, s); heard != yes {
			return heard
		}
		if s.RollbackPrepared(ctx, "x") == nil {
			_ = s.Acknowledge()
			return no
		}
		return openEnd
	}},
	{"operator", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if heard := vote(ctx, s); heard != yes {
			return heard
		}
		root := txn.Principal{User: "root", Operator: true}
		err := m.Decide(ctx, root, "x", txn.Commit)
		if err != nil {
			return openEnd
		}
		_ = m.Forget(ctx, root, "x")
		return yes
	}},
	{"named", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if write(ctx, s) != nil {
			return no
		}
		id, err := s.XID(ctx)
		if err != nil {
			_ = s.Rollback(ctx)
			return no
		}
		heard := hear(s.Commit(ctx))
		switch status, err := m.XactStatus(ctx, id); {
		case err != nil, status == txn.XactInProgress: // its end may not be noted yet
			return heard
		case heard != no && status == txn.XactCommitted:
			return yes
		case heard != yes && status == txn.XactAborted:
			return no
		}
		return wrong
	}},
	{"resolve", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if heard := vote(ctx, s); heard != yes {
			return heard
		}
		all, err := m.ResolveAll(ctx, root, txn.Commit)
		_ = m.Forget(ctx, root, "x")
		switch {
		case err == nil && len(all) != 1:
			return wrong
		case len(all) == 1 && all[0].Phase == txn.Committed:
			return yes
		}
		return openEnd
	}},
	{"reuse", func(ctx context.Context, m *txn.Manager) told {
		s := m.NewSession(alice)
		if s.Begin(ctx, txn.TxOptions{}) != nil || s.Prepare(ctx, "x") != nil || s.RollbackPrepared(ctx, "x") != nil {
			return no // nothing was written
		}
		if heard := vote(ctx, s); heard != yes {
			return heard
		}
		return openEnd
	}},
}

// TestFailAtEveryCall fails every call to the system and to a resource in
// turn, in a worker, and in the recovery that follows it. Whatever fails: a
// transaction is whole or not there, as the client was told, and a sound
// recovery leaves nothing behind.
func TestFailAtEveryCall(t *testing.T) {
	for _, h := range histories {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				calls := failAt(t, h, n)
				if t.Failed() {
					t.Fatalf("call %d failed", n)
				}
				if n > calls {
					t.Logf("%d calls", calls)
					return
				}
			}
		})
	}
}

func failAt(t *testing.T, h history, n int64) (calls int64) {
	p := newFastPlace(t)
	o := new(once)
	o.at.Store(n)
	inject := func(opt *txn.Options) {
		txn.SetFault(opt, o.fault)
		for i, r := range opt.Resources {
			opt.Resources[i] = flaky{r.(*spool.Spool), o}
		}
	}
	heard, ran := openEnd, false
	for range 3 { // worker, recovery, recovery
		m, err := txn.Open(t.Context(), p.with(t, inject))
		if err != nil {
			continue
		}
		if !ran {
			heard, ran = run(t, m, h), true
		}
		_ = m.Scan(t.Context())
		txn.Retry(m, t.Context())
		_ = txn.Rotate(m, t.Context())
		_ = txn.Sweep(m, t.Context())
		_ = m.Close(t.Context())
	}
	calls = o.n.Load()
	p.settled(t, heard)
	if err := os.RemoveAll(p.root); err != nil { // memory, until the test ends
		t.Error(err)
	}
	return calls
}

func run(t *testing.T, m *txn.Manager, h history) told {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("a claim stays locked"))
	defer cancel()
	defer func() {
		if err := ctx.Err(); err != nil {
			t.Error(context.Cause(ctx))
		}
	}()
	return h.run(ctx, m)
}

func (p place) with(t *testing.T, change func(*txn.Options)) txn.Options {
	t.Helper()
	opt := p.options(t)
	opt.Logger = nil
	change(&opt)
	return opt
}

// settled recovers soundly and compares with what the client heard.
func (p place) settled(t *testing.T, heard told) {
	t.Helper()
	p.reboot(t)
	m := p.open(t, func(o *txn.Options) { o.Logger = nil })
	defer closeAll(t, m)
	p.recover(t, m)
	s := m.NewSession(alice)
	err := s.CommitPrepared(t.Context(), "x")
	a, b := len(p.delivered(t, "a")), len(p.delivered(t, "b"))
	switch {
	case a != b || a > 1:
		t.Errorf("%d and %d messages", a, b)
	case heard == wrong:
		t.Error("the client heard what contradicts itself")
	case heard == yes && a == 0:
		t.Error("the client was told of a commit that is not there")
	case heard == no && a > 0:
		t.Errorf("the client was told of a rollback, but the messages are there (COMMIT PREPARED: %v)", err)
	}
	if errors.Is(err, txn.ErrHeuristicHazard) {
		t.Errorf("a hazard nobody caused: %v", err)
	}
	_ = s.RollbackPrepared(t.Context(), "x")
	_ = s.Acknowledge()
	p.recover(t, m)
	p.wantTidy(t)
	if t.Failed() {
		t.Log(fmt.Sprint("heard ", heard))
	}
}
