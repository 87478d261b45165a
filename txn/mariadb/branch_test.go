package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

func TestTwoPhases(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
		b := enlist(t, r, txn.BranchOptions{})
		if out := exec(t, b, "UPDATE "+acc+" SET balance = balance - ? WHERE id = ?", "0.5", int64(1)); out.Rows != 1 || out.First != nil {
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
		if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "99.50" {
			t.Errorf("after %v: %s", d, got)
		}
	}
}

// An outside coordinator's branch is free of its session with the vote, and is resolved by anybody, at once.
func TestExternal(t *testing.T) {
	r, other := open(t, Options{Pool: 1}), open(t, Options{})
	acc := table(t, "a")
	for _, decider := range []*Resource{r, other, r, other} {
		for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
			b := enlist(t, r, txn.BranchOptions{})
			gid := external(b)
			exec(t, b, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 1")
			if vote, err := b.Prepare(t.Context(), gid); err != nil || vote != txn.VotePrepared {
				t.Fatalf("Prepare = %v, %v", vote, err)
			}
			if err := b.CommitPrepared(t.Context(), gid); !errors.Is(err, errOver) {
				t.Errorf("CommitPrepared of a branch that is over: %v", err)
			}
			if got, err := decider.Resolve(t.Context(), gid, d, b.Proof()); err != nil || got != txn.ResolvedDone {
				t.Errorf("Resolve = %v, %v", got, err)
			}
		}
	}
	if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "96.00" {
		t.Errorf("balance %s", got)
	}
}

