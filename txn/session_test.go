package txn_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

func TestSavepoints(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	s := m.NewSession(alice)
	wantErr(t, s.Savepoint(t.Context(), "sp"), txn.ErrNoTransaction)
	wantErr(t, s.RollbackTo(t.Context(), "sp"), txn.ErrNoTransaction)
	wantErr(t, s.Release(t.Context(), "sp"), txn.ErrNoTransaction)
	begin(t, s)
	wantErr(t, s.Savepoint(t.Context(), "sp"), nil) // before any resource takes part
	put(t, s, "a", "gone")
	wantErr(t, s.RollbackTo(t.Context(), "none"), txn.ErrNoSavepoint)
	if s.State() != txn.Failed {
		t.Errorf("state %s", s.State())
	}
	wantErr(t, s.Savepoint(t.Context(), "sp"), txn.ErrFailedTransaction)
	wantErr(t, s.RollbackTo(t.Context(), "sp"), nil)
	put(t, s, "a", "kept")
	wantErr(t, s.Savepoint(t.Context(), "sp"), nil) // hides the first
	put(t, s, "b", "gone, too")
	wantErr(t, s.RollbackTo(t.Context(), "sp"), nil)
	wantErr(t, s.Release(t.Context(), "sp"), nil)
	wantErr(t, s.Release(t.Context(), "none"), txn.ErrNoSavepoint)
	wantErr(t, s.Release(t.Context(), "sp"), nil)
	wantErr(t, s.Release(t.Context(), "sp"), txn.ErrNoSavepoint)
	wantErr(t, s.Commit(t.Context()), nil)
	want(t, p.delivered(t, "a"), "kept")
	want(t, p.delivered(t, "b"))
}

// brokenBranch fails what it is told to.
type brokenBranch struct {
	txn.Branch

	what string
}

var errBroken = errors.New("broken")

func (b brokenBranch) Savepoint(ctx context.Context, name string) error {
	if b.what == "savepoint" || b.what == "second savepoint" && name != "s1" {
		return errBroken
	}
	return b.Branch.Savepoint(ctx, name)
}

func (b brokenBranch) Release(ctx context.Context, name string) error {
	if b.what == "release" {
		return errBroken
	}
	return b.Branch.Release(ctx, name)
}

func (b brokenBranch) Commit(ctx context.Context) error {
	switch b.what {
	case "commit":
		return errors.Join(errBroken, b.Branch.Rollback(ctx))
	case "lost reply":
		return errors.Join(txn.ErrUnknownOutcome, b.Branch.Commit(ctx))
	}
	return b.Branch.Commit(ctx)
}

func (b brokenBranch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	if b.what == "commit prepared" {
		return errBroken
	}
	return b.Branch.CommitPrepared(ctx, gid)
}

func (b brokenBranch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if b.what == "prepare" {
		return 0, errBroken
	}
	return b.Branch.Prepare(ctx, gid)
}

func (b brokenBranch) Put(ctx context.Context, body []byte) error {
	return b.Branch.(*spool.Branch).Put(ctx, body)
}

// broken is a spool that may have lost its identity or its branches.
type broken struct {
	*spool.Spool

	what string
}

func (b broken) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	if b.what == "enlist" {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	branch, err := b.Spool.Enlist(ctx, opt)
	return brokenBranch{branch, b.what}, err
}

func (b broken) Identity(ctx context.Context) (string, error) {
	if b.what == "identity" {
		return "", errBroken
	}
	return b.Spool.Identity(ctx)
}

// proving is broken that can tell lost outcomes.
type proving struct {
	broken

	says txn.Decision
}

func (p proving) Outcome(context.Context, txn.GID, txn.Proof) (txn.Decision, error) {
	if p.says == 0 {
		return 0, errBroken
	}
	return p.says, nil
}

// with opens a worker whose resource b is another.
func (p place) withB(t *testing.T, change func(*spool.Spool) txn.Resource, more ...func(*txn.Options)) *txn.Manager {
	t.Helper()
	return p.open(t, append(more, func(o *txn.Options) {
		o.Limits.Enlist = 10 * time.Millisecond
		o.Resources[1] = change(o.Resources[1].(*spool.Spool))
	})...)
}

