package postgres

import (
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// A statement that is only tried is held against the tables, and changes nothing.
func TestTry(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	for _, sql := range []string{"DELETE FROM " + acc, "SELECT id FROM " + acc + " WHERE id = $1"} {
		must(t, b.Try(t.Context(), sql))
	}
	if out := exec(t, b, "SELECT id FROM "+acc); out.Rows != 2 {
		t.Errorf("%d rows are left", out.Rows)
	}
	if err := b.Try(t.Context(), "SELECT 1 FROM nowhere"); txn.SQLState(err) != "42P01" {
		t.Errorf("no such table: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	if err := b.Try(t.Context(), "SELECT 1"); err == nil {
		t.Error("tried on a branch that has ended")
	}
}
