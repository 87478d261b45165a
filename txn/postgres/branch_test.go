package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

func TestTwoPhases(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
		b := enlist(t, r, txn.BranchOptions{})
		if out := exec(t, b, "UPDATE "+acc+" SET balance = balance - $1 WHERE id = $2", "0.5", int64(1)); out.Rows != 1 || out.First != nil {
			t.Errorf("outcome %+v", out)
		}
		if id, err := r.Identity(t.Context()); err != nil || id != b.Identity() || id == "" {
			t.Errorf("Identity = %q, %v; the branch's is %q", id, err, b.Identity())
		}
		prepare(t, b)
		if !isPrepared(t, r, b.opt.GID) {
			t.Error("the server does not hold the branch")
		}
		if d == txn.Commit {
			must(t, b.CommitPrepared(t.Context(), b.opt.GID))
		} else {
			must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		}
		if got := value(t, "a", "SELECT balance::text FROM "+acc+" WHERE id = 1"); got != "99.5" {
			t.Errorf("after %v: %s", d, got)
		}
	}
}

// An outside coordinator's branch is free of its session with the vote, and is resolved by anybody.
func TestExternal(t *testing.T) {
	r, other := open(t, Options{Pool: 1}), open(t, Options{})
	acc := table(t, "a")
	for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
		b := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
		exec(t, b, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 1")
		prepare(t, b)
		if err := b.CommitPrepared(t.Context(), b.opt.GID); !errors.Is(err, errOver) {
			t.Errorf("CommitPrepared of a branch that is over: %v", err)
		}
		next := enlist(t, r, txn.BranchOptions{}) // its session is free
		must(t, next.Rollback(t.Context()))
		for range 2 {
			if got, err := other.Resolve(t.Context(), b.opt.GID, d, b.Proof()); err != nil || got != txn.ResolvedDone {
				t.Errorf("Resolve = %v, %v", got, err)
			}
		}
	}
	if got := value(t, "a", "SELECT balance::text FROM "+acc+" WHERE id = 1"); got != "99" {
		t.Errorf("balance %s", got)
	}
}

func TestOnePhase(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	must(t, b.Commit(t.Context()))
	if d, err := r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Commit {
		t.Errorf("Outcome = %v, %v", d, err)
	}
	b = enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 2 WHERE id = 1")
	must(t, b.Rollback(t.Context()))
	if d, err := r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Abort {
		t.Errorf("Outcome = %v, %v", d, err)
	}
	if got := value(t, "a", "SELECT balance::text FROM "+acc+" WHERE id = 1"); got != "1" {
		t.Errorf("balance %s", got)
	}
}

