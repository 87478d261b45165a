package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// chain is the tables of FROM in order, each joined to those before it.
type chain struct {
	start, end int // its columns in the row
	steps      []*step
}

// step is one table of a chain. Its rows are those of its source for which all
// of on holds, and key, if there is one; filters are conditions of WHERE.
type step struct {
	kind       string // inner, left, right or full
	src        source
	start, end int
	key        *compare // of which left reads what is before, and right this table
	on         []node
	filters    []node
	lateral    bool // its rows depend on those before
}

// source is what a step reads.
type source interface {
	list(f *frame) ([][]value.Value, error)
}

// outward tells whether a chain has rows of a later table without those before.
func (c *chain) outward() int {
	for i := len(c.steps) - 1; i >= 0; i-- {
		if k := c.steps[i].kind; k == "right" || k == "full" {
			return i
		}
	}
	return 0
}

// filter puts a condition of WHERE where all that it reads is there.
func (c *chain) filter(n node, reads span) {
	at := 0
	for at < len(c.steps)-1 && reads.high > c.steps[at].end {
		at++
	}
	if reads.high <= reads.low {
		at = 0
	}
	at = max(at, c.outward())
	st := c.steps[at]
	if st.kind == "inner" && !st.lateral && st.key == nil && at > 0 {
		if k := keyFor(n, st); k != nil {
			st.key = k
			return
		}
	}
	st.filters = append(st.filters, n)
}

// keyFor tells whether a condition is an equality of what is before a step with
// what is in it.
func keyFor(n node, st *step) *compare {
	c, ok := n.(*compare)
	if !ok || c.op != "=" || c.distinct {
		return nil
	}
	within := func(s span) bool { return s.high > s.low && s.low >= st.start && s.high <= st.end }
	before := func(s span) bool { return s.high <= st.start }
	switch {
	case before(c.l) && within(c.r):
		return c
	case before(c.r) && within(c.l):
		return &compare{op: "=", left: c.right, right: c.left, l: c.r, r: c.l}
	}
	return nil
}

// tables plans FROM.
func (pl *Planner) tables(c *chain, list []*statement.Table, s *scope) error {
	for _, t := range list {
		if len(c.steps) > 0 && outwardIn(t) {
			if err := pl.nested(c, t, s, "inner", len(s.columns)); err != nil {
				return err
			}
			continue
		}
		if err := pl.table(c, t, s); err != nil {
			return err
		}
	}
	return nil
}

// outwardIn tells whether a tree of joins has a RIGHT or FULL one.
func outwardIn(t *statement.Table) bool {
	for ; t.Join != nil; t = t.Join.Left {
		if t.Join.Kind == "right" || t.Join.Kind == "full" {
			return true
		}
	}
	return false
}

// nested plans a tree of joins as one step.
func (pl *Planner) nested(c *chain, t *statement.Table, s *scope, kind string, _ int) error {
	in := &chain{start: s.width}
	if err := pl.table(in, t, s); err != nil {
		return err
	}
	in.end = s.width
	c.steps = append(c.steps, &step{kind: kind, src: in, start: in.start, end: in.end})
	return nil
}

// table plans a table, or a tree of joins, from its leftmost table on.
func (pl *Planner) table(c *chain, t *statement.Table, s *scope) error {
	var joins []*statement.Table
	for ; t.Join != nil && t.Alias == ""; t = t.Join.Left {
		joins = append(joins, t)
	}
	from := len(s.columns)
	if err := pl.single(c, t, s, "inner"); err != nil {
		return err
	}
	for _, j := range slices.Backward(joins) {
		if err := pl.join(c, j, s, from); err != nil {
			return err
		}
	}
	return nil
}

