package txntest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// cutAnywhere loses every reply in a process's life once, and the connection
// with it: whatever is then known, a recoverer finds all branches, ends them
// and leaves no lock, and what was answered is true.
func (s *suite) cutAnywhere() {
	for at, more := 1, s.Lossy != nil; more; at++ {
		s.Run(fmt.Sprint(at), func(t *testing.T) {
			sub := &suite{Harness: s.Harness, T: t, log: txn.NewLogID()}
			sub.r = sub.open("r")
			more = sub.cut(at)
		})
	}
}

// cut loses the reply to one request; it tells whether there was such a request.
func (s *suite) cut(at int) bool {
	r, asked := s.Lossy(s.T, "r", at)
	life := &life{suite: s, lossy: r, want: map[int]int{}}
	life.run()
	s.must(r.Close())

	s.must(s.r.Fence(s.Context(), s.log, 1))
	for _, gid := range s.inDoubt(s.r) {
		s.wantResolve(s.r, gid, txn.Abort, "", txn.ResolvedDone)
	}
	for n := 1; n <= changes; n++ {
		times := s.Written(s.T, s.id(n))
		if want, ok := life.want[n]; ok && times != want {
			s.Errorf("change %d is there %d times, want %d", n, times, want)
		}
		if times == 0 { // no lock is left
			s.must(s.write(s.gid(txn.RoleLocal, 2), n).Commit(s.Context()))
			s.wantWritten(n, 1)
		}
	}
	s.quiet()
	return asked() >= at
}

// changes is how many a life tries to make, one in each branch.
const changes = 4

// life is one process's work on its branches, one after the other.
type life struct {
	*suite
	lossy txn.Resource
	want  map[int]int // by change, how often it must be there; nothing if that is not known
}

func (l *life) run() {
	// A request whose reply is lost must not be waited for without end.
	ctx, cancel := context.WithTimeout(l.Context(), testwait.Patience)
	defer cancel()
	if c, ok := l.lossy.(interface {
		Check(ctx context.Context) ([]string, error)
	}); ok {
		_, _ = c.Check(ctx)
	}
	_, _ = l.lossy.Identity(ctx)
	l.local(ctx, 1)
	l.external(ctx, 2)
	l.onePhase(ctx, 3)
	gid := l.gid(txn.RoleLocal, 1)
	if b, ok := l.begin(ctx, gid, changes); ok {
		_ = b.Rollback(ctx) // or by the fence
	}
	_, _ = l.lossy.InDoubt(ctx, l.log)
	_ = l.lossy.Fence(ctx, l.log, 3)
	if f, ok := l.lossy.(txn.Forgetter); ok {
		_ = f.Forget(ctx, gid)
	}
}

// begin begins a branch and makes its change; false if the branch is over.
func (l *life) begin(ctx context.Context, gid txn.GID, n int) (txn.Branch, bool) {
	l.want[n] = 0
	b, err := l.lossy.Enlist(ctx, txn.BranchOptions{
		GID: as(txn.RoleLocal, gid), LockTimeout: time.Duration(n) * time.Second, Isolation: txn.ReadCommitted,
	})
	if err != nil {
		return nil, false
	}
	err = l.Write(ctx, b, l.id(n))
	for _, step := range []func(context.Context, string) error{b.Savepoint, b.RollbackTo, b.Release} {
		if err == nil {
			err = step(ctx, "s1")
		}
	}
	if err != nil {
		_ = b.Rollback(ctx) // or by the fence
		return nil, false
	}
	return b, true
}

// local is decided here.
func (l *life) local(ctx context.Context, n int) {
	gid := l.gid(txn.RoleLocal, 1)
	b, ok := l.begin(ctx, gid, n)
	if ok && l.prepared(ctx, b, gid) {
		if b.CommitPrepared(ctx, gid) != nil {
			l.resolve(ctx, b, gid)
		}
		l.want[n] = 1
	}
}

// external is decided by somebody else.
func (l *life) external(ctx context.Context, n int) {
	gid := l.gid(txn.RoleExternal, 1)
	b, ok := l.begin(ctx, gid, n)
	if ok && l.prepared(ctx, b, gid) {
		l.resolve(ctx, b, gid)
		l.want[n] = 1
	}
}

// prepared tells whether the vote was yes; whatever else happened is undone,
// by the recoverer if not here.
func (l *life) prepared(ctx context.Context, b txn.Branch, gid txn.GID) bool {
	_, err := b.Prepare(ctx, gid)
	if err != nil {
		_ = b.RollbackPrepared(ctx, gid)
	}
	return err == nil
}

func (l *life) onePhase(ctx context.Context, n int) {
	gid := l.gid(txn.RoleLocal, 1)
	b, ok := l.begin(ctx, gid, n)
	if !ok {
		return
	}
	switch err := b.Commit(ctx); {
	case err == nil:
		l.want[n] = 1
	case txn.InDoubt(err):
		delete(l.want, n)
		if p, ok := l.lossy.(txn.Prover); ok {
			if d, err := p.Outcome(ctx, gid, b.Proof()); err == nil {
				l.want[n] = map[txn.Decision]int{txn.Commit: 1, txn.Abort: 0}[d]
			}
		}
	}
}

// resolve commits what was voted for, at the second time of asking at the
// latest: only one reply gets lost.
func (l *life) resolve(ctx context.Context, b txn.Branch, gid txn.GID) {
	_, err := l.lossy.Resolve(ctx, gid, txn.Commit, b.Proof())
	if err != nil {
		l.wantResolve(l.lossy, gid, txn.Commit, b.Proof(), l.provenOr(b.Proof(), txn.ResolvedDone)...)
	}
}
