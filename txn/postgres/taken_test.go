package postgres

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// PREPARE TRANSACTION answers duplicate_object for a gid that the server holds, and passes on the same code from a deferred trigger, which
// is a vote against the branch.
func TestTaken(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	admin(t, "a", "CREATE FUNCTION "+acc+"_f() RETURNS trigger LANGUAGE plpgsql AS "+
		"$$ BEGIN RAISE EXCEPTION 'such an account exists' USING ERRCODE = 'duplicate_object'; END $$",
		"CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON "+acc+" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "+acc+"_f()")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "INSERT INTO "+acc+" VALUES (3, 1)")
	_, err := b.Prepare(t.Context(), b.opt.GID)
	if txn.ClassOf(err) != "" || txn.SQLState(err) != "42710" || !strings.Contains(err.Error(), "such an account exists") {
		t.Errorf("a deferred trigger's error: %v of class %q", err, txn.ClassOf(err))
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))

	b = enlist(t, r, txn.BranchOptions{})
	prepare(t, b)
	next := enlist(t, r, txn.BranchOptions{})
	exec(t, next, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	if _, err := next.Prepare(t.Context(), b.opt.GID); txn.ClassOf(err) != txn.NotOurs || txn.SQLState(err) != "42710" {
		t.Errorf("Prepare by a gid that is taken: %v of class %q", err, txn.ClassOf(err))
	}
	must(t, next.Rollback(t.Context()))
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
}
