package procedure

import (
	"context"
	"errors"
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
// An error with the method OnePhase is of a statement with which a transaction
// cannot be prepared: it is one of a procedure that uses several resources.
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
			if err := t.Try(ctx, st.sql); err != nil && !p.bears(err) {
				return &placed{p.explain(ctx, i, err), p.name, i}
			}
			if st.defines() {
				break
			}
		}
	}
	return nil
}

// placed is an error of Try that knows where in the configuration its statement stands.
type placed struct {
	error

	procedure string
	step      int
}

// Unwrap returns the error itself.
func (e *placed) Unwrap() error { return e.error }

// Place returns the procedure and which of its steps, from 0.
func (e *placed) Place() (procedure string, step int) { return e.procedure, e.step }

// bears reports whether the procedure can do with a statement that Try has an
// error for, since its transaction may be committed in one phase.
func (p *Procedure) bears(err error) bool {
	_, one := errors.AsType[interface {
		error
		OnePhase()
	}](err)
	return one && !slices.ContainsFunc(p.steps, func(st step) bool { return st.on != p.steps[0].on })
}

// defines reports whether the step's statement may do more than read and change rows.
func (st *step) defines() bool {
	verb, _, _ := strings.Cut(strings.TrimSpace(st.sql), " ")
	return !slices.Contains([]string{"select", "insert", "update", "delete", "merge", "replace", "with", "values"}, strings.ToLower(verb))
}
