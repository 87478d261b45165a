package txntest

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// sessions counts those of the incarnations that are asked for, and ends none.
func (s *suite) sessions() {
	w, ok := s.r.(txn.Watcher)
	if !ok {
		s.Skip("the store does not tell which sessions are open")
	}
	gid := s.gid(txn.RoleLocal, 7)
	b := s.write(gid, 1)
	count := func(want int, of ...uint64) {
		s.Helper()
		if n, err := w.Sessions(s.Context(), gid.Log, of); err != nil || n != want {
			s.Errorf("sessions of %d: %d, %v, want %d", of, n, err, want)
		}
	}
	count(1, 7)
	count(1, 8, 7, 9)
	count(0, 8)
	count(0)
	s.must(b.Rollback(s.Context()))
	s.must(s.r.Fence(s.Context(), gid.Log, 7))
	count(0, 7)
}

// frozen has a store stand still that does not break its connections. It keeps
// nobody: what was to be told is told later, who asks is answered that it is
// unreachable, and so is who wants to know whether it works.
func (s *suite) frozen() {
	if s.Freeze == nil {
		s.Skip("the store cannot stand still by itself")
	}
	const within = 100 * time.Millisecond
	m, err := txn.Open(s.Context(), txn.Options{
		LogDir: s.TempDir(), ClaimDir: s.TempDir(), MachineID: "txntest", Resources: []txn.Resource{s.open("one"), s.open("two")},
		Logger: slog.New(slog.NewTextHandler(s.Output(), nil)), Limits: txn.Limits{Ask: within, Tell: within, Phase: time.Hour, Enlist: time.Hour},
	})
	s.must(err)
	for n, gid := range []string{"commit", "abort"} {
		s.must(s.begin(m, 2*n, 2*n+1).Prepare(s.Context(), gid))
	}
	undone, unvoted := s.begin(m, 4, 5), s.begin(m, 6, 7)
	inOne, inTwo := s.begin(m, 8), s.begin(m, 9, 10)
	left := s.Open(s.T, "left")
	_, err = left.InDoubt(s.Context(), s.log)
	s.must(err)
	_, err = m.Show(s.Context(), "commit") // so that there are connections to be stuck
	s.must(err)
	thaw := s.Freeze(s.T)
	defer func() { thaw() }()

	session := m.NewSession(who)
	s.answered("COMMIT PREPARED", txn.ErrUnreachable, func() error { return session.CommitPrepared(s.Context(), "commit") })
	s.answered("ROLLBACK PREPARED", txn.ErrUnreachable, func() error { return session.RollbackPrepared(s.Context(), "abort") })
	s.answered("ROLLBACK", nil, func() error { _ = undone.Rollback(s.Context()); return nil })
	s.answered("PREPARE TRANSACTION", txn.ErrRolledBack, func() error {
		err := unvoted.Prepare(s.Context(), "unvoted")
		if err == nil || txn.InDoubt(err) {
			s.Errorf("PREPARE TRANSACTION: %v", err)
		}
		return txn.ErrRolledBack
	})
	var onePhase error
	s.answered("COMMIT in one phase", nil, func() error { onePhase = inOne.Commit(s.Context()); return nil })
	if onePhase == nil {
		s.Error("COMMIT of what nobody can have committed")
	}
	s.answered("COMMIT in two phases", nil, func() error {
		if err := inTwo.Commit(s.Context()); err == nil || txn.InDoubt(err) {
			s.Errorf("COMMIT in two phases: %v", err)
		}
		return nil
	})
	s.answered("show", nil, func() error {
		tx, err := m.Show(s.Context(), "commit")
		for _, b := range tx.Branches {
			if !strings.HasPrefix(b.State, "unreachable: ") {
				s.Errorf("%+v", b)
			}
		}
		return err
	})
	s.answered("the rehearsal", nil, func() error {
		ctx, cancel := context.WithTimeout(s.Context(), within)
		defer cancel()
		if faults := m.Rehearse(ctx, nil); len(faults) != 2 {
			s.Errorf("faults: %v", faults)
		}
		return nil
	})
	if w, ok := s.r.(txn.Watcher); ok {
		ended, cancel := context.WithCancel(s.Context())
		cancel()
		if _, err := w.Sessions(ended, s.log, []uint64{1}); err == nil {
			s.Error("counted the sessions of a store that stands still")
		}
	}
	s.answered("the end of a process", nil, left.Close)

	thaw()
	thaw = func() {}
	root := txn.Principal{User: "root", Operator: true}
	testwait.Until(s.T, "all is told", func() bool {
		_, err := m.ResolveAll(s.Context(), root, 0)
		return err == nil && m.Counts().Pending == 0
	})
	s.must(session.CommitPrepared(s.Context(), "commit"))
	s.must(session.RollbackPrepared(s.Context(), "abort"))
	s.must(m.Close(s.Context()))
	m = s.manager(machine{s.TempDir(), s.TempDir()})
	s.must(s.begin(m, 2, 3).Commit(s.Context())) // no lock is left
	if s.Written(s.T, s.id(8)) == 0 {
		s.must(s.begin(m, 8).Commit(s.Context()))
	} else if !txn.InDoubt(onePhase) {
		s.Errorf("committed, and answered: %v", onePhase)
	}
	s.must(m.Close(s.Context()))
	for n := range 11 {
		s.wantWritten(n, map[bool]int{true: 1}[n < 4 || n == 8])
	}
}

// answered has f return, with an error of that kind, though the store stands still.
func (s *suite) answered(what string, want error, f func() error) {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	if err := testwait.For(s.T, what+" without the store", done); !errors.Is(err, want) {
		s.Errorf("%s: %v, want %v", what, err, want)
	}
}
