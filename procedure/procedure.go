// Package procedure compiles the configuration's procedures and runs them in a
// session's transaction. Arguments are always bound or, in a message, copied
// as data: no text that a client sent is ever read as SQL.
//
// It knows resources only by the small interfaces below, which the branches of
// their transactions implement.
package procedure

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/txn"
)

// Putter is a branch that takes messages, as a spool's does.
type Putter interface {
	// Put adds one message to the transaction. It must not keep body.
	Put(ctx context.Context, body []byte) error
}

// Execer is a branch that runs SQL.
type Execer interface {
	// Exec runs one statement with its arguments bound to its placeholders,
	// which are $1… for PostgreSQL and ? for MariaDB. An argument is nil, a
	// bool, an int64, a float64, a []byte, or a string: for PostgreSQL what
	// [value.Value] holds as text, for MariaDB what MariaDB reads.
	Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error)
}

// Batcher is an Execer that runs several statements in fewer round trips than
// one each.
type Batcher interface {
	Execer
	// ExecAll runs the statements in order and returns the outcomes of those
	// that succeeded. The error is that of the next one; those behind it have
	// had no effect.
	ExecAll(ctx context.Context, list []txn.Statement) ([]txn.Outcome, error)
}

// Streamer is an Execer that gives the rows of a statement one by one.
type Streamer interface {
	Execer
	// Rows runs a statement as Exec does, and calls each with every row as it
	// comes, with an outcome for each column, of which Rows is not set. They are
	// the caller's until each returns; its error ends the statement, and is
	// wrapped.
	Rows(ctx context.Context, sql string, args []any, each func(row []txn.Outcome) error) error
}

