package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// renew gives a spool the identity of a new one, with all that is in it: as a database whose container was made anew.
func renew(t *testing.T, p place, name, id string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir(name), "id"), []byte(strings.Repeat(id, 32)+"\n"), 0o660); err != nil {
		t.Fatal(err)
	}
}

// TestRebind: branches on a store that nobody finds any more wait, until an operator says which one carries it on, however often that changes.
func TestRebind(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	if stores, err := m.Rebind(t.Context(), root, "a"); err == nil {
		t.Errorf("nothing waits for another store, but %q were bound", stores)
	}
	for _, id := range []string{"a", "b"} {
		renew(t, p, "a", id)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
		if err := m.Stranded(t.Context()); err == nil || !strings.Contains(err.Error(), `"a" is spool:`+id) {
			t.Errorf("Stranded: %v", err)
		}
		if _, err := m.Rebind(t.Context(), alice, "a"); !errors.Is(err, txn.ErrNotOwner) {
			t.Errorf("by a client: %v", err)
		}
		if stores, err := m.Rebind(t.Context(), root, "a"); err != nil || len(stores) != 1 {
			t.Errorf("bound %q, %v", stores, err)
		}
		if err := m.Stranded(t.Context()); err != nil {
			t.Errorf("Stranded: %v", err)
		}
	}
	closeAll(t, m)
	m = p.open(t) // it is durable
	defer closeAll(t, m)
	told, err := resolved(t, m, txn.Abort)
	if err != nil || told["x"].Phase != txn.Committed || told["x"].Hazard != "" || told["y"].Phase != txn.Aborted || told["y"].Left != "" {
		t.Errorf("%+v, %v", told, err)
	}
	want(t, p.delivered(t, "a"), "x in a")
}

// TestGiveUp: what was on a store that is lost for good ends without it, as a heuristic outcome.
func TestGiveUp(t *testing.T) {
	p, other := newFastPlace(t), newFastPlace(t).spools(t)
	m := p.open(t)
	for _, gid := range []string{"x", "y", "z"} {
		prepared(t, m, gid)
	}
	if _, err := m.GiveUp(t.Context(), root, "b"); err == nil {
		t.Error("gave a store up that is there")
	}
	closeAll(t, m)

	m = p.open(t, func(o *txn.Options) { o.Resources[1] = broken{o.Resources[1].(*spool.Spool), "identity"} })
	if _, err := m.GiveUp(t.Context(), root, "b"); !errors.Is(err, txn.ErrUnreachable) {
		t.Errorf("gave a store up that may only be down: %v", err)
	}
	closeAll(t, m)

	for _, change := range []func(*txn.Options){
		func(o *txn.Options) { o.Resources[1] = other[1] },
		func(o *txn.Options) { o.Resources = o.Resources[:1] },
	} {
		m = p.open(t, change)
		if _, err := m.Rebind(t.Context(), root, "none"); !errors.Is(err, txn.ErrNoResource) {
			t.Errorf("bound a resource that is not there: %v", err)
		}
		if _, err := m.GiveUp(t.Context(), root, "none"); !errors.Is(err, txn.ErrNoResource) {
			t.Errorf("gave up what no transaction has a branch on: %v", err)
		}
		stores, err := m.GiveUp(t.Context(), root, "b")
		if err != nil || len(stores) != 1 {
			t.Errorf("gave %q up: %v", stores, err)
		}
		closeAll(t, m)
		if err := os.Remove(filepath.Join(p.dir("log"), "stores")); err != nil {
			t.Fatal(err)
		}
	}
	m = p.open(t, func(o *txn.Options) { o.Resources[1] = other[1] })
	defer closeAll(t, m)
	if _, err := m.GiveUp(t.Context(), root, "b"); err != nil {
		t.Error(err)
	}
	if err := m.Stranded(t.Context()); err != nil {
		t.Errorf("Stranded: %v", err)
	}
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
	wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "y"), txn.ErrHeuristicHazard)
	want(t, p.delivered(t, "a"), "x in a")
	if shown, err := m.Show(t.Context(), "x"); err != nil || !strings.Contains(shown.Hazard, "gave up the store") {
		t.Errorf("%+v, %v", shown, err)
	}
	wantErr(t, m.Forget(t.Context(), root, "x"), nil)
}

// TestStoresUnreadable: what operators have said and cannot be read is not taken for nothing.
func TestStoresUnreadable(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	renew(t, p, "a", "a")
	if err := os.WriteFile(filepath.Join(p.dir("log"), "stores"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Stranded(t.Context()); err == nil {
		t.Error("not stranded")
	}
	if _, err := m.Rebind(t.Context(), root, "a"); err == nil || !strings.Contains(err.Error(), "stores") {
		t.Errorf("Rebind: %v", err)
	}
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
}

// TestStoresFail: what cannot be made durable is not said.
func TestStoresFail(t *testing.T) {
	p := newFastPlace(t)
	failing := ""
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == failing {
				return errBroken
			}
			return nil
		})
	})
	defer closeAll(t, m)
	prepared(t, m, "x")
	renew(t, p, "a", "a")
	for _, failing = range []string{"lock lock", "write stores", "read stores"} { // the last only where there is one, as after the second
		if _, err := m.Rebind(t.Context(), root, "a"); failing != "read stores" && !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", failing, err)
		}
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
	}
}
