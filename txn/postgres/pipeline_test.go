package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// execAll is ExecAll.
func execAll(t *testing.T, b *Branch, list ...txn.Statement) ([]txn.Outcome, error) {
	t.Helper()
	return b.ExecAll(t.Context(), list)
}

func say(sql string, args ...any) txn.Statement { return txn.Statement{SQL: sql, Args: args} }

func firsts(outs []txn.Outcome) (texts []string) {
	for _, out := range outs {
		if out.First == nil {
			texts = append(texts, fmt.Sprint(out.Rows))
		} else {
			texts = append(texts, fmt.Sprintf("%d:%s", out.Rows, *out.First))
		}
	}
	return texts
}

// Statements that go together have the outcomes that each of them has alone, at their first use and later, and those that must go alone
// are in their place.
func TestExecAll(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	session := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for range 2 {
		b := enlist(t, r, session)
		list := []txn.Statement{
			say("UPDATE "+acc+" SET balance = balance - $1 WHERE id = $2", int64(1), int64(1)),
			say(" (SELECT balance FROM " + acc + " WHERE id = 1)"),
			say("UPDATE "+acc+" SET balance = balance - $1 WHERE id = $2", "2.5", int64(1)),
			say("INSERT INTO "+acc+" VALUES ($1, $2)", int64(3), 1.5),
			say("SELECT NULL::text FROM "+acc+" WHERE $1::bool AND $2::text IS NULL", true, nil),
			say("SET LOCAL work_mem = '1MB'"),
			say("SELECT $1::bytea", []byte{1}),
			say("SELECT balance FROM " + acc + " ORDER BY id"),
			say("VALUES (1), (2)"),
		}
		outs, err := execAll(t, b, list...)
		if err != nil {
			t.Fatal(err)
		}
		want := "[1 1:99 1 1 3 0 1:\\x01 3:96.5 2:1]"
		if got := fmt.Sprint(firsts(outs)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		must(t, b.Rollback(t.Context()))
	}
	if outs, err := execAll(t, enlistAndRollback(t, r)); err != nil || outs != nil {
		t.Errorf("nothing at all: %v, %v", outs, err)
	}
}

// enlistAndRollback leaves a branch to the end of the test.
func enlistAndRollback(t *testing.T, r *Resource) *Branch {
	t.Helper()
	b := enlist(t, r, txn.BranchOptions{})
	t.Cleanup(func() { _ = b.Rollback(context.Background()) })
	return b
}

// A statement that fails keeps its place: those before it have outcomes, those behind it had no effect, and the session is of use after
// the rollback, also for a text whose preparation failed.
func TestExecAllFails(t *testing.T) {
	r := open(t, Options{Pool: 1})
	acc := table(t, "a")
	session := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	count := say("SELECT count(*) FROM " + acc)
	for _, c := range []struct {
		bad   txn.Statement
		state string
	}{
		{say("SELECT 1/$1::int", int64(0)), "22012"},
		{say("SELECT * FROM missing"), "42P01"},
		{say("SELECT $1::int", "x"), "22P02"},
		{say("INSERT INTO " + acc + " VALUES (3, 1), (3, 1)"), "23505"},
		{say("SET LOCAL missing = 1"), "42704"},
	} {
		for range 2 {
			b := enlist(t, r, session)
			outs, err := execAll(t, b, count, say("DELETE FROM "+acc), c.bad, say("SELECT 5"), count)
			if txn.SQLState(err) != c.state || len(outs) != 2 {
				t.Errorf("%s: %d outcomes and %v", c.bad.SQL, len(outs), err)
			}
			if c.state == "42P01" {
				admin(t, "a", "CREATE TABLE missing ()", "DROP TABLE missing")
			}
			must(t, b.Rollback(t.Context()))
		}
	}
	b := enlist(t, r, session)
	if outs, err := execAll(t, b, count, say("COMMIT"), say("DELETE FROM "+acc)); !errors.Is(err, txn.ErrRolledBack) || len(outs) != 1 {
		t.Errorf("COMMIT: %v, %v", outs, err)
	}
	if _, err := execAll(t, b, count); !errors.Is(err, txn.ErrRolledBack) {
		t.Errorf("behind it: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	if n := value(t, "a", "SELECT count(*)::text FROM "+acc); n != "2" {
		t.Errorf("%s rows are left", n)
	}
}

// A plan that does not fit its table any more costs one failure, not the session's life.
func TestExecAllPlan(t *testing.T) {
	r := open(t, Options{Pool: 1})
	acc := table(t, "a")
	list := []txn.Statement{say("SELECT * FROM " + acc), say("SELECT 1")}
	session := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	failures := 0
	for i := range 4 {
		b := enlist(t, r, session)
		if _, err := execAll(t, b, list...); err != nil {
			failures++
		}
		must(t, b.Rollback(t.Context()))
		if i == 0 {
			admin(t, "a", "ALTER TABLE "+acc+" ADD COLUMN more int")
		}
	}
	if failures != 1 {
		t.Errorf("%d failures", failures)
	}
}

// The number of prepared statements is bounded.
func TestExecAllMany(t *testing.T) {
	r := open(t, Options{Pool: 1})
	b := enlistAndRollback(t, r)
	for i := range maxPrepared {
		if _, err := execAll(t, b, say(fmt.Sprintf("SELECT %d", 2*i)), say(fmt.Sprintf("SELECT %d", 2*i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.c.prepared) != maxPrepared {
		t.Errorf("%d are prepared", len(b.c.prepared))
	}
}

// A cancelled pipeline ends, and its session is not used again; nor does one start that was cancelled before.
func TestExecAllCancelled(t *testing.T) {
	r := open(t, Options{Pool: 1})
	acc := table(t, "a")
	blocker := enlist(t, r2(t), txn.BranchOptions{})
	exec(t, blocker, "UPDATE "+acc+" SET balance = 0")
	b := enlist(t, r, txn.BranchOptions{})
	why := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	list := []txn.Statement{say("SELECT 1"), say("UPDATE " + acc + " SET balance = 1")}
	done := make(chan error, 1)
	go func() {
		outs, err := b.ExecAll(ctx, list)
		if len(outs) != 1 {
			t.Errorf("%d statements were answered", len(outs))
		}
		done <- err
	}()
	blocked(t)
	cancel(why)
	if err := testwait.For(t, "ExecAll's return", done); !errors.Is(err, why) {
		t.Errorf("ExecAll: %v", err)
	}
	if _, err := b.ExecAll(ctx, list); !errors.Is(err, why) {
		t.Errorf("cancelled before: %v", err)
	}
	if !b.c.cancelled {
		t.Error("the session would be used again")
	}
	must(t, errors.Join(b.Rollback(t.Context()), blocker.Rollback(t.Context())))
}

// r2 is a resource of its own.
func r2(t *testing.T) *Resource {
	t.Helper()
	return open(t, Options{})
}

// A lost connection fails the pipeline, and its branch ends on the server.
func TestExecAllLost(t *testing.T) {
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest} {
		proxy, r, straight := proxied(t, Options{})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		proxy.Rule(testdb.Once("UPDATE", fate))
		if outs, err := execAll(t, b, say("SELECT 1"), say("UPDATE "+acc+" SET balance = 0")); err == nil || outs != nil {
			t.Errorf("%v, %v", outs, err)
		}
		if err := b.Commit(t.Context()); err == nil {
			t.Error("committed")
		}
		must(t, b.Rollback(t.Context()))
		next := enlist(t, straight, txn.BranchOptions{LockTimeout: testwait.Patience})
		if out := exec(t, next, "UPDATE "+acc+" SET balance = balance WHERE balance = 100"); out.Rows != 2 {
			t.Errorf("%d accounts are untouched", out.Rows)
		}
		must(t, next.Rollback(t.Context()))
	}
}