func TestBrokenBranch(t *testing.T) {
	for _, what := range []string{"savepoint", "second savepoint", "release", "commit", "commit prepared", "prepare", "enlist", "identity"} {
		t.Run(what, func(t *testing.T) {
			p := newFastPlace(t)
			m := p.withB(t, func(s *spool.Spool) txn.Resource { return broken{s, what} })
			defer closeAll(t, m)
			s := m.NewSession(alice)
			begin(t, s)
			wantErr(t, s.Savepoint(t.Context(), "sp"), nil)
			b, err := s.Branch(t.Context(), "b")
			switch what {
			case "savepoint", "identity":
				wantErr(t, err, errBroken)
				wantErr(t, s.Rollback(t.Context()), nil)
				return
			case "enlist":
				wantErr(t, err, txn.ErrExhausted)
				if st := m.Stats().Resources; st["b"].Exhausted != 1 || st["a"].Exhausted != 0 {
					t.Errorf("%+v", st)
				}
				wantErr(t, s.Rollback(t.Context()), nil)
				return
			}
			wantErr(t, err, nil)
			wantErr(t, b.(brokenBranch).Put(t.Context(), []byte("1")), nil)
			switch what {
			case "second savepoint":
				wantErr(t, s.Savepoint(t.Context(), "sp2"), errBroken)
				s.Fail(errBroken)
				err := s.Commit(t.Context())
				wantErr(t, err, txn.ErrFailedTransaction)
				wantErr(t, err, errBroken)
			case "release":
				wantErr(t, s.Release(t.Context(), "sp"), errBroken)
				wantErr(t, s.Rollback(t.Context()), nil)
			case "commit":
				err := s.Commit(t.Context())
				wantErr(t, err, errBroken)
				if txn.InDoubt(err) {
					t.Errorf("%v leaves the outcome open", err)
				}
			case "prepare":
				put(t, s, "a", "1")
				err := s.Commit(t.Context())
				wantErr(t, err, errBroken)
				wantErr(t, err, txn.ErrRolledBack)
			case "commit prepared":
				put(t, s, "a", "1")
				wantErr(t, s.Commit(t.Context()), nil)
				if w := s.Warnings(); len(w) != 1 || !errors.Is(w[0], errBroken) {
					t.Errorf("warnings %v", w)
				}
				if len(s.Warnings()) > 0 {
					t.Error("warned twice")
				}
				list, err := m.List(t.Context())
				if err != nil || len(list) != 1 || list[0].Phase != txn.Committing || !strings.HasPrefix(list[0].Name(), "fdt1-") {
					t.Errorf("got %+v, %v", list, err)
				}
				p.wantMessages(t, 1, 0)
				retryUntilIdle(t, m)
				p.wantMessages(t, 1, 1)
				if list, _ := m.List(t.Context()); len(list) > 0 {
					t.Errorf("still listed: %+v", list)
				}
				return
			}
			p.wantMessages(t, 0, 0)
			p.wantTidy(t)
		})
	}
}

func TestLostReply(t *testing.T) {
	p := newFastPlace(t)
	for says, wanted := range map[txn.Decision]error{txn.Commit: nil, txn.Abort: txn.ErrRolledBack, 0: txn.ErrUnknownOutcome} {
		m := p.withB(t, func(s *spool.Spool) txn.Resource { return proving{broken{s, "lost reply"}, says} })
		wantErr(t, commitOne(t, m), wanted)
		closeAll(t, m)
	}
	var said bytes.Buffer
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return committed{broken{s, "lost reply"}} }, logged(&said))
	wantErr(t, commitOne(t, m), txn.ErrUnknownOutcome)
	if got := m.Stats().Transactions; !maps.Equal(got, map[txn.Ending]uint64{txn.EndCommitted: 0, txn.EndRolledBack: 0, txn.EndPrepared: 0, txn.EndUnknown: 1}) {
		t.Error(got)
	}
	retryUntilIdle(t, m) // either outcome is right: that it committed is no hazard
	if n := m.Stats().Hazards; n != 0 || strings.Contains(said.String(), "ERROR") || !strings.Contains(said.String(), "a commit whose answer was lost has committed") {
		t.Errorf("%d hazards: %s", n, &said)
	}
	closeAll(t, m)
}

