// Package query plans and runs queries over the few tables that a server shows
// of itself. Nothing that it does reaches a database: a query reads what its
// [Catalogue] hands out, within the memory, the time and the work that its
// [Run] allows.
//
// Names, types, operators and functions are resolved once, as PostgreSQL does
// it (chapters 4, 7, 9 and 10 of its manual). What it has and this package has
// not is refused with 0A000 or 42883, and never guessed.
package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
)

// Error is a query that cannot be planned or run.
type Error struct {
	Code    string // SQLSTATE of PostgreSQL's appendix A
	Message string
	Hint    string
	At      int // byte offset in the query text; -1: none
}

func (e *Error) Error() string { return e.Message }

func errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), At: -1}
}

func (e *Error) at(offset int) *Error {
	if e.At < 0 {
		e.At = offset
	}
	return e
}

func (e *Error) hint(h string) *Error {
	e.Hint = h
	return e
}

// place gives an error its place, if it has none.
func place(err error, at int) error {
	switch e := err.(type) { //nolint:errorlint // neither is wrapped here
	case nil:
		return nil
	case *Error:
		return e.at(at)
	case *value.Error:
		return &Error{Code: e.Code, Message: e.Message, At: at}
	}
	return err
}

// Column is a column of a relation, or of a result.
type Column struct {
	Name    string
	Type    *value.Type
	NotNull bool
}

// Relation is a table that can be read. Rows returns its rows as they are now,
// which must not be changed; it accounts for the memory that they take by
// [Run.Took], unless they are there anyway.
type Relation struct {
	Schema, Name string
	OID          uint32
	Columns      []Column
	Rows         func(r *Run) ([][]value.Value, error)
}

// Catalogue is what queries read, and knows what its objects are called.
type Catalogue interface {
	// Relation finds a relation; an empty schema is that of the search path.
	Relation(schema, name string) (*Relation, bool)
	// Functions are those of a name, beside this package's own.
	Functions(name string) []*Function
	// Object finds what a text names, for a type of which [value.Type.Reg] is true.
	Object(r *Run, t *value.Type, text string) (value.Value, error)
	// ObjectName is what PostgreSQL prints for such a value.
	ObjectName(r *Run, v value.Value) string
}

// Types that stand for any type in a function's arguments and result.
var (
	// Any is of any type, each argument of its own.
	Any = &value.Type{Name: "any"}
	// AnyElement is of any type, the same wherever it stands.
	AnyElement = &value.Type{Name: "anyelement"}
	// AnyArray is an array of AnyElement.
	AnyArray = &value.Type{Name: "anyarray"}
)

// Function is a function that can be called. Arguments are converted to Args
// before; a function that is not Lax is null if one of them is.
type Function struct {
	Args     []*value.Type
	Optional int  // how many of the last may be left out
	Variadic bool // the last may stand any number of times, also as an array behind VARIADIC
	Result   *value.Type
	Lax      bool
	Call     func(r *Run, args []value.Value) (value.Value, error)

	// Set is for a function that returns a set: its rows, of the Columns if it
	// has several, else of Result.
	Set     func(r *Run, args []value.Value) ([][]value.Value, error)
	Columns []Column

	// Volatile is set of what a plan is to tell: see [Plan.Uses].
	Volatile bool
}

// maxWork bounds what one run may do: how many rows it looks at, and how many
// operators and functions it evaluates.
const maxWork = 3_000_000

// looking is after how many of those a run looks whether it is to end.
const looking = 1 << 10

// Run is one run of a plan.
type Run struct {
	Ctx       context.Context //nolint:containedctx // of one run, which ends with it
	Params    []value.Value
	Zone      *time.Location // nil for UTC
	Now       time.Time      // of the transaction
	Catalogue Catalogue
	Host      any // what the catalogue's functions work on

	// Took is told how many bytes the run has made; its error ends it.
	Took func(bytes int) error
	// Worked is told now and then how many steps were done; nil for nobody.
	Worked func(steps int)

	work  int
	lists map[any]any // what was made once for the whole run, by who made it
}

// step counts work.
func (r *Run) step(n int) error {
	before := r.work / looking
	r.work += n
	if r.work/looking == before {
		return nil
	}
	if r.Worked != nil {
		r.Worked(max(n, looking))
	}
	if r.Ctx.Err() != nil {
		return context.Cause(r.Ctx)
	}
	if r.work > maxWork {
		return errorf("53400", "the query does more than is allowed here: %d steps", maxWork).
			hint("Queries of the catalogue are meant to be small: join by equality, and filter before joining.")
	}
	return nil
}

// watch counts the work of reading a text, which is bounded by the text's length.
func (r *Run) watch(bytes int) error {
	if r.Worked != nil {
		r.Worked(bytes / stepBytes)
	}
	if r.Ctx.Err() != nil {
		return context.Cause(r.Ctx)
	}
	return nil
}

// stepBytes is how many bytes of a text are read in the time of a step, about.
const stepBytes = 16

