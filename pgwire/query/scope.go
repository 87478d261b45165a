package query

import (
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// span is which columns of its own query's row an expression reads: none if
// high is not above low.
type span struct{ low, high int }

func (s span) with(o span) span {
	switch {
	case o.high <= o.low:
		return s
	case s.high <= s.low:
		return o
	}
	return span{min(s.low, o.low), max(s.high, o.high)}
}

// scope is the names that one query can use, and those of the queries around it.
type scope struct {
	outer *scope
	ctes  map[string]*cte

	width   int // of the row
	names   map[string]*visible
	tables  map[string]*visible
	columns []visibleColumn // in the order of *

	reads      span // what was read since it was reset
	correlated bool // something of an outer query was read

	aggs     []*aggregate
	allowed  bool   // aggregates may stand here
	place    string // where they may not, for the error
	inside   bool   // in an aggregate's arguments
	setsOK   bool   // set-returning functions may stand here
	sets     []*setCall
	setSlots int
	windows  []*window
}

// visible is what a name stands for.
type visible struct {
	node      node // of a column
	entry     *entry
	ambiguous bool
}

// entry is one table of FROM.
type entry struct {
	name, schema string
	start        int
	columns      []Column
	relation     *Relation      // nil for what is none
	byName       map[string]int // -1: ambiguous
}

type visibleColumn struct {
	name  string
	node  node
	entry *entry
}

func newScope(outer *scope) *scope {
	s := &scope{outer: outer, names: map[string]*visible{}, tables: map[string]*visible{}}
	return s
}

// add makes a table visible, and all its columns.
func (s *scope) add(e *entry) {
	e.byName = make(map[string]int, len(e.columns))
	for i, c := range e.columns {
		if _, ok := e.byName[c.Name]; ok {
			e.byName[c.Name] = -1
		} else {
			e.byName[c.Name] = i
		}
		n := column{t: c.Type, index: e.start + i}
		s.show(c.Name, n)
		s.columns = append(s.columns, visibleColumn{c.Name, n, e})
	}
	for _, key := range []string{e.name, e.schema + "." + e.name} {
		if v, ok := s.tables[key]; ok {
			v.ambiguous = true
		} else {
			s.tables[key] = &visible{entry: e}
		}
	}
}

func (s *scope) show(name string, n node) {
	if v, ok := s.names[name]; ok {
		v.ambiguous = true
		return
	}
	s.names[name] = &visible{node: n}
}

// merge makes one column of those of two joined tables, first in order.
func (s *scope) merge(name string, n node, from int) {
	s.names[name] = &visible{node: n}
	list := s.columns[from:]
	kept := []visibleColumn{}
	for _, c := range list {
		if c.name != name {
			kept = append(kept, c)
		}
	}
	merged := 0
	for merged < len(kept) && kept[merged].entry == nil {
		merged++
	}
	kept = append(kept[:merged], append([]visibleColumn{{name, n, nil}}, kept[merged:]...)...)
	s.columns = append(s.columns[:from], kept...)
}

// read notes what a node of this scope reads.
func (s *scope) read(n node) {
	switch n := n.(type) {
	case column:
		s.reads = s.reads.with(span{n.index, n.index + 1})
	case *coalesce:
		for _, a := range n.args {
			s.read(a)
		}
	case *cast:
		s.read(n.of)
	}
}

// raised is a column as an inner query sees it.
func raised(n node, up int) node {
	switch n := n.(type) {
	case column:
		n.up += up
		return n
	case *coalesce:
		c := &coalesce{t: n.t}
		for _, a := range n.args {
			c.args = append(c.args, raised(a, up))
		}
		return c
	case *cast:
		c := *n
		c.of = raised(n.of, up)
		return &c
	}
	return n
}

// lookup finds a column by its name, in this query or in those around it.
func (pl *Planner) lookup(s *scope, c statement.Column) (node, error) {
	up := 0
	for at := s; at != nil; at = at.outer {
		n, err := pl.lookupIn(at, c)
		if err != nil {
			return nil, err.at(c.At)
		}
		if n != nil {
			at.read(n)
			for inner := s; inner != at; inner = inner.outer {
				inner.correlated = true
			}
			return raised(n, up), nil
		}
		up++
	}
	name := c.Names[len(c.Names)-1]
	if len(c.Names) > 1 {
		table := strings.Join(c.Names[:len(c.Names)-1], ".")
		for at := s; at != nil; at = at.outer {
			if _, ok := at.tables[table]; ok {
				return nil, errorf("42703", "column %s.%s does not exist", table, name).at(c.At)
			}
		}
		return nil, errorf("42P01", "missing FROM-clause entry for table %q", c.Names[len(c.Names)-2]).at(c.At)
	}
	return nil, errorf("42703", "column %q does not exist", name).at(c.At)
}

func (pl *Planner) lookupIn(s *scope, c statement.Column) (node, *Error) {
	name := c.Names[len(c.Names)-1]
	if len(c.Names) == 1 {
		v, ok := s.names[name]
		switch {
		case !ok && len(s.columns) > 0 && s.columns[0].entry != nil && s.columns[0].entry.system(name) != nil:
			return s.columns[0].entry.system(name), nil
		case !ok:
			return s.whole(name)
		case v.ambiguous:
			return nil, errorf("42702", "column reference %q is ambiguous", name)
		}
		return v.node, nil
	}
	table := strings.Join(c.Names[:len(c.Names)-1], ".")
	v, ok := s.tables[table]
	switch {
	case !ok:
		return nil, nil
	case v.ambiguous:
		return nil, errorf("42P09", "table reference %q is ambiguous", table)
	}
	i, ok := v.entry.byName[name]
	switch {
	case !ok:
		return v.entry.system(name), nil
	case i < 0:
		return nil, errorf("42702", "column reference %q is ambiguous", name)
	}
	return column{t: v.entry.columns[i].Type, index: v.entry.start + i}, nil
}

// system is one of the columns that every relation has.
func (e *entry) system(name string) node {
	if e.relation == nil {
		return nil
	}
	switch name {
	case "tableoid":
		return literal{integer(value.OID, int64(e.relation.OID)), -1}
	case "xmin":
		return literal{integer(value.XID, 1), -1}
	case "ctid":
		return literal{value.Value{Type: value.TID, Text: "(0,0)"}, -1}
	}
	return nil
}

// whole is a table's name as its row. A function's one column is its row.
func (s *scope) whole(name string) (node, *Error) {
	v, ok := s.tables[name]
	if !ok || v.ambiguous {
		return nil, nil
	}
	if e := v.entry; len(e.columns) == 1 {
		return column{t: e.columns[0].Type, index: e.start}, nil
	}
	return nil, errorf("0A000", "fdt does not serve a table's row as a value: %q", name)
}

// star lists the columns of * or t.*.
func (s *scope) star(item statement.Item) ([]visibleColumn, error) {
	if item.Table == nil {
		if len(s.tables) == 0 {
			return nil, errorf("42601", "SELECT * with no tables specified is not valid").at(item.At)
		}
		return s.columns, nil
	}
	name := strings.Join(item.Table, ".")
	v, ok := s.tables[name]
	if !ok {
		return nil, errorf("42P01", "missing FROM-clause entry for table %q", item.Table[len(item.Table)-1]).at(item.At)
	}
	var list []visibleColumn
	for i, c := range v.entry.columns {
		list = append(list, visibleColumn{c.Name, column{t: c.Type, index: v.entry.start + i}, v.entry})
	}
	return list, nil
}

// cteNamed finds a query of WITH.
func (s *scope) cteNamed(name string) (*cte, int) {
	up := 0
	for at := s; at != nil; at = at.outer {
		if c, ok := at.ctes[name]; ok {
			return c, up
		}
		up++
	}
	return nil, 0
}

func types(list []node) []*value.Type {
	out := make([]*value.Type, len(list))
	for i, n := range list {
		out[i] = known(n)
	}
	return out
}
