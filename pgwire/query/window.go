package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// window is a call of a window function: row_number, rank, dense_rank, or
// count(*) of the whole partition. Its value is an aggregate's, by its slot.
type window struct {
	name      string
	partition []node
	keys      []node
	order     []sortKey
	slot      int
}

var windows = map[string]bool{"row_number": true, "rank": true, "dense_rank": true, "count": true}

// window plans the call of a window function.
func (pl *Planner) window(s *scope, f statement.Func) (node, error) {
	if !windows[f.Name] || len(f.Args) > 0 || f.Star != (f.Name == "count") || f.Filter != nil || f.Distinct ||
		f.Name == "count" && f.Over.OrderBy != nil {
		return nil, errorf("0A000", "of window functions fdt serves row_number(), rank(), dense_rank() and count(*) over a whole partition").at(f.At)
	}
	if !s.allowed {
		return nil, errorf("42P20", "window functions are not allowed in %s", s.place).at(f.At)
	}
	w := &window{name: f.Name}
	for _, e := range f.Over.Partition {
		n, err := pl.expr(s, e)
		if err != nil {
			return nil, err
		}
		if n, err = pl.settled(n); err != nil {
			return nil, err
		}
		w.partition = append(w.partition, n)
	}
	for _, o := range f.Over.OrderBy {
		n, err := pl.expr(s, o.Expr)
		if err != nil {
			return nil, err
		}
		if n, err = pl.settled(n); err != nil {
			return nil, err
		}
		w.order = append(w.order, keyOf(o, len(w.keys)))
		w.keys = append(w.keys, n)
	}
	n := &slot{t: value.Int8, index: -1}
	w.slot = len(s.windows)
	s.windows = append(s.windows, w)
	return &windowSlot{slot: n, at: w.slot}, nil
}

// windowSlot is a window function's value: behind those of the aggregates.
type windowSlot struct {
	*slot
	at int
}

func (n *windowSlot) eval(f *frame) (value.Value, error) {
	return f.sets[len(f.sets)-1-n.at], nil
}

// snapshot is a row that waits for its window functions.
type snapshot struct{ row, aggs []value.Value }

// windowed runs a SELECT with window functions.
func (b *block) windowed(f *frame, out *output) ([][]value.Value, error) {
	var all []snapshot
	err := b.from.each(f, func() error {
		all = append(all, snapshot{slices.Clone(f.row), nil})
		return f.run.keep(f.row)
	})
	if err == nil {
		err = b.emitWindows(f, all, out)
	}
	return out.rows, err
}

// emitWindows computes the window functions of all rows, and puts them out.
func (b *block) emitWindows(f *frame, all []snapshot, out *output) error {
	if len(all) == 0 {
		return nil
	}
	values := make([][]value.Value, len(b.scope.windows))
	for i, w := range b.scope.windows {
		var err error
		if values[i], err = w.run(f, all); err != nil {
			return err
		}
	}
	slots := b.scope.setSlots
	f.sets = make([]value.Value, slots+len(values))
	for i, s := range all {
		f.row, f.aggs = s.row, s.aggs
		for w := range values {
			f.sets[len(f.sets)-1-w] = values[w][i]
		}
		if err := out.emit(); err != nil {
			return err
		}
	}
	return nil
}

// run computes one window function for all rows.
func (w *window) run(f *frame, all []snapshot) ([]value.Value, error) {
	parts := map[string][]int{}
	rows := make([][]value.Value, len(all)) // keys of the order, and the row's place
	for i, s := range all {
		f.row, f.aggs = s.row, s.aggs
		var key strings.Builder
		for _, n := range w.partition {
			v, err := n.eval(f)
			if err != nil {
				return nil, err
			}
			appendKey(&key, v)
		}
		for _, n := range w.keys {
			v, err := n.eval(f)
			if err != nil {
				return nil, err
			}
			rows[i] = append(rows[i], v)
		}
		rows[i] = append(rows[i], integer(value.Int4, int64(i)))
		if err := f.run.keep(rows[i]); err != nil {
			return nil, err
		}
		parts[key.String()] = append(parts[key.String()], i)
	}
	out := make([]value.Value, len(all))
	for _, part := range parts {
		list := make([][]value.Value, len(part))
		for i, at := range part {
			list[i] = rows[at]
		}
		if err := sortRows(f.run, list, w.order); err != nil {
			return nil, err
		}
		w.number(list, out)
	}
	return out, nil
}

// number gives the rows of one partition their values.
func (w *window) number(list [][]value.Value, out []value.Value) {
	rank, dense := 0, 0
	for i, row := range list {
		if i == 0 || rowKey(row[:len(w.keys)]) != rowKey(list[i-1][:len(w.keys)]) {
			rank, dense = i+1, dense+1
		}
		n := map[string]int{"row_number": i + 1, "rank": rank, "dense_rank": dense, "count": len(list)}[w.name]
		out[atoi(row[len(w.keys)])] = integer(value.Int8, int64(n))
	}
}

// setCall is the call of a set-returning function among the columns of a
// query: its rows become rows of the result.
type setCall struct {
	call  *call
	first int // of its slots
}

// setSlot makes a call a column of the result.
func (s *scope) setSlot(n *call) node {
	c := &setCall{call: n, first: s.setSlots}
	s.sets = append(s.sets, c)
	s.setSlots += len(n.fn.Columns) + 1
	return &slot{t: n.t, index: c.first + len(n.fn.Columns), set: true} // the row itself is behind its columns
}

// expand calls the functions for the frame's row, and returns how many rows
// that makes.
func (b *block) expand(f *frame) (int, error) {
	n := 0
	for _, c := range b.scope.sets {
		rows, err := c.call.set(f)
		if err != nil {
			return 0, err
		}
		f.setRows(c, rows)
		n = max(n, len(rows))
	}
	return n, nil
}

func (f *frame) setRows(c *setCall, rows [][]value.Value) { f.keepList(c, rows) }

// pick takes the ith row of each.
func (b *block) pick(f *frame, i int) {
	for _, c := range b.scope.sets {
		rows, _ := f.lists[c].([][]value.Value)
		for j, t := range c.call.types() {
			f.sets[c.first+j] = t.Null()
			if i < len(rows) {
				f.sets[c.first+j] = rows[i][j]
			}
		}
		if n := len(c.call.fn.Columns); n > 0 {
			f.sets[c.first+n] = c.call.t.Null()
			if i < len(rows) {
				f.sets[c.first+n] = composite(c.call.t, rows[i])
			}
		}
	}
}
