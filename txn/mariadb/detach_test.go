package mariadb

import (
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestDetach lets go of the server, also of the session that has a prepared branch, which stays and is told afterwards.
func TestDetach(t *testing.T) {
	r := open(t, Options{})
	name := table(t, "a")
	b, kept := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	exec(t, kept, "UPDATE "+name+" SET balance = 1 WHERE id = 1")
	gid := external(kept)
	if vote, err := kept.Prepare(t.Context(), gid); err != nil || vote != txn.VotePrepared {
		t.Fatal(vote, err)
	}
	if n := r.parking.count(); n != 1 {
		t.Fatalf("%d sessions are parked", n)
	}
	proof := kept.Proof()
	r.Detach()
	if _, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)}); !errors.Is(err, txn.ErrPaused) || txn.SQLState(err) != "57P03" {
		t.Error(err)
	}
	if _, err := r.Resolve(t.Context(), gid, txn.Commit, proof); !errors.Is(err, txn.ErrPaused) || r.Connections() != 1 {
		t.Errorf("%d connections, want 1: %v", r.Connections(), err)
	}
	must(t, b.Rollback(t.Context()))
	if n := r.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	r.Attach()
	if how, err := r.Resolve(t.Context(), gid, txn.Commit, proof); err != nil || how != txn.ResolvedDone {
		t.Errorf("%v, %v", how, err)
	}
}
