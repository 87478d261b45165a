package bank

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// pair is two databases with a table t (id, n) each, MariaDB behind a proxy, and a Manager on both.
type pair struct {
	pg    *testdb.Postgres
	my    *testdb.MariaDB
	proxy *testdb.Proxy
	m     *txn.Manager
	vain  tally // decisions that recovery could not tell
}

// tally counts, of the lines that are written to it, those of a decision that could not be told.
type tally struct{ atomic.Int64 }

func (n *tally) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`step="tell decisions to `)) {
		n.Add(1)
	}
	return len(line), nil
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	var err error
	p.pg, err = testdb.StartPostgres()
	must(t, err)
	t.Cleanup(func() { must(t, p.pg.Close()) })
	p.my, err = testdb.StartMariaDB()
	must(t, err)
	t.Cleanup(func() { must(t, p.my.Close()) })
	create := []string{"CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)", "INSERT INTO t VALUES (1, 0), (2, 0)"}
	must(t, p.pg.Exec(t.Context(), "postgres", create...))
	must(t, p.my.Database(t.Context(), "bank"))
	must(t, p.my.Exec(t.Context(), "bank", create...))
	p.proxy, err = testdb.NewProxy(p.my.Socket())
	must(t, err)
	t.Cleanup(func() { must(t, p.proxy.Close()) })

	at := place{
		log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: p.pg.DSN("postgres"),
		mariadb: p.proxy.Through(p.my.DSN("fdt", "bank")),
	}
	m, rms, err := at.manager(t.Context(), "flows", slog.New(slog.NewTextHandler(&p.vain, &slog.HandlerOptions{Level: slog.LevelDebug})))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var recovery sync.WaitGroup
	recovery.Go(func() {
		if err := m.Recover(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		recovery.Wait()
		err := m.Close(context.Background())
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
		must(t, err)
	})
	p.m = m
	return p
}

func (p *pair) begin(t *testing.T) *txn.Session {
	t.Helper()
	s := p.m.NewSession(txn.Principal{User: "teller"})
	must(t, s.Begin(t.Context(), txn.TxOptions{}))
	return s
}

// add adds one to a row of a database, in the session's transaction.
func add(ctx context.Context, s *txn.Session, on string, id int) error {
	b, err := s.Branch(ctx, on)
	if err != nil {
		return err
	}
	_, err = b.(interface {
		Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error)
	}).Exec(ctx, fmt.Sprintf("UPDATE t SET n = n + 1 WHERE id = %d", id), nil)
	return err
}

// both adds to row 1 of either database.
func (p *pair) both(t *testing.T) *txn.Session {
	t.Helper()
	s := p.begin(t)
	must(t, add(t.Context(), s, "bank_a", 1))
	must(t, add(t.Context(), s, "bank_b", 1))
	return s
}

// want waits until the rows 1 hold n, unlocked.
func (p *pair) want(t *testing.T, n int) {
	t.Helper()
	p.wantIn(t, n, func(ctx context.Context, s ...string) error {
		return p.pg.Exec(ctx, "postgres", append([]string{"SET lock_timeout = '1s'"}, s...)...)
	})
	p.wantIn(t, n, func(ctx context.Context, s ...string) error {
		return p.my.Exec(ctx, "bank", append([]string{"SET innodb_lock_wait_timeout = 1"}, s...)...)
	})
}

// wantIn is want of one database.
func (p *pair) wantIn(t *testing.T, n int, ask func(ctx context.Context, statements ...string) error) {
	t.Helper()
	// The primary key's violation is the answer no.
	wrong := fmt.Sprintf("INSERT INTO t SELECT 2, 0 FROM t WHERE id = 1 AND n <> %d", n)
	testwait.Until(t, fmt.Sprint("row 1 becomes ", n), func() bool {
		return ask(t.Context(), "BEGIN", "SELECT n FROM t WHERE id = 1 FOR UPDATE", wrong, "ROLLBACK") == nil
	})
}

// die kills MariaDB when it is told what holds text, before it hears it.
func (p *pair) die(t *testing.T, text string) {
	t.Helper()
	var once sync.Once
	p.proxy.Rule(func(request []byte) testdb.Fate {
		fate := testdb.Pass
		if strings.Contains(string(request), text) {
			once.Do(func() {
				if err := p.my.Kill(); err != nil {
					t.Error(err)
				}
				fate = testdb.LoseRequest
			})
		}
		return fate
	})
}

