package query

import (
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

func upper(s string) string { return strings.ToUpper(s) }

var comparisons = map[string]bool{"=": true, "<>": true, "<": true, "<=": true, ">": true, ">=": true}

// operator plans an operator.
func (pl *Planner) operator(s *scope, e statement.Op) (node, error) {
	if e.Left == nil {
		r, err := pl.expr(s, e.Right)
		if err != nil {
			return nil, err
		}
		return pl.prefix(e.Name, r, e.At)
	}
	if l, ok := e.Left.(statement.Row); ok {
		if r, ok := e.Right.(statement.Row); ok {
			return pl.rows(s, e.Name, l, r, e.At)
		}
	}
	before := s.reads
	s.reads = span{}
	l, err := pl.expr(s, e.Left)
	if err != nil {
		return nil, err
	}
	left := s.reads
	s.reads = span{}
	r, err := pl.expr(s, e.Right)
	if err != nil {
		return nil, err
	}
	right := s.reads
	s.reads = before.with(left).with(right)
	n, err := pl.binary(e.Name, l, r, e.At)
	if c, ok := n.(*compare); ok && err == nil {
		c.l, c.r = left, right
	}
	return n, err
}

// rows plans a comparison of two rows.
func (pl *Planner) rows(s *scope, op string, l, r statement.Row, at int) (node, error) {
	if len(l.Elems) != len(r.Elems) {
		return nil, errorf("42601", "unequal number of entries in row expressions").at(at)
	}
	if op != "=" && op != "<>" || len(l.Elems) == 0 {
		return nil, errorf("0A000", "fdt compares rows by = and <> alone").at(at)
	}
	n := &logic{or: op == "<>"}
	for i := range l.Elems {
		c, err := pl.operator(s, statement.Op{Name: op, Left: l.Elems[i], Right: r.Elems[i], At: at})
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, c)
	}
	return n, nil
}

// prefix plans an operator that stands in front.
func (pl *Planner) prefix(op string, r node, at int) (node, error) {
	t := known(r)
	switch {
	case t == value.Unknown && len(op) == 1 && strings.Contains("+-@~", op):
		return nil, errorf("42725", "operator is not unique: %s unknown", op).at(at).
			hint("Could not choose a best candidate operator. You might need to add explicit type casts.")
	case (op == "-" || op == "+" || op == "@") && (rank[t] > 0 || t == value.Interval && op != "@"):
		r, err := pl.coerce(r, t)
		return &unary{op, r, at}, err
	case op == "~" && (t == value.Int2 || t == value.Int4 || t == value.Int8):
		return &unary{op, r, at}, nil
	}
	return nil, noOperator(op, nil, r).at(at)
}

// binary plans an operator between two values.
func (pl *Planner) binary(op string, l, r node, at int) (node, error) {
	if comparisons[op] {
		return pl.comparison(op, l, r, at)
	}
	lt, rt := known(l), known(r)
	switch op {
	case "||":
		return pl.concat(l, r, at)
	case "~", "!~", "~*", "!~*", "~~", "!~~", "~~*", "!~~*":
		if !textlike(lt) || !textlike(rt) {
			break
		}
		var err error
		for _, n := range []*node{&l, &r} {
			if *n, err = pl.coerce(*n, value.Text); err != nil {
				return nil, err
			}
		}
		return newMatch(op, l, r, at), nil
	case "@>", "<@", "&&":
		t := comparable(lt, rt)
		if t == nil || t.Elem == nil {
			break
		}
		var err error
		for _, n := range []*node{&l, &r} {
			if *n, err = pl.coerce(*n, t); err != nil {
				return nil, err
			}
		}
		return &overlap{op, l, r}, nil
	case "+", "-", "*", "/", "%", "^", "&", "|", "#", "<<", ">>":
		return pl.arithmetic(op, l, r, at)
	}
	return nil, noOperator(op, l, r).at(at)
}

func textlike(t *value.Type) bool { return stringy(t) || t == value.Char || t == value.NodeTree }

