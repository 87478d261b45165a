package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// standby is a server of the test's own that may be told to wait for a standby, which it does not have.
type standby struct {
	*testing.T
	server *testdb.Postgres
	admin  *pgx.Conn
	r      *Resource
}

func newStandby(t *testing.T) *standby {
	t.Helper()
	server, err := testdb.StartPostgres()
	must(t, err)
	s := &standby{T: t, server: server}
	t.Cleanup(func() { must(t, server.Close()) })
	s.r = open(t, Options{DSN: server.DSN("postgres")})
	s.admin, err = pgx.Connect(t.Context(), server.DSN("postgres"))
	must(t, err)
	t.Cleanup(func() { _ = s.admin.Close(context.Background()) })
	s.exec("SET synchronous_commit = local")
	s.exec("CREATE TABLE account (id int, balance int)")
	s.exec("INSERT INTO account VALUES (1, 100)")
	return s
}

func (s *standby) exec(sql string) {
	s.Helper()
	_, err := s.admin.Exec(s.Context(), sql)
	must(s.T, err)
}

func (s *standby) ask(sql string) (answer string) {
	s.Helper()
	must(s.T, s.admin.QueryRow(s.Context(), sql).Scan(&answer))
	return answer
}

// want sets which standbys commits wait for, and returns when every session knows.
func (s *standby) want(names string) {
	s.Helper()
	s.exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	s.exec("SELECT pg_reload_conf()")
	testwait.Until(s, "the setting is known", func() bool { return s.ask("SHOW synchronous_standby_names") == names })
	if names == "" {
		testwait.Until(s, "nobody waits any more", func() bool { return s.waiting() == "0" })
	} else {
		testwait.Until(s, "commits wait", s.waits) // as soon as the checkpointer has said so
	}
}

// waits tells whether a commit waits for a standby; the one that is tried does not for long.
func (s *standby) waits() bool {
	before := s.waiting()
	done := make(chan error, 1)
	go func() {
		done <- s.server.Exec(s.Context(), "postgres", "SELECT pg_logical_emit_message(true, 'test', '')")
	}()
	for {
		select {
		case err := <-done:
			must(s.T, err)
			return false
		default:
		}
		if s.waiting() > before {
			s.exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			must(s.T, testwait.For(s, "the commit that was tried", done))
			return true
		}
	}
}

func (s *standby) waiting() string {
	return s.ask("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

// branch has changed the account.
func (s *standby) branch(role txn.Role) *Branch {
	s.Helper()
	b := enlist(s.T, s.r, txn.BranchOptions{GID: newGID(role)})
	exec(s.T, b, "UPDATE account SET balance = balance - 1")
	return b
}

// during runs f, and interrupts it when the server waits for the standby: by the end of f's context, or as an administrator.
func (s *standby) during(byAdmin bool, f func(context.Context) error) error {
	s.Helper()
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	before := s.waiting()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	testwait.Until(s, "the server waits for the standby", func() bool { return s.waiting() > before })
	if byAdmin {
		s.exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	} else {
		cancel(errors.New("no answer in time"))
	}
	return testwait.For(s, "its return", done)
}

// A commit that waits for a standby is not called off: its outcome is unknown until the standby has it, and nobody sees it before.
func TestSyncCommit(t *testing.T) {
	s := newStandby(t)
	for _, byAdmin := range []bool{false, true} {
		b := s.branch(txn.RoleLocal)
		balance := s.ask("SELECT balance::text FROM account")
		s.want("absent")
		if err := s.during(byAdmin, b.Commit); !errors.Is(err, txn.ErrUnknownOutcome) {
			t.Errorf("Commit, cancelled by an administrator %t: %v, want an unknown outcome", byAdmin, err)
		}
		if got := s.ask("SELECT balance::text FROM account"); !byAdmin && got != balance {
			t.Errorf("others see %s before the standby has it", got)
		}
		if !byAdmin {
			if d, err := s.r.Outcome(t.Context(), b.opt.GID, b.Proof()); !errors.Is(err, errInProgress) {
				t.Errorf("Outcome = %v, %v, want errInProgress", d, err)
			}
		} else if err := s.during(false, func(ctx context.Context) error {
			_, err := s.r.Outcome(ctx, b.opt.GID, b.Proof())
			return err
		}); err == nil {
			t.Error("Outcome is told before the standby has it")
		}
		s.want("")
		if d, err := s.r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Commit {
			t.Errorf("Outcome with the standby = %v, %v", d, err)
		}
	}
}

// A vote that waits for a standby is no yes, and phase two not done, until the standby has it.
func TestSyncTwoPhases(t *testing.T) {
	s := newStandby(t)
	for _, byAdmin := range []bool{false, true} {
		b := s.branch(txn.RoleExternal)
		s.want("absent")
		if err := s.during(byAdmin, func(ctx context.Context) error {
			vote, err := b.Prepare(ctx, b.opt.GID)
			if err == nil {
				t.Errorf("voted %v", vote)
			}
			return err
		}); txn.InDoubt(err) {
			t.Errorf("Prepare: %v", err)
		}
		s.want("")
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))

		b = s.branch(txn.RoleLocal)
		prepare(t, b)
		s.want("absent")
		if err := s.during(byAdmin, func(ctx context.Context) error { return b.CommitPrepared(ctx, b.opt.GID) }); err == nil {
			t.Error("CommitPrepared is done before the standby has it")
		}
		s.want("")
		if got, err := s.r.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	}
	if got := s.ask("SELECT balance::text FROM account"); got != "98" {
		t.Errorf("balance %s", got)
	}
}

// The fence of a dead process does not end what only waits for a standby.
func TestSyncFence(t *testing.T) {
	s := newStandby(t)
	b := s.branch(txn.RoleLocal)
	s.want("absent")
	err := s.during(false, b.Commit)
	must(t, s.r.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
	if n := s.waiting(); n != "1" || !txn.InDoubt(err) {
		t.Errorf("%s sessions wait after the fence; Commit: %v", n, err)
	}
	s.want("")
	if d, err := s.r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Commit {
		t.Errorf("Outcome = %v, %v", d, err)
	}
}
