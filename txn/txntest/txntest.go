// Package txntest is the conformance suite for resource managers: what passes
// it can be recovered by txn. It needs a real store, leaves nothing in it, and
// does not test how the store survives its own crash.
package txntest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// Harness is a resource under test. Every function may be called from several
// goroutines, and reports what it cannot do by t.Fatal.
type Harness struct {
	// Open opens the one store as a resource of that name, as another process
	// would. Branches of one transaction on resources of different names must
	// not be taken for each other. The suite closes it.
	Open func(t testing.TB, name string) txn.Resource
	// Write makes a change in a branch. No id is written twice unless the
	// first was undone.
	Write func(ctx context.Context, b txn.Branch, id string) error
	// Written tells how many times the change was committed, as everybody
	// sees it.
	Written func(t testing.TB, id string) int
	// Abandon makes a branch's session stop as if its process had died, with
	// no word to the store. Nil if dying changes nothing.
	Abandon func(t testing.TB, b txn.Branch)
	// Lossy opens the store as Open does, and loses the reply to the request
	// with that number, from 1, and the connection with it. The function tells
	// how many requests there were. Nil if no reply can get lost.
	Lossy func(t testing.TB, name string, at int) (txn.Resource, func() int)
	// Unproven says that the store cannot prove how a branch ended that it
	// does not hold any more, whatever its Proof is for.
	Unproven bool
}

// suite is one test's share.
type suite struct {
	Harness
	*testing.T
	r   txn.Resource
	log txn.LogID
	seq uint64
}

// Run runs every test of the suite as a subtest.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"Identity", (*suite).identity},
		{"OnePhase", (*suite).onePhase},
		{"Rollback", (*suite).rollback},
		{"CommitPrepared", (*suite).commitPrepared},
		{"RollbackPrepared", (*suite).rollbackPrepared},
		{"RollbackUnprepared", (*suite).rollbackUnprepared},
		{"Resolve", (*suite).resolve},
		{"ResolveAbort", (*suite).resolveAbort},
		{"ResolveUnknown", (*suite).resolveUnknown},
		{"ResolveAtOnce", (*suite).resolveAtOnce},
		{"Reopen", (*suite).reopen},
		{"ForeignLog", (*suite).foreignLog},
		{"FenceUnprepared", (*suite).fenceUnprepared},
		{"FencePrepared", (*suite).fencePrepared},
		{"FenceOthers", (*suite).fenceOthers},
		{"Savepoints", (*suite).savepoints},
		{"ReadOnly", (*suite).readOnly},
		{"Cancelled", (*suite).cancelled},
		{"Parallel", (*suite).parallel},
		{"CutAnywhere", (*suite).cutAnywhere},
		{"Coordinated", (*suite).coordinated},
		{"Recovered", (*suite).recovered},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{Harness: h, T: t, log: txn.NewLogID()}
			s.r = s.open("r")
			test.run(s)
			s.quiet()
		})
	}
}

// open opens the store once more.
func (s *suite) open(name string) txn.Resource {
	s.Helper()
	r := s.Open(s.T, name)
	s.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.Error(err)
		}
	})
	if r.Name() != name {
		s.Errorf("Name is %q, want %q", r.Name(), name)
	}
	return r
}

// quiet checks that nothing of this test is left in doubt.
func (s *suite) quiet() {
	s.Helper()
	if list := s.inDoubt(s.r); len(list) > 0 {
		s.Errorf("left in doubt: %v", list)
	}
}

func (s *suite) gid(role txn.Role, incarnation uint64) txn.GID {
	s.seq++
	return txn.GID{Log: s.log, Incarnation: incarnation, Sequence: s.seq, Role: role}
}

// as is the gid with another role.
func as(role txn.Role, gid txn.GID) txn.GID {
	gid.Role = role
	return gid
}

func (s *suite) id(n int) string { return fmt.Sprintf("%s-%d", s.log.String()[:12], n) }

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) enlist(gid txn.GID) txn.Branch {
	s.Helper()
	b, err := s.r.Enlist(s.Context(), txn.BranchOptions{GID: as(txn.RoleLocal, gid)})
	s.must(err)
	return b
}

// write begins a branch with one change.
func (s *suite) write(gid txn.GID, n int) txn.Branch {
	s.Helper()
	b := s.enlist(gid)
	s.must(s.Write(s.Context(), b, s.id(n)))
	return b
}

