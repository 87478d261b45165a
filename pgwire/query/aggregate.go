package query

import (
	"errors"
	"math/big"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// aggregate is a call of an aggregate function.
type aggregate struct {
	name     string
	t        *value.Type
	args     []node
	distinct bool
	order    []sortKey // of args, and what is behind them for the order alone
	keys     []node
	filter   node
}

// aggregates are the functions that there are, and how many arguments they take.
var aggregates = map[string]int{
	"count": 1, "sum": 1, "avg": 1, "min": 1, "max": 1, "bool_and": 1, "bool_or": 1, "every": 1, "array_agg": 1, "string_agg": 2,
}

// aggregate plans the call of an aggregate.
func (pl *Planner) aggregate(s *scope, f statement.Func) (node, error) {
	switch {
	case s.inside:
		return nil, errorf("42803", "aggregate function calls cannot be nested").at(f.At)
	case !s.allowed:
		return nil, errorf("42803", "aggregate functions are not allowed in %s", s.place).at(f.At)
	}
	s.inside = true
	defer func() { s.inside = false }()
	a := &aggregate{name: f.Name, distinct: f.Distinct}
	var err error
	if f.Filter != nil {
		if a.filter, err = pl.condition(s, f.Filter, "FILTER"); err != nil {
			return nil, err
		}
	}
	if f.Star != (f.Name == "count" && len(f.Args) == 0) || !f.Star && len(f.Args) != aggregates[f.Name] {
		args, err := pl.args(s, f)
		if err != nil {
			return nil, err
		}
		name := signature(f.Name, types(args))
		if f.Star {
			name = f.Name + "()"
		}
		return nil, errorf("42883", "function %s does not exist", name).at(f.At).hint(pl.Hint)
	}
	if a.args, err = pl.args(s, f); err != nil {
		return nil, err
	}
	if err := a.resolve(pl, f); err != nil {
		return nil, err
	}
	for _, o := range f.OrderBy {
		n, err := pl.expr(s, o.Expr)
		if err == nil {
			n, err = pl.settled(n)
		}
		if err != nil {
			return nil, err
		}
		a.order = append(a.order, keyOf(o, len(a.args)+len(a.keys)))
		a.keys = append(a.keys, n)
	}
	s.aggs = append(s.aggs, a)
	return &slot{t: a.t, index: len(s.aggs) - 1}, nil
}

// resolve settles the types of an aggregate's arguments and its result.
func (a *aggregate) resolve(pl *Planner, f statement.Func) (err error) {
	if len(a.args) == 0 {
		a.t = value.Int8
		return nil
	}
	if a.args[0], err = pl.settled(a.args[0]); err != nil {
		return err
	}
	t := known(a.args[0])
	missing := errorf("42883", "function %s does not exist", signature(f.Name, types(a.args))).at(f.At)
	switch a.name {
	case "count":
		a.t = value.Int8
	case "sum", "avg":
		if a.t = sums(a.name, t); a.t == nil {
			return missing
		}
	case "min", "max":
		if a.t = t; t == value.Varchar || t == value.Name {
			a.t = value.Text
		}
		if comparable(t, t) == nil || t == value.Bool || t == value.UUID || t == value.JSONB {
			return missing
		}
		a.args[0], err = pl.coerce(a.args[0], a.t)
	case "bool_and", "bool_or", "every":
		if a.t = value.Bool; t != value.Bool {
			return missing
		}
	case "array_agg":
		if a.t = t; t.Elem == nil {
			a.t = t.Array
		}
		if a.t == nil {
			return errorf("42704", "could not find array type for data type %s", t.Name).at(f.At)
		}
	case "string_agg":
		a.t = value.Text
		for i := range a.args {
			if k := known(a.args[i]); !stringy(k) {
				return missing
			}
			if a.args[i], err = pl.coerce(a.args[i], value.Text); err != nil {
				return err
			}
		}
	}
	return err
}

func sums(name string, t *value.Type) *value.Type {
	switch t {
	case value.Int2, value.Int4:
		if name == "sum" {
			return value.Int8
		}
		return value.Numeric
	case value.Int8, value.Numeric:
		return value.Numeric
	case value.Float4:
		if name == "sum" {
			return t
		}
		return value.Float8
	case value.Float8:
		return t
	case value.Interval:
		if name == "sum" {
			return t
		}
	}
	return nil
}

// group is what one group has come to.
type group struct {
	row    []value.Value // one of its rows
	states []*state
}

// state is what one aggregate has come to.
type state struct {
	count int
	best  value.Value
	sum   *arithmetic
	total value.Value
	rows  [][]value.Value // of what needs all of them
}

// grouping runs a SELECT that groups its rows. any tells whether there can be
// rows at all.
func (b *block) grouping(f *frame, wanted int, any bool) ([][]value.Value, error) {
	groups := map[string]*group{}
	var order []*group
	enter := func(key string) (*group, error) {
		if g, ok := groups[key]; ok {
			return g, nil
		}
		g := &group{row: append([]value.Value(nil), f.row...), states: make([]*state, len(b.scope.aggs))}
		for i := range g.states {
			g.states[i] = &state{}
		}
		groups[key] = g
		order = append(order, g)
		return g, f.run.Took(rowBytes + valueBytes*(len(g.row)+2*len(g.states)) + len(key))
	}
	if len(b.group) == 0 {
		if _, err := enter(""); err != nil {
			return nil, err
		}
	}
	if any {
		err := b.from.each(f, func() error {
			if b.bySets { // which PostgreSQL expands before it groups
				return errorf("0A000", "fdt does not group by a set-returning function among the columns").hint("Put them into FROM.")
			}
			var key strings.Builder
			for _, n := range b.group {
				v, err := n.eval(f)
				if err != nil {
					return err
				}
				appendKey(&key, v)
			}
			g, err := enter(key.String())
			if err != nil {
				return err
			}
			if g.states != nil && len(b.group) == 0 {
				copy(g.row, f.row)
			}
			for i, a := range b.scope.aggs {
				if err := a.add(f, g.states[i]); err != nil {
					return err
				}
			}
			return f.run.step(1)
		})
		if err != nil {
			return nil, err
		}
	}
	out := &output{b: b, f: f, wanted: wanted}
	err := b.emitGroups(f, order, out)
	return out.rows, err
}

// emitGroups puts out the groups that HAVING keeps.
func (b *block) emitGroups(f *frame, order []*group, out *output) error {
	var kept []snapshot
	for _, g := range order {
		f.row = g.row
		f.aggs = make([]value.Value, len(g.states))
		for i, a := range b.scope.aggs {
			v, err := f.run.made(a.result(f.run, g.states[i]))
			if err != nil {
				return err
			}
			f.aggs[i] = v
		}
		if b.having != nil {
			if yes, err := truth(b.having, f); err != nil || !yes {
				if err != nil {
					return err
				}
				continue
			}
		}
		if len(b.scope.windows) > 0 {
			kept = append(kept, snapshot{f.row, f.aggs})
			continue
		}
		if err := out.emit(); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return b.emitWindows(f, kept, out)
}

// add adds the frame's row.
func (a *aggregate) add(f *frame, s *state) error {
	if a.filter != nil {
		if yes, err := truth(a.filter, f); err != nil || !yes {
			return err
		}
	}
	row := make([]value.Value, 0, len(a.args)+len(a.keys))
	for _, n := range append(a.args[:len(a.args):len(a.args)], a.keys...) {
		v, err := n.eval(f)
		if err != nil {
			return err
		}
		row = append(row, v)
	}
	if !a.distinct && len(a.order) == 0 && a.name != "array_agg" && a.name != "string_agg" {
		return a.take(f.run, s, row)
	}
	s.rows = append(s.rows, row)
	return f.run.keep(row)
}

// take adds the arguments of one row.
func (a *aggregate) take(r *Run, s *state, row []value.Value) error {
	if len(row) > 0 && row[0].Null {
		return nil
	}
	s.count++
	if len(row) == 0 {
		return nil
	}
	v := row[0]
	var err error
	switch a.name {
	case "min", "max":
		if s.count == 1 || (value.Compare(v, s.best) < 0) == (a.name == "min") {
			s.best = v
		}
	case "bool_and", "every", "bool_or":
		if s.count == 1 || isTrue(v) == (a.name == "bool_or") {
			s.best = v
		}
	case "sum", "avg":
		t := a.t
		if s.sum == nil {
			s.sum = &arithmetic{op: "+", t: t}
			s.total, err = r.cast(v, t)
			return err
		}
		if v, err = r.cast(v, t); err != nil {
			return err
		}
		if t == value.Interval {
			s.total, err = addSpans(1)(r, s.total, v)
		} else {
			s.total, err = s.sum.compute(r, s.total, v)
		}
	}
	return err
}

// result is the aggregate's value.
func (a *aggregate) result(r *Run, s *state) (value.Value, error) {
	rows := s.rows
	if a.distinct {
		rows = a.unique(rows)
		if len(a.order) == 0 {
			a.order = []sortKey{{index: 0}}
		}
	}
	if len(a.order) > 0 {
		if err := sortRows(r, rows, a.order); err != nil {
			return value.Value{}, err
		}
	}
	switch a.name {
	case "array_agg":
		return a.array(r, rows)
	case "string_agg":
		return a.text(r, rows)
	}
	for _, row := range rows {
		if err := a.take(r, s, row[:len(a.args)]); err != nil {
			return value.Value{}, err
		}
	}
	switch {
	case a.name == "count":
		return integer(value.Int8, int64(s.count)), nil
	case s.count == 0:
		return a.t.Null(), nil
	case a.name == "sum":
		return s.total, nil
	case a.name == "avg":
		n, _ := a.t.Parse(big.NewInt(int64(s.count)).String())
		return (&arithmetic{op: "/", t: a.t}).compute(r, s.total, n)
	}
	return s.best, nil
}

func (a *aggregate) unique(rows [][]value.Value) [][]value.Value {
	seen := map[string]struct{}{}
	kept := rows[:0]
	for _, row := range rows {
		k := rowKey(row[:len(a.args)])
		if _, ok := seen[k]; !ok {
			seen[k] = struct{}{}
			kept = append(kept, row)
		}
	}
	return kept
}

func (a *aggregate) array(r *Run, rows [][]value.Value) (value.Value, error) {
	if len(rows) == 0 {
		return a.t.Null(), nil
	}
	list := make([]value.Value, len(rows))
	size := 0
	for i, row := range rows {
		list[i] = row[0]
		size += 2*len(row[0].Text) + 3
	}
	if err := r.Took(size); err != nil {
		return value.Value{}, err
	}
	return makeArray(r, a.t, list)
}

func (a *aggregate) text(r *Run, rows [][]value.Value) (value.Value, error) {
	var b strings.Builder
	some := false
	for _, row := range rows {
		if row[0].Null {
			continue
		}
		if some && !row[1].Null {
			b.WriteString(row[1].Text)
		}
		some = true
		b.WriteString(row[0].Text)
		if err := r.Took(len(row[0].Text) + len(row[1].Text)); err != nil {
			return value.Value{}, err
		}
	}
	if !some {
		return value.Text.Null(), nil
	}
	return text(b.String()), nil
}
