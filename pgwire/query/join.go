package query

import (
	"slices"

	"github.com/fdtserver/fdt/internal/value"
)

// scan reads a relation.
type scan struct{ r *Relation }

func (s scan) list(f *frame) ([][]value.Value, error) {
	return once(f.run, s.r, func() ([][]value.Value, error) { return s.r.Rows(f.run) })
}

// subquery reads a query in FROM.
type subquery struct {
	q       *query
	lateral bool
}

func (s subquery) list(f *frame) ([][]value.Value, error) {
	if !s.lateral {
		f = f.outer
	}
	return s.q.rows(f, -1)
}

// cteScan reads a query of WITH, which runs once in the query that has it.
type cteScan struct {
	c  *cte
	up int
}

func (s cteScan) list(f *frame) ([][]value.Value, error) {
	for range s.up {
		f = f.outer
	}
	if rows, ok := f.lists[s.c].([][]value.Value); ok {
		return rows, nil
	}
	rows, err := s.c.run(f)
	if err == nil {
		f.keepList(s.c, rows)
	}
	return rows, err
}

func (f *frame) keepList(key any, rows [][]value.Value) {
	if f.lists == nil {
		f.lists = map[any]any{}
	}
	f.lists[key] = rows
}

// run runs a query of WITH, a recursive one until it adds nothing more.
func (c *cte) run(f *frame) ([][]value.Value, error) {
	fresh, err := c.q.run(f, -1)
	if err != nil || c.again == nil {
		return fresh, err
	}
	all := slices.Clone(fresh)
	seen := map[string]struct{}{}
	for first := true; len(fresh) > 0; first = false {
		if !c.all {
			added := [][]value.Value{}
			for _, row := range fresh {
				k := rowKey(row)
				if _, ok := seen[k]; ok {
					continue
				}
				if err := f.run.Took(len(k) + valueBytes); err != nil {
					return nil, err
				}
				seen[k] = struct{}{}
				added = append(added, row)
			}
			fresh = added
			if first {
				all = slices.Clone(fresh)
			}
		}
		if !first {
			all = append(all, fresh...)
		}
		f.keepList(c, fresh)
		if err := f.run.step(1); err != nil {
			return nil, err
		}
		g := &frame{run: f.run, outer: f.outer, lists: f.lists}
		if fresh, err = c.again.run(g, -1); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// functionScan reads what functions return: next to each other if they are
// several, until the longest ends.
type functionScan struct {
	calls      []*call
	ordinality bool
	fixed      bool // it is the same for all rows
}

func (s *functionScan) list(f *frame) ([][]value.Value, error) {
	if s.fixed {
		return once(f.run, s, func() ([][]value.Value, error) { return s.make(f) })
	}
	return s.make(f)
}

func (s *functionScan) make(f *frame) ([][]value.Value, error) {
	var parts [][][]value.Value
	longest := 0
	for _, c := range s.calls {
		rows, err := c.set(f)
		if err != nil {
			return nil, err
		}
		parts = append(parts, rows)
		longest = max(longest, len(rows))
	}
	if len(parts) == 1 && !s.ordinality {
		return parts[0], nil
	}
	out := make([][]value.Value, longest)
	for i := range out {
		for p, rows := range parts {
			if i < len(rows) {
				out[i] = append(out[i], rows[i]...)
				continue
			}
			for _, t := range s.calls[p].types() {
				out[i] = append(out[i], t.Null())
			}
		}
		if s.ordinality {
			out[i] = append(out[i], integer(value.Int8, int64(i+1)))
		}
		if err := f.run.keep(out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// types are those of a row that a call returns.
func (n *call) types() []*value.Type {
	if len(n.fn.Columns) == 0 {
		return []*value.Type{n.t}
	}
	list := make([]*value.Type, len(n.fn.Columns))
	for i, c := range n.fn.Columns {
		list[i] = c.Type
	}
	return list
}

// set calls a function for its rows; one that returns no set returns one row.
func (n *call) set(f *frame) ([][]value.Value, error) {
	if n.fn.Set == nil {
		v, err := n.eval(f)
		return [][]value.Value{{v}}, err
	}
	args, null, err := n.arguments(f)
	if err != nil || null {
		return nil, err
	}
	rows, err := n.fn.Set(f.run, args)
	if err == nil {
		err = f.run.step(len(rows))
	}
	return rows, err
}

// list of a chain is the rows of its tables alone.
func (c *chain) list(f *frame) ([][]value.Value, error) {
	var rows [][]value.Value
	g := &frame{run: f.run, outer: f.outer, row: slices.Clone(f.row), lists: f.lists}
	err := c.each(g, func() error {
		row := slices.Clone(g.row[c.start:c.end])
		rows = append(rows, row)
		return f.run.keep(row)
	})
	return rows, err
}

// each puts every combination of the chain's rows into the frame's row, and
// calls emit.
func (c *chain) each(f *frame, emit func() error) error {
	return (&walk{c: c, f: f, emit: emit, lists: make([][][]value.Value, len(c.steps)), hashes: make([]map[string][]int, len(c.steps)),
		met: make([][]bool, len(c.steps))}).step(0)
}

// walk is one reading of a chain.
type walk struct {
	c      *chain
	f      *frame
	emit   func() error
	lists  [][][]value.Value // of each step, once known
	hashes []map[string][]int
	met    [][]bool // of right and full joins: which rows were joined
}

func (w *walk) step(k int) error {
	if k == len(w.c.steps) {
		return w.emit()
	}
	st := w.c.steps[k]
	rows, candidates, err := w.candidates(k, st)
	if err != nil {
		return err
	}
	any := false
	try := func(i int) error {
		copy(w.f.row[st.start:st.end], rows[i])
		if err := w.f.run.step(1); err != nil {
			return err
		}
		if ok, err := allTrue(st.on, w.f); err != nil || !ok {
			return err
		}
		any = true
		if w.met[k] != nil {
			w.met[k][i] = true
		}
		return w.filtered(k, st)
	}
	if candidates != nil {
		for _, i := range *candidates {
			if err := try(i); err != nil {
				return err
			}
		}
	} else {
		for i := range rows {
			if err := try(i); err != nil {
				return err
			}
		}
	}
	if !any && (st.kind == "left" || st.kind == "full") {
		w.nulls(st.start, st.end)
		if err := w.filtered(k, st); err != nil {
			return err
		}
	}
	if k == 0 {
		return w.rest(1)
	}
	return nil
}

// rest goes on with the rows of right and full joins that nothing was joined to.
func (w *walk) rest(from int) error {
	for k := from; k < len(w.c.steps); k++ {
		st := w.c.steps[k]
		if st.kind != "right" && st.kind != "full" {
			continue
		}
		rows, err := w.rows(k, st)
		if err != nil {
			return err
		}
		for i, row := range rows {
			if w.met[k][i] {
				continue
			}
			w.nulls(w.c.steps[0].start, st.start)
			copy(w.f.row[st.start:st.end], row)
			if err := w.filtered(k, st); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) nulls(from, to int) {
	for i := from; i < to; i++ {
		w.f.row[i] = value.Value{Type: value.Unknown, Null: true}
	}
}

// filtered goes on to the next step if the conditions of WHERE hold so far.
func (w *walk) filtered(k int, st *step) error {
	if ok, err := allTrue(st.filters, w.f); err != nil || !ok {
		return err
	}
	return w.step(k + 1)
}

func allTrue(list []node, f *frame) (bool, error) {
	for _, n := range list {
		if yes, err := truth(n, f); err != nil || !yes {
			return false, err
		}
	}
	return true, nil
}

// rows are those of a step's source.
func (w *walk) rows(k int, st *step) ([][]value.Value, error) {
	if w.lists[k] != nil && !st.lateral {
		return w.lists[k], nil
	}
	rows, err := st.src.list(w.f)
	if rows == nil {
		rows = [][]value.Value{}
	}
	w.lists[k] = rows
	if err == nil && (st.kind == "right" || st.kind == "full") && w.met[k] == nil {
		w.met[k] = make([]bool, len(rows))
		err = w.f.run.Took(len(rows))
	}
	return rows, err
}

// candidates are the rows of a step, and which of them the key leaves; nil is
// all.
func (w *walk) candidates(k int, st *step) (rows [][]value.Value, list *[]int, err error) {
	if rows, err = w.rows(k, st); err != nil || st.key == nil {
		return rows, nil, err
	}
	if w.hashes[k] == nil {
		h := make(map[string][]int, len(rows))
		for i, row := range rows {
			copy(w.f.row[st.start:st.end], row)
			v, err := st.key.right.eval(w.f)
			if err == nil {
				err = w.f.run.step(1)
			}
			if err == nil {
				err = w.f.run.Took(valueBytes)
			}
			if err != nil {
				return nil, nil, err
			}
			if !v.Null {
				h[v.Key()] = append(h[v.Key()], i)
			}
		}
		w.hashes[k] = h
	}
	v, err := st.key.left.eval(w.f)
	if err != nil {
		return nil, nil, err
	}
	found := []int(nil)
	if !v.Null {
		found = w.hashes[k][v.Key()]
	}
	return rows, &found, nil
}
