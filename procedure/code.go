package procedure

import (
	"context"
	"fmt"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/txn"
)

// Code is a procedure that a program brings along: it is given the session
// with its open transaction, which it must not end, and a value for each
// parameter, and emits rows of one for each column. The error of emit is to be
// returned.
type Code func(ctx context.Context, s *txn.Session, bound []value.Value, emit Emit) error

// Emit takes a row of a result, and keeps it.
type Emit = func(row []value.Value) error

// Spec is what a procedure that is code is called by.
type Spec struct {
	Name    string
	Params  []Param
	Columns []Column
	Many    bool          // any number of rows, not one
	Allow   []string      // as in the configuration
	Timeout time.Duration // likewise
	Where   string        // the place in the program, for errors
}

// New makes code a procedure.
func New(spec Spec, code Code) *Procedure {
	return &Procedure{
		name: spec.Name, params: spec.Params, columns: spec.Columns, many: spec.Many, allow: spec.Allow, timeout: spec.Timeout, code: code, where: spec.Where,
	}
}

// Many tells whether a call returns any number of rows; one, or if there are no
// columns none, otherwise.
func (p *Procedure) Many() bool { return p.many }

// runCode runs the code.
func (p *Procedure) runCode(ctx context.Context, s *txn.Session, bound []value.Value, emit Emit) error {
	defer s.Guard(ctx, "procedure "+p.name)()
	err := p.code(ctx, s, bound, emit)
	if err == nil {
		return nil
	}
	if e := late(ctx); e != nil {
		return e
	}
	return fmt.Errorf("procedure %s: %w", p.name, err)
}

// Panic is the error of code that has panicked. A client is told no more than
// that.
type Panic struct {
	Procedure string
	Value     any
	Stack     []byte
}

// Error tells the value.
func (e *Panic) Error() string {
	return fmt.Sprintf("procedure %s has panicked: %v", e.Procedure, e.Value)
}
