package txntest

import (
	"slices"
	"sync"

	"github.com/fdtserver/fdt/txn"
)

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
	if l, ok := s.r.(txn.Lister); ok {
		list, err := l.InDoubtOfOthers(s.Context(), txn.NewLogID())
		s.must(err)
		if !slices.ContainsFunc(list, func(b txn.PreparedBranch) bool { return b.GID.Same(gid) }) {
			s.Errorf("a branch of another log is not listed: %v", list)
		}
		list, err = l.InDoubtOfOthers(s.Context(), s.log)
		s.must(err)
		if slices.ContainsFunc(list, func(b txn.PreparedBranch) bool { return b.GID.Same(gid) }) {
			s.Errorf("a branch of the log itself is listed as another's: %v", list)
		}
	}
	s.wantResolve(s.r, gid, txn.Abort, b.Proof(), txn.ResolvedDone)
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
