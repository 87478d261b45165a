package txn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestRotate rewrites a log again and again while transactions go on: none is
// lost, and the log stays small.
func TestRotate(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "kept")
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	var n atomic.Int64
	for i := range 4 {
		work.Go(func() {
			s := m.NewSession(alice)
			for ctx.Err() == nil {
				err := s.Begin(t.Context(), txn.TxOptions{})
				for _, name := range []string{"a", "b"} {
					var b txn.Branch
					if err == nil {
						b, err = s.Branch(t.Context(), name)
					}
					if err == nil {
						err = b.(putter).Put(t.Context(), fmt.Append(nil, i))
					}
				}
				if err == nil {
					err = s.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	for n.Load() < 100 && !t.Failed() {
		if err := txn.Rotate(m, t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := txn.Sweep(m, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
	p.wantMessages(t, int(n.Load()), int(n.Load()))
	if err := txn.Sweep(m, t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := txn.Rotate(m, t.Context()); err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	p.reboot(t)
	m = p.open(t)
	p.recover(t, m)
	list, err := m.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ClientGID != "kept" {
		t.Errorf("got %+v, %v", list, err)
	}
	wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "kept"), nil)
	closeAll(t, m)
}

// TestDiskFull fills the log's disk: what can no longer be promised is rolled
// back with a clear error, what was promised can still be decided.
func TestDiskFull(t *testing.T) {
	p := newPlace(t)
	if err := syscall.Mount("tmpfs", p.dir("log"), "tmpfs", 0, "size=1200k"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(p.dir("log"), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m := p.open(t)
	s := m.NewSession(txn.Principal{User: "alice", Addr: strings.Repeat("x", 20_000)})
	fill := p.dir("log") + "/fill"
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	begin(t, s)
	_, err := s.Branch(t.Context(), "a")
	wantErr(t, err, txn.ErrLogFull) // there is no room for a log
	if err := errors.Join(s.Rollback(t.Context()), os.Remove(fill)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for {
		name := fmt.Sprint("x", len(names))
		begin(t, s)
		put(t, s, "a", name)
		err := s.Prepare(t.Context(), name)
		if errors.Is(err, txn.ErrLogFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	for i, name := range names {
		err := error(nil)
		if i%2 == 0 {
			err = s.CommitPrepared(t.Context(), name)
		} else {
			err = s.RollbackPrepared(t.Context(), name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.wantMessages(t, (len(names)+1)/2, 0)
	begin(t, s)
	put(t, s, "a", "two")
	put(t, s, "b", "phases")
	wantErr(t, s.Commit(t.Context()), nil) // the reserve lets decisions through
	closeAll(t, m)
}

// TestPoisoned fails each kind of forced write. The process then promises
// nothing more, and its successor finds either outcome, whole.
func TestPoisoned(t *testing.T) {
	for _, step := range []string{"write", "sync"} {
		for _, what := range []string{"prepare", "commit-prepared", "rollback-prepared", "commit"} {
			t.Run(what+"/"+step, func(t *testing.T) {
				p := newPlace(t)
				m, s, broken := p.breakable(t, step, what)
				broken.Store(true)
				var err error
				switch what {
				case "prepare":
					err = s.Prepare(t.Context(), "x")
				case "commit-prepared":
					err = s.CommitPrepared(t.Context(), "x")
				case "rollback-prepared":
					err = s.RollbackPrepared(t.Context(), "x")
				case "commit":
					err = s.Commit(t.Context())
				}
				if !txn.InDoubt(err) && what != "prepare" || err == nil {
					t.Errorf("got %v", err)
				}
				testwait.For(t, "the log has failed", m.Failed())
				wantErr(t, m.Err(), txn.ErrPoisoned)
				wantErr(t, m.Recover(t.Context()), txn.ErrPoisoned)
				broken.Store(false)
				p.wantMessages(t, 0, 0)
				_ = m.Close(t.Context()) // as if it had exited
				m = p.open(t)
				defer closeAll(t, m)
				p.recover(t, m)
				a, b := len(p.delivered(t, "a")), len(p.delivered(t, "b"))
				if a != b {
					t.Errorf("half a transaction: %d and %d", a, b)
				}
				s = m.NewSession(alice)
				err1 := s.CommitPrepared(t.Context(), "x")
				err2 := s.RollbackPrepared(t.Context(), "x")
				if err1 == nil && err2 == nil {
					t.Error("both decisions are answered with ok")
				}
				p.recover(t, m)
				p.wantTidy(t)
			})
		}
	}
}

// down is a resource that can be made unreachable.
type down struct {
	*spool.Spool

	is *atomic.Bool
}

var errDown = errors.New("connection refused")

func (d down) Resolve(ctx context.Context, gid txn.GID, what txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if d.is.Load() {
		return 0, errDown
	}
	return d.Spool.Resolve(ctx, gid, what, p)
}

func (d down) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	if d.is.Load() {
		return nil, errDown
	}
	return d.Spool.InDoubt(ctx, id)
}

func (d down) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := d.Spool.Enlist(ctx, opt)
	return downBranch{b.(*spool.Branch), d.is}, err
}

type downBranch struct {
	*spool.Branch

	is *atomic.Bool
}

func (d downBranch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	if d.is.Load() {
		return errDown
	}
	return d.Branch.CommitPrepared(ctx, gid)
}

func (d downBranch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if d.is.Load() {
		return errDown
	}
	return d.Branch.RollbackPrepared(ctx, gid)
}

func (d downBranch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if d.is.Load() {
		return 0, errDown
	}
	return d.Branch.Prepare(ctx, gid)
}

// withDown opens a worker whose resource b can go down.
func (p place) withDown(t *testing.T) (*txn.Manager, *atomic.Bool) {
	t.Helper()
	is := new(atomic.Bool)
	m := p.open(t, func(o *txn.Options) {
		o.Resources[1] = down{o.Resources[1].(*spool.Spool), is}
	})
	return m, is
}

func putDown(t *testing.T, s *txn.Session, body string) {
	t.Helper()
	b, err := s.Branch(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.(downBranch).Put(t.Context(), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// retryUntilIdle retries as the loop does, without its pauses.
func retryUntilIdle(t *testing.T, m *txn.Manager) {
	t.Helper()
	testwait.Until(t, "all that is pending is told", func() bool {
		if m.Counts().Pending > 0 {
			txn.Retry(m, t.Context())
		}
		return m.Counts().Pending == 0
	})
}

// TestDownInPhaseTwo: the resource cannot be told the decision until later.
func TestDownInPhaseTwo(t *testing.T) {
	t.Run("local", func(t *testing.T) {
		p := newPlace(t)
		m, is := p.withDown(t)
		defer closeAll(t, m)
		is.Store(false)
		s := m.NewSession(alice)
		begin(t, s)
		put(t, s, "a", "1")
		putDown(t, s, "2")
		b, _ := s.Branch(t.Context(), "b")
		_, err := b.Prepare(t.Context(), s.GID()) // so that only phase two fails
		if err != nil {
			t.Fatal(err)
		}
		_ = b.RollbackPrepared(t.Context(), s.GID())
		if err := s.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("external", func(t *testing.T) {
		p := newPlace(t)
		m, is := p.withDown(t)
		defer closeAll(t, m)
		s := halfCommitted(t, m, is)
		wantErr(t, s.RollbackPrepared(t.Context(), "x"), txn.ErrAlreadyCommitted)
		p.wantMessages(t, 1, 0)
		list, err := m.List(t.Context())
		if err != nil || len(list) != 1 || list[0].Phase != txn.Committing || m.Counts().Pending != 1 {
			t.Errorf("got %+v, %v, %+v", list, err, m.Counts())
		}
		is.Store(false)
		retryUntilIdle(t, m)
		p.wantMessages(t, 1, 1)
		wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	})
	t.Run("vote", func(t *testing.T) {
		p := newPlace(t)
		m, is := p.withDown(t)
		defer closeAll(t, m)
		s := m.NewSession(alice)
		begin(t, s)
		put(t, s, "a", "1")
		putDown(t, s, "2")
		is.Store(true)
		wantErr(t, s.Prepare(t.Context(), "x"), errDown)
		wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrBusyGID)
		is.Store(false)
		retryUntilIdle(t, m)
		wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
		p.wantMessages(t, 0, 0)
	})
	t.Run("handed over", func(t *testing.T) {
		p := newPlace(t)
		m, is := p.withDown(t)
		halfCommitted(t, m, is)
		closeAll(t, m)
		m = p.open(t)
		defer closeAll(t, m)
		p.recover(t, m)
		p.wantMessages(t, 1, 1)
		p.recover(t, m)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	})
}

// TestHeuristic: an operator decides before the coordinator does.
func TestHeuristic(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	root := txn.Principal{User: "root", Operator: true}
	prepared(t, m, "x")
	prepared(t, m, "y")
	wantErr(t, m.Decide(t.Context(), root, "x", txn.Commit), nil)
	wantErr(t, m.Decide(t.Context(), root, "y", txn.Abort), nil)
	wantErr(t, m.Decide(t.Context(), root, "z", txn.Abort), txn.ErrUnknownGID)
	s := m.NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), txn.ErrHeuristicCommit)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), txn.ErrHeuristicRollback)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil) // only an operator makes it forgotten
	begin(t, s)
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	wantErr(t, m.Forget(t.Context(), alice, "x"), txn.ErrNotOwner)
	wantErr(t, m.Forget(t.Context(), root, "z"), txn.ErrUnknownGID)
	_, err := m.ForgetAll(t.Context(), alice, time.Now())
	wantErr(t, err, txn.ErrNotOwner)
	shown, err := m.Show(t.Context(), "x")
	if err != nil || !shown.Heuristic || shown.Decider != "root" || len(shown.Branches) != 2 || shown.Branches[0].State != "committed" {
		t.Errorf("got %+v, %v", shown, err)
	}
	wantErr(t, m.Forget(t.Context(), root, "x"), nil)
	wantErr(t, m.Forget(t.Context(), root, "y"), nil)
	prepared(t, m, "x")
	wantErr(t, m.Forget(t.Context(), root, "x"), txn.ErrBusyGID)
	shown, err = m.Show(t.Context(), "x")
	if err != nil || shown.Branches[0].State != "prepared" {
		t.Errorf("got %+v, %v", shown, err)
	}
	if again, err := m.Show(t.Context(), shown.GID.String()); err != nil || again.ClientGID != "x" {
		t.Errorf("by our own gid: %+v, %v", again, err)
	}
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), nil)
}

// TestAdministratorDecides: somebody removed a staged branch by hand. The
// commit is carried out where it can be, and the rest reported.
func TestAdministratorDecides(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	staged, _ := filepath.Glob(p.dir("b") + "/prepared/*")
	if err := os.RemoveAll(staged[0]); err != nil {
		t.Fatal(err)
	}
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
	p.wantMessages(t, 1, 0)
	list, err := m.List(t.Context())
	if err != nil || list[0].Hazard == "" {
		t.Errorf("got %+v, %v", list, err)
	}
}

// TestReuse: a gid may be used again after its outcome, which is durably gone
// then.
func TestReuse(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	prepared(t, m, "x")
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), nil)
	prepared(t, m, "x")
	closeAll(t, m)
	p.reboot(t)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	s = m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
}
