package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// A branch without a statement has all the rights of one with some.
func TestNoStatement(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	for _, readOnly := range []bool{false, true} {
		b := enlist(t, r, txn.BranchOptions{ReadOnly: readOnly})
		must(t, b.Commit(t.Context()))
		if _, err := b.Exec(t.Context(), "SELECT 1", nil); !errors.Is(err, errOver) {
			t.Errorf("Exec after Commit: %v", err)
		}
		must(t, enlist(t, r, txn.BranchOptions{ReadOnly: readOnly}).Rollback(t.Context()))
	}
	b := enlist(t, r, txn.BranchOptions{ReadOnly: true})
	if vote, err := b.Prepare(t.Context(), b.opt.GID); err != nil || vote != txn.VoteReadOnly {
		t.Errorf("Prepare of a read-only branch = %v, %v", vote, err)
	}
	b = enlist(t, r, txn.BranchOptions{})
	prepare(t, b)
	if b.Proof() == "" || !isPrepared(t, r, b.opt.GID) {
		t.Errorf("a prepared branch with proof %q", b.Proof())
	}
	must(t, b.CommitPrepared(t.Context(), b.opt.GID))

	// The first is what nothing may be sent with, or no statement at all.
	first := map[string]func(*Branch) error{
		"savepoint": func(b *Branch) error { return b.Savepoint(t.Context(), "s1") },
		"lock":      func(b *Branch) error { _, err := b.Exec(t.Context(), "LOCK TABLE "+acc, nil); return err },
		"bytes":     func(b *Branch) error { _, err := b.Exec(t.Context(), "SELECT $1::bytea", []any{[]byte{0}}); return err },
		"try":       func(b *Branch) error { return b.Try(t.Context(), "SELECT 1") },
		"driver":    func(b *Branch) error { _, err := b.Conn(t.Context()); return err },
	}
	for name, do := range first {
		b := enlist(t, r, txn.BranchOptions{Isolation: txn.Serializable, LockTimeout: 1500 * time.Millisecond})
		must(t, do(b))
		const settings = "SELECT concat_ws(' ', current_setting('transaction_isolation'), current_setting('lock_timeout'), pg_current_xact_id_if_assigned())"
		if got, want := *exec(t, b, settings).First, "serializable 1500ms "+b.xid; got != want || b.xid == "" {
			t.Errorf("%s first: %q, want %q", name, got, want)
		}
		must(t, b.Rollback(t.Context()))
	}

	b = enlist(t, r, txn.BranchOptions{})
	must(t, r.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
	if _, err := b.Exec(t.Context(), "UPDATE "+acc+" SET balance = 0", nil); err == nil || definite(err) {
		t.Errorf("the first statement on a session that was ended: %v", err)
	}
	if err := b.Commit(t.Context()); err == nil {
		t.Error("Commit of a branch that could not begin")
	}
	must(t, b.Rollback(t.Context()))
}

// The usual limit of a wait for a lock is the session's own, and is not set in each transaction; another is, for that one.
func TestUsualLockTimeout(t *testing.T) {
	r := open(t, Options{Pool: 1, LockTimeout: 1500 * time.Millisecond})
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for _, c := range []struct {
		limit time.Duration
		want  string
		first int
	}{{1500 * time.Millisecond, "1500ms", 2}, {time.Second, "1s", 3}, {1500 * time.Millisecond, "1500ms", 2}} {
		opt.GID.Sequence++
		opt.LockTimeout = c.limit
		b := enlist(t, r, opt)
		if n := len(b.opening); n != c.first {
			t.Errorf("%s begins with %d statements, want %d", c.limit, n, c.first)
		}
		if got := *exec(t, b, "SHOW lock_timeout").First; got != c.want {
			t.Errorf("lock_timeout %s, want %s", got, c.want)
		}
		exec(t, b, "SELECT set_config('lock_timeout', '7', false)")
		must(t, b.Commit(t.Context()))
	}
}

// A first statement that fails leaves a branch that cannot commit, and whose transaction can be told by its proof.
func TestFirstStatementFails(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	if _, err := b.Exec(t.Context(), "INSERT INTO "+acc+" VALUES (1, 1)", nil); txn.SQLState(err) != "23505" {
		t.Errorf("Exec: %v", err)
	}
	if err := b.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) {
		t.Errorf("Commit: %v", err)
	}
	if d, err := r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Abort {
		t.Errorf("Outcome = %v, %v", d, err)
	}
}