func (s *suite) prepare(b txn.Branch, gid txn.GID) {
	s.Helper()
	vote, err := b.Prepare(s.Context(), gid)
	s.must(err)
	if vote != txn.VotePrepared {
		s.Fatalf("vote %d, want VotePrepared", vote)
	}
}

func (s *suite) inDoubt(r txn.Resource) []txn.GID {
	s.Helper()
	list, err := r.InDoubt(s.Context(), s.log)
	s.must(err)
	var gids []txn.GID
	for _, p := range list {
		gids = append(gids, as(txn.RoleLocal, p.GID)) // see GID.Same
		if !p.Since.IsZero() && time.Since(p.Since).Abs() > time.Hour {
			s.Errorf("%s is in doubt since %s", p.GID, p.Since)
		}
	}
	return gids
}

func (s *suite) wantDoubt(gids ...txn.GID) {
	s.Helper()
	got := map[txn.GID]bool{}
	for _, g := range s.inDoubt(s.r) {
		if got[g] {
			s.Errorf("%s is listed twice", g)
		}
		got[g] = true
	}
	for _, g := range gids {
		if !got[as(txn.RoleLocal, g)] {
			s.Errorf("%s is not in doubt", g)
		}
	}
	if len(got) != len(gids) {
		s.Errorf("%d in doubt, want %d", len(got), len(gids))
	}
}

func (s *suite) wantWritten(n, times int) {
	s.Helper()
	if got := s.Written(s.T, s.id(n)); got != times {
		s.Errorf("change %d is there %d times, want %d", n, got, times)
	}
}

func (s *suite) wantResolve(r txn.Resource, gid txn.GID, d txn.Decision, p txn.Proof, want ...txn.Resolution) {
	s.Helper()
	got, err := r.Resolve(s.Context(), gid, d, p)
	s.must(err)
	for _, w := range want {
		if got == w {
			return
		}
	}
	s.Errorf("Resolve(%s) is %d, want one of %d", d, got, want)
}

func (s *suite) forget(gid txn.GID) {
	s.Helper()
	if f, ok := s.r.(txn.Forgetter); ok {
		s.must(f.Forget(s.Context(), gid))
		s.must(f.Forget(s.Context(), gid))
	}
}

func (s *suite) identity() {
	first, err := s.r.Identity(s.Context())
	s.must(err)
	again, err := s.open("r").Identity(s.Context())
	s.must(err)
	if first != again || first == "" {
		s.Errorf("identity %q, then %q", first, again)
	}
}

func (s *suite) onePhase() {
	b := s.write(s.gid(txn.RoleLocal, 1), 1)
	s.wantWritten(1, 0)
	s.must(b.Commit(s.Context()))
	s.wantWritten(1, 1)
	b = s.write(s.gid(txn.RoleLocal, 1), 2)
	s.must(s.Write(s.Context(), b, s.id(3)))
	s.must(b.Commit(s.Context()))
	s.wantWritten(2, 1)
	s.wantWritten(3, 1)
	s.must(s.enlist(s.gid(txn.RoleLocal, 1)).Commit(s.Context())) // empty
	s.wantDoubt()
}

func (s *suite) rollback() {
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Rollback(s.Context()))
	s.wantWritten(1, 0)
	s.must(s.enlist(s.gid(txn.RoleLocal, 1)).Rollback(s.Context()))
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context())) // no lock is left
	s.wantWritten(1, 1)
}

func (s *suite) commitPrepared() {
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	s.wantWritten(1, 0)
	s.wantDoubt(gid)
	s.must(b.CommitPrepared(s.Context(), gid))
	s.wantWritten(1, 1)
	s.wantDoubt()
	s.wantResolve(s.r, gid, txn.Commit, b.Proof(), s.provenOr(b.Proof(), txn.ResolvedDone)...)
	s.forget(gid)
}

// provenOr is what Resolve may say of a finished branch: the truth if the
// resource can prove it, else that it does not know.
func (s *suite) provenOr(p txn.Proof, truth txn.Resolution) []txn.Resolution {
	if _, ok := s.r.(txn.Forgetter); !s.Unproven && (ok || p != "") {
		return []txn.Resolution{truth}
	}
	return []txn.Resolution{truth, txn.ResolvedUnknown}
}

func (s *suite) rollbackPrepared() {
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	s.must(b.RollbackPrepared(s.Context(), gid))
	s.wantWritten(1, 0)
	s.wantDoubt()
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context()))
}

