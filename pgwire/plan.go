package pgwire

import (
	"slices"
	"strconv"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
)

// column is a column of a result.
type column struct {
	name string
	typ  *value.Type
}

// plan is a statement ready to run: names are resolved and types known.
type plan struct {
	stmt    statement.Statement // nil for an empty query
	params  []*value.Type       // of $1…
	columns []column            // nil if it returns no rows

	call *procedure.Procedure // of CALL, and of SELECT from a function
	args []statement.Arg      // of call
	view *view                // of SELECT from pg_prepared_xacts
	xact bool                 // asks for a transaction's name or outcome
}

// probe tells whether the statement does nothing but ask whether the server
// lives: what pools send before they lend a connection.
func (p *plan) probe() bool {
	switch p.stmt.(type) {
	case nil:
		return true
	case statement.Select:
		return p.call == nil && p.view == nil && !p.xact
	}
	return false
}

// rows tells whether the command tag counts rows.
func (p *plan) selects() bool {
	_, ok := p.stmt.(statement.Select)
	return ok
}

// planner resolves one statement.
type planner struct {
	procedures *procedure.Set
	params     []*value.Type // nil while not known
	none       bool          // parameters cannot be bound
	xact       bool          // of the plan
}

// unspecified are the OIDs by which a client leaves a parameter's type open.
func unspecified(oid uint32) bool { return oid == 0 || oid == value.Unknown.OID }

// simple plans a statement of a simple Query, which has no parameters.
func simple(set *procedure.Set, stmt statement.Statement) (*plan, error) {
	p := &plan{stmt: stmt}
	return p, (&planner{procedures: set, none: true}).statement(p)
}

// prepare plans a statement whose parameters have the types that oids name.
func prepare(set *procedure.Set, stmt statement.Statement, oids []uint32) (*plan, error) {
	pl := planner{procedures: set, params: make([]*value.Type, len(oids))}
	for i, oid := range oids {
		if unspecified(oid) {
			continue
		}
		t, ok := value.ByOID(oid)
		if !ok {
			return nil, errorf("0A000", "parameter $%d has a type with OID %d, which fdt does not know", i+1, oid)
		}
		pl.params[i] = t
	}
	p := &plan{stmt: stmt}
	if err := pl.statement(p); err != nil {
		return nil, err
	}
	for i, t := range pl.params {
		if t == nil {
			return nil, errorf("42P18", "could not determine data type of parameter $%d", i+1)
		}
	}
	p.params = pl.params
	return p, nil
}

func (pl *planner) statement(p *plan) error {
	switch st := p.stmt.(type) {
	case statement.Call:
		if err := pl.called(p, st.Func); err != nil {
			return err
		}
		for _, c := range p.call.Columns() {
			p.columns = append(p.columns, column{c.Name, c.Type})
		}
	case statement.Select:
		return pl.query(p, st)
	case statement.Show:
		p.columns = []column{{st.Name, value.Text}}
		if s, ok := catalog[st.Name]; ok {
			p.columns[0].name = s.name
		}
		if st.Name == "all" {
			p.columns = []column{{"name", value.Text}, {"setting", value.Text}, {"description", value.Text}}
		}
	}
	return nil
}

// called resolves a call of a procedure and the types of its arguments.
func (pl *planner) called(p *plan, f statement.Func) error {
	f.Args = slices.DeleteFunc(slices.Clone(f.Args), pl.out)
	names := make([]string, len(f.Args))
	types := make([]*value.Type, len(f.Args))
	for i, a := range f.Args {
		names[i] = a.Name
		t, err := pl.typeOf(a.Value)
		if err != nil {
			return err
		}
		if t != value.Unknown {
			types[i] = t
		}
	}
	proc, ok := pl.procedures.Lookup(f.Name)
	if !ok {
		e := procedure.Undefined(f.Name, names, types)
		return &Failure{Code: e.Code, Message: e.Message, Position: f.Position,
			Hint: "Procedures are defined in fdt's configuration."}
	}
	index, err := proc.Match(names, types)
	if err != nil {
		e := explainCall(err)
		e.Position = f.Position
		return e
	}
	for i, a := range f.Args {
		if pa, ok := a.Value.(statement.Param); ok && pl.params[pa.N-1] == nil {
			pl.params[pa.N-1] = proc.Params()[index[i]].Type
		}
	}
	p.call, p.args = proc, f.Args
	return nil
}