// made counts a value that was made.
func (r *Run) made(v value.Value, err error) (value.Value, error) {
	if err == nil {
		err = r.Took(len(v.Text))
	}
	return v, err
}

// once returns what a key's maker made in this run.
func once[T any](r *Run, key any, maker func() (T, error)) (T, error) {
	if v, ok := r.lists[key]; ok {
		t, _ := v.(T) // each key has one maker
		return t, nil
	}
	v, err := maker()
	if err == nil {
		if r.lists == nil {
			r.lists = map[any]any{}
		}
		r.lists[key] = v
	}
	return v, err
}

// Bytes of memory that a row and a value in it take besides texts.
const (
	rowBytes   = 48
	valueBytes = 40
)

// keep counts rows that are made.
func (r *Run) keep(row []value.Value) error {
	n := rowBytes + valueBytes*len(row)
	return r.Took(n)
}

// room asks whether there is memory for what is made for a moment alone.
func (r *Run) room(bytes int) error {
	if err := r.Took(bytes); err != nil {
		return err
	}
	return r.Took(-bytes)
}

// roomFor asks whether there is memory for the elements of an array, of a
// vector, or of a text that may be one.
func (r *Run) roomFor(v value.Value) error {
	by := ","
	if v.Type == value.Int2Vector || v.Type == value.OIDVector {
		by = " "
	}
	return r.room(2 * valueBytes * (1 + strings.Count(v.Text, by)))
}

// elements are those of an array, if there is room for them.
func (r *Run) elements(v value.Value) ([]value.Value, error) {
	if err := r.roomFor(v); err != nil {
		return nil, err
	}
	return v.Elements(), nil
}

// Text is how a value is printed where its type is text.
func (r *Run) Text(v value.Value) (value.Value, error) {
	return r.cast(v, value.Text)
}

// cast converts a value as an explicit cast does, objects of the catalogue by
// their names.
func (r *Run) cast(v value.Value, t *value.Type) (value.Value, error) {
	from := v.Type
	switch {
	case from == t:
		return v, nil
	case v.Null:
		return t.Null(), nil
	case t.Reg():
		if stringy(from) {
			return r.Catalogue.Object(r, t, v.Text)
		}
		n := v
		if from != value.OID && !from.Reg() {
			var err error
			if n, err = v.AsIn(r.Zone, value.OID); err != nil {
				return v, err
			}
		}
		return value.Value{Type: t, Text: n.Text}, nil
	case from.Reg() && stringy(t):
		return t.ParseIn(r.Zone, r.Catalogue.ObjectName(r, v))
	case from.Reg():
		return value.Value{Type: value.OID, Text: v.Text}.AsIn(r.Zone, t)
	case from.Elem != nil && t.Elem != nil && (t.Elem.Reg() || from.Elem.Reg()),
		from.ElementType() != nil && t.Elem != nil && t.Elem.Reg():
		return r.castElements(v, t)
	case from.Elem != nil && from.Elem.Reg() && stringy(t):
		a, err := r.castElements(v, value.Text.Array)
		if err != nil {
			return v, err
		}
		return t.ParseIn(r.Zone, a.Text)
	case from == value.Int4 && t == value.Char:
		n := atoi(v)
		if n < -128 || n > 127 {
			return v, errorf("22003", "\"char\" out of range")
		}
		if n == 0 {
			return value.Value{Type: t}, nil
		}
		return value.Value{Type: t, Text: string([]byte{byte(n)})}, nil //nolint:gosec // checked
	case from == value.Char && t == value.Int4:
		n := 0
		if v.Text != "" {
			n = int(int8(v.Text[0])) //nolint:gosec // as PostgreSQL's
		}
		return value.Value{Type: t, Text: fmt.Sprint(n)}, nil
	case t.Elem != nil:
		if err := r.roomFor(v); err != nil {
			return v, err
		}
	}
	if stringy(from) && from != value.Bpchar {
		return t.ParseWatched(r.Zone, v.Text, r.watch)
	}
	return v.AsIn(r.Zone, t)
}

// castElements converts an array of one dimension element by element.
func (r *Run) castElements(v value.Value, t *value.Type) (value.Value, error) {
	list, err := r.elements(v)
	if err != nil {
		return v, err
	}
	for i := range list {
		if list[i], err = r.cast(list[i], t.Elem); err != nil {
			return v, err
		}
	}
	return t.MakeArray(r.Zone, list)
}

// Printed is a value as its type's text is sent: what stands for an object of
// the catalogue, by its name.
func (r *Run) Printed(v value.Value) (value.Value, error) {
	if v.Null || !v.Type.Reg() && (v.Type.Elem == nil || !v.Type.Elem.Reg()) {
		return v, nil
	}
	t, err := r.Text(v)
	return t, err
}

// stringy tells whether a type is one of the string types, or a plain constant.
func stringy(t *value.Type) bool {
	switch t {
	case value.Text, value.Varchar, value.Bpchar, value.Name, value.Unknown:
		return true
	}
	return false
}
