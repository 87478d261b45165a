package txntest

import (
	"sync"

	"github.com/fdtserver/fdt/txn"
)

// cutOff takes branches from code that goes on with them: the store undoes them at once, their code can do nothing more, and the
// connection is nobody else's.
func (s *suite) cutOff() {
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	if _, ok := b.(txn.Cuttable); !ok {
		s.must(b.Rollback(s.Context()))
		return
	}
	s.cutFrom(b, gid)
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context())) // no lock is left, though the code has the branch
	if err := s.Write(s.Context(), b, s.id(2)); err == nil {
		s.Error("a branch that was cut off lets itself be written to")
	}
	if _, err := b.Prepare(s.Context(), gid); err == nil {
		s.Error("a branch that was cut off votes yes")
	}
	s.must(b.RollbackPrepared(s.Context(), gid))

	gid = s.gid(txn.RoleLocal, 1)
	b = s.enlist(gid) // and has not begun
	s.cutFrom(b, gid)
	s.must(b.Rollback(s.Context()))

	b = s.write(s.gid(txn.RoleLocal, 1), 3)
	s.must(b.Commit(s.Context()))
	next := s.write(s.gid(txn.RoleLocal, 1), 4)
	s.uncuttable(b, "has ended")
	s.must(next.Commit(s.Context()))
	for n, times := range []int{1: 1, 2: 0, 3: 1, 4: 1} {
		if n > 0 {
			s.wantWritten(n, times)
		}
	}
}

// cutFrom cuts a branch off, and has the store told, as a session does.
func (s *suite) cutFrom(b txn.Branch, gid txn.GID) {
	s.Helper()
	cut, ok := b.(txn.Cuttable)
	if !ok {
		s.Fatalf("%T", b)
	}
	var proof txn.Proof
	var was bool
	var all sync.WaitGroup
	all.Go(func() { proof, was = cut.Cut() })
	all.Wait()
	if !was {
		s.Fatal("an open branch cannot be cut off")
	}
	s.uncuttable(b, "was cut off")
	s.wantResolve(s.r, gid, txn.Abort, proof, txn.ResolvedDone)
}

func (s *suite) uncuttable(b txn.Branch, as string) {
	s.Helper()
	if cut, ok := b.(txn.Cuttable); ok {
		if _, was := cut.Cut(); was {
			s.Errorf("a branch that %s is cut off", as)
		}
	}
}
