package procedure

import (
	"context"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// Trier is a branch that can have a statement read without running it.
type Trier interface {
	// Try returns what the resource has against the statement.
	Try(ctx context.Context, sql string) error
}

// Try has a resource read the statements that the procedures have for it, in
// a branch that is then to be rolled back, and returns the first fault, with
// its procedure and step. What stands behind a statement that may define
// something, such as CREATE or SET, is left out: it may make sense only then.
func (s *Set) Try(ctx context.Context, resource string, b txn.Branch) error {
	t, ok := b.(Trier)
	if !ok {
		return nil
	}
	for _, name := range s.Names() {
		p := s.byName[name]
		for i := range p.steps {
			st := &p.steps[i]
			if st.on != resource {
				continue
			}
			if err := t.Try(ctx, st.sql); err != nil {
				return p.explain(ctx, i, err)
			}
			if st.defines() {
				break
			}
		}
	}
	return nil
}

// defines reports whether the step's statement may do more than read and change rows.
func (st *step) defines() bool {
	verb, _, _ := strings.Cut(strings.TrimSpace(st.sql), " ")
	return !slices.Contains([]string{"select", "insert", "update", "delete", "merge", "replace", "with", "values"}, strings.ToLower(verb))
}