// out tells whether an argument is a place for a result, as PgJDBC writes them
// in {? = call f(…)}: a parameter of type void, which PostgreSQL passes over.
func (pl *planner) out(a statement.Arg) bool {
	pa, ok := a.Value.(statement.Param)
	return ok && pa.N <= len(pl.params) && pl.params[pa.N-1] == value.Void
}

// explainCall keeps the fields of an error of procedure.Match.
func explainCall(err error) *Failure {
	e, _ := err.(*procedure.Error) //nolint:errorlint // Match returns no other
	return &Failure{Code: e.Code, Message: e.Message, Hint: e.Hint}
}

// typeOf returns the type of an expression: Unknown for a plain string, nil for
// a parameter whose type is still open.
func (pl *planner) typeOf(e statement.Expr) (*value.Type, error) {
	switch e := e.(type) {
	case statement.Const:
		return constant(e).Type, nil
	case statement.Param:
		if pl.none {
			return nil, errorf("42P02", "there is no parameter $%d", e.N)
		}
		for len(pl.params) < e.N {
			pl.params = append(pl.params, nil)
		}
		return pl.params[e.N-1], nil
	case statement.Cast:
		t, ok := value.Lookup(e.Type)
		if !ok {
			return nil, errorf("42704", "type %q does not exist", e.Type)
		}
		if a, ok := e.Of.(statement.Array); ok && t.Elem != nil {
			return t, pl.elements(a, t.Elem)
		}
		inner, err := pl.typeOf(e.Of)
		if pa, ok := e.Of.(statement.Param); ok && inner == nil {
			pl.params[pa.N-1] = t
		}
		return t, err
	case statement.Array:
		return pl.array(e)
	case statement.Func:
		b, err := pl.builtin(e)
		if err != nil {
			return nil, err
		}
		return b.typ, nil
	}
	return nil, errorf("0A000", "fdt takes constants and parameters here, no columns").hint(whatFdtIs)
}

// array finds the type of an array: what its elements have in common.
func (pl *planner) array(a statement.Array) (*value.Type, error) {
	list := leaves(a)
	if len(list) == 0 {
		return nil, errorf("42P18", "cannot determine type of empty array").
			hint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
	}
	types := make([]*value.Type, len(list))
	for i, e := range list {
		t, err := pl.typeOf(e)
		if err != nil {
			return nil, err
		}
		types[i] = t
	}
	elem, err := common(types)
	if err != nil {
		return nil, err
	}
	if elem.Array == nil {
		return nil, errorf("42704", "could not find array type for data type %s", elem.Name)
	}
	return elem.Array, pl.elements(a, elem)
}

// elements gives an array's elements the type, where they have none.
func (pl *planner) elements(a statement.Array, elem *value.Type) error {
	for _, e := range leaves(a) {
		t, err := pl.typeOf(e)
		if err != nil {
			return err
		}
		if pa, ok := e.(statement.Param); ok && t == nil {
			pl.params[pa.N-1] = elem
		}
	}
	return nil
}

// leaves are the elements of an array and of its rows.
func leaves(a statement.Array) []statement.Expr {
	var list []statement.Expr
	for _, e := range a.Elems {
		if row, ok := e.(statement.Array); ok {
			list = append(list, leaves(row)...)
			continue
		}
		list = append(list, e)
	}
	return list
}

// common is the type that values are brought to so that an array can hold
// them, as PostgreSQL's manual has it under "UNION, CASE, and Related
// Constructs": the first that is known, unless a later one is wider.
func common(types []*value.Type) (*value.Type, error) {
	var found *value.Type
	for _, t := range types {
		if t != nil && t.Elem != nil {
			t = t.Elem // a row
		}
		switch {
		case t == nil || t == value.Unknown || t == found:
		case found == nil || value.Implicit(found, t) && !value.Implicit(t, found):
			found = t
		case !value.Implicit(t, found):
			return nil, errorf("42804", "ARRAY types %s and %s cannot be matched", found.Name, t.Name)
		}
	}
	if found == nil {
		return value.Text, nil
	}
	return found, nil
}

// builtin finds a function that fdt answers itself.
func (pl *planner) builtin(f statement.Func) (*builtin, error) {
	b, ok := builtins[f.Name]
	if !ok || len(f.Args) < b.min || len(f.Args) > len(b.args) {
		return nil, &Failure{Code: "42883", Message: "function " + f.Name + " does not exist with " +
			strconv.Itoa(len(f.Args)) + " arguments", Hint: whatFdtIs, Position: f.Position}
	}
	pl.xact = pl.xact || f.Name == nameXID || f.Name == nameStatus
	for i, a := range f.Args {
		t, err := pl.typeOf(a.Value)
		if err != nil {
			return nil, err
		}
		if pa, ok := a.Value.(statement.Param); ok && t == nil {
			pl.params[pa.N-1] = b.args[i]
		}
	}
	return &b, nil
}

