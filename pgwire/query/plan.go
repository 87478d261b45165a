package query

import (
	"strconv"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// Planner plans the queries and the expressions of one statement.
type Planner struct {
	Catalogue Catalogue
	Meter     statement.Meter // of the memory that planning takes beyond that of parsing
	Params    []*value.Type   // of $1…; nil while not known
	NoParams  bool            // parameters cannot be bound
	Hint      string          // to whoever calls what is not there

	uses bool
}

// planCost bounds the memory in bytes of what is planned of one part of a
// query, beyond what parsing counted.
const planCost = 128

// Plan is a query ready to run.
type Plan struct {
	Columns []Column
	Uses    bool // a function that is marked as volatile
	// Reads tells whether it reads a relation or calls a set-returning function.
	Reads bool

	q *query
}

// Query plans a query.
func (pl *Planner) Query(s *statement.Select) (*Plan, error) {
	q, err := pl.query(s, nil)
	if err != nil {
		return nil, err
	}
	if err := pl.settle(q); err != nil {
		return nil, err
	}
	return &Plan{Columns: q.columns, Uses: pl.uses, Reads: s.From != nil || s.Terms != nil || s.Values != nil, q: q}, nil
}

// Run runs the plan and returns its rows.
func (p *Plan) Run(r *Run) ([][]value.Value, error) {
	return p.q.run(&frame{run: r}, -1)
}

// Expr is an expression without tables, ready to be evaluated.
type Expr struct{ n node }

// Expr plans an expression in which no table can be read.
func (pl *Planner) Expr(e statement.Expr) (Expr, error) {
	n, err := pl.expr(newScope(nil), e)
	return Expr{n}, err
}

// Type is Unknown for a plain string, and nil for a parameter whose type is
// still open.
func (e Expr) Type() *value.Type { return e.n.typ() }

// Infer settles the type of a parameter that has none yet.
func (e Expr) Infer(t *value.Type) { infer(e.n, t) }

// Eval evaluates the expression.
func (e Expr) Eval(r *Run) (value.Value, error) { return e.n.eval(&frame{run: r}) }

// query is a planned query. Exactly one of block, values and terms is set.
type query struct {
	columns []Column
	with    []*cte
	block   *block
	values  [][]node
	terms   []term

	order         []sortKey
	limit, offset node
	outer         *scope
	correlated    bool // reads rows of a query around it
}

type term struct {
	op  string
	all bool
	q   *query
}

// cte is a query of WITH.
type cte struct {
	name    string
	q       *query
	columns []Column
	again   *query // the recursive part, of which q is the start
	all     bool   // of UNION ALL between them
}

// sortKey is a key of ORDER BY: the index of a result's column, or of one that
// is computed for the order alone, behind those.
type sortKey struct {
	index      int
	desc       bool
	nullsFirst bool
}

// query plans a query within others.
func (pl *Planner) query(s *statement.Select, outer *scope) (*query, error) {
	if err := pl.Meter(planCost); err != nil {
		return nil, err
	}
	scope := newScope(outer)
	q := &query{outer: scope}
	if s.With != nil {
		scope.ctes = map[string]*cte{}
		for i := range s.With {
			c, err := pl.cte(&s.With[i], s.Recursive, scope)
			if err != nil {
				return nil, err
			}
			q.with = append(q.with, c)
		}
	}
	inner := newScope(scope)
	var err error
	switch {
	case s.Terms != nil:
		err = pl.terms(q, s, inner)
	case s.Values != nil:
		err = pl.valueRows(q, s, inner)
	default:
		err = pl.block(q, s, inner)
	}
	if err != nil {
		return nil, err
	}
	if q.limit, err = pl.limit(s.Limit, scope, "LIMIT"); err != nil {
		return nil, err
	}
	q.offset, err = pl.limit(s.Offset, scope, "OFFSET")
	q.correlated = scope.correlated
	return q, err
}

func (pl *Planner) limit(e statement.Expr, s *scope, what string) (node, error) {
	if e == nil {
		return nil, nil
	}
	n, err := pl.expr(newScope(s), e)
	if err != nil {
		return nil, err
	}
	if t := known(n); t != value.Unknown && category(t) != categoryNumeric {
		return nil, errorf("42804", "argument of %s must be type bigint, not type %s", what, t.Name)
	}
	return pl.coerce(n, value.Int8)
}

// cte plans a query of WITH, and makes it visible to what follows.
func (pl *Planner) cte(w *statement.CTE, recursive bool, s *scope) (*cte, error) {
	if _, ok := s.ctes[w.Name]; ok {
		return nil, errorf("42712", "WITH query name %q specified more than once", w.Name)
	}
	c := &cte{name: w.Name}
	body := w.Query
	loops := recursive && len(body.Terms) == 2 && body.Terms[1].Op == "union" && body.With == nil && body.OrderBy == nil &&
		body.Limit == nil && body.Offset == nil
	if loops {
		body = body.Terms[0].Query
	}
	q, err := pl.query(body, s)
	if err == nil {
		err = pl.settle(q)
	}
	if err != nil {
		return nil, err
	}
	c.q, c.columns = q, append([]Column(nil), q.columns...)
	if len(w.Columns) > len(c.columns) {
		return nil, errorf("42P10", "WITH query %q has %d columns available but %d columns specified", w.Name, len(c.columns), len(w.Columns))
	}
	for i, n := range w.Columns {
		c.columns[i].Name = n
	}
	s.ctes[w.Name] = c
	if !loops {
		return c, nil
	}
	c.all = w.Query.Terms[1].All
	if c.again, err = pl.query(w.Query.Terms[1].Query, s); err != nil {
		return nil, err
	}
	if len(c.again.columns) != len(c.columns) {
		return nil, errorf("42601", "each UNION query must have the same number of columns")
	}
	for i, col := range c.columns {
		if err := pl.force(c.again, i, col.Type); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// nodesAt are all expressions of a query that make its column i.
func (q *query) nodesAt(i int) []*node {
	switch {
	case q.block != nil:
		return []*node{&q.block.items[i]}
	case q.values != nil:
		list := make([]*node, len(q.values))
		for r := range q.values {
			list[r] = &q.values[r][i]
		}
		return list
	}
	var list []*node
	for _, t := range q.terms {
		list = append(list, t.q.nodesAt(i)...)
	}
	return list
}

// force brings column i to a type.
func (pl *Planner) force(q *query, i int, t *value.Type) error {
	for _, n := range q.nodesAt(i) {
		var err error
		if *n, err = pl.coerce(*n, t); err != nil {
			return err
		}
	}
	q.retype(i, t)
	return nil
}

// retype notes the type of column i.
func (q *query) retype(i int, t *value.Type) {
	q.columns[i].Type = t
	for _, t2 := range q.terms {
		t2.q.retype(i, t)
	}
}

// settle makes text of columns that are of no type.
func (pl *Planner) settle(q *query) error {
	for i := range q.columns {
		if t := q.columns[i].Type; t == nil || t == value.Unknown {
			if err := pl.force(q, i, value.Text); err != nil {
				return err
			}
		}
	}
	return nil
}

// terms plans UNION, INTERSECT and EXCEPT.
func (pl *Planner) terms(q *query, s *statement.Select, scope *scope) error {
	for _, t := range s.Terms {
		p, err := pl.query(t.Query, scope)
		if err != nil {
			return err
		}
		if len(q.terms) > 0 && len(p.columns) != len(q.columns) {
			return errorf("42601", "each %s query must have the same number of columns", upper(t.Op))
		}
		if len(q.terms) == 0 {
			q.columns = append([]Column(nil), p.columns...)
		}
		q.terms = append(q.terms, term{t.Op, t.All, p})
	}
	if len(q.terms) > 1 {
		for i := range q.columns {
			var list []node
			for _, n := range q.nodesAt(i) {
				list = append(list, *n)
			}
			t, err := common(upper(q.terms[1].op), list)
			if err == nil {
				err = pl.force(q, i, t)
			}
			if err != nil {
				return err
			}
		}
	}
	return pl.plainOrder(q, s)
}

// plainOrder plans ORDER BY of what has no tables of its own.
func (pl *Planner) plainOrder(q *query, s *statement.Select) error {
	for _, o := range s.OrderBy {
		i, err := outputKey(o.Expr, q.columns, "ORDER BY")
		if err == nil && i < 0 {
			err = errorf("0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause").at(statement.Offset(o.Expr)).
				hint("Only result column names can be used, not expressions or functions.")
			if c, ok := o.Expr.(statement.Column); ok && len(c.Names) == 1 {
				err = errorf("42703", "column %q does not exist", c.Names[0]).at(c.At)
			}
		}
		if err != nil {
			return err
		}
		q.order = append(q.order, keyOf(o, i))
	}
	return nil
}

func keyOf(o statement.Order, i int) sortKey {
	k := sortKey{index: i, desc: o.Desc, nullsFirst: o.Desc}
	if o.NullsFirst != nil {
		k.nullsFirst = *o.NullsFirst
	}
	return k
}

// outputKey is the result's column that ORDER BY or GROUP BY names by number
// or by name; -1 if it does neither.
func outputKey(e statement.Expr, columns []Column, what string) (int, error) {
	switch e := e.(type) {
	case statement.Const:
		if e.Kind != statement.Integer {
			if e.Kind == statement.String || e.Kind == statement.Decimal {
				return 0, errorf("42601", "non-integer constant in %s", what).at(e.At)
			}
			return -1, nil
		}
		n, err := strconv.Atoi(e.Text)
		if err != nil || n < 1 || n > len(columns) {
			return 0, errorf("42P10", "%s position %s is not in select list", what, e.Text).at(e.At)
		}
		return n - 1, nil
	case statement.Column:
		if len(e.Names) != 1 {
			return -1, nil
		}
		for i, c := range columns {
			if c.Name == e.Names[0] {
				return i, nil
			}
		}
	}
	return -1, nil
}

// valueRows plans VALUES.
func (pl *Planner) valueRows(q *query, s *statement.Select, scope *scope) error {
	for _, row := range s.Values {
		list := make([]node, len(row))
		for i, e := range row {
			var err error
			if list[i], err = pl.expr(scope, e); err != nil {
				return err
			}
		}
		q.values = append(q.values, list)
	}
	for i := range q.values[0] {
		q.columns = append(q.columns, Column{Name: "column" + strconv.Itoa(i+1)})
		list := make([]node, len(q.values))
		for r := range q.values {
			list[r] = q.values[r][i]
		}
		q.columns[i].Type = known(list[0])
		if len(list) > 1 {
			t, err := common("VALUES", list)
			if err == nil && !allUnknown(list) {
				err = pl.force(q, i, t)
			}
			if err != nil {
				return err
			}
		}
	}
	return pl.plainOrder(q, s)
}

func allUnknown(list []node) bool {
	for _, n := range list {
		if known(n) != value.Unknown {
			return false
		}
	}
	return true
}