// committed is a resource whose branches have committed when they are told to roll back.
type committed struct{ broken }

func (committed) Resolve(context.Context, txn.GID, txn.Decision, txn.Proof) (txn.Resolution, error) {
	return txn.ResolvedAgainst, nil
}

func commitOne(t *testing.T, m *txn.Manager) error {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	b, err := s.Branch(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.(brokenBranch).Put(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return s.Commit(t.Context())
}

func TestSessionStates(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	s := m.NewSession(alice)
	if s.Principal() != alice || s.State() != txn.Idle || !s.GID().IsZero() || s.Options() != (txn.TxOptions{}) {
		t.Errorf("a fresh session: %+v", s)
	}
	if _, err := s.Branch(t.Context(), "a"); !errors.Is(err, txn.ErrNoTransaction) {
		t.Error(err)
	}
	wantErr(t, s.Commit(t.Context()), txn.ErrNoTransaction)
	wantErr(t, s.Rollback(t.Context()), txn.ErrNoTransaction)
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrNoTransaction)
	wantErr(t, s.Acknowledge(), nil)
	s.Fail(errBroken) // no transaction: nothing happens
	wantErr(t, s.Begin(t.Context(), txn.TxOptions{ReadOnly: true, Isolation: txn.Serializable}), nil)
	wantErr(t, s.Begin(t.Context(), txn.TxOptions{}), txn.ErrActiveTransaction)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrActiveTransaction)
	if o := s.Options(); !o.ReadOnly || m.Counts().Active != 1 {
		t.Errorf("%+v, %+v", o, m.Counts())
	}
	if _, err := s.Branch(t.Context(), "none"); !errors.Is(err, txn.ErrNoResource) {
		t.Error(err)
	}
	b, err := s.Branch(t.Context(), "a")
	if err != nil || s.GID().IsZero() {
		t.Fatal(err)
	}
	wantErr(t, b.(*spool.Branch).Put(t.Context(), nil), txn.ErrReadOnly)
	wantErr(t, s.Commit(t.Context()), nil)
	begin(t, s)
	put(t, s, "a", "1")
	wantErr(t, s.Close(t.Context()), nil)
	wantErr(t, s.Close(t.Context()), nil)
	wantErr(t, s.Begin(t.Context(), txn.TxOptions{}), txn.ErrClosed)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
	if m.Counts().Active != 0 {
		t.Errorf("%+v", m.Counts())
	}
}

// TestEmpty: a transaction without a resource can be prepared and committed,
// as in PostgreSQL.
func TestEmpty(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	wantErr(t, s.Commit(t.Context()), nil)
	begin(t, s)
	wantErr(t, s.Prepare(t.Context(), "empty"), nil)
	if list, err := m.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("got %+v, %v", list, err)
	}
	wantErr(t, s.CommitPrepared(t.Context(), "empty"), nil)
	begin(t, s)
	wantErr(t, s.Prepare(t.Context(), ""), txn.ErrGIDInvalid)
	if s.State() != txn.Idle {
		t.Errorf("state %s", s.State())
	}
	begin(t, s)
	for _, name := range []string{"a", "b"} { // enlisted, nothing written
		if _, err := s.Branch(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, s.Commit(t.Context()), nil)
}

func TestTransactionTimeout(t *testing.T) {
	p := newFastPlace(t)
	synctest.Test(t, func(t *testing.T) {
		m := p.open(t, func(o *txn.Options) { o.Limits.Transaction = time.Minute })
		for _, end := range []func(*txn.Session) error{
			func(s *txn.Session) error { return s.Commit(t.Context()) },
			func(s *txn.Session) error { return s.Prepare(t.Context(), "x") },
			func(s *txn.Session) error {
				_, err := s.Branch(t.Context(), "a")
				_, other := s.Branch(t.Context(), "b")
				return errors.Join(err, other, s.Rollback(t.Context()))
			},
		} {
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "late")
			if at, ok := s.Deadline(); !ok || time.Until(at) != time.Minute {
				t.Errorf("deadline %s, %t", at, ok)
			}
			time.Sleep(time.Minute)
			wantErr(t, end(s), txn.ErrTimeout)
			if _, ok := s.Deadline(); ok || s.State() != txn.Idle {
				t.Error("the transaction goes on")
			}
		}
		if got := m.Stats().Transactions; got[txn.EndRolledBack] != 3 || got[txn.EndCommitted] != 0 {
			t.Error(got)
		}
		closeAll(t, m)
	})
	p.wantMessages(t, 0, 0)
}