// join plans one join to what is there of its tree, whose columns are those
// from a place on.
func (pl *Planner) join(c *chain, t *statement.Table, s *scope, from int) error {
	j := t.Join
	kind := j.Kind
	if kind == "cross" {
		kind = "inner"
	}
	middle := len(s.columns)
	var err error
	if j.Right.Join != nil && j.Right.Alias == "" {
		err = pl.nested(c, j.Right, s, kind, middle)
	} else {
		err = pl.single(c, j.Right, s, kind)
	}
	if err != nil {
		return err
	}
	st := c.steps[len(c.steps)-1]
	if st.lateral && (kind == "right" || kind == "full") {
		return errorf("42P10", "invalid reference to what is before it in a %s JOIN", upper(kind)).at(j.Right.At).
			hint("The combining JOIN type must be INNER or LEFT for a LATERAL reference.")
	}
	using := j.Using
	if j.Natural {
		for _, l := range s.columns[from:middle] {
			if slices.ContainsFunc(s.columns[middle:], func(r visibleColumn) bool { return r.name == l.name }) {
				using = append(using, l.name)
			}
		}
	}
	if err := pl.using(st, using, s, from, middle); err != nil {
		return place(err, j.At)
	}
	if j.On == nil {
		return nil
	}
	for _, e := range conjuncts(j.On) {
		s.reads = span{}
		n, err := pl.condition(s, e, "JOIN/ON")
		if err != nil {
			return err
		}
		st.require(n)
	}
	return nil
}

// require adds a condition of a join.
func (st *step) require(n node) {
	if st.key == nil && !st.lateral {
		if k := keyFor(n, st); k != nil {
			st.key = k
			return
		}
	}
	st.on = append(st.on, n)
}

// using plans USING and NATURAL: equality of columns of one name, which become
// one column.
func (pl *Planner) using(st *step, list []string, s *scope, from, middle int) error {
	pick := func(columns []visibleColumn, name, side string) (node, error) {
		var found node
		for _, c := range columns {
			if c.name != name {
				continue
			}
			if found != nil {
				return nil, errorf("42702", "common column name %q appears more than once in %s table", name, side)
			}
			found = c.node
		}
		if found == nil {
			return nil, errorf("42703", "column %q specified in USING clause does not exist in %s table", name, side)
		}
		return found, nil
	}
	type pair struct{ l, r node }
	pairs := make([]pair, len(list))
	for i, name := range list {
		l, err := pick(s.columns[from:middle], name, "left")
		if err != nil {
			return err
		}
		r, err := pick(s.columns[middle:], name, "right")
		if err != nil {
			return err
		}
		pairs[i] = pair{l, r}
	}
	for i, name := range list {
		l, r := pairs[i].l, pairs[i].r
		s.reads = span{}
		s.read(l)
		left := s.reads
		s.reads = span{}
		s.read(r)
		right := s.reads
		n, err := pl.comparison("=", l, r, -1)
		if err != nil {
			return err
		}
		if c, ok := n.(*compare); ok {
			c.l, c.r = left, right
		}
		st.require(n)
		merged := l
		switch st.kind {
		case "right":
			merged = r
		case "full":
			both := []node{l, r}
			t, err := pl.together("JOIN/USING", both)
			if err != nil {
				return err
			}
			merged = &coalesce{t: t, args: both}
		}
		s.merge(name, merged, from)
	}
	return nil
}

// single plans one table that is no join, as a step.
func (pl *Planner) single(c *chain, t *statement.Table, s *scope, kind string) error {
	if err := pl.Meter(planCost); err != nil {
		return err
	}
	st := &step{kind: kind, start: s.width}
	e := &entry{name: t.Alias, start: s.width}
	var err error
	switch {
	case t.Query != nil:
		err = pl.subquery(st, e, t, s)
	case t.Func != nil:
		err = pl.fromFunction(st, e, t, s)
	case t.Join != nil:
		return errorf("0A000", "fdt does not serve an alias of a join").at(t.At)
	default:
		err = pl.relation(st, e, t, s)
	}
	if err != nil {
		return err
	}
	if len(t.Columns) > len(e.columns) {
		return errorf("42P10", "table %q has %d columns available but %d columns specified", e.name, len(e.columns), len(t.Columns)).at(t.At)
	}
	if len(t.Columns) > 0 {
		e.columns = append([]Column(nil), e.columns...)
		for i, n := range t.Columns {
			e.columns[i].Name = n
		}
	}
	if _, ok := s.tables[e.name]; ok && e.schema == s.tables[e.name].entry.schema {
		return errorf("42712", "table name %q specified more than once", e.name).at(t.At)
	}
	s.width += len(e.columns)
	st.end = s.width
	s.add(e)
	c.steps = append(c.steps, st)
	return pl.Meter(planCost * len(e.columns))
}

