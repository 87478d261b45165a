package mariadb

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// first is a branch of the session that an earlier one of the same incarnation had, which has run the statement as its first.
func first(t *testing.T, r *Resource, gid *txn.GID, text string, args ...any) *Branch {
	t.Helper()
	for range 2 { // the server is to read it with what begins a branch
		gid.Sequence = sequence.Add(1)
		b := enlist(t, r, txn.BranchOptions{GID: *gid})
		exec(t, b, text, args...)
		must(t, b.Rollback(t.Context()))
	}
	gid.Sequence = sequence.Add(1)
	b := enlist(t, r, txn.BranchOptions{GID: *gid})
	if b.together(begins, text) == nil {
		t.Fatalf("%s is not known to the server as a branch's first", text)
	}
	return b
}

// A branch begins in one round trip with its first statement, which does what it does by itself.
func TestFirst(t *testing.T) {
	proxy, r, _ := proxied(t, Options{Pool: 1})
	acc := table(t, "a")
	admin(t, "a", "CREATE TABLE text_"+acc+" (id int AUTO_INCREMENT PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, b varbinary(20), d double, n numeric(9,2))")
	gid := newGID(txn.RoleLocal)
	var requests atomic.Int64
	for _, c := range []struct {
		text string
		args []any
		rows int64
	}{
		{"UPDATE " + acc + " SET balance = ? WHERE id < ?", []any{int64(100), int64(99)}, 2}, // rows that match, changed or not
		{"UPDATE " + acc + " SET balance = 1 WHERE id = 77 -- none", nil, 0},
		{"UPDATE " + acc + " SET balance = 1 # all", nil, 2},
		{"INSERT INTO text_" + acc + " (v, b, d, n) VALUES (?, ?, ?, ?), ('2', '2', 2, 2)", []any{"it's \\ ü", []byte{0, 255, '\''}, 0.5, "3.10"}, 2},
		{"DELETE FROM " + acc + " WHERE id = ? OR ?", []any{nil, true}, 2},
	} {
		b := first(t, r, &gid, c.text, c.args...)
		requests.Store(0)
		proxy.Rule(func([]byte) testdb.Fate { requests.Add(1); return testdb.Pass })
		if out := exec(t, b, c.text, c.args...); out.Rows != c.rows || out.First != nil {
			t.Errorf("%s: %d rows, want %d", c.text, out.Rows, c.rows)
		}
		proxy.Rule(nil)
		if requests.Load() != 1 {
			t.Errorf("%s: %d requests", c.text, requests.Load())
		}
		if len(c.args) == 4 {
			if got := *exec(t, b, "SELECT CONCAT_WS(' ', v, HEX(b), d, n) FROM text_"+acc+" ORDER BY id LIMIT 1").First; got != "it's \\ ü 00FF27 0.5 3.10" {
				t.Errorf("stored %s", got)
			}
		}
		prepare(t, b)
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	}
	if got := value(t, "a", "SELECT GROUP_CONCAT(balance) FROM "+acc); got != "100.00,100.00" {
		t.Errorf("balances %s", got)
	}
}

// What the first statement cannot do fails the branch, as any other.
func TestFirstFails(t *testing.T) {
	r := open(t, Options{Pool: 1})
	acc := table(t, "a")
	text := "INSERT INTO " + acc + " VALUES (?, 1)"
	gid := newGID(txn.RoleLocal)
	b := first(t, r, &gid, text, int64(8))
	if _, err := b.Exec(t.Context(), text, []any{int64(1)}); txn.SQLState(err) != "23505" {
		t.Errorf("duplicate key: %v", err)
	}
	if _, err := b.Prepare(t.Context(), b.opt.GID); txn.SQLState(err) != "23505" {
		t.Errorf("vote: %v", err)
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	// Another limit for locks is set before.
	holder := enlist(t, open(t, Options{}), txn.BranchOptions{})
	exec(t, holder, "UPDATE "+acc+" SET balance = 2 WHERE id = 1")
	gid.Sequence = sequence.Add(1)
	b = enlist(t, r, txn.BranchOptions{GID: gid, LockTimeout: time.Second})
	if _, err := b.Exec(t.Context(), text, []any{int64(1)}); txn.SQLState(err) != "40P01" {
		t.Errorf("lock: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	must(t, holder.Rollback(t.Context()))
	if got := value(t, "a", "SELECT COUNT(*) FROM "+acc); got != "2" {
		t.Errorf("%s rows", got)
	}
}

// The answer to what begins the branch is lost: the session is ended, and its locks are free.
func TestLostBegin(t *testing.T) {
	for _, request := range []string{"XA START", "SET SESSION innodb_lock_wait_timeout"} {
		for _, known := range []bool{false, true} {
			proxy, r, straight := proxied(t, Options{Pool: 1})
			acc := table(t, "a")
			gid := newGID(txn.RoleLocal)
			text := "UPDATE " + acc + " SET balance = 1 WHERE id = 2"
			if known {
				must(t, first(t, r, &gid, text).Rollback(t.Context()))
				gid.Sequence = sequence.Add(1)
			}
			b := enlist(t, r, txn.BranchOptions{GID: gid, LockTimeout: 7 * time.Second})
			proxy.Rule(testdb.Once(request, testdb.Linger))
			if _, err := b.Exec(t.Context(), text, nil); txn.SQLState(err) != "08006" {
				t.Errorf("the answer was lost: %v", err)
			}
			must(t, b.Rollback(t.Context()))
			other := enlist(t, straight, txn.BranchOptions{LockTimeout: time.Second})
			exec(t, other, "UPDATE "+acc+" SET balance = 1")
			must(t, other.Rollback(t.Context()))
		}
	}
}

// A gid of which the server holds a prepared branch is somebody's. One that a session has not prepared yet is waited for by nobody.
func TestBegunByAnother(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	text := "UPDATE " + acc + " SET balance = 1 WHERE id = 2"
	gid := newGID(txn.RoleLocal)
	must(t, first(t, r, &gid, text).Rollback(t.Context()))
	gid.Sequence = sequence.Add(1)
	one := enlist(t, r, txn.BranchOptions{GID: gid})
	exec(t, one, "SELECT 1")
	other := enlist(t, r, txn.BranchOptions{GID: gid})
	if _, err := other.Exec(t.Context(), text, nil); err == nil || txn.ClassOf(err) == txn.NotOurs {
		t.Errorf("begun by another: %v of class %q", err, txn.ClassOf(err))
	}
	must(t, other.Rollback(t.Context()))
	prepare(t, one)
	for _, run := range []func(b *Branch) error{
		func(b *Branch) error { _, err := b.Exec(t.Context(), text, nil); return err },
		func(b *Branch) error { _, err := b.Prepare(t.Context(), b.opt.GID); return err },
	} {
		b := enlist(t, r, txn.BranchOptions{GID: gid})
		if err := run(b); txn.ClassOf(err) != txn.NotOurs {
			t.Errorf("a gid that is prepared: %v of class %q", err, txn.ClassOf(err))
		}
		if err := b.Rollback(t.Context()); txn.ClassOf(err) != txn.NotOurs {
			t.Errorf("Rollback of it: %v of class %q", err, txn.ClassOf(err))
		}
	}
	must(t, one.RollbackPrepared(t.Context(), one.opt.GID))
}
