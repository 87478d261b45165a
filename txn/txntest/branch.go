package txntest

import (
	"context"
	"errors"
	"sync"

	"github.com/fdtserver/fdt/txn"
)

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