func TestOnePhase(t *testing.T) {
	for _, marker := range []string{"", "a.fdt_marker"} {
		r := open(t, Options{Marker: marker})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		markers := func() string {
			if marker == "" {
				return "none"
			}
			return value(t, "a", "SELECT count(*) FROM fdt_marker")
		}
		before := markers() // other tests'
		exec(t, b, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
		must(t, b.Commit(t.Context()))
		outcome(t, r, b, txn.Commit)
		must(t, r.Forget(t.Context(), b.opt.GID))
		b = enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = 2 WHERE id = 1")
		must(t, b.Rollback(t.Context()))
		outcome(t, r, b, txn.Abort)
		must(t, b.Rollback(t.Context())) // nothing is left to undo
		if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "1.00" {
			t.Errorf("balance %s", got)
		}
		if n := markers(); n != before {
			t.Errorf("markers are left: %s, before %s", n, before)
		}
	}
}

// outcome expects the outcome that the marker proves, or that there is none.
func outcome(t *testing.T, r *Resource, b *Branch, want txn.Decision) {
	t.Helper()
	d, err := r.Outcome(t.Context(), b.opt.GID, b.Proof())
	if r.opt.Marker == "" {
		if !errors.Is(err, errNoProof) || d != 0 {
			t.Errorf("Outcome without a marker = %v, %v", d, err)
		}
	} else if err != nil || d != want {
		t.Errorf("Outcome = %v, %v; want %v", d, err, want)
	}
}

// The server lets a transaction commit after a duplicate key or a lock wait timeout: the branch must not.
func TestFailedBranchNeverVotesYes(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	holder := enlist(t, r, txn.BranchOptions{})
	exec(t, holder, "UPDATE "+acc+" SET balance = 1 WHERE id = 2")
	for state, text := range map[string]string{
		"23505": "INSERT INTO " + acc + " VALUES (1, 1)",
		"40P01": "UPDATE " + acc + " SET balance = 0 WHERE id = 2",
		"23514": "UPDATE " + acc + " SET balance = -1 WHERE id = 1",
		"42P01": "SELECT * FROM nothing",
		"22003": "UPDATE " + acc + " SET balance = 1e30 WHERE id = 1",
	} {
		fail := func() *Branch {
			b := enlist(t, r, txn.BranchOptions{LockTimeout: time.Millisecond})
			exec(t, b, "UPDATE "+acc+" SET balance = 50 WHERE id = 1")
			_, err := b.Exec(t.Context(), text, nil)
			if txn.SQLState(err) != state {
				t.Fatalf("%s: %v has state %s, want %s", text, err, txn.SQLState(err), state)
			}
			if _, ok := errors.AsType[*mysql.MySQLError](err); !ok {
				t.Errorf("the server's own error is gone from %v", err)
			}
			return b
		}
		b := fail()
		if vote, err := b.Prepare(t.Context(), b.opt.GID); vote != 0 || txn.SQLState(err) != state {
			t.Errorf("Prepare = %v, %v", vote, err)
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		b = fail()
		if err := b.Commit(t.Context()); txn.SQLState(err) != state || txn.InDoubt(err) {
			t.Errorf("Commit: %v", err)
		}
		b = fail()
		for what, err := range map[string]error{"Savepoint": b.Savepoint(t.Context(), "s1"), "Release": b.Release(t.Context(), "s1")} {
			if txn.SQLState(err) != state {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := b.Exec(t.Context(), "SELECT 1", nil); txn.SQLState(err) != state {
			t.Errorf("Exec: %v", err)
		}
		must(t, b.Rollback(t.Context()))
	}
	must(t, holder.Rollback(t.Context()))
	if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "100.00" {
		t.Errorf("balance %s", got)
	}
}

// After a deadlock InnoDB has undone the whole transaction, savepoints included.
func TestDeadlock(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	a, b := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	must(t, a.Savepoint(t.Context(), "s1"))
	must(t, b.Savepoint(t.Context(), "s1"))
	exec(t, a, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	exec(t, b, "UPDATE "+acc+" SET balance = 2 WHERE id = 2")
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(t.Context(), "UPDATE "+acc+" SET balance = 1 WHERE id = 2", nil)
		done <- err
	}()
	_, err := b.Exec(t.Context(), "UPDATE "+acc+" SET balance = 2 WHERE id = 1", nil)
	victim, other, errOther := b, a, testwait.For(t, "the other's answer", done)
	if err == nil {
		victim, other, err, errOther = a, b, errOther, nil
	}
	if txn.SQLState(err) != "40P01" || errOther != nil {
		t.Fatalf("one of the two should be a deadlock's victim: %v, %v", err, errOther)
	}
	if err := victim.RollbackTo(t.Context(), "s1"); err == nil {
		t.Error("the savepoint outlived the deadlock")
	}
	must(t, victim.Rollback(t.Context()))
	prepare(t, other)
	must(t, other.CommitPrepared(t.Context(), other.opt.GID))
	b = enlist(t, r, txn.BranchOptions{})
	must(t, b.Rollback(t.Context()))
}

func TestSavepoints(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	must(t, b.Savepoint(t.Context(), "s1"))
	exec(t, b, "UPDATE "+acc+" SET balance = 2")
	if _, err := b.Exec(t.Context(), "UPDATE "+acc+" SET balance = -1", nil); txn.SQLState(err) != "23514" {
		t.Fatalf("check constraint: %v", err)
	}
	must(t, b.RollbackTo(t.Context(), "s1"))
	must(t, b.Release(t.Context(), "s1"))
	prepare(t, b)
	must(t, b.CommitPrepared(t.Context(), b.opt.GID))
	if got := value(t, "a", "SELECT group_concat(balance ORDER BY id) FROM "+acc); got != "1.00,100.00" {
		t.Errorf("balances %s", got)
	}
	for _, err := range []error{b.Savepoint(t.Context(), "s1"), b.RollbackTo(t.Context(), "s1"), b.Release(t.Context(), "s1")} {
		if !errors.Is(err, errOver) {
			t.Errorf("savepoint of a branch that is over: %v", err)
		}
	}
}

func TestOptions(t *testing.T) {
	r := open(t, Options{Pool: 1})
	b := enlist(t, r, txn.BranchOptions{ReadOnly: true, LockTimeout: 1500 * time.Millisecond})
	if out := exec(t, b, "SELECT CONCAT_WS(' ', @@innodb_lock_wait_timeout, @@lock_wait_timeout)"); *out.First != "2 2" {
		t.Errorf("lock timeouts %s", *out.First)
	}
	if _, err := b.Exec(t.Context(), "CREATE TABLE x (id int)", nil); err == nil {
		t.Error("a branch takes statements that commit")
	}
	must(t, b.Rollback(t.Context()))
	acc := table(t, "a")
	b = enlist(t, r, txn.BranchOptions{ReadOnly: true})
	if out := exec(t, b, "SELECT CONCAT_WS(' ', @@innodb_lock_wait_timeout, @@lock_wait_timeout)"); *out.First != "50 86400" {
		t.Errorf("lock timeouts %s", *out.First)
	}
	if _, err := b.Exec(t.Context(), "UPDATE "+acc+" SET balance = 1", nil); txn.SQLState(err) != "25006" {
		t.Errorf("write in a read-only branch: %v", err)
	}
	if vote, err := b.Prepare(t.Context(), b.opt.GID); txn.SQLState(err) != "25006" {
		t.Errorf("Prepare of a failed read-only branch = %v, %v", vote, err)
	}
	b = enlist(t, r, txn.BranchOptions{ReadOnly: true, Isolation: txn.ReadCommitted})
	exec(t, b, "SELECT * FROM "+acc)
	if vote, err := b.Prepare(t.Context(), b.opt.GID); err != nil || vote != txn.VoteReadOnly {
		t.Errorf("Prepare = %v, %v", vote, err)
	}
	if c, err := b.Conn(t.Context()); c != nil || !errors.Is(err, errOver) {
		t.Errorf("a branch that is over has a connection: %v", err)
	}
	if _, err := b.Exec(t.Context(), "SELECT 1", nil); !errors.Is(err, errOver) {
		t.Errorf("Exec: %v", err)
	}
	b = enlist(t, r, txn.BranchOptions{Isolation: "chaos"})
	if _, err := b.Exec(t.Context(), "SELECT 1", nil); txn.SQLState(err) != "42601" {
		t.Errorf("with an unknown level: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	// Serializable reads lock, others see the snapshot.
	b, other := enlist(t, r, txn.BranchOptions{Isolation: txn.Serializable}), open(t, Options{})
	exec(t, b, "SELECT * FROM "+acc)
	w := enlist(t, other, txn.BranchOptions{LockTimeout: time.Second})
	if _, err := w.Exec(t.Context(), "UPDATE "+acc+" SET balance = 1", nil); txn.SQLState(err) != "40P01" {
		t.Errorf("write under a serializable read: %v", err)
	}
	must(t, w.Rollback(t.Context()))
	must(t, b.Rollback(t.Context()))
}

func TestExec(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	admin(t, "a", "CREATE PROCEDURE p_"+acc+"() UPDATE "+acc+" SET balance = balance + 1")
	b := enlist(t, r, txn.BranchOptions{})
	for _, c := range []struct {
		sql  string
		arg  any
		rows int64
		want string // of the first column; "-" for null or none
	}{
		{"SELECT ? + 1", int64(41), 1, "42"},
		{"SELECT CAST(? AS DECIMAL(30,1)) * 3", "33333333333333333333.1", 1, "99999999999999999999.3"},
		{"SELECT NOT ?", true, 1, "0"},
		{"SELECT ? / 2", 0.5, 1, "0.25"},
		{"SELECT HEX(?)", []byte{0, 255, '\''}, 1, "00FF27"},
		{"SELECT ?", `it's \ "quoted"`, 1, `it's \ "quoted"`},
		{"SELECT '?', ?", int64(1), 1, "?"},
		{"SELECT ?", nil, 1, "-"},
		{"SELECT id, balance FROM " + acc + " WHERE ? ORDER BY id", true, 2, "1"},
		{"SELECT id FROM " + acc + " WHERE id = ?", int64(3), 0, "-"},
		{"UPDATE " + acc + " SET balance = ?", int64(100), 2, "-"}, // rows that match, changed or not
		{"update " + acc + " set balance = ? -- returning", int64(5), 2, "-"},
		{"INSERT INTO " + acc + " VALUES (?, 1) RETURNING id", int64(7), 1, "7"},
		{"DELETE FROM " + acc + " WHERE id = ?", int64(7), 1, "-"},
		{"/* ? */ CALL p_" + acc + "()", nil, 2, "-"},
		{"DO ?", int64(1), 0, "-"},
	} {
		args := []any{c.arg}
		if strings.HasPrefix(c.sql, "/*") {
			args = nil
		}
		out, err := b.Exec(t.Context(), c.sql, args)
		if err != nil {
			t.Fatalf("%s: %v", c.sql, err)
		}
		first := "-"
		if out.First != nil {
			first = *out.First
		}
		if out.Rows != c.rows || first != c.want {
			t.Errorf("%s with %v: %d rows, first %q; want %d, %q", c.sql, c.arg, out.Rows, first, c.rows, c.want)
		}
	}
	c, err := b.Conn(t.Context())
	must(t, err)
	if n := 0; c.QueryRowContext(t.Context(), "SELECT 7").Scan(&n) != nil || n != 7 {
		t.Errorf("typed access: %d", n)
	}
	if _, err := b.Exec(t.Context(), "SELECT 1; SELECT 2", nil); txn.SQLState(err) != "42601" {
		t.Errorf("two statements at once: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}

// The statement of a client that is gone runs on until it is killed, and so do its locks.
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
	// Not INNODB_TRX: who reads that again within 100 ms is shown the same again, for ever.
	testwait.Until(t, "somebody waits for a lock", func() bool {
		return value(t, "a", "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'") != "0"
	})
	cancel(gone)
	if err := testwait.For(t, "Exec's return", done); !errors.Is(err, gone) {
		t.Errorf("Exec: %v, want the cause", err)
	}
	must(t, b.Rollback(t.Context()))
	next := enlist(t, r, txn.BranchOptions{LockTimeout: testwait.Patience})
	exec(t, next, "UPDATE "+acc+" SET balance = 3 WHERE id = 2")
	must(t, next.Rollback(t.Context()))
	must(t, holder.Rollback(t.Context()))
}

// TestKilled: a session that the server has ended between two statements is told as lost, whatever the second one is to it.
func TestKilled(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	const again = "SELECT ? + 1"
	for _, second := range []string{again, "SELECT 7", "UPDATE " + acc + " SET balance = 1 WHERE id = 1"} {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, again, int64(1))
		admin(t, "a", fmt.Sprintf("KILL %d", b.c.id))
		testwait.Until(t, "the session is gone", func() bool {
			return value(t, "a", fmt.Sprintf("SELECT count(*) FROM information_schema.processlist WHERE id = %d", b.c.id)) == "0"
		})
		var args []any
		if second == again {
			args = []any{int64(1)}
		}
		if _, err := b.Exec(t.Context(), second, args); txn.SQLState(err) != "08006" {
			t.Errorf("%s: %s %v", second, txn.SQLState(err), err)
		}
		must(t, b.Rollback(t.Context()))
	}
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
	admin(t, "a", "CREATE USER IF NOT EXISTS few@localhost WITH MAX_USER_CONNECTIONS 1", "GRANT ALL ON a.* TO few@localhost")
	few := open(t, Options{DSN: server.DSN("few", "a")})
	b = enlist(t, few, txn.BranchOptions{})
	if _, err := few.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)}); !errors.Is(err, txn.ErrExhausted) {
		t.Errorf("Enlist on a full server: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}

// A server that became read-only refuses to commit, and says so.
func TestReadOnlyServer(t *testing.T) {
	r, other := open(t, Options{}), open(t, Options{})
	acc := table(t, "a")
	one, two := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	exec(t, one, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	exec(t, two, "UPDATE "+acc+" SET balance = 2 WHERE id = 2")
	if _, err := two.Prepare(t.Context(), external(two)); err != nil {
		t.Fatal(err)
	}
	admin(t, "a", "SET GLOBAL read_only = 1")
	defer admin(t, "a", "SET GLOBAL read_only = 0")
	if err := one.Commit(t.Context()); err == nil || txn.InDoubt(err) {
		t.Errorf("Commit on a read-only server: %v", err)
	}
	if got, err := other.Resolve(t.Context(), two.opt.GID, txn.Commit, two.Proof()); err == nil {
		t.Errorf("Resolve on a read-only server = %v", got)
	}
	admin(t, "a", "SET GLOBAL read_only = 0")
	if got, err := other.Resolve(t.Context(), two.opt.GID, txn.Commit, two.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	if got := value(t, "a", "SELECT group_concat(balance ORDER BY id) FROM "+acc); got != "100.00,2.00" {
		t.Errorf("balances %s", got)
	}
}

// The reply to XA COMMIT ONE PHASE is lost: only a marker tells what it was.
func TestLostCommit(t *testing.T) {
	for _, marker := range []string{"", "fdt_marker"} {
		for fate, want := range map[testdb.Fate]txn.Decision{testdb.LoseReply: txn.Commit, testdb.LoseRequest: txn.Abort, testdb.Late: txn.Abort} {
			proxy, r, straight := proxied(t, Options{Marker: marker})
			acc := table(t, "a")
			b := enlist(t, r, txn.BranchOptions{})
			exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
			proxy.Rule(testdb.Once("XA COMMIT", fate))
			if err := b.Commit(t.Context()); !txn.InDoubt(err) {
				t.Errorf("Commit: %v, want in doubt", err)
			}
			outcome(t, straight, b, want)
			proxy.Release()
			b = enlist(t, r, txn.BranchOptions{ReadOnly: true})
			exec(t, b, "SELECT * FROM "+acc)
			proxy.Rule(testdb.Once("XA COMMIT", fate))
			if err := b.Commit(t.Context()); err == nil || txn.InDoubt(err) {
				t.Errorf("Commit of a read-only branch: %v, want an error that leaves nothing open", err)
			}
		}
	}
}

// The reply to a step of phase one is lost: it may be prepared, and RollbackPrepared must find out.
func TestLostPrepare(t *testing.T) {
	for _, step := range []string{"INSERT INTO `fdt_marker`", "XA END", "XA PREPARE"} {
		for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest, testdb.Late} {
			proxy, r, straight := proxied(t, Options{Marker: "fdt_marker"})
			acc := table(t, "a")
			b := enlist(t, r, txn.BranchOptions{})
			exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
			proxy.Rule(testdb.Once(step, fate))
			if vote, err := b.Prepare(t.Context(), b.opt.GID); err == nil {
				t.Fatalf("Prepare = %v", vote)
			}
			must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
			proxy.Release()
			if isPrepared(t, straight, b.opt.GID) {
				t.Errorf("%s, fate %v: still prepared", step, fate)
			}
			next := enlist(t, straight, txn.BranchOptions{LockTimeout: testwait.Patience})
			exec(t, next, "UPDATE "+acc+" SET balance = 3")
			must(t, next.Rollback(t.Context()))
		}
	}
}

// The reply to phase two is lost: Resolve, asked again, knows by the marker that it is done.
func TestLostDecision(t *testing.T) {
	proxy, r, straight := proxied(t, Options{Marker: "fdt_marker"})
	acc := table(t, "a")
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest, testdb.Late} {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 1")
		prepare(t, b)
		proxy.Rule(testdb.Once("XA COMMIT", fate))
		if err := b.CommitPrepared(t.Context(), b.opt.GID); err == nil {
			t.Error("CommitPrepared knows what it cannot")
		}
		if got, err := straight.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
		b = enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 1")
		prepare(t, b)
		proxy.Rule(testdb.Once("XA ROLLBACK", fate))
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		if isPrepared(t, straight, b.opt.GID) {
			t.Error("still prepared")
		}
	}
	if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "97.00" {
		t.Errorf("balance %s", got)
	}
}

// The server was restarted: idle sessions are dead, and so are those of open branches; prepared ones are not.
func TestRestart(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	idle, idle2 := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	prepared := enlist(t, r, txn.BranchOptions{})
	exec(t, prepared, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	working, lost := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	exec(t, lost, "SELECT 1")
	must(t, idle.Rollback(t.Context()))
	must(t, idle2.Rollback(t.Context()))
	if _, err := prepared.Prepare(t.Context(), external(prepared)); err != nil {
		t.Fatal(err)
	}
	must(t, r.Fence(t.Context(), logID, 1)) // leaves a connection for recovery idle
	must(t, server.Kill())
	_, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)})
	if txn.SQLState(err) != "08001" || txn.InDoubt(err) {
		t.Errorf("Enlist while the server is down: %v, want 08001", err)
	}
	if err := lost.Rollback(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Rollback while the server is down: %v", err)
	}
	if _, err := r.Identity(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Identity while the server is down: %v", err)
	}
	if err := lost.RollbackPrepared(t.Context(), lost.opt.GID); txn.SQLState(err) != "08001" {
		t.Errorf("RollbackPrepared while the server is down: %v", err)
	}
	if _, err := r.Resolve(t.Context(), lost.opt.GID, txn.Commit, lost.Proof()); txn.SQLState(err) != "08001" {
		t.Errorf("Resolve while the server is down: %v", err)
	}
	if _, err := r.Outcome(t.Context(), lost.opt.GID, lost.Proof()+"/m"); txn.SQLState(err) != "08001" {
		t.Errorf("Outcome while the server is down: %v", err)
	}
	must(t, server.Start())
	if _, err := working.Exec(t.Context(), "SELECT 1", nil); txn.SQLState(err) != "08006" {
		t.Errorf("Exec on a dead session: %v, want 08006", err)
	}
	if _, err := working.Prepare(t.Context(), working.opt.GID); txn.SQLState(err) != "08006" {
		t.Errorf("Prepare on a dead session: %v, want 08006", err)
	}
	must(t, working.RollbackPrepared(t.Context(), working.opt.GID))
	next := enlist(t, r, txn.BranchOptions{})
	must(t, next.Rollback(t.Context()))
	if !isPrepared(t, r, prepared.opt.GID) {
		t.Error("the restart undid what was prepared")
	}
	for range 2 {
		if got, err := r.Resolve(t.Context(), prepared.opt.GID, txn.Abort, prepared.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	}
}