// PREPARE TRANSACTION and COMMIT in a failed transaction answer the tag ROLLBACK without an error.
func TestFailedBranchNeverVotesYes(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	fail := func() *Branch {
		b := enlist(t, r, txn.BranchOptions{})
		if _, err := b.Exec(t.Context(), "INSERT INTO "+acc+" VALUES (1, 1)", nil); txn.SQLState(err) != "23505" {
			t.Fatalf("duplicate key: %v", err)
		}
		return b
	}
	b := fail()
	if vote, err := b.Prepare(t.Context(), b.opt.GID); vote != 0 || !errors.Is(err, txn.ErrRolledBack) {
		t.Errorf("Prepare = %v, %v; want ErrRolledBack", vote, err)
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	b = fail()
	if err := b.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) || txn.InDoubt(err) {
		t.Errorf("Commit: %v, want ErrRolledBack", err)
	}
	b = fail()
	if err := b.Savepoint(t.Context(), "s1"); txn.SQLState(err) != "25P02" {
		t.Errorf("Savepoint: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}

func TestSavepoints(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	must(t, b.Savepoint(t.Context(), "s1"))
	if _, err := b.Exec(t.Context(), "UPDATE "+acc+" SET balance = -1", nil); txn.SQLState(err) != "23514" {
		t.Fatalf("check constraint: %v", err)
	}
	must(t, b.RollbackTo(t.Context(), "s1"))
	must(t, b.Release(t.Context(), "s1"))
	prepare(t, b)
	must(t, b.CommitPrepared(t.Context(), b.opt.GID))
	if got := value(t, "a", "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM "+acc); got != "1 100" {
		t.Errorf("balances %s", got)
	}
}

func TestOptions(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{Isolation: txn.Serializable, ReadOnly: true, Deferrable: true, LockTimeout: 1500 * time.Millisecond})
	const settings = `SELECT concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'),
		current_setting('transaction_deferrable'), current_setting('lock_timeout'), current_setting('application_name'))`
	out := exec(t, b, settings)
	if want := "serializable on on 1500ms " + appName(b.opt.GID.Log, b.opt.GID.Incarnation); *out.First != want {
		t.Errorf("settings %q, want %q", *out.First, want)
	}
	if b.xid != "" {
		t.Errorf("a read-only branch has proof %q", b.Proof())
	}
	vote, err := b.Prepare(t.Context(), b.opt.GID)
	if err != nil || vote != txn.VoteReadOnly {
		t.Errorf("Prepare = %v, %v", vote, err)
	}
	if c, err := b.Conn(t.Context()); c != nil || !errors.Is(err, errOver) {
		t.Errorf("the connection of a branch that is over: %v, %v", c, err)
	}
	for _, sql := range []string{"SELECT 1", "SET application_name = 'x'"} {
		if c, err := b.For(t.Context(), sql); c != nil || !errors.Is(err, errOver) {
			t.Errorf("For %s: %v, %v", sql, c, err)
		}
	}
	none := func(row []txn.Outcome) error { return fmt.Errorf("a row: %v", row) }
	if err := b.Rows(t.Context(), "SELECT 1", nil, none); !errors.Is(err, errOver) {
		t.Errorf("Rows: %v", err)
	}
	if _, err := b.Exec(t.Context(), "SELECT 1", nil); !errors.Is(err, errOver) {
		t.Errorf("Exec: %v", err)
	}
	b = enlist(t, r, txn.BranchOptions{Isolation: "chaos"})
	if _, err := b.Exec(t.Context(), "SELECT 1", nil); txn.SQLState(err) != "42601" {
		t.Errorf("Exec with an unknown level: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	b = enlist(t, r, txn.BranchOptions{ReadOnly: true})
	if _, err := b.Exec(t.Context(), "SELECT 1/0", nil); txn.SQLState(err) != "22012" {
		t.Errorf("Exec: %v", err)
	}
	if vote, err := b.Prepare(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrRolledBack) {
		t.Errorf("Prepare of a failed read-only branch = %v, %v", vote, err)
	}
}

func TestExec(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	for _, c := range []struct {
		sql  string
		arg  any
		want string
	}{
		{"SELECT $1::bigint + 1", int64(41), "42"},
		{"SELECT 'n' || $1::text", int64(41), "n41"},
		{"SELECT $1::numeric * 3", "33333333333333333333.1", "99999999999999999999.3"},
		{"SELECT NOT $1::bool", true, "f"},
		{"SELECT $1::float8 / 2", 0.5, "0.25"},
		{"SELECT $1::bytea", []byte{0, 255}, `\x00ff`},
		{"SELECT $1::timestamptz AT TIME ZONE 'UTC'", "2024-02-29 12:00:00+01", "2024-02-29 11:00:00"},
		{"SELECT coalesce($1::int::text, 'null')", nil, "null"},
	} {
		if out := exec(t, b, c.sql, c.arg); out.First == nil || *out.First != c.want || out.Rows != 1 {
			t.Errorf("%s with %v: %+v, want %q", c.sql, c.arg, out, c.want)
		}
	}
	if out := exec(t, b, "SELECT NULL FROM generate_series(1, 3)"); out.Rows != 3 || out.First != nil {
		t.Errorf("three rows of null: %+v", out)
	}
	if out := exec(t, b, "SELECT WHERE false"); out.Rows != 0 || out.First != nil {
		t.Errorf("no row: %+v", out)
	}
	pg, err := b.Conn(t.Context())
	must(t, err)
	if n := 0; pg.QueryRow(t.Context(), "SELECT 7").Scan(&n) != nil || n != 7 {
		t.Errorf("typed access: %d", n)
	}
	must(t, b.Rollback(t.Context()))
}

// A statement that ends the transaction must not end in a yes vote.
func TestStatementEndsTransaction(t *testing.T) {
	r := open(t, Options{})
	for _, verb := range []string{"COMMIT", "ROLLBACK"} {
		b := enlist(t, r, txn.BranchOptions{})
		if _, err := b.Exec(t.Context(), verb, nil); !errors.Is(err, txn.ErrRolledBack) {
			t.Errorf("%s: %v", verb, err)
		}
		if _, err := b.Prepare(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrRolledBack) {
			t.Errorf("Prepare: %v", err)
		}
		if err := b.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) {
			t.Errorf("Commit: %v", err)
		}
		if err := b.Savepoint(t.Context(), "s1"); !errors.Is(err, txn.ErrRolledBack) {
			t.Errorf("Savepoint: %v", err)
		}
		must(t, b.Rollback(t.Context()))
	}
}

// Locks that need no xid are kept by a vote: only a branch declared read-only ends early.
func TestLocksWithoutXidSurviveTheVote(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "LOCK TABLE "+acc+" IN EXCLUSIVE MODE")
	prepare(t, b)
	other := enlist(t, r, txn.BranchOptions{LockTimeout: 50 * time.Millisecond})
	_, err := other.Exec(t.Context(), "UPDATE "+acc+" SET balance = 0", nil)
	if _, ok := errors.AsType[*LockError](err); !ok || txn.SQLState(err) != "40P01" || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("update of a locked table: %v", err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "55P03" {
		t.Errorf("the server's own error is gone from %v", err)
	}
	if e, ok := errors.AsType[*StatementError](err); !ok || e.SQLState() != "55P03" {
		t.Errorf("no StatementError in %v", err)
	} else if message, detail, hint := e.Fields(); message != "canceling statement due to lock timeout" || detail+hint != "" {
		t.Errorf("its fields are %q, %q, %q", message, detail, hint)
	}
	must(t, other.Rollback(t.Context()))
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	b = enlist(t, r, txn.BranchOptions{})
	exec(t, b, "NOTIFY something")
	if vote, err := b.Prepare(t.Context(), b.opt.GID); err == nil || txn.InDoubt(err) {
		t.Errorf("Prepare after NOTIFY = %v, %v: the server cannot", vote, err)
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
}

// The statement of a client that is gone ends at once, and so do its locks.
func TestCancelWhileBlocked(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	holder := enlist(t, r, txn.BranchOptions{})
	exec(t, holder, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 2 WHERE id = 2")
	gone := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, "UPDATE "+acc+" SET balance = 2 WHERE id = 1", nil)
		done <- err
	}()
	blocked(t)
	cancel(gone)
	if err := testwait.For(t, "Exec's return", done); !errors.Is(err, gone) {
		t.Errorf("Exec: %v, want the cause", err)
	}
	must(t, b.Rollback(t.Context()))
	must(t, holder.Rollback(t.Context()))
	next := enlist(t, r, txn.BranchOptions{LockTimeout: testwait.Patience})
	exec(t, next, "UPDATE "+acc+" SET balance = 3")
	must(t, next.Rollback(t.Context()))
}

// blocked returns when some session waits for a lock.
func blocked(t *testing.T) {
	t.Helper()
	testwait.Until(t, "somebody waits for a lock", func() bool { return value(t, "a", "SELECT count(*)::text FROM pg_locks WHERE NOT granted") != "0" })
}

func TestExhausted(t *testing.T) {
	r := open(t, Options{Pool: 1})
	b := enlist(t, r, txn.BranchOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Enlist(ctx, txn.BranchOptions{GID: newGID(txn.RoleLocal)}); !errors.Is(err, txn.ErrExhausted) {
		t.Errorf("Enlist of a full pool: %v", err)
	}
	if n, limit, waiting := r.Pool(); n != 1 || limit != 1 || waiting != 0 {
		t.Errorf("%d of %d are in use", n, limit)
	}
	must(t, b.Rollback(t.Context()))
	admin(t, "a", "ALTER ROLE app CONNECTION LIMIT 0")
	defer admin(t, "a", "ALTER ROLE app CONNECTION LIMIT -1")
	fresh := open(t, Options{})
	if _, err := fresh.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)}); !errors.Is(err, txn.ErrExhausted) {
		t.Errorf("Enlist on a full server: %v", err)
	}
}

// The reply to COMMIT is lost: the xid8 taken before tells what it was.
func TestLostCommit(t *testing.T) {
	for fate, want := range map[testdb.Fate]txn.Decision{testdb.LoseReply: txn.Commit, testdb.LoseRequest: txn.Abort} {
		proxy, r, straight := proxied(t, Options{})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
		proxy.Rule(testdb.Once("COMMIT", fate))
		if err := b.Commit(t.Context()); !txn.InDoubt(err) {
			t.Errorf("Commit: %v, want in doubt", err)
		}
		if d, err := straight.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != want {
			t.Errorf("fate %v: Outcome = %v, %v; want %v", fate, d, err, want)
		}
		b = enlist(t, r, txn.BranchOptions{ReadOnly: true})
		exec(t, b, "SELECT 1")
		proxy.Rule(testdb.Once("COMMIT", fate))
		if err := b.Commit(t.Context()); err == nil || txn.InDoubt(err) {
			t.Errorf("Commit of a read-only branch: %v, want an error that leaves nothing open", err)
		}
	}
}

// The reply to PREPARE TRANSACTION is lost: it may be prepared, and RollbackPrepared must find out.
func TestLostPrepare(t *testing.T) {
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest, testdb.Late} {
		proxy, r, straight := proxied(t, Options{})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
		proxy.Rule(testdb.Once("PREPARE", fate))
		if vote, err := b.Prepare(t.Context(), b.opt.GID); err == nil {
			t.Fatalf("Prepare = %v", vote)
		}
		if fate == testdb.LoseReply && !isPrepared(t, straight, b.opt.GID) {
			t.Error("not prepared, though the server was told so")
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		proxy.Release()
		if isPrepared(t, straight, b.opt.GID) {
			t.Errorf("fate %v: still prepared", fate)
		}
		next := enlist(t, r, txn.BranchOptions{LockTimeout: testwait.Patience})
		exec(t, next, "UPDATE "+acc+" SET balance = 3")
		must(t, next.Rollback(t.Context()))
	}
}

// A cancelled context does not mean "not prepared".
func TestCancelledPrepare(t *testing.T) {
	proxy, r, straight := proxied(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Rule(func(request []byte) testdb.Fate {
		if strings.Contains(string(request), "PREPARE") {
			cancel()
			return testdb.LoseReply
		}
		return testdb.Pass
	})
	if vote, err := b.Prepare(ctx, b.opt.GID); err == nil {
		t.Fatalf("Prepare = %v", vote)
	}
	proxy.Rule(nil)
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	if isPrepared(t, straight, b.opt.GID) {
		t.Error("still prepared")
	}
}

// The reply to phase two is lost: Resolve, asked again, knows that it is done.
func TestLostDecision(t *testing.T) {
	proxy, r, straight := proxied(t, Options{})
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest} {
		b := enlist(t, r, txn.BranchOptions{})
		prepare(t, b)
		proxy.Rule(testdb.Once("COMMIT PREPARED", fate))
		if err := b.CommitPrepared(t.Context(), b.opt.GID); err == nil {
			t.Error("CommitPrepared knows what it cannot")
		}
		if got, err := straight.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
		b = enlist(t, r, txn.BranchOptions{})
		prepare(t, b)
		proxy.Rule(testdb.Once("ROLLBACK PREPARED", fate))
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		if isPrepared(t, straight, b.opt.GID) {
			t.Error("still prepared")
		}
	}
}

// The server was restarted: idle sessions are dead, and so are those of open branches; prepared ones are not.
func TestRestart(t *testing.T) {
	r := open(t, Options{})
	idle, idle2 := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleLocal)}), enlist(t, r, txn.BranchOptions{})
	prepared := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
	working, lost := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	unbegun, empty := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	exec(t, working, "SELECT 1")
	exec(t, lost, "SELECT 1")
	must(t, idle.Rollback(t.Context()))
	must(t, idle2.Rollback(t.Context()))
	prepare(t, prepared)
	must(t, server.Kill())
	_, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)})
	if txn.SQLState(err) != "08001" || txn.InDoubt(err) {
		t.Errorf("Enlist while the server is down: %v, want 08001", err)
	}
	if _, err := r.Identity(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Identity while the server is down: %v", err)
	}
	if err := lost.Rollback(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Rollback while the server is down: %v", err)
	}
	if err := lost.RollbackPrepared(t.Context(), lost.opt.GID); txn.SQLState(err) != "08001" {
		t.Errorf("RollbackPrepared while the server is down: %v", err)
	}
	if vote, err := unbegun.Prepare(t.Context(), unbegun.opt.GID); err == nil {
		t.Errorf("Prepare of a branch that cannot begin = %v", vote)
	}
	must(t, empty.Commit(t.Context())) // nothing was done, nothing is lost
	must(t, server.Start())
	must(t, unbegun.RollbackPrepared(t.Context(), unbegun.opt.GID))
	if _, err := working.Exec(t.Context(), "SELECT 1", nil); txn.SQLState(err) != "08006" {
		t.Errorf("Exec on a dead session: %v, want 08006", err)
	}
	if _, err := working.Prepare(t.Context(), working.opt.GID); txn.SQLState(err) != "08006" {
		t.Errorf("Prepare on a dead session: %v, want 08006", err)
	}
	must(t, working.RollbackPrepared(t.Context(), working.opt.GID))
	next := enlist(t, r, txn.BranchOptions{})
	must(t, next.Rollback(t.Context()))
	if got, err := r.Resolve(t.Context(), prepared.opt.GID, txn.Commit, prepared.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
}

// 57P01 is no answer: the session may have just committed.
func TestFatalIsNoAnswer(t *testing.T) {
	for severity, want := range map[string]bool{"ERROR": true, "FATAL": false, "PANIC": false} {
		err := error(&pgconn.PgError{SeverityUnlocalized: severity, Code: "57P01"})
		if got := definite(err); got != want {
			t.Errorf("definite(%s) = %v", severity, got)
		}
	}
	if definite(context.Canceled) {
		t.Error("a cancelled context is an answer")
	}
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "SELECT 1")
	must(t, r.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
	if err := b.Commit(t.Context()); !txn.InDoubt(err) {
		t.Errorf("Commit on a session that was ended: %v", err)
	}
	if d, err := r.Outcome(t.Context(), b.opt.GID, b.Proof()); err != nil || d != txn.Abort {
		t.Errorf("Outcome = %v, %v", d, err)
	}
}
