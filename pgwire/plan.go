package pgwire

import (
	"slices"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
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

	call  *procedure.Procedure // of CALL, and of SELECT from a procedure
	args  []argument           // of call
	query *query.Plan          // of another SELECT
	src   string               // the query text, for the places of errors
	text  string               // of the statement, or of all of a simple Query, to be told to who asks what the session does

	again bool // it came from another worker, and is yet to be planned here: text, params and columns are as they were there

	cursor  *plan   // of DECLARE: its query
	formats []int16 // of the columns in a simple Query, nil for text: what FETCH reads of a binary cursor
}

// argument is one argument of a call; its name is empty for a positional one.
type argument struct {
	name  string
	value query.Expr
}

// probe tells whether the statement does nothing but ask whether the server
// lives: what pools send before they lend a connection.
func (p *plan) probe() bool {
	switch p.stmt.(type) {
	case nil:
		return true
	case *statement.Select:
		return p.call == nil && !p.query.Reads && !p.query.Uses
	}
	return false
}

// rows tells whether the command tag counts rows.
func (p *plan) selects() bool {
	_, ok := p.stmt.(*statement.Select)
	return ok
}

// planner resolves one statement.
type planner struct {
	procedures *procedure.Set
	src        string // the query text, for the places of errors
	query      *query.Planner
}

// planner makes one for a text.
func (se *session) planner(src string, meter statement.Meter) planner {
	return planner{se.server.Procedures, src, &query.Planner{Catalogue: se.server.catalogue, Meter: meter, Hint: whatFdtIs}}
}

// unspecified are the OIDs by which a client leaves a parameter's type open.
func unspecified(oid uint32) bool { return oid == 0 || oid == value.Unknown.OID }

// simple plans a statement of a simple Query, which has no parameters.
func simple(pl planner, stmt statement.Statement) (*plan, error) {
	p := &plan{stmt: stmt, text: pl.src}
	q := *pl.query
	q.NoParams = true
	pl.query = &q
	return p, pl.statement(p)
}

// prepare plans a statement whose parameters have the types that oids name.
func prepare(from planner, stmt statement.Statement, oids []uint32) (*plan, error) {
	pl := &from
	pl.query.Params = make([]*value.Type, len(oids))
	for i, oid := range oids {
		if unspecified(oid) {
			continue
		}
		t, ok := value.ByOID(oid)
		if !ok {
			return nil, errorf("0A000", "parameter $%d has a type with OID %d, which fdt does not know", i+1, oid)
		}
		pl.query.Params[i] = t
	}
	p := &plan{stmt: stmt, text: from.src}
	if err := pl.statement(p); err != nil {
		return nil, err
	}
	for i, t := range pl.query.Params {
		if t == nil {
			return nil, errorf("42P18", "could not determine data type of parameter $%d", i+1)
		}
	}
	p.params = pl.query.Params
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
	case *statement.Select:
		return pl.selection(p, st)
	case statement.Declare:
		switch {
		case st.Scroll && st.NoScroll:
			return errorf("42P11", "cannot specify both SCROLL and NO SCROLL")
		case st.Insensitive && st.Asensitive:
			return errorf("42P11", "cannot specify both ASENSITIVE and INSENSITIVE")
		}
		p.cursor = &plan{stmt: st.Query}
		return pl.statement(p.cursor)
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
	given := slices.DeleteFunc(slices.Clone(f.Args), pl.out)
	args := make([]argument, len(given))
	names := make([]string, len(given))
	types := make([]*value.Type, len(given))
	for i, a := range given {
		n, err := pl.query.Expr(a.Value)
		if err != nil {
			return pl.explain(err)
		}
		args[i], names[i] = argument{a.Name, n}, a.Name
		if t := n.Type(); t != value.Unknown {
			types[i] = t
		}
	}
	proc, ok := pl.procedures.Lookup(f.Name)
	if !ok && slices.Contains(largeObjects, f.Name) {
		return pl.at(errorf("0A000", "fdt does not serve %s", f.Name).hint("%s", largeObject), f.At)
	}
	if !ok {
		e := procedure.Undefined(f.Name, names, types)
		return pl.at(errorf(e.Code, "%s", e.Message).hint("Procedures are defined in fdt's configuration."), f.At)
	}
	index, err := proc.Match(names, types)
	if err != nil {
		return pl.at(explainCall(err), f.At)
	}
	for i, a := range args {
		a.value.Infer(proc.Params()[index[i]].Type)
	}
	p.call, p.args = proc, args
	return nil
}