// concat plans || of texts, and of arrays.
func (pl *Planner) concat(l, r node, at int) (node, error) {
	lt, rt := known(l), known(r)
	la, ra := category(lt) == categoryArray, category(rt) == categoryArray
	fn := "textcat"
	var args []node
	var err error
	switch {
	case la && (ra || rt == value.Unknown), ra && lt == value.Unknown:
		t := lt
		if !la {
			t = rt
		}
		if la && ra {
			if t = comparable(lt, rt); t == nil {
				return nil, noOperator("||", l, r).at(at)
			}
		}
		if l, err = pl.coerce(l, t); err == nil {
			r, err = pl.coerce(r, t)
		}
		fn, args = "array_cat", []node{l, r}
	case la:
		fn, args = "array_append", []node{l, r}
	case ra:
		fn, args = "array_prepend", []node{l, r}
	case !stringy(lt) && !stringy(rt) && lt != value.Char && rt != value.Char:
		return nil, noOperator("||", l, r).at(at)
	default:
		if l, err = pl.coerce(l, value.Text); err == nil {
			r, err = pl.coerce(r, value.Text)
		}
		args = []node{l, r}
	}
	if err != nil {
		return nil, err
	}
	return pl.resolve(statement.Func{Name: fn, At: at}, args)
}

// arithmetic plans what computes with numbers and times.
func (pl *Planner) arithmetic(op string, l, r node, at int) (node, error) {
	lt, rt := known(l), known(r)
	if lt == value.Unknown && rt == value.Unknown {
		return nil, errorf("42725", "operator is not unique: unknown %s unknown", op).at(at).
			hint("Could not choose a best candidate operator. You might need to add explicit type casts.")
	}
	if lt == value.Unknown && rt != value.Unknown {
		lt = rt
	} else if rt == value.Unknown && lt != value.Unknown {
		if rt = lt; op == "+" && category(lt) == categoryDate || lt == value.Interval && op != "+" && op != "-" {
			rt = value.Interval
		}
	}
	if f := temporal(op, lt, rt); f != nil {
		var err error
		if l, err = pl.coerce(l, f.left); err == nil {
			r, err = pl.coerce(r, f.right)
		}
		return &timely{f, l, r, at}, err
	}
	if rank[lt] == 0 || rank[rt] == 0 {
		return nil, noOperator(op, l, r).at(at)
	}
	t := wider(lt, rt)
	if op == "<<" || op == ">>" { // by an integer, and the type stays
		if t = lt; rt == value.Int8 {
			return nil, noOperator(op, l, r).at(at)
		}
	}
	whole := t == value.Int2 || t == value.Int4 || t == value.Int8
	switch {
	case op == "^":
		if t != value.Numeric {
			t = value.Float8
		}
	case op == "%" && !whole && t != value.Numeric, strings.Contains("&|#<<>>", op) && !whole:
		return nil, noOperator(op, l, r).at(at)
	}
	var err error
	if l, err = pl.coerce(l, t); err == nil {
		if op == "<<" || op == ">>" {
			r, err = pl.coerce(r, value.Int4)
		} else {
			r, err = pl.coerce(r, t)
		}
	}
	return &arithmetic{op: op, t: t, left: l, right: r, at: at}, err
}

// in plans [NOT] IN.
func (pl *Planner) in(s *scope, e statement.In) (node, error) {
	if e.Query != nil {
		n, err := pl.quantified(s, e.Of, "=", e.Query, false, e.At)
		if err == nil && e.Not {
			n = &not{n}
		}
		return n, err
	}
	if l, ok := e.Of.(statement.Row); ok {
		n := &logic{or: true}
		for _, x := range e.List {
			r, ok := x.(statement.Row)
			if !ok {
				return nil, errorf("42883", "operator does not exist: record = %s", "unknown").at(e.At)
			}
			c, err := pl.rows(s, "=", l, r, e.At)
			if err != nil {
				return nil, err
			}
			n.args = append(n.args, c)
		}
		if e.Not {
			return &not{n}, nil
		}
		return n, nil
	}
	of, err := pl.expr(s, e.Of)
	if err != nil {
		return nil, err
	}
	list := make([]node, len(e.List))
	for i, x := range e.List {
		if list[i], err = pl.expr(s, x); err != nil {
			return nil, err
		}
	}
	t := comparableAll(of, list)
	if t == nil {
		return nil, noOperator("=", of, list[0]).at(e.At)
	}
	for _, n := range append([]*node{&of}, pointers(list)...) {
		if known(*n) == value.Unknown && known(of).Reg() {
			if *n, err = pl.coerce(*n, known(of)); err != nil {
				return nil, err
			}
		}
		if *n, err = pl.coerce(*n, t); err != nil {
			return nil, err
		}
	}
	m := &member{of: of, not: e.Not}
	m.split(list)
	return m, nil
}