func (s *suite) rollbackUnprepared() {
	gid := s.gid(txn.RoleLocal, 1)
	s.must(s.write(gid, 1).RollbackPrepared(s.Context(), gid))
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context()))
}

func (s *suite) resolve() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	other := s.open("r")
	s.wantDoubt(gid)
	s.wantResolve(other, gid, txn.Commit, b.Proof(), txn.ResolvedDone)
	s.wantWritten(1, 1)
	s.wantResolve(s.r, gid, txn.Commit, b.Proof(), s.provenOr(b.Proof(), txn.ResolvedDone)...)
	against := append(s.provenOr(b.Proof(), txn.ResolvedAgainst), txn.ResolvedAgainst)
	if s.Unproven {
		against = append(against, txn.ResolvedDone) // as of one that was never there
	}
	s.wantResolve(s.r, gid, txn.Abort, b.Proof(), against...)
	s.wantWritten(1, 1)
	s.forget(gid)
}

func (s *suite) resolveAbort() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	s.wantResolve(s.open("r"), gid, txn.Abort, b.Proof(), txn.ResolvedDone)
	s.wantResolve(s.r, gid, txn.Abort, b.Proof(), txn.ResolvedDone)
	s.wantResolve(s.r, gid, txn.Commit, b.Proof(), txn.ResolvedUnknown, txn.ResolvedAgainst)
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context()))
}

func (s *suite) resolveUnknown() {
	gid := s.gid(txn.RoleExternal, 1)
	s.wantResolve(s.r, gid, txn.Abort, "", txn.ResolvedDone)
	s.wantResolve(s.r, gid, txn.Commit, "", txn.ResolvedUnknown)
	s.forget(gid)
}

// resolveAtOnce has several processes carry out one decision.
func (s *suite) resolveAtOnce() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.enlist(gid)
	for n := range 10 {
		s.must(s.Write(s.Context(), b, s.id(n)))
	}
	s.prepare(b, gid)
	var rs []txn.Resource
	for range 4 {
		rs = append(rs, s.open("r"))
	}
	var wg sync.WaitGroup
	for _, r := range rs {
		wg.Go(func() {
			how, err := r.Resolve(s.Context(), gid, txn.Commit, b.Proof())
			if err == nil && !slices.Contains(s.provenOr(b.Proof(), txn.ResolvedDone), how) {
				s.Errorf("Resolve is %d", how)
			}
		})
	}
	wg.Wait()
	s.wantResolve(s.r, gid, txn.Commit, b.Proof(), s.provenOr(b.Proof(), txn.ResolvedDone)...)
	for n := range 10 {
		s.wantWritten(n, 1)
	}
	s.forget(gid)
}

func (s *suite) reopen() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	s.must(s.Open(s.T, "r").Close())
	s.wantDoubt(gid)
	s.wantWritten(1, 0)
	s.wantResolve(s.open("r"), gid, txn.Commit, b.Proof(), txn.ResolvedDone)
	s.wantWritten(1, 1)
	s.forget(gid)
}

func (s *suite) foreignLog() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	list, err := s.r.InDoubt(s.Context(), txn.NewLogID())
	s.must(err)
	if len(list) > 0 {
		s.Errorf("InDoubt lists another log's branches: %v", list)
	}
	s.wantResolve(s.r, gid, txn.Abort, b.Proof(), txn.ResolvedDone)
}

func (s *suite) abandon(b txn.Branch) {
	if s.Abandon != nil {
		s.Abandon(s.T, b)
	}
}

// fenceUnprepared fences a process that died in the middle of a transaction.
func (s *suite) fenceUnprepared() {
	b := s.write(s.gid(txn.RoleLocal, 7), 1)
	s.abandon(b)
	other := s.open("r")
	s.must(other.Fence(s.Context(), s.log, 7))
	s.must(other.Fence(s.Context(), s.log, 7))
	s.wantDoubt()
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 8), 1).Commit(s.Context())) // no lock is left
	s.wantWritten(1, 1)
}

func (s *suite) fencePrepared() {
	gid := s.gid(txn.RoleExternal, 7)
	b := s.write(gid, 1)
	s.prepare(b, gid)
	local := s.gid(txn.RoleLocal, 7)
	l := s.write(local, 2)
	s.prepare(l, local)
	s.abandon(l)
	other := s.open("r")
	s.must(other.Fence(s.Context(), s.log, 7))
	s.wantDoubt(gid, local)
	s.wantResolve(other, gid, txn.Commit, b.Proof(), txn.ResolvedDone)
	s.wantResolve(other, local, txn.Abort, l.Proof(), txn.ResolvedDone)
	s.wantWritten(1, 1)
	s.wantWritten(2, 0)
	s.forget(gid)
}

