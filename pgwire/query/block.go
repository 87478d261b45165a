package query

import (
	"reflect"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// block is one planned SELECT.
type block struct {
	scope    *scope
	from     *chain
	where    []node // what reads no table
	group    []node
	grouped  bool
	having   node
	items    []node     // and behind them what is computed for the order alone
	has      []contents // of each of the result's items
	bySets   bool       // it groups by what returns a set
	visible  int        // how many of the items are the result's
	distinct bool
	on       []node
}

// contents tells what an item of the result is made of.
type contents struct {
	summed bool // aggregates, or window functions
	sets   bool // set-returning functions
}

// block plans one SELECT.
func (pl *Planner) block(q *query, s *statement.Select, scope *scope) error {
	scope.place = "JOIN conditions"
	b := &block{scope: scope, from: &chain{}, distinct: s.Distinct}
	q.block = b
	if err := pl.tables(b.from, s.From, scope); err != nil {
		return err
	}
	if s.Where != nil {
		scope.place = "WHERE"
		if err := pl.where(b, s.Where, scope); err != nil {
			return err
		}
	}
	scope.allowed, scope.place = true, ""
	exprs, err := pl.items(q, s, scope)
	if err != nil {
		return err
	}
	b.visible = len(b.items)
	if err := pl.groupBy(q, s, scope); err != nil {
		return err
	}
	if s.Having != nil {
		if b.having, err = pl.condition(scope, s.Having, "HAVING"); err != nil {
			return err
		}
	}
	if err := pl.orderBy(q, s, exprs, scope); err != nil {
		return err
	}
	for _, e := range s.On {
		n, err := pl.outputOr(q, e, exprs, scope)
		if err != nil {
			return err
		}
		b.on = append(b.on, n)
	}
	b.grouped = s.GroupBy != nil || s.Having != nil || len(scope.aggs) > 0
	return nil
}

// condition plans what must be true.
func (pl *Planner) condition(s *scope, e statement.Expr, what string) (node, error) {
	n, err := pl.expr(s, e)
	if err != nil {
		return nil, err
	}
	n, err = pl.truthOf(n, what)
	return n, place(err, statement.Offset(e))
}

func (pl *Planner) truthOf(n node, what string) (node, error) {
	if t := known(n); t != value.Bool && t != value.Unknown {
		return nil, errorf("42804", "argument of %s must be type boolean, not type %s", what, t.Name)
	}
	return pl.coerce(n, value.Bool)
}

// conjuncts are the conditions that AND joins.
func conjuncts(e statement.Expr) []statement.Expr {
	if l, ok := e.(statement.Logic); ok && !l.Or {
		var list []statement.Expr
		for _, a := range l.Args {
			list = append(list, conjuncts(a)...)
		}
		return list
	}
	return []statement.Expr{e}
}

// where plans WHERE, each condition where all that it reads is there.
func (pl *Planner) where(b *block, e statement.Expr, s *scope) error {
	for _, c := range conjuncts(e) {
		s.reads = span{}
		n, err := pl.condition(s, c, "WHERE")
		if err != nil {
			return err
		}
		if len(b.from.steps) == 0 {
			b.where = append(b.where, n)
			continue
		}
		b.from.filter(n, s.reads)
	}
	return nil
}

// items plans the columns of the result, and returns their expressions, nil
// for those of a *.
func (pl *Planner) items(q *query, s *statement.Select, scope *scope) ([]statement.Expr, error) {
	var exprs []statement.Expr
	add := func(name string, n node, e statement.Expr) error {
		if len(q.columns) == statement.MaxColumns {
			return errorf("54011", "target lists can have at most %d entries", statement.MaxColumns)
		}
		q.columns = append(q.columns, Column{Name: name, Type: known(n)})
		q.block.items = append(q.block.items, n)
		exprs = append(exprs, e)
		return pl.Meter(planCost)
	}
	for _, item := range s.Items {
		summed, sets := len(scope.aggs)+len(scope.windows), len(scope.sets)
		if item.Expr == nil {
			list, err := scope.star(item)
			if err != nil {
				return nil, err
			}
			for _, c := range list {
				if err := add(c.name, c.node, nil); err != nil {
					return nil, err
				}
				q.block.has = append(q.block.has, contents{})
			}
			continue
		}
		if f, ok := item.Expr.(statement.Field); ok && f.Name == "" {
			return nil, errorf("0A000", "fdt does not serve (…).*").at(f.At)
		}
		n, err := pl.item(scope, item.Expr)
		if err != nil {
			return nil, err
		}
		name := item.Alias
		if name == "" {
			name = label(item.Expr)
		}
		if err := add(name, n, item.Expr); err != nil {
			return nil, err
		}
		q.block.has = append(q.block.has, contents{len(scope.aggs)+len(scope.windows) > summed, len(scope.sets) > sets})
	}
	return exprs, nil
}

// item plans a column of the result, which may return a set.
func (pl *Planner) item(s *scope, e statement.Expr) (node, error) {
	s.setsOK = true
	defer func() { s.setsOK = false }()
	return pl.expr(s, e)
}

// groupItem groups by a column of the result.
func (b *block) groupItem(i int, e statement.Expr) error {
	if b.has[i].summed {
		return errorf("42803", "aggregate functions are not allowed in GROUP BY").at(statement.Offset(e))
	}
	b.group = append(b.group, b.items[i])
	b.bySets = b.bySets || b.has[i].sets
	return nil
}

// groupBy plans GROUP BY.
func (pl *Planner) groupBy(q *query, s *statement.Select, scope *scope) error {
	b := q.block
	for _, e := range s.GroupBy {
		if c, ok := e.(statement.Const); ok && c.Kind != statement.Null && c.Kind != statement.Bool {
			i, err := outputKey(e, q.columns, "GROUP BY")
			if err != nil {
				return err
			}
			if err := b.groupItem(i, e); err != nil {
				return err
			}
			continue
		}
		scope.allowed, scope.place = false, "GROUP BY"
		n, err := pl.expr(scope, e)
		scope.allowed = true
		if err != nil {
			if i, _ := outputKey(e, q.columns, "GROUP BY"); i >= 0 {
				if err := b.groupItem(i, e); err != nil {
					return err
				}
				continue
			}
			return err
		}
		b.group = append(b.group, n)
	}
	return nil
}

// orderBy plans ORDER BY of a SELECT with tables: by a column of the result, or
// by anything that can be computed.
func (pl *Planner) orderBy(q *query, s *statement.Select, exprs []statement.Expr, scope *scope) error {
	for _, o := range s.OrderBy {
		i, err := outputKey(o.Expr, q.columns, "ORDER BY")
		if err != nil {
			return err
		}
		if i < 0 {
			i = sameAs(o.Expr, exprs)
		}
		if i < 0 {
			n, err := pl.expr(scope, o.Expr)
			if err != nil {
				return err
			}
			if s.Distinct && s.On == nil {
				return errorf("42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list").at(statement.Offset(o.Expr))
			}
			if n, err = pl.settled(n); err != nil {
				return err
			}
			i = len(q.block.items)
			q.block.items = append(q.block.items, n)
		}
		q.order = append(q.order, keyOf(o, i))
	}
	return nil
}

func (pl *Planner) outputOr(q *query, e statement.Expr, exprs []statement.Expr, scope *scope) (node, error) {
	i, err := outputKey(e, q.columns, "DISTINCT ON")
	if err != nil {
		return nil, err
	}
	if i < 0 {
		i = sameAs(e, exprs)
	}
	if i >= 0 {
		return q.block.items[i], nil
	}
	n, err := pl.expr(scope, e)
	if err != nil {
		return nil, err
	}
	return pl.settled(n)
}

// maxSame bounds among how many columns one like another is looked for.
const maxSame = 100

// sameAs finds an expression that is written like another, -1 if there is none.
func sameAs(e statement.Expr, list []statement.Expr) int {
	if len(list) > maxSame {
		return -1
	}
	return slices.IndexFunc(list, func(o statement.Expr) bool { return o != nil && same(reflect.ValueOf(e), reflect.ValueOf(o)) })
}

// same compares two parsed texts but for where they stand.
func same(a, b reflect.Value) bool {
	if a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type() {
		return false
	}
	switch a.Kind() { //nolint:exhaustive // all others are compared as they are
	case reflect.Interface, reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).Name != "At" && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return !a.IsValid() || a.Interface() == b.Interface()
}

// label is the name that PostgreSQL gives to a column (FigureColname).
func label(e statement.Expr) string {
	name, _ := figure(e)
	if name == "" {
		return "?column?"
	}
	return name
}

// figure tells a name, and whether it is better than that of a type.
func figure(e statement.Expr) (name string, strong bool) {
	switch e := e.(type) {
	case statement.Column:
		return e.Names[len(e.Names)-1], true
	case statement.Field:
		return e.Name, true
	case statement.Index:
		return figure(e.Of)
	case statement.Collate:
		return figure(e.Of)
	case statement.Func:
		return e.Name[strings.LastIndexByte(e.Name, '.')+1:], true
	case statement.Cast:
		if name, strong = figure(e.Of); strong {
			return name, true
		}
		return internalName(e.Type), false
	case statement.Case:
		if e.Else != nil {
			if name, strong = figure(e.Else); strong {
				return name, true
			}
		}
		return "case", false
	case statement.Array:
		return "array", true
	case statement.Sub:
		switch {
		case e.Exists:
			return "exists", true
		case e.Array:
			return "array", true
		}
		q := e.Query
		for q.Terms != nil {
			q = q.Terms[0].Query
		}
		if len(q.Items) > 0 && q.Items[0].Expr != nil {
			if q.Items[0].Alias != "" {
				return q.Items[0].Alias, true
			}
			return figure(q.Items[0].Expr)
		}
		if q.Values != nil {
			return "column1", true
		}
	}
	return "", false
}

// internalName is pg_type.typname of a type that SQL spells differently.
func internalName(name string) string {
	t, ok := value.Lookup(name)
	if !ok {
		return name[strings.LastIndexByte(name, '.')+1:]
	}
	return t.Internal()
}