// relation plans the reading of a relation, or of a query of WITH.
func (pl *Planner) relation(st *step, e *entry, t *statement.Table, s *scope) error {
	if len(t.Name) > 3 {
		return errorf("42601", "improper qualified name (too many dotted names): %s", strings.Join(t.Name, ".")).at(t.At)
	}
	schema, name := "", t.Name[len(t.Name)-1]
	if len(t.Name) > 1 {
		schema = t.Name[len(t.Name)-2]
	}
	if e.name == "" {
		e.name, e.schema = name, schema
	}
	if schema == "" {
		if c, up := s.cteNamed(name); c != nil {
			e.columns = c.columns
			st.src = cteScan{c, up}
			return nil
		}
	}
	r, ok := pl.Catalogue.Relation(schema, name)
	if !ok {
		full := name
		if schema != "" {
			full = schema + "." + name
		}
		return errorf("42P01", "relation %q does not exist", full).at(t.At).hint(pl.Hint)
	}
	if t.Alias == "" {
		e.schema = r.Schema
	}
	e.columns, e.relation = r.Columns, r
	st.src = scan{r}
	return nil
}

// subquery plans a query in FROM.
func (pl *Planner) subquery(st *step, e *entry, t *statement.Table, s *scope) error {
	outer := s.outer
	if t.Lateral {
		outer = s
	}
	q, err := pl.query(t.Query, outer)
	if err == nil {
		err = pl.settle(q)
	}
	if err != nil {
		return err
	}
	if e.name == "" {
		return errorf("42601", "subquery in FROM must have an alias").at(t.At).hint("For example, FROM (SELECT ...) [AS] foo.")
	}
	e.columns = q.columns
	st.lateral = t.Lateral && q.correlated
	if q.correlated && !t.Lateral {
		for at := s; at != nil && at != outer; at = at.outer {
			at.correlated = true
		}
	}
	st.src = subquery{q, t.Lateral}
	return nil
}

// fromFunction plans a function in FROM.
func (pl *Planner) fromFunction(st *step, e *entry, t *statement.Table, s *scope) error {
	if e.name == "" {
		e.name = label(*t.Func)
	}
	s.reads = span{}
	correlated := s.correlated
	s.correlated = false
	s.place = "functions in FROM"
	list, err := pl.functionsInFrom(t.Func, s)
	s.place = "JOIN conditions"
	if err != nil {
		return err
	}
	st.lateral = s.reads.high > s.reads.low
	outside := s.correlated
	s.correlated = correlated || outside
	for _, n := range list {
		if len(n.fn.Columns) > 0 {
			e.columns = append(e.columns, n.fn.Columns...)
			continue
		}
		name := label(*t.Func)
		if t.Alias != "" && len(list) == 1 {
			name = t.Alias
		}
		e.columns = append(e.columns, Column{Name: name, Type: n.t})
	}
	if t.Ordinality {
		e.columns = append(e.columns, Column{Name: "ordinality", Type: value.Int8})
	}
	st.src = &functionScan{calls: list, ordinality: t.Ordinality, fixed: !st.lateral && !outside}
	return nil
}

// functionsInFrom plans a function's call; unnest of several arrays is several.
func (pl *Planner) functionsInFrom(f *statement.Func, s *scope) ([]*call, error) {
	if f.Name != "unnest" || len(f.Args) < 2 {
		n, err := pl.fromCall(*f, s)
		return []*call{n}, err
	}
	var list []*call
	for _, a := range f.Args {
		n, err := pl.fromCall(statement.Func{Name: f.Name, Args: []statement.Arg{a}, At: f.At}, s)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func (pl *Planner) fromCall(f statement.Func, s *scope) (*call, error) {
	args, err := pl.args(s, f)
	if err != nil {
		return nil, err
	}
	n, err := pl.resolve(f, args)
	if err != nil {
		return nil, err
	}
	if c, ok := n.(*call); ok {
		return c, nil
	}
	t := known(n)
	return &call{fn: &Function{Result: t, Lax: true, Call: func(_ *Run, args []value.Value) (value.Value, error) { return args[0], nil }}, t: t, args: []node{n}}, nil
}