// out tells whether an argument is a place for a result, as PgJDBC writes them
// in {? = call f(…)}: a parameter of type void, which PostgreSQL passes over.
func (pl *planner) out(a statement.Arg) bool {
	pa, ok := a.Value.(statement.Param)
	return ok && pa.N <= len(pl.query.Params) && pl.query.Params[pa.N-1] == value.Void
}

// explainCall keeps the fields of an error of procedure.Match.
func explainCall(err error) *Failure {
	e, _ := err.(*procedure.Error) //nolint:errorlint // Match returns no other
	return &Failure{Code: e.Code, Message: e.Message, Hint: e.Hint}
}

// explain gives an error of a query its place in the text.
func (pl *planner) explain(err error) error { return placed(err, pl.src) }

func placed(err error, src string) error {
	e, ok := err.(*query.Error) //nolint:errorlint // it is never wrapped
	if !ok {
		return err
	}
	f := failure(e)
	if e.At >= 0 {
		f.Position = statement.Position(src, e.At)
	}
	return f
}

func failure(e *query.Error) *Failure {
	return &Failure{Code: e.Code, Message: e.Message, Hint: e.Hint}
}

// selection plans a SELECT: of a procedure that is called, or of what fdt shows
// of itself.
func (pl *planner) selection(p *plan, st *statement.Select) error {
	if f, ok := pl.fromCall(st); ok {
		if !whole(st) {
			return errorf("0A000", "of a procedure fdt selects all and only: SELECT * FROM %s(…)", f.Name)
		}
		return pl.selectCall(p, *f, st.From[0].Alias)
	}
	if f, ok := pl.soleCall(st); ok {
		return pl.selectCall(p, f, st.Items[0].Alias)
	}
	q, err := pl.query.Query(st)
	if err != nil {
		return pl.explain(err)
	}
	p.query, p.src = q, pl.src
	p.columns = []column{} // there may be none, and yet a row
	for _, c := range q.Columns {
		p.columns = append(p.columns, column{c.Name, c.Type})
	}
	return nil
}

// procedure tells whether a name is that of a procedure, and of no function
// that fdt needs for itself.
func (pl *planner) procedure(name string) bool {
	_, own := builtins[name]
	_, ok := pl.procedures.Lookup(name)
	return (ok || slices.Contains(largeObjects, name)) && !own // of those, called tells what there is instead
}

// fromCall is the procedure that is called in FROM.
func (pl *planner) fromCall(st *statement.Select) (*statement.Func, bool) {
	if len(st.From) != 1 || st.From[0].Func == nil || !pl.procedure(st.From[0].Func.Name) {
		return nil, false
	}
	return st.From[0].Func, true
}

// whole tells whether a query is SELECT * FROM one thing, and nothing more.
func whole(st *statement.Select) bool {
	t := st.From[0]
	return len(st.Items) == 1 && st.Items[0].Expr == nil && st.Items[0].Table == nil && st.Where == nil && st.OrderBy == nil &&
		st.GroupBy == nil && st.Having == nil && st.Limit == nil && st.Offset == nil && !st.Distinct && st.With == nil && t.Columns == nil && !t.Ordinality
}

// soleCall is the procedure that SELECT f(…) calls.
func (pl *planner) soleCall(st *statement.Select) (statement.Func, bool) {
	if len(st.Items) != 1 || st.Items[0].Expr == nil || st.From != nil || st.Where != nil || st.With != nil {
		return statement.Func{}, false
	}
	f, ok := st.Items[0].Expr.(statement.Func)
	return f, ok && pl.procedure(f.Name)
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

// at gives an error the place in the text at which the offset is.
func (pl *planner) at(f *Failure, offset int) *Failure {
	f.Position = statement.Position(pl.src, offset)
	return f
}
