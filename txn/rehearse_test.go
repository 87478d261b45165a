package txn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// A rehearsal leaves nothing behind, and tells which resource could not be
// prepared, without the other's fault.
func TestRehearse(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	if faults := m.Rehearse(t.Context(), nil); len(faults) > 0 {
		t.Errorf("with everything well: %v", faults)
	}
	untried := errors.New("no good")
	faults := m.Rehearse(t.Context(), func(_ context.Context, resource string, b txn.Branch) error {
		if resource == "a" && b != nil {
			return untried
		}
		return nil
	})
	if len(faults) != 1 || !errors.Is(faults["a"], untried) {
		t.Errorf("with a refused by the caller: %v", faults)
	}
	// In the place of the directory of what is prepared: no rename leads there.
	prepared := filepath.Join(p.dir("b"), "prepared")
	if err := os.Remove(prepared); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prepared, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	faults = m.Rehearse(t.Context(), nil)
	if len(faults) != 1 || faults["b"] == nil {
		t.Errorf("with b broken: %v", faults)
	}
	if err := os.Remove(prepared); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(prepared, 0o770); err != nil {
		t.Fatal(err)
	}
	if faults := m.Rehearse(t.Context(), nil); len(faults) > 0 {
		t.Errorf("mended: %v", faults)
	}
	closeAll(t, m)
	for _, name := range []string{"a", "b"} {
		want(t, p.delivered(t, name))
		if left, _ := filepath.Glob(p.dir(name) + "/prepared/*"); len(left) > 0 {
			t.Errorf("%s holds %q", name, left)
		}
	}
}
