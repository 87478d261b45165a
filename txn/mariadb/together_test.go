package mariadb

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// last is a branch that has run its only statement, or has tried to, along with its vote.
func last(t *testing.T, r *Resource, gid *txn.GID, text string, args ...any) (*Branch, txn.Outcome, error) {
	t.Helper()
	for range 5 { // a session is to have read it
		gid.Sequence = sequence.Add(1)
		b := enlist(t, r, txn.BranchOptions{GID: *gid, LockTimeout: time.Second})
		out, voted, err := b.ExecLast(t.Context(), *gid, txn.Statement{SQL: text, Args: args})
		if voted || err != nil {
			return b, out, err
		}
		if out.Rows != 0 {
			t.Fatalf("nothing was done, and there are %d rows", out.Rows)
		}
		must(t, b.Rollback(t.Context()))
	}
	t.Fatalf("%s is not run with the vote", text)
	return nil, txn.Outcome{}, nil
}

// The whole branch goes in one round trip: its statement and its vote.
func TestWhole(t *testing.T) {
	proxy, r, straight := proxied(t, Options{Pool: 1})
	acc := table(t, "a")
	admin(t, "a", "CREATE TABLE my_"+acc+" (id int) ENGINE=MyISAM",
		"CREATE TRIGGER tr_"+acc+" BEFORE INSERT ON "+acc+" FOR EACH ROW DO RELEASE_ALL_LOCKS()")
	gid := newGID(txn.RoleLocal)
	withdraw := "UPDATE " + acc + " SET balance = balance - ? WHERE id <= ?"
	b, _, err := last(t, r, &gid, withdraw, int64(0), int64(2))
	must(t, err)
	must(t, b.RollbackPrepared(t.Context(), gid))
	var requests atomic.Int64
	proxy.Rule(func([]byte) testdb.Fate { requests.Add(1); return testdb.Pass })
	b, out, err := last(t, r, &gid, withdraw, int64(10), int64(2))
	proxy.Rule(nil)
	if err != nil || out.Rows != 2 || requests.Load() != 1 || !isPrepared(t, straight, gid) {
		t.Errorf("%d rows, %d requests, prepared: %t, %v", out.Rows, requests.Load(), isPrepared(t, straight, gid), err)
	}
	must(t, b.CommitPrepared(t.Context(), gid))
	b, _, err = last(t, r, &gid, withdraw, int64(10), int64(1))
	must(t, err)
	must(t, b.RollbackPrepared(t.Context(), gid))
	for name, c := range map[string]struct {
		text  string
		args  []any
		state string
	}{
		"the statement fails":           {withdraw, []any{int64(1000), int64(2)}, "23514"},
		"the table cannot be undone":    {"INSERT INTO my_" + acc + " VALUES (?)", []any{int64(1)}, "0A000"},
		"the mark of the fence is lost": {"INSERT INTO " + acc + " VALUES (?, 1)", []any{int64(9)}, "40000"},
	} {
		b, _, err := last(t, r, &gid, c.text, c.args...)
		if txn.SQLState(err) != c.state {
			t.Errorf("%s: %v", name, err)
		}
		if isPrepared(t, straight, gid) {
			t.Errorf("%s, and it has voted", name)
		}
		must(t, b.RollbackPrepared(t.Context(), gid))
	}
	if got := value(t, "a", "SELECT GROUP_CONCAT(balance ORDER BY id) FROM "+acc); got != "90.00,90.00" {
		t.Errorf("balances %s", got)
	}
}

// The answer to the statement with the vote is lost: nothing is left of either.
func TestLostWhole(t *testing.T) {
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest, testdb.Late, testdb.Linger} {
		proxy, r, straight := proxied(t, Options{Pool: 1})
		acc := table(t, "a")
		gid := newGID(txn.RoleLocal)
		text := "UPDATE " + acc + " SET balance = balance - ? WHERE id = 1"
		b, _, err := last(t, r, &gid, text, int64(1))
		must(t, err)
		must(t, b.RollbackPrepared(t.Context(), gid))
		proxy.Rule(testdb.Once("XA PREPARE", fate))
		if b, _, err = last(t, r, &gid, text, int64(1)); txn.SQLState(err) != "08006" {
			t.Errorf("fate %v: %v", fate, err)
		}
		must(t, b.RollbackPrepared(t.Context(), gid))
		proxy.Release()
		if isPrepared(t, straight, gid) {
			t.Errorf("fate %v: still prepared", fate)
		}
		next := enlist(t, straight, txn.BranchOptions{LockTimeout: 20 * time.Second})
		exec(t, next, "UPDATE "+acc+" SET balance = 3")
		must(t, next.Rollback(t.Context()))
	}
}

