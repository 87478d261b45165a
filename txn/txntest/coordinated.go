package txntest

import (
	"errors"
	"log/slog"

	"github.com/fdtserver/fdt/txn"
)

// machine is the directories of one coordinator.
type machine struct{ log, claims string }

// manager begins a worker's life with the store under two names, so that two
// branches take part.
func (s *suite) manager(at machine, change ...func(*txn.Options)) *txn.Manager {
	s.Helper()
	opt := txn.Options{
		LogDir: at.log, ClaimDir: at.claims, MachineID: "txntest",
		Resources: []txn.Resource{s.open("one"), s.open("two")},
		Logger:    slog.New(slog.NewTextHandler(s.Output(), nil)),
	}
	for _, f := range change {
		f(&opt)
	}
	m, err := txn.Open(s.Context(), opt)
	s.must(err)
	return m
}

var who = txn.Principal{User: "txntest"}

func (s *suite) begin(m *txn.Manager, writes ...int) *txn.Session {
	s.Helper()
	session := m.NewSession(who)
	s.must(session.Begin(s.Context(), txn.TxOptions{}))
	for i, n := range writes {
		b, err := session.Branch(s.Context(), []string{"one", "two"}[i%2])
		s.must(err)
		s.must(s.Write(s.Context(), b, s.id(n)))
	}
	return session
}

// coordinated runs whole transactions through a Manager.
func (s *suite) coordinated() {
	at := machine{s.TempDir(), s.TempDir()}
	m := s.manager(at)
	s.must(s.begin(m, 1, 2).Commit(s.Context()))
	s.must(s.begin(m, 3, 4).Rollback(s.Context()))
	s.must(s.begin(m, 5).Commit(s.Context()))
	session := s.begin(m, 6, 7)
	s.must(session.Prepare(s.Context(), "x"))
	s.must(session.CommitPrepared(s.Context(), "x"))
	s.must(session.Acknowledge())
	s.must(s.begin(m, 8, 9).Prepare(s.Context(), "x"))
	s.must(session.RollbackPrepared(s.Context(), "x"))
	session = s.begin(m, 10, 11)
	s.must(session.Savepoint(s.Context(), "sp"))
	b, err := session.Branch(s.Context(), "two")
	s.must(err)
	s.must(s.Write(s.Context(), b, s.id(12)))
	session.Fail(errors.New("a test says so"))
	s.must(session.RollbackTo(s.Context(), "sp"))
	s.must(session.Commit(s.Context()))
	s.must(m.Close(s.Context()))
	for n, times := range []int{0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0} {
		if n > 0 {
			s.wantWritten(n, times)
		}
	}
}

// recovered leaves transactions in doubt and decides them after a reboot.
func (s *suite) recovered() {
	at := machine{s.TempDir(), s.TempDir()}
	m := s.manager(at)
	s.must(s.begin(m, 1, 2).Prepare(s.Context(), "commit"))
	s.must(s.begin(m, 3, 4).Prepare(s.Context(), "abort"))
	s.must(m.Close(s.Context()))
	at.claims = s.TempDir()
	m = s.manager(at)
	s.must(m.Scan(s.Context()))
	session := m.NewSession(who)
	s.must(session.CommitPrepared(s.Context(), "commit"))
	s.must(session.Acknowledge())
	s.must(session.RollbackPrepared(s.Context(), "abort"))
	s.must(session.Acknowledge())
	s.must(m.Close(s.Context()))
	for n, times := range []int{0, 1, 1, 0, 0} {
		if n > 0 {
			s.wantWritten(n, times)
		}
	}
}
