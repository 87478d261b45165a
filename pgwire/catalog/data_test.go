package catalog

import (
	"testing"

	"github.com/fdtserver/fdt/procedure"
)

// TestRelationsFile: what data/relations.txt says of each relation can be used: a number of its own, and columns of types that there are.
func TestRelationsFile(t *testing.T) {
	seen := map[uint32]string{}
	for _, r := range New(new(procedure.Set)).relations {
		if other := seen[r.OID]; r.OID == 0 || other != "" {
			t.Errorf("%s.%s has the number %d, as %q has", r.Schema, r.Name, r.OID, other)
		}
		seen[r.OID] = r.Name
		if len(r.Columns) == 0 {
			t.Errorf("%s.%s has no columns", r.Schema, r.Name)
		}
		for _, c := range r.Columns {
			if c.Name == "" || c.Type == nil {
				t.Errorf("column %q of %s.%s has no type", c.Name, r.Schema, r.Name)
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d relations", len(seen))
	}
}
