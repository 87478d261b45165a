package txn_test

import (
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// TestShown: what is told of a transaction at each of its moments: how each branch stands, and for which the decision waits.
func TestShown(t *testing.T) {
	p := newFastPlace(t)
	m, is := p.withDown(t)
	defer closeAll(t, m)
	want := func(gid string, phase txn.Phase, a, b string, waits int) {
		t.Helper()
		tx, err := m.Show(t.Context(), gid)
		wantErr(t, err, nil)
		if tx.Phase != phase || len(tx.Waits) != waits || waits > 0 && (tx.Waits[0] != "b" || tx.Decided.IsZero()) ||
			tx.Branches[0].State != a || tx.Branches[1].State != b {
			t.Errorf("%s: %s since %s, waits for %q, %+v", gid, tx.Phase, tx.Decided, tx.Waits, tx.Branches)
		}
	}
	s := halfCommitted(t, m, is)
	is.Store(false)
	want("x", txn.Committing, "committed", "prepared", 1)
	p.reboot(t)
	again := p.open(t)
	list, err := again.List(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Waits) != 2 || list[0].Decided.IsZero() {
		t.Errorf("after a boot: %+v, %v", list, err)
	}
	closeAll(t, again)
	txn.Rested(m)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	want("x", txn.Committed, "committed", "committed", 0)
	prepared(t, m, "y")
	want("y", txn.Prepared, "prepared", "prepared", 0)
	wantErr(t, s.RollbackPrepared(t.Context(), "y"), nil)
	want("y", txn.Aborted, "rolled back", "rolled back", 0)
}

// TestForgetHeld: an outcome that somebody is at work on is not said to be forgotten.
func TestForgetHeld(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	root := txn.Principal{User: "root", Operator: true}
	prepared(t, m, "x")
	wantErr(t, m.Decide(t.Context(), root, "x", txn.Commit), nil)
	done := p.atWork(t)
	wantErr(t, m.Forget(t.Context(), root, "x"), txn.ErrBusyGID)
	if n, err := m.ForgetAll(t.Context(), root, time.Now()); n != 0 {
		t.Errorf("%d were forgotten, %v", n, err)
	} else {
		wantErr(t, err, txn.ErrBusyGID)
	}
	done()
	wantErr(t, m.Forget(t.Context(), root, "x"), nil)
}