func TestFlows(t *testing.T) {
	p := newPair(t)

	// Neither database sees the cycle: the lock timeout ends it, as a deadlock.
	t.Run("DistributedDeadlock", func(t *testing.T) {
		one, two := p.begin(t), p.begin(t)
		must(t, add(t.Context(), one, "bank_a", 1))
		must(t, add(t.Context(), two, "bank_b", 1))
		done := make(chan error, 1)
		go func() { done <- add(t.Context(), one, "bank_b", 1) }()
		second := add(t.Context(), two, "bank_a", 1)
		if second != nil {
			two.Fail(second)
			must(t, two.Rollback(t.Context()))
		}
		first := testwait.For(t, "the other's end", done)
		for _, err := range []error{first, second} {
			if err != nil && txn.SQLState(err) != "40P01" {
				t.Errorf("SQLSTATE %s of %v, want 40P01", txn.SQLState(err), err)
			}
		}
		if first == nil && second == nil {
			t.Error("there was no deadlock")
		}
		must(t, errors.Join(one.Close(t.Context()), two.Close(t.Context())))
		p.want(t, 0)
	})

	// The commit is decided, one database is down: it is answered with a warning, and it happens.
	t.Run("DownInPhaseTwo", func(t *testing.T) {
		s := p.both(t)
		p.die(t, "XA COMMIT")
		must(t, s.Commit(t.Context()))
		if w := s.Warnings(); len(w) == 0 {
			t.Error("there is no warning")
		}
		must(t, p.my.Start())
		p.want(t, 1)
		must(t, s.Close(t.Context()))
	})

	// The same for an outside coordinator, which asks again.
	t.Run("DownAtCommitPrepared", func(t *testing.T) {
		s := p.both(t)
		must(t, s.Prepare(t.Context(), "x"))
		p.die(t, "XA COMMIT")
		if err := s.CommitPrepared(t.Context(), "x"); !errors.Is(err, txn.ErrUnreachable) {
			t.Errorf("CommitPrepared while a database is down: %v", err)
		}
		must(t, p.my.Start())
		p.want(t, 2)
		must(t, s.CommitPrepared(t.Context(), "x"))
		if err := s.RollbackPrepared(t.Context(), "x"); !errors.Is(err, txn.ErrAlreadyCommitted) {
			t.Errorf("RollbackPrepared of what was committed: %v", err)
		}
		must(t, s.Close(t.Context()))
	})

	// A database dies in phase one: all is rolled back.
	t.Run("DownInPhaseOne", func(t *testing.T) {
		for _, text := range []string{"XA END", "XA PREPARE"} {
			s := p.both(t)
			p.die(t, text)
			if err := s.Commit(t.Context()); err == nil || txn.InDoubt(err) {
				t.Errorf("Commit: %v", err)
			}
			must(t, p.my.Start())
			p.want(t, 2)
			must(t, s.Close(t.Context()))
		}
	})

	// A statement waits for a lock when its client goes: its locks are free at once.
	t.Run("ClientGoes", func(t *testing.T) {
		holder := p.both(t)
		for _, on := range []string{"bank_a", "bank_b"} {
			s := p.begin(t)
			must(t, add(t.Context(), s, on, 2))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if err := add(ctx, s, on, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", on, err)
			}
			cancel()
			must(t, s.Close(ctx))
			next := p.begin(t)
			must(t, add(t.Context(), next, on, 2))
			must(t, next.Close(t.Context()))
		}
		must(t, holder.Close(t.Context()))
		p.want(t, 2)
	})

	// A database stays away: recovery tries in vain, ever less often. The other one has committed, and so will it when it is back,
	// though nobody asks any more.
	t.Run("DownForLong", func(t *testing.T) {
		s := p.both(t)
		must(t, s.Prepare(t.Context(), "long"))
		p.die(t, "XA COMMIT")
		if err := s.CommitPrepared(t.Context(), "long"); !errors.Is(err, txn.ErrUnreachable) {
			t.Errorf("CommitPrepared when a database dies: %v", err)
		}
		for range 6 {
			before := p.vain.Load()
			testwait.Until(t, "recovery tries in vain", func() bool { return p.vain.Load() > before })
			// The pause has begun: these two do not try the database, and make it no longer.
			if err := s.CommitPrepared(t.Context(), "long"); !errors.Is(err, txn.ErrUnreachable) {
				t.Errorf("CommitPrepared while a database is down: %v", err)
			}
			if err := s.RollbackPrepared(t.Context(), "long"); !errors.Is(err, txn.ErrAlreadyCommitted) {
				t.Errorf("RollbackPrepared of what is being committed: %v", err)
			}
			p.wantIn(t, 3, func(ctx context.Context, s ...string) error { return p.pg.Exec(ctx, "postgres", s...) })
		}
		must(t, s.Close(t.Context()))
		must(t, p.my.Start())
		p.want(t, 3)
		var show txn.Transaction
		testwait.Until(t, "it says that it has told all", func() bool {
			var err error
			show, err = p.m.Show(t.Context(), "long")
			must(t, err)
			return show.Phase != txn.Committing
		})
		if show.Phase != txn.Committed || show.Hazard != "" {
			t.Errorf("it has ended as %+v", show)
		}
		for _, b := range show.Branches {
			if b.State != "committed" {
				t.Errorf("%s says %s", b.Resource, b.State)
			}
		}
	})

	// A PostgreSQL administrator rolls a branch back by hand: the commit is not papered over.
	t.Run("ManualDecision", func(t *testing.T) {
		s := p.both(t)
		must(t, s.Prepare(t.Context(), "y"))
		conn, err := pgx.Connect(t.Context(), p.pg.DSN("postgres"))
		must(t, err)
		var gid string
		must(t, conn.QueryRow(t.Context(), "SELECT gid FROM pg_prepared_xacts").Scan(&gid))
		_, err = conn.Exec(t.Context(), "ROLLBACK PREPARED '"+gid+"'")
		must(t, errors.Join(err, conn.Close(t.Context())))
		testwait.Until(t, "an answer, as a database that was down is left alone for a moment", func() bool {
			err = s.CommitPrepared(t.Context(), "y")
			return !txn.InDoubt(err)
		})
		if err == nil || txn.SQLState(err)[:2] != "XA" {
			t.Errorf("CommitPrepared after a manual rollback: %v (%s), want a heuristic outcome", err, txn.SQLState(err))
		}
		show, err := p.m.Show(t.Context(), "y")
		must(t, err)
		if show.Hazard == "" {
			t.Errorf("the hazard is not on record: %+v", show)
		}
		must(t, s.Close(t.Context()))
	})
}