// The first statement may fail in the middle of its rows.
func TestFirstStatementFailsLate(t *testing.T) {
	b := enlist(t, open(t, Options{}), txn.BranchOptions{})
	if _, err := b.Exec(t.Context(), "SELECT 1 / (n - 2) FROM generate_series(1, 3) n", nil); txn.SQLState(err) != "22012" {
		t.Errorf("Exec: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}

// A session that ended while it was idle is not handed out, nor are those that idle beside it.
func TestIdleSessionEnded(t *testing.T) {
	t.Run("socket", func(t *testing.T) { idleSessionEnded(t, dsn("a")) })
	admin(t, "a", "COPY (SELECT) TO PROGRAM 'cat >&2; openssl req -new -x509 -nodes -subj /CN=localhost -keyout server.key -out server.crt'",
		"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
	testwait.Until(t, "the server has TLS", func() bool { return value(t, "a", "SHOW ssl") == "on" })
	t.Run("tls", func(t *testing.T) { idleSessionEnded(t, "host="+secureAddress+" user=app dbname=a sslmode=require") })
}

func idleSessionEnded(t *testing.T, dsn string) {
	r, straight := open(t, Options{DSN: dsn}), open(t, Options{})
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	one, two := enlist(t, r, opt), enlist(t, r, opt)
	pids := map[uint32]bool{one.c.pg.PgConn().PID(): true, two.c.pg.PgConn().PID(): true}
	must(t, one.Rollback(t.Context()))
	must(t, two.Rollback(t.Context()))
	b := enlist(t, r, opt)
	if !pids[b.c.pg.PgConn().PID()] {
		t.Error("a session that lives was not used again")
	}
	must(t, b.Rollback(t.Context()))
	must(t, straight.Fence(t.Context(), opt.GID.Log, opt.GID.Incarnation))
	for range 2 {
		b := enlist(t, r, opt)
		if pids[b.c.pg.PgConn().PID()] {
			t.Error("a session that has ended was used again")
		}
		exec(t, b, "SELECT 1")
		must(t, b.Commit(t.Context()))
	}
}

// slowWriter is a connection of which one write takes until the driver, which after 15 ms reads in the background, has read the answer and
// waits for what comes next.
type slowWriter struct {
	*net.UnixConn
	slow  atomic.Bool
	reads atomic.Int64
}

func (c *slowWriter) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.UnixConn.Read(p)
}

func (c *slowWriter) Write(p []byte) (int, error) {
	want := c.reads.Load() + 2
	n, err := c.UnixConn.Write(p)
	for end := time.Now().Add(testwait.Patience); c.slow.Load() && c.reads.Load() < want && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	c.slow.Store(false)
	return n, err
}

// A session from which the driver reads in the background is handed out again, unless it has ended.
func TestIdleSessionRead(t *testing.T) {
	r, straight := open(t, Options{}), open(t, Options{})
	var c *slowWriter
	r.config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c = &slowWriter{UnixConn: raw.(*net.UnixConn)}
		return c, nil
	}
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for _, ended := range []bool{false, true} {
		b := enlist(t, r, opt)
		exec(t, b, "SELECT 1")
		pid := b.c.pg.PgConn().PID()
		c.slow.Store(true)
		must(t, b.Commit(t.Context()))
		if ended {
			must(t, straight.Fence(t.Context(), opt.GID.Log, opt.GID.Incarnation))
		}
		waits := time.AfterFunc(testwait.Patience, func() { _ = c.Close() })
		b = enlist(t, r, opt)
		waits.Stop()
		if used := b.c.pg.PgConn().PID() == pid; used == ended {
			t.Errorf("a session that has ended %t: used again %t", ended, used)
		}
		exec(t, b, "SELECT 1")
		must(t, b.Commit(t.Context()))
	}
}

// A transaction that was not begun since the client is gone does nothing.
func TestCancelledFirst(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	gone := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	for _, sql := range []string{"UPDATE " + acc + " SET balance = 0", "LOCK TABLE " + acc} {
		b := enlist(t, r, txn.BranchOptions{})
		if _, err := b.Exec(ctx, sql, nil); !errors.Is(err, gone) {
			t.Errorf("%s: %v, want the cause", sql, err)
		}
		if vote, err := b.Prepare(t.Context(), b.opt.GID); err == nil {
			t.Errorf("%s: Prepare = %v", sql, vote)
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	}
	if got := value(t, "a", "SELECT min(balance)::text FROM "+acc); got != "100" {
		t.Errorf("balance %s", got)
	}
}