// TestForces counts the forced writes of the log: none for one writing
// resource, one for a local decision, two for an outside coordinator's.
func TestForces(t *testing.T) {
	p := newFastPlace(t)
	var forces atomic.Int64
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "sync" {
				forces.Add(1)
			}
			return nil
		})
	})
	defer closeAll(t, m)
	s := m.NewSession(alice)
	count := func(want int64, resources ...string) {
		t.Helper()
		begin(t, s)
		for _, r := range resources {
			put(t, s, r, "x")
		}
		forces.Store(0)
		wantErr(t, s.Commit(t.Context()), nil)
		if n := forces.Load(); n != want {
			t.Errorf("%d resources: %d forces, want %d", len(resources), n, want)
		}
	}
	count(0, "a")
	count(1, "a", "b")
	count(1, "a", "b")
	forces.Store(0)
	prepared(t, m, "x")
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	if n := forces.Load(); n != 2 {
		t.Errorf("an outside coordinator's: %d forces, want 2", n)
	}
}

func TestOpenFails(t *testing.T) {
	p := newFastPlace(t)
	opt := p.options(t)
	opt.Resources = append(opt.Resources, opt.Resources[0])
	if _, err := txn.Open(t.Context(), opt); err == nil {
		t.Error("two resources of one name")
	}
	opt = p.options(t)
	opt.LogDir = p.dir("none")
	if _, err := txn.Open(t.Context(), opt); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	opt = p.options(t)
	opt.MachineID, opt.Logger = "", nil
	m, err := txn.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	if _, err := s.Branch(t.Context(), "a"); !errors.Is(err, txn.ErrClosed) {
		t.Errorf("got %v", err)
	}
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrClosed)
}

// TestUnreadableFiles spoils each file of the log directory.
func TestUnreadableFiles(t *testing.T) {
	for _, name := range []string{"id", "incarnation"} {
		p := newFastPlace(t)
		m := p.open(t)
		prepared(t, m, "x")
		closeAll(t, m)
		if err := os.WriteFile(p.dir("log")+"/"+name, []byte("{nonsense"), 0o640); err != nil {
			t.Fatal(err)
		}
		opt := p.options(t)
		m, err := txn.Open(t.Context(), opt)
		if err == nil {
			_, err = m.List(t.Context())
			err = errors.Join(err, m.NewSession(alice).RollbackPrepared(t.Context(), "x"), m.Scan(t.Context()))
			_ = m.Close(t.Context())
		}
		if err == nil {
			t.Errorf("a spoilt %s goes unnoticed", name)
		}
	}
}

// TestRepointed: a resource of the same name that is another store is as good
// as down, never asked to finish.
func TestRepointed(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	m = p.open(t, func(o *txn.Options) {
		s, err := spool.Open("b", p.dir("a"))
		if err != nil {
			t.Fatal(err)
		}
		o.Resources[1] = s
	})
	s := m.NewSession(alice)
	err := s.CommitPrepared(t.Context(), "x")
	wantErr(t, err, txn.ErrUnreachable)
	if shown, err := m.Show(t.Context(), "x"); err != nil || !strings.Contains(shown.Branches[1].State, "unreachable") {
		t.Errorf("got %+v, %v", shown, err)
	}
	closeAll(t, m)
	m = p.open(t, func(o *txn.Options) { o.Resources = o.Resources[:1] }) // not configured at all
	_ = m.Scan(t.Context())
	txn.Retry(m, t.Context())
	if n := m.Counts().Pending; n != 1 {
		t.Errorf("%d left over", n)
	}
	closeAll(t, m)
	p.wantMessages(t, 1, 0)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantMessages(t, 1, 1)
}