// A view or a table that has become another meanwhile is read anew, and so is what a procedure has dropped.
func TestTogetherIsReadAgain(t *testing.T) {
	r := open(t, Options{Pool: 1})
	one, two := table(t, "a"), table(t, "a")
	admin(t, "a", "CREATE VIEW v_"+one+" AS SELECT * FROM "+one, "CREATE PROCEDURE p_"+one+"() BEGIN DEALLOCATE PREPARE fdt_together0; PREPARE fdt_together1 FROM 'DO 1'; END")
	text := "UPDATE v_" + one + " SET balance = balance - ? WHERE id = 1"
	gid := newGID(txn.RoleLocal)
	both := func(want string) {
		t.Helper()
		must(t, first(t, r, &gid, text, int64(0)).Rollback(t.Context()))
		gid.Sequence = sequence.Add(1)
		b := enlist(t, r, txn.BranchOptions{GID: gid})
		exec(t, b, text, int64(1))
		must(t, b.Commit(t.Context()))
		b, _, err := last(t, r, &gid, text, int64(2))
		must(t, err)
		must(t, b.CommitPrepared(t.Context(), gid))
		if got := value(t, "a", "SELECT CONCAT_WS(' ', (SELECT balance FROM "+one+" WHERE id = 1), (SELECT balance FROM "+two+" WHERE id = 1))"); got != want {
			t.Errorf("balances %s, want %s", got, want)
		}
	}
	both("97.00 100.00")
	admin(t, "a", "CREATE OR REPLACE VIEW v_"+one+" AS SELECT * FROM "+two)
	both("97.00 97.00")
	admin(t, "a", "DROP VIEW v_"+one, "RENAME TABLE "+two+" TO v_"+one, "CREATE VIEW "+two+" AS SELECT * FROM v_"+one)
	both("97.00 94.00")
	gid.Sequence = sequence.Add(1)
	b := enlist(t, r, txn.BranchOptions{GID: gid})
	exec(t, b, "CALL p_"+one+"()")
	must(t, b.Commit(t.Context()))
	both("97.00 91.00")
}

// Where statement and vote do not go together, nothing was done.
func TestNotWhole(t *testing.T) {
	marked, r := open(t, Options{Marker: "fdt_marker"}), open(t, Options{Pool: 1})
	acc := table(t, "a")
	text := "UPDATE " + acc + " SET balance = balance + 1"
	gid := newGID(txn.RoleLocal)
	for name, c := range map[string]struct {
		r     *Resource
		opt   txn.BranchOptions
		first string
		last  txn.Statement
	}{
		"a marker is written": {r: marked},
		"it has begun":        {first: "SELECT 1"},
		"of an isolation":     {opt: txn.BranchOptions{Isolation: txn.Serializable}},
		"no such number":      {last: txn.Statement{SQL: "UPDATE " + acc + " SET balance = ?", Args: []any{math.Inf(1)}}},
		"it returns rows":     {last: txn.Statement{SQL: "SELECT * FROM " + acc}},
		"it leaves something": {last: txn.Statement{SQL: "UPDATE " + acc + " SET balance = (@a := 1)"}},
		"they are two":        {last: txn.Statement{SQL: "UPDATE " + acc + " SET balance = 1; DELETE FROM " + acc}},
	} {
		if c.r == nil {
			c.r = r
		}
		if c.last.SQL == "" {
			c.last.SQL = text
		}
		for range 3 {
			gid.Sequence = sequence.Add(1)
			c.opt.GID = gid
			b := enlist(t, c.r, c.opt)
			if c.first != "" {
				exec(t, b, c.first)
			}
			out, voted, err := b.ExecLast(t.Context(), gid, c.last)
			if voted || out.Rows != 0 || err != nil {
				t.Errorf("%s: %+v, voted %t, %v", name, out, voted, err)
			}
			must(t, b.RollbackPrepared(t.Context(), gid))
		}
	}
	if got := value(t, "a", "SELECT GROUP_CONCAT(balance) FROM "+acc); got != "100.00,100.00" {
		t.Errorf("balances %s", got)
	}
}