func pointers(list []node) []*node {
	out := make([]*node, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// comparableAll is the type as which a value is compared with each of a list.
func comparableAll(of node, list []node) *value.Type {
	t := known(of)
	for _, n := range list {
		if t = comparable(t, known(n)); t == nil {
			return nil
		}
	}
	return t
}

// any plans an operator with ANY or ALL.
func (pl *Planner) any(s *scope, e statement.Any) (node, error) {
	if e.Query != nil {
		return pl.quantified(s, e.Left, e.Op, e.Query, e.All, e.At)
	}
	l, r, err := pl.pair(s, e.Left, e.Array)
	if err != nil {
		return nil, err
	}
	if known(r) == value.Unknown {
		if known(l) == value.Unknown {
			if l, err = pl.coerce(l, value.Text); err != nil {
				return nil, err
			}
		}
		t := known(l)
		if t == value.Name || t == value.Varchar {
			t = value.Text
		}
		if t.Array == nil {
			return nil, noOperator(e.Op, l, r).at(e.At)
		}
		if r, err = pl.coerce(r, t.Array); err != nil {
			return nil, err
		}
	}
	elem := known(r).ElementType()
	if elem == nil {
		return nil, errorf("42809", "op ANY/ALL (array) requires array on right side").at(e.At)
	}
	h := &held{elem}
	test, err := pl.binary(e.Op, l, h, e.At)
	if err != nil {
		return nil, err
	}
	if known(test) != value.Bool {
		return nil, errorf("42809", "op ANY/ALL (array) requires operator to yield boolean").at(e.At)
	}
	return &quantified{test: test, held: h, array: r, all: e.All}, nil
}

// quantified plans IN, ANY and ALL of a query.
func (pl *Planner) quantified(s *scope, left statement.Expr, op string, query *statement.Select, all bool, at int) (node, error) {
	lefts := []statement.Expr{left}
	if r, ok := left.(statement.Row); ok {
		lefts = r.Elems
	}
	q, err := pl.inner(s, query)
	if err != nil {
		return nil, err
	}
	if len(q.columns) != len(lefts) {
		return nil, errorf("42601", "subquery has too %s columns", map[bool]string{true: "many", false: "few"}[len(q.columns) > len(lefts)]).at(at)
	}
	n := &inQuery{q: q, all: all}
	for i, x := range lefts {
		l, err := pl.expr(s, x)
		if err != nil {
			return nil, err
		}
		h := &held{q.columns[i].Type}
		test, err := pl.binary(op, l, h, at)
		if err != nil {
			return nil, err
		}
		n.tests = append(n.tests, test)
		n.held = append(n.held, h)
		if c, ok := test.(*compare); ok && op == "=" && !all {
			n.keys = append(n.keys, c)
		}
	}
	return n, nil
}

// inner plans a query in an expression.
func (pl *Planner) inner(s *scope, query *statement.Select) (*query, error) {
	reads := s.reads
	q, err := pl.query(query, s)
	if err == nil {
		err = pl.settle(q)
	}
	s.reads = reads.with(s.reads)
	return q, err
}

// sub plans a query as a value, as an array, and EXISTS.
func (pl *Planner) sub(s *scope, e statement.Sub) (node, error) {
	q, err := pl.inner(s, e.Query)
	if err != nil {
		return nil, err
	}
	if e.Exists {
		return &exists{q}, nil
	}
	if len(q.columns) != 1 {
		return nil, errorf("42601", "subquery must return only one column").at(e.At)
	}
	t := q.columns[0].Type
	if !e.Array {
		return &scalar{q, t}, nil
	}
	if t.Elem == nil {
		if t.Array == nil {
			return nil, errorf("42704", "could not find array type for data type %s", t.Name).at(e.At)
		}
		t = t.Array
	}
	return &arrayOf{q, t}, nil
}