func (s *suite) fenceOthers() {
	mine := s.write(s.gid(txn.RoleLocal, 7), 1)
	other := s.open("r")
	s.must(other.Fence(s.Context(), s.log, 8))
	s.must(other.Fence(s.Context(), txn.NewLogID(), 7))
	s.must(mine.Commit(s.Context()))
	s.wantWritten(1, 1)
}

func (s *suite) savepoints() {
	b := s.write(s.gid(txn.RoleLocal, 1), 1)
	s.must(b.Savepoint(s.Context(), "s1"))
	s.must(s.Write(s.Context(), b, s.id(2)))
	s.must(b.Savepoint(s.Context(), "s2"))
	s.must(s.Write(s.Context(), b, s.id(3)))
	s.must(b.RollbackTo(s.Context(), "s2"))
	s.must(b.RollbackTo(s.Context(), "s2"))
	s.must(s.Write(s.Context(), b, s.id(4)))
	s.must(b.Release(s.Context(), "s2"))
	s.must(b.Savepoint(s.Context(), "s3"))
	s.must(s.Write(s.Context(), b, s.id(5)))
	s.must(b.RollbackTo(s.Context(), "s1"))
	s.must(s.Write(s.Context(), b, s.id(6)))
	s.must(b.Release(s.Context(), "s1"))
	s.must(b.Commit(s.Context()))
	for n, times := range []int{1: 1, 2: 0, 3: 0, 4: 0, 5: 0, 6: 1} {
		if n > 0 {
			s.wantWritten(n, times)
		}
	}
}

func (s *suite) readOnly() {
	gid := s.gid(txn.RoleLocal, 1)
	b, err := s.r.Enlist(s.Context(), txn.BranchOptions{GID: gid, ReadOnly: true})
	s.must(err)
	if err := s.Write(s.Context(), b, s.id(1)); err == nil {
		s.Error("a read-only branch lets itself be written to")
	}
	s.must(b.Rollback(s.Context()))
	s.wantWritten(1, 0)
	gid = s.gid(txn.RoleLocal, 1)
	b, err = s.r.Enlist(s.Context(), txn.BranchOptions{GID: gid, ReadOnly: true})
	s.must(err)
	switch vote, err := b.Prepare(s.Context(), gid); {
	case err != nil:
		s.Error(err)
	case vote == txn.VotePrepared:
		s.must(b.CommitPrepared(s.Context(), gid))
	case vote != txn.VoteReadOnly:
		s.Errorf("vote %d", vote)
	}
	s.wantDoubt()
}

// cancelled prepares with a context that has ended: whatever the answer, the
// branch can be undone.
func (s *suite) cancelled() {
	gid := s.gid(txn.RoleExternal, 1)
	b := s.write(gid, 1)
	ctx, cancel := context.WithCancelCause(s.Context())
	cancel(errors.New("the client is gone"))
	vote, err := b.Prepare(ctx, gid)
	if err != nil {
		s.must(b.RollbackPrepared(s.Context(), gid))
	} else if vote != txn.VotePrepared {
		s.Errorf("vote %d", vote)
	}
	s.wantResolve(s.r, gid, txn.Abort, b.Proof(), txn.ResolvedDone)
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context()))
}

func (s *suite) parallel() {
	const n = 8
	gids := make([]txn.GID, n)
	for i := range gids {
		gids[i] = s.gid(txn.RoleLocal, 1)
	}
	var wg sync.WaitGroup
	for i, gid := range gids {
		wg.Go(func() {
			if err := s.one(i, gid); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range gids {
		s.wantWritten(i, 1)
		s.forget(gids[i])
	}
}

// one is one transaction of parallel.
func (s *suite) one(i int, gid txn.GID) error {
	b, err := s.r.Enlist(s.Context(), txn.BranchOptions{GID: gid})
	if err != nil {
		return err
	}
	if err := s.Write(s.Context(), b, s.id(i)); err != nil {
		return errors.Join(err, b.Rollback(s.Context()))
	}
	if i%2 == 0 {
		return b.Commit(s.Context())
	}
	if _, err := b.Prepare(s.Context(), gid); err != nil {
		return errors.Join(err, b.RollbackPrepared(s.Context(), gid))
	}
	return b.CommitPrepared(s.Context(), gid)
}
