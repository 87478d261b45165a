package txntest

import (
	"context"

	"github.com/fdtserver/fdt/txn"
)

// crashAfter crashes the store at once after each answer. A yes to Prepare and
// to any commit is durable. A rollback need not be: the branch may come back as
// it was prepared, and is listed and told again then; it never commits, and
// what was not prepared never comes back.
func (s *suite) crashAfter() {
	const local, external = txn.RoleLocal, txn.RoleExternal
	for n, answer := range []struct {
		role          txn.Role
		tell          func(ctx context.Context, b txn.Branch, gid txn.GID) error
		commit, doubt bool // what is durable then
		back          bool // it may come back
	}{
		{role: local, tell: func(ctx context.Context, b txn.Branch, _ txn.GID) error { return b.Rollback(ctx) }},
		{role: local, tell: func(ctx context.Context, b txn.Branch, _ txn.GID) error { return b.Commit(ctx) }, commit: true},
		{role: local, tell: s.preparedThen(func(ctx context.Context, b txn.Branch, gid txn.GID) error { return b.CommitPrepared(ctx, gid) }), commit: true},
		{role: local, tell: s.preparedThen(func(ctx context.Context, b txn.Branch, gid txn.GID) error { return b.RollbackPrepared(ctx, gid) }), back: true},
		{role: external, tell: s.preparedThen(nil), doubt: true},
		{role: external, tell: s.preparedThen(s.told(txn.Commit)), commit: true},
		{role: external, tell: s.preparedThen(s.told(txn.Abort)), back: true},
	} {
		gid := s.gid(answer.role, 1)
		b := s.write(gid, n)
		s.must(answer.tell(s.Context(), b, gid))
		s.Crash(s.T)
		list := s.inDoubt(s.r)
		is := len(list) > 0 && list[0] == as(txn.RoleLocal, gid)
		if len(list) > 1 || len(list) == 1 && !is || is && !answer.doubt && !answer.back || !is && answer.doubt {
			s.Errorf("answer %d: after the crash in doubt: %v", n, list)
		}
		switch {
		case answer.doubt:
			s.wantResolve(s.r, gid, txn.Commit, b.Proof(), txn.ResolvedDone)
			s.forget(gid)
		case is:
			s.wantResolve(s.r, gid, txn.Abort, "", txn.ResolvedDone)
		}
		s.wantDoubt()
		if answer.commit || answer.doubt {
			s.wantWritten(n, 1)
			s.forget(gid)
			continue
		}
		s.wantWritten(n, 0)
		s.must(s.write(s.gid(local, 1), n).Commit(s.Context())) // no lock is left
	}
}

// preparedThen prepares, and goes on if it is to.
func (s *suite) preparedThen(then func(context.Context, txn.Branch, txn.GID) error) func(context.Context, txn.Branch, txn.GID) error {
	return func(ctx context.Context, b txn.Branch, gid txn.GID) error {
		s.prepare(b, gid)
		if then == nil {
			return nil
		}
		return then(ctx, b, gid)
	}
}

// told resolves a branch, as its coordinator's decision.
func (s *suite) told(d txn.Decision) func(context.Context, txn.Branch, txn.GID) error {
	return func(_ context.Context, b txn.Branch, gid txn.GID) error {
		s.wantResolve(s.r, gid, d, b.Proof(), txn.ResolvedDone)
		return nil
	}
}

// crashUnderManager crashes the store when the worker that lives on has noted
// the end. Its next recovery settles what is back, and nothing else: not what
// waits for its coordinator.
func (s *suite) crashUnderManager() {
	at := machine{s.TempDir(), s.TempDir()}
	m := s.manager(at)
	s.must(s.begin(m, 1, 2).Prepare(s.Context(), "waits"))
	session := s.begin(m, 3, 4)
	id := session.GID().Log
	s.must(session.Prepare(s.Context(), "x"))
	s.must(session.RollbackPrepared(s.Context(), "x"))
	s.must(session.Acknowledge())
	s.Crash(s.T)
	root := txn.Principal{User: "root", Operator: true}
	for range 2 {
		_, err := m.ResolveAll(s.Context(), root, 0)
		s.must(err)
	}
	s.must(s.begin(m, 3, 4).Commit(s.Context())) // no lock is left
	s.must(session.CommitPrepared(s.Context(), "waits"))
	s.must(session.Acknowledge())
	s.must(m.Close(s.Context()))
	for n := 1; n <= 4; n++ {
		s.wantWritten(n, 1)
	}
	for _, name := range []string{"one", "two"} {
		list, err := s.open(name).InDoubt(s.Context(), id)
		s.must(err)
		if len(list) > 0 {
			s.Errorf("%s holds %v", name, list)
		}
	}
}
