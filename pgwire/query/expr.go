package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// expr plans an expression.
func (pl *Planner) expr(s *scope, e statement.Expr) (node, error) {
	switch e := e.(type) {
	case statement.Const:
		v := constant(e)
		return literal{v, e.At}, pl.Meter(max(0, len(v.Text)-len(e.Text))) // an exponent may stand for many digits
	case statement.Param:
		if pl.NoParams {
			return nil, errorf("42P02", "there is no parameter $%d", e.N).at(e.At)
		}
		for len(pl.Params) < e.N {
			pl.Params = append(pl.Params, nil)
		}
		return param{&pl.Params, e.N - 1}, nil
	case statement.Cast:
		return pl.cast(s, e)
	case statement.Collate:
		n, err := pl.expr(s, e.Of)
		if err != nil {
			return nil, err
		}
		return pl.settled(n)
	case statement.Array:
		return pl.array(s, e, nil)
	case statement.Func:
		return pl.function(s, e)
	case statement.Column:
		return pl.lookup(s, e)
	case statement.Op:
		return pl.operator(s, e)
	case statement.Logic, statement.Not, statement.Is, statement.DistinctFrom, statement.Between:
		return pl.test(s, e)
	case statement.In:
		return pl.in(s, e)
	case statement.Any:
		return pl.any(s, e)
	case statement.Sub:
		return pl.sub(s, e)
	case statement.Case:
		return pl.choice(s, e)
	case statement.Index:
		return pl.index(s, e)
	case statement.Field:
		return pl.field(s, e)
	case statement.Row:
		return nil, errorf("0A000", "fdt serves a row only where it is compared").at(e.At)
	}
	return nil, errorf("0A000", "fdt does not serve this expression")
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

// domains are the types of information_schema, and what they are made of.
var domains = map[string]*value.Type{
	"information_schema.sql_identifier": value.Name, "information_schema.character_data": value.Varchar,
	"information_schema.yes_or_no": value.Varchar, "information_schema.cardinal_number": value.Int4,
	"information_schema.time_stamp": value.Timestamptz,
}

// typeOf finds the type of a cast, and what its modifiers do.
func typeOf(e statement.Cast) (t *value.Type, fit func(value.Value) (value.Value, error), err error) {
	t, ok := value.Lookup(e.Type)
	if !ok {
		if t, ok = domains[e.Type]; !ok {
			return nil, nil, errorf("42704", "type %q does not exist", e.Type).at(e.At)
		}
	}
	if e.Mods == nil || t == value.Interval {
		return t, nil, nil
	}
	if e.Type == "float" {
		return nil, nil, errorf("22023", "precision for type float must be between 1 and 53 bits")
	}
	fit, err = t.Modify(e.Mods)
	return t, fit, err
}

func (pl *Planner) cast(s *scope, e statement.Cast) (node, error) {
	t, fit, err := typeOf(e)
	if err != nil {
		return nil, err
	}
	var n node
	if a, ok := e.Of.(statement.Array); ok && t.Elem != nil {
		n, err = pl.array(s, a, t.Elem)
	} else {
		n, err = pl.expr(s, e.Of)
	}
	if err != nil {
		return nil, err
	}
	infer(n, t)
	if from := known(n); !castable(from, t) {
		return nil, errorf("42846", "cannot cast type %s to %s", from.Name, t.Name).at(e.At)
	}
	if n, err = pl.coerce(n, t); err != nil || fit == nil {
		return n, err
	}
	return &cast{of: n, to: t, fit: fit, at: -1}, nil
}

// castable tells whether a type can be cast to another.
func castable(from, to *value.Type) bool {
	switch {
	case from.Reg() && to.Reg(), from == value.OID && to.Reg(), from.Reg() && to == value.OID:
		return true
	case from.ElementType() != nil && to.Elem != nil:
		return castable(from.ElementType(), to.Elem)
	}
	return value.Explicit(from, to)
}

// array plans an array of elements of the type; nil stands for what they have
// in common.
func (pl *Planner) array(s *scope, a statement.Array, elem *value.Type) (node, error) {
	var leaves []*node
	var rows []*array
	root, err := pl.arrayRow(s, a, &rows, &leaves)
	if err != nil {
		return nil, err
	}
	list := make([]node, len(leaves))
	for i, n := range leaves {
		list[i] = *n
	}
	if elem == nil {
		if elem, err = elementOf(list); err != nil {
			return nil, place(err, a.At)
		}
	}
	for _, n := range leaves {
		if known(*n).Elem != nil && elem.Elem == nil { // a row
			continue
		}
		if *n, err = pl.coerce(*n, elem); err != nil {
			return nil, err
		}
	}
	for _, r := range rows {
		r.t = elem.Array
	}
	return root, nil
}

// elementOf is the type of elements that have it in common, of arrays that of
// their own elements.
func elementOf(list []node) (*value.Type, error) {
	if len(list) == 0 {
		return nil, errorf("42P18", "cannot determine type of empty array").
			hint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
	}
	flat := make([]node, len(list))
	for i, n := range list {
		flat[i] = n
		if t := known(n); t.Elem != nil {
			flat[i] = literal{t.Elem.Null(), -1}
		}
	}
	elem, err := common("ARRAY", flat)
	if err == nil && elem.Array == nil {
		err = errorf("42704", "could not find array type for data type %s", elem.Name)
	}
	return elem, err
}

// arrayRow plans an array and its rows, which have their type in common, and
// adds them to rows, and what they are made of to leaves.
func (pl *Planner) arrayRow(s *scope, a statement.Array, rows *[]*array, leaves *[]*node) (*array, error) {
	n := &array{elems: make([]node, len(a.Elems))}
	*rows = append(*rows, n)
	for i, e := range a.Elems {
		var err error
		if inner, ok := e.(statement.Array); ok {
			n.elems[i], err = pl.arrayRow(s, inner, rows, leaves)
		} else if n.elems[i], err = pl.expr(s, e); err == nil {
			*leaves = append(*leaves, &n.elems[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// test plans what is true or false of one or two values.
func (pl *Planner) test(s *scope, e statement.Expr) (node, error) {
	switch e := e.(type) {
	case statement.Logic:
		n := &logic{or: e.Or}
		what := "AND"
		if e.Or {
			what = "OR"
		}
		for _, a := range e.Args {
			c, err := pl.condition(s, a, what)
			if err != nil {
				return nil, err
			}
			n.args = append(n.args, c)
		}
		return n, nil
	case statement.Not:
		n, err := pl.condition(s, e.Of, "NOT")
		return &not{n}, err
	case statement.Is:
		if e.What == "null" {
			n, err := pl.expr(s, e.Of)
			if err == nil {
				n, err = pl.settled(n)
			}
			return &is{of: n, null: true, not: e.Not}, err
		}
		n, err := pl.condition(s, e.Of, "IS "+upper(e.What))
		return &is{of: n, null: e.What == "unknown", text: e.What[:1], not: e.Not}, err
	case statement.DistinctFrom:
		l, r, err := pl.pair(s, e.Left, e.Right)
		if err != nil {
			return nil, err
		}
		n, err := pl.comparison("=", l, r, e.At)
		if err != nil {
			return nil, err
		}
		if c, ok := n.(*compare); ok {
			c.distinct = true
			if !e.Not {
				c.op = "<>"
			}
		}
		return n, nil
	}
	b, _ := e.(statement.Between) // the last of them
	return pl.between(s, b)
}

func (pl *Planner) pair(s *scope, left, right statement.Expr) (l, r node, err error) {
	if l, err = pl.expr(s, left); err == nil {
		r, err = pl.expr(s, right)
	}
	return l, r, err
}

func (pl *Planner) between(s *scope, e statement.Between) (node, error) {
	var list [3]node
	for i, x := range []statement.Expr{e.Of, e.Low, e.High} {
		var err error
		if list[i], err = pl.expr(s, x); err != nil {
			return nil, err
		}
	}
	var t *value.Type
	for i := range list[1:] {
		c := comparable(known(list[0]), known(list[1+i]))
		if c == nil {
			return nil, noOperator([]string{">=", "<="}[i], list[0], list[1+i]).at(e.At)
		}
		if t = orWider(t, c); t == nil {
			return nil, noOperator("<=", list[0], list[2]).at(e.At)
		}
	}
	for i := range list {
		var err error
		if list[i], err = pl.coerce(list[i], t); err != nil {
			return nil, err
		}
	}
	return &between{list[0], list[1], list[2], e.Not, e.Symmetric}, nil
}

func orWider(t, c *value.Type) *value.Type {
	if t == nil || t == c {
		return c
	}
	return comparable(t, c)
}

func (pl *Planner) choice(s *scope, e statement.Case) (node, error) {
	n := &choice{}
	var of node
	var h *held
	var err error
	if e.Of != nil {
		if of, err = pl.expr(s, e.Of); err == nil {
			of, err = pl.settled(of)
		}
		if err != nil {
			return nil, err
		}
		h = &held{known(of)}
	}
	results := []node{}
	for _, w := range e.Whens {
		var c, then node
		if c, err = pl.expr(s, w.If); err != nil {
			return nil, err
		}
		if of == nil {
			c, err = pl.truthOf(c, "CASE/WHEN")
			err = place(err, statement.Offset(w.If))
		} else {
			c, err = pl.comparison("=", h, c, e.At)
		}
		if err == nil {
			then, err = pl.expr(s, w.Then)
		}
		if err != nil {
			return nil, err
		}
		n.whens = append(n.whens, [2]node{c, then})
		results = append(results, then)
	}
	if e.Else != nil {
		if n.other, err = pl.expr(s, e.Else); err != nil {
			return nil, err
		}
		results = append([]node{n.other}, results...) // its type comes first
	}
	if n.t, err = pl.together("CASE", results); err != nil {
		return nil, place(err, e.At)
	}
	if n.other != nil {
		n.other, results = results[0], results[1:]
	}
	for i := range n.whens {
		n.whens[i][1] = results[i]
	}
	if of == nil {
		return n, nil
	}
	return &subject{choice: n, of: of, held: h}, nil
}

func (pl *Planner) index(s *scope, e statement.Index) (node, error) {
	of, err := pl.expr(s, e.Of)
	if err != nil {
		return nil, err
	}
	elem := known(of).ElementType()
	if elem == nil {
		return nil, errorf("42804", "cannot subscript type %s because it does not support subscripting", known(of).Name).at(e.At)
	}
	n := &element{of: of, t: elem, slice: e.Slice}
	if e.Slice {
		n.t = elem.Array
	}
	for _, b := range []struct {
		e  statement.Expr
		to *node
	}{{e.Low, &n.low}, {e.Top, &n.top}} {
		if b.e == nil {
			continue
		}
		if *b.to, err = pl.expr(s, b.e); err == nil {
			*b.to, err = pl.coerce(*b.to, value.Int4)
		}
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// field plans (f(…)).column of a set-returning function, and (t.c).column of
// what one has returned.
func (pl *Planner) field(s *scope, e statement.Field) (node, error) {
	if c, ok := e.Of.(statement.Column); ok && e.Name != "" { // (table).column is a column's name too
		n, err := pl.lookup(s, statement.Column{Names: append(slices.Clone(c.Names), e.Name), At: c.At})
		if err == nil {
			return n, nil
		}
	}
	n, err := pl.expr(s, e.Of)
	if err != nil {
		return nil, err
	}
	columns := composites[known(n)]
	i := slices.IndexFunc(columns, func(col Column) bool { return col.Name == e.Name })
	switch {
	case len(columns) == 0 || e.Name == "":
		return nil, errorf("0A000", "fdt does not serve fields of a composite value").at(e.At)
	case i < 0:
		return nil, errorf("42703", "column %q not found in data type record", e.Name).at(e.At)
	}
	if sl, ok := n.(*slot); ok && sl.set {
		return &slot{t: columns[i].Type, index: sl.index - len(columns) + i, set: true}, nil
	}
	return &field{of: n, t: columns[i].Type, index: i}, nil
}

// composites are the types of rows that functions return, by what they are made of.
var composites = map[*value.Type][]Column{expanded: expandedColumns}

// composite is a row as a value. Its columns are numbers.
func composite(t *value.Type, row []value.Value) value.Value {
	parts := make([]string, len(row))
	for i, v := range row {
		parts[i] = v.Text
	}
	return value.Value{Type: t, Text: "(" + strings.Join(parts, ",") + ")"}
}

// field is a column of such a value.
type field struct {
	of    node
	t     *value.Type
	index int
}

func (n *field) typ() *value.Type { return n.t }

func (n *field) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil || v.Null {
		return n.t.Null(), err
	}
	part := strings.Split(strings.Trim(v.Text, "()"), ",")[n.index]
	return value.Value{Type: n.t, Null: part == "", Text: part}, f.run.step(1)
}
