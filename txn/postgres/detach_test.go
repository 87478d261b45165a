package postgres

import (
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestDetach lets go of the server but for the branch that is open, which ends in its own time.
func TestDetach(t *testing.T) {
	r := open(t, Options{})
	b, idle := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	must(t, idle.Rollback(t.Context()))
	if _, err := r.Identity(t.Context()); err != nil || r.Connections() != 3 {
		t.Fatalf("%d connections, want 3: %v", r.Connections(), err)
	}
	r.Detach()
	if _, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)}); !errors.Is(err, txn.ErrPaused) || txn.SQLState(err) != "57P03" {
		t.Error(err)
	}
	if _, err := r.Identity(t.Context()); !errors.Is(err, txn.ErrPaused) || r.Connections() != 1 {
		t.Errorf("%d connections, want 1: %v", r.Connections(), err)
	}
	exec(t, b, "SELECT 1")
	must(t, b.Commit(t.Context()))
	if n := r.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	r.Attach()
	must(t, enlist(t, r, txn.BranchOptions{}).Rollback(t.Context()))
}