// query plans a SELECT.
func (pl *planner) query(p *plan, st statement.Select) error {
	switch {
	case st.From != nil && st.From.Func != nil:
		return pl.fromCall(p, st)
	case st.From != nil:
		return pl.fromView(p, st)
	}
	if f, ok := soleCall(st); ok {
		if _, known := builtins[f.Name]; !known {
			return pl.selectCall(p, f, st.Items[0].Alias)
		}
	}
	for _, item := range st.Items {
		if item.Expr == nil {
			return errorf("42601", "SELECT * with no tables specified is not valid")
		}
		t, err := pl.typeOf(item.Expr)
		if err != nil {
			return err
		}
		if pa, ok := item.Expr.(statement.Param); ok && t == nil {
			pl.params[pa.N-1], t = value.Text, value.Text
		}
		if t == value.Unknown {
			t = value.Text
		}
		p.columns = append(p.columns, column{label(item), t})
	}
	p.xact = pl.xact
	return nil
}

func soleCall(st statement.Select) (statement.Func, bool) {
	if len(st.Items) != 1 || st.Items[0].Expr == nil {
		return statement.Func{}, false
	}
	f, ok := st.Items[0].Expr.(statement.Func)
	return f, ok
}

// fromCall plans SELECT * FROM f(…), as PgJDBC sends {call f(…)}.
func (pl *planner) fromCall(p *plan, st statement.Select) error {
	if len(st.Items) != 1 || st.Items[0].Expr != nil || st.Where != nil || st.OrderBy != nil {
		return errorf("0A000", "of a procedure fdt selects all and only: SELECT * FROM %s(…)", st.From.Func.Name)
	}
	return pl.selectCall(p, *st.From.Func, st.From.Alias)
}

func (pl *planner) selectCall(p *plan, f statement.Func, alias string) error {
	if err := pl.called(p, f); err != nil {
		return err
	}
	for _, c := range p.call.Columns() {
		p.columns = append(p.columns, column{c.Name, c.Type})
	}
	if len(p.columns) == 0 {
		p.columns = []column{{f.Name, value.Void}}
	}
	if len(p.columns) == 1 && alias != "" {
		p.columns[0].name = alias
	}
	return nil
}

// label is the name that PostgreSQL gives to a column.
func label(item statement.Item) string {
	if item.Alias != "" {
		return item.Alias
	}
	inner := item.Expr
	for c, ok := inner.(statement.Cast); ok; c, ok = inner.(statement.Cast) {
		inner = c.Of
	}
	switch e := inner.(type) {
	case statement.Func:
		return e.Name
	case statement.Array:
		return "array"
	}
	if c, ok := item.Expr.(statement.Cast); ok {
		return internalName(c.Type)
	}
	return "?column?"
}

// internalName is pg_type.typname of a type that SQL spells differently.
func internalName(name string) string {
	t, _ := value.Lookup(name) // planned
	if t.Elem != nil {
		t = t.Elem
	}
	if n, ok := typnames[t]; ok {
		return n
	}
	return t.Name
}

var typnames = map[*value.Type]string{
	value.Bool: "bool", value.Int2: "int2", value.Int4: "int4", value.Int8: "int8", value.Float4: "float4",
	value.Float8: "float8", value.Bpchar: "bpchar", value.Varchar: "varchar", value.Time: "time",
	value.Timestamp: "timestamp", value.Timestamptz: "timestamptz",
}

// constant turns a constant into a value, with the type that PostgreSQL's
// parser gives it.
func constant(c statement.Const) value.Value {
	switch c.Kind {
	case statement.String:
	case statement.Null:
		return value.Unknown.Null()
	case statement.Bool:
		return value.Value{Type: value.Bool, Text: c.Text[:1]}
	case statement.Integer, statement.Decimal:
		for _, t := range []*value.Type{value.Int4, value.Int8, value.Numeric} {
			if t != value.Numeric && c.Kind == statement.Decimal {
				continue
			}
			if v, err := t.Parse(c.Text); err == nil {
				return v
			}
		}
	}
	return value.Value{Type: value.Unknown, Text: c.Text}
}

// names lists what a view's columns are called.
func names(cols []column) []string {
	list := make([]string, len(cols))
	for i, c := range cols {
		list[i] = c.name
	}
	return list
}

func find(cols []column, name string) int {
	return slices.IndexFunc(cols, func(c column) bool { return c.name == name })
}