// Error is a call that cannot be made or that failed by the procedure's own
// rules, with what a client is told.
type Error struct {
	Code    string // SQLSTATE
	Message string
	Detail  string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// SQLState returns Code.
func (e *Error) SQLState() string { return e.Code }

// Param is a parameter of a procedure.
type Param struct {
	Name    string
	Type    *value.Type
	Default *value.Value // nil: the caller must give it
}

// Column is a column of the row that a procedure returns.
type Column struct {
	Name string
	Type *value.Type
}

// Procedure is one compiled procedure; it is immutable.
type Procedure struct {
	name    string
	params  []Param
	columns []Column
	many    bool
	steps   []step
	allow   []string
	timeout time.Duration
	code    Code   // instead of steps
	where   string // the code is made a procedure
}

// Name returns the name by which it is called.
func (p *Procedure) Name() string { return p.name }

// Params returns the parameters in order; the caller must not change them.
func (p *Procedure) Params() []Param { return p.params }

// Columns returns the columns of the rows that a call returns; none if it
// returns no row.
func (p *Procedure) Columns() []Column { return p.columns }

// Allowed tells whether the user may call it.
func (p *Procedure) Allowed(user string) bool {
	return len(p.allow) == 0 || slices.Contains(p.allow, user)
}

// Set is all procedures of a configuration; it is immutable.
type Set struct{ byName map[string]*Procedure }

// Lookup finds a procedure.
func (s *Set) Lookup(name string) (*Procedure, bool) {
	p, ok := s.byName[name]
	return p, ok
}

// Names returns the names in order.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.byName)) }

// Compile compiles every procedure of a configuration that Load has checked,
// and adds those that are code. An error names the procedure; it means that
// two have one name, or that this package and config disagree.
func Compile(cfg *config.Config, code ...*Procedure) (*Set, error) {
	s := &Set{byName: make(map[string]*Procedure, len(cfg.Procedures)+len(code))}
	for _, p := range code {
		if s.byName[p.name] != nil {
			return nil, fmt.Errorf("%s: there is another procedure %s", p.where, p.name)
		}
		if _, configured := cfg.Procedures[p.name]; configured {
			return nil, fmt.Errorf("%s: the configuration has a procedure %s, too: rename or remove one of them", p.where, p.name)
		}
		s.byName[p.name] = p
	}
	for name, c := range cfg.Procedures {
		p, err := compile(&c, cfg.Resources)
		if err != nil {
			return nil, fmt.Errorf("procedure %s: %w", name, err)
		}
		p.name = name
		s.byName[name] = p
	}
	return s, nil
}

func compile(c *config.Procedure, resources map[string]config.Resource) (*Procedure, error) {
	p := &Procedure{allow: c.Allow, timeout: c.Timeout, many: c.Many()}
	names := map[string]*value.Type{} // nil: not known before the call
	for _, cp := range c.Parameters {
		t, ok := value.Lookup(cp.Type)
		if !ok || t.System {
			return nil, fmt.Errorf("parameter %s: unknown type %q", cp.Name, cp.Type)
		}
		param := Param{Name: cp.Name, Type: t}
		if cp.Default != nil {
			v, err := t.Parse(*cp.Default)
			if err != nil {
				return nil, fmt.Errorf("parameter %s: default: %w", cp.Name, err)
			}
			param.Default = &v
		}
		p.params = append(p.params, param)
		names[cp.Name] = t
	}
	for _, col := range c.Returns {
		t, ok := value.Lookup(col.Type)
		if !ok || t.System {
			return nil, fmt.Errorf("result %s: unknown type %q", col.Name, col.Type)
		}
		p.columns = append(p.columns, Column{Name: col.Name, Type: t})
	}
	for i := range c.Steps {
		st, err := compileStep(&c.Steps[i], resources, names)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		p.steps = append(p.steps, st)
	}
	together(p.steps)
	lasts(p.steps)
	for _, col := range p.columns {
		if _, ok := names[col.Name]; !ok && !p.many {
			return nil, fmt.Errorf("result %s: no such parameter or step", col.Name)
		}
	}
	return p, nil
}

// Arg is one argument of a call. A constant without a type has type
// [value.Unknown].
type Arg struct {
	Name  string // empty: by position
	Value value.Value
}

// Match finds the parameter of each argument, by position and then by name,
// and checks that every other parameter has a default. types may hold nil for
// a type that is yet to be inferred. The error is 42883, as PostgreSQL's.
func (p *Procedure) Match(names []string, types []*value.Type) ([]int, error) {
	index := make([]int, len(names))
	given := make([]bool, len(p.params))
	for i, name := range names {
		at := i
		if name != "" {
			at = slices.IndexFunc(p.params, func(pa Param) bool { return pa.Name == name })
		}
		if at < 0 || at >= len(p.params) || given[at] || types[i] != nil && !value.Implicit(types[i], p.params[at].Type) {
			return nil, p.mismatch(names, types)
		}
		given[at], index[i] = true, at
	}
	for i := range p.params {
		if !given[i] && p.params[i].Default == nil {
			return nil, p.mismatch(names, types)
		}
	}
	return index, nil
}

// Undefined is PostgreSQL's answer to a call that fits no procedure.
func Undefined(name string, names []string, types []*value.Type) *Error {
	list := make([]string, len(names))
	for i := range names {
		if names[i] != "" {
			list[i] = names[i] + " => "
		}
		if types[i] == nil {
			list[i] += value.Unknown.Name
		} else {
			list[i] += types[i].Name
		}
	}
	return &Error{Code: "42883", Message: fmt.Sprintf("procedure %s(%s) does not exist", name, strings.Join(list, ", "))}
}

func (p *Procedure) mismatch(names []string, types []*value.Type) error {
	e := Undefined(p.name, names, types)
	e.Hint = "It is called as " + p.Signature() + ". You might need to add explicit type casts."
	return e
}

// Signature returns how the procedure is called: name(parameter type, …).
func (p *Procedure) Signature() string {
	list := make([]string, len(p.params))
	for i, pa := range p.params {
		list[i] = pa.Name + " " + pa.Type.Name
		if pa.Default != nil {
			list[i] += " DEFAULT " + pa.Default.Text
		}
	}
	return p.name + "(" + strings.Join(list, ", ") + ")"
}

// Bind matches the arguments to the parameters and converts them, in a session
// whose time zone is loc, nil for UTC: the result has one value for each
// parameter.
func (p *Procedure) Bind(loc *time.Location, args []Arg) ([]value.Value, error) {
	names := make([]string, len(args))
	types := make([]*value.Type, len(args))
	for i, a := range args {
		names[i], types[i] = a.Name, a.Value.Type
	}
	index, err := p.Match(names, types)
	if err != nil {
		return nil, err
	}
	bound := make([]value.Value, len(p.params))
	for i, pa := range p.params {
		if pa.Default != nil {
			bound[i] = *pa.Default
		}
	}
	for i, a := range args {
		v, err := a.Value.AsIn(loc, p.params[index[i]].Type)
		if err != nil {
			return nil, asError(err)
		}
		bound[index[i]] = v
	}
	return bound, nil
}
