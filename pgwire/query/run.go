package query

import (
	"errors"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

// errEnough ends the reading of tables: no more rows are wanted.
var errEnough = errors.New("enough rows")

// rows runs a query in an expression, or in FROM: once for all rows if it does
// not depend on them. At most so many rows are wanted; -1 is all.
func (q *query) rows(f *frame, most int) ([][]value.Value, error) {
	if q.correlated {
		return q.run(f, most)
	}
	return once(f.run, q, func() ([][]value.Value, error) { return q.run(f, most) })
}

// run runs a query. outer is the frame of the query around it.
func (q *query) run(outer *frame, most int) ([][]value.Value, error) {
	f := &frame{run: outer.run, outer: outer}
	limit, offset, err := q.bounds(f)
	if err != nil {
		return nil, err
	}
	if most >= 0 && (limit < 0 || limit > most) {
		limit = most
	}
	wanted := -1
	if limit >= 0 && len(q.order) == 0 {
		wanted = limit + offset
	}
	var rows [][]value.Value
	switch {
	case limit == 0:
		return nil, nil
	case q.block != nil:
		rows, err = q.block.run(f, wanted, len(q.order) > 0)
	case q.values != nil:
		rows, err = q.runValues(f)
	default:
		rows, err = q.runTerms(f)
	}
	if err != nil {
		return nil, err
	}
	if err := q.sort(f.run, rows); err != nil {
		return nil, err
	}
	if rows, err = q.distinct(f.run, rows); err != nil {
		return nil, err
	}
	rows = rows[min(offset, len(rows)):]
	if limit >= 0 {
		rows = rows[:min(limit, len(rows))]
	}
	for i, row := range rows {
		rows[i] = row[:len(q.columns):len(q.columns)]
	}
	return rows, nil
}

// bounds evaluates LIMIT, -1 without, and OFFSET.
func (q *query) bounds(f *frame) (limit, offset int, err error) {
	limit = -1
	for _, b := range []struct {
		n    node
		to   *int
		code string
		what string
	}{{q.limit, &limit, "2201W", "LIMIT"}, {q.offset, &offset, "2201X", "OFFSET"}} {
		if b.n == nil {
			continue
		}
		v, err := b.n.eval(&frame{run: f.run, outer: f})
		if err != nil {
			return 0, 0, err
		}
		if v.Null {
			continue
		}
		n := atoi(v)
		if n < 0 {
			return 0, 0, errorf(b.code, "%s must not be negative", b.what)
		}
		*b.to = min(n, 1<<40)
	}
	return limit, offset, nil
}

func (q *query) runValues(f *frame) ([][]value.Value, error) {
	f = &frame{run: f.run, outer: f}
	rows := make([][]value.Value, len(q.values))
	for i, list := range q.values {
		if err := f.run.keep(make([]value.Value, 0)); err != nil {
			return nil, err
		}
		rows[i] = make([]value.Value, len(list))
		for j, n := range list {
			var err error
			if rows[i][j], err = n.eval(f); err != nil {
				return nil, err
			}
		}
		if err := f.run.keep(rows[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// runTerms runs UNION, INTERSECT and EXCEPT, from left to right.
func (q *query) runTerms(f *frame) ([][]value.Value, error) {
	f = &frame{run: f.run, outer: f}
	var all [][]value.Value
	for _, t := range q.terms {
		rows, err := t.q.run(f, -1)
		if err != nil {
			return nil, err
		}
		switch {
		case t.op == "":
			all = slices.Clone(rows)
		case t.op == "union":
			all = append(all, rows...)
			if !t.all {
				all, err = unique(f.run, all)
			}
		default:
			all, err = meet(f.run, t, all, rows)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func rowKey(row []value.Value) string {
	var b strings.Builder
	for _, v := range row {
		appendKey(&b, v)
	}
	return b.String()
}

// unique leaves one of equal rows.
func unique(r *Run, rows [][]value.Value) ([][]value.Value, error) {
	seen := make(map[string]struct{}, len(rows))
	kept := rows[:0]
	for _, row := range rows {
		k := rowKey(row)
		if _, ok := seen[k]; ok {
			continue
		}
		if err := errors.Join(r.Took(len(k)+valueBytes), r.step(1)); err != nil {
			return nil, firstOf(err)
		}
		seen[k] = struct{}{}
		kept = append(kept, row)
	}
	return kept, nil
}

// firstOf undoes a Join of errors of which only the first counts.
func firstOf(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()[0]
	}
	return err
}

// meet keeps the rows of a first list that are in a second (INTERSECT), or are
// not (EXCEPT).
func meet(r *Run, t term, rows, with [][]value.Value) ([][]value.Value, error) {
	count := make(map[string]int, len(with))
	for _, row := range with {
		k := rowKey(row)
		if err := r.Took(len(k) + valueBytes); err != nil {
			return nil, err
		}
		count[k]++
	}
	kept := rows[:0]
	for _, row := range rows {
		k := rowKey(row)
		n := count[k]
		if (n > 0) == (t.op == "intersect") {
			kept = append(kept, row)
		}
		if t.all && n > 0 {
			count[k]--
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
	}
	if t.all {
		return kept, nil
	}
	return unique(r, kept)
}

// sort sorts rows by ORDER BY.
func (q *query) sort(r *Run, rows [][]value.Value) error {
	if len(q.order) == 0 {
		return nil
	}
	return sortRows(r, rows, q.order)
}

func sortRows(r *Run, rows [][]value.Value, order []sortKey) error {
	var stop error
	seen := map[int]bool{}
	order = slices.DeleteFunc(slices.Clone(order), func(k sortKey) bool { // a second time it changes nothing
		before := seen[k.index]
		seen[k.index] = true
		return before
	})
	slices.SortStableFunc(rows, func(a, b []value.Value) int {
		if stop != nil {
			return 0
		}
		stop = r.step(1)
		for _, k := range order {
			if c := k.compare(a[k.index], b[k.index]); c != 0 {
				return c
			}
		}
		return 0
	})
	return stop
}

func (k sortKey) compare(a, b value.Value) int {
	switch {
	case a.Null && b.Null:
		return 0
	case a.Null || b.Null:
		if a.Null == k.nullsFirst {
			return -1
		}
		return 1
	}
	c := value.Compare(a, b)
	if k.desc {
		return -c
	}
	return c
}

// distinct leaves one of the rows that are equal where DISTINCT looks.
func (q *query) distinct(r *Run, rows [][]value.Value) ([][]value.Value, error) {
	if q.block == nil || !q.block.distinct {
		return rows, nil
	}
	from, to := 0, len(q.columns)
	if q.block.on != nil {
		from = len(q.block.items)
		to = from + len(q.block.on)
	}
	seen := make(map[string]struct{}, len(rows))
	kept := rows[:0]
	for _, row := range rows {
		k := rowKey(row[from:to])
		if _, ok := seen[k]; ok {
			continue
		}
		if err := r.Took(len(k) + valueBytes); err != nil {
			return nil, err
		}
		seen[k] = struct{}{}
		kept = append(kept, row)
	}
	return kept, nil
}

// run runs a SELECT. Behind its columns, a row has what is computed for the
// order, and for DISTINCT ON.
func (b *block) run(outer *frame, wanted int, ordered bool) ([][]value.Value, error) {
	f := &frame{run: outer.run, outer: outer, row: make([]value.Value, b.scope.width), sets: make([]value.Value, b.scope.setSlots)}
	if ordered || b.distinct || len(b.scope.windows) > 0 {
		wanted = -1
	}
	for _, n := range b.where {
		if yes, err := truth(n, f); err != nil || !yes {
			if err != nil || !b.grouped || len(b.group) > 0 {
				return nil, err
			}
			return b.grouping(f, wanted, false)
		}
	}
	if b.grouped {
		return b.grouping(f, wanted, true)
	}
	out := &output{b: b, f: f, wanted: wanted}
	if len(b.scope.windows) > 0 {
		return b.windowed(f, out)
	}
	err := b.from.each(f, out.emit)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out.rows, err
}

// output collects the rows of a SELECT.
type output struct {
	b      *block
	f      *frame
	wanted int
	rows   [][]value.Value
}

// emit evaluates the columns for the frame as it is.
func (o *output) emit() error {
	n := 1
	if len(o.b.scope.sets) > 0 {
		var err error
		if n, err = o.b.expand(o.f); err != nil {
			return err
		}
	}
	for i := range n {
		if len(o.b.scope.sets) > 0 {
			o.b.pick(o.f, i)
		}
		if err := o.row(); err != nil {
			return err
		}
	}
	return nil
}

func (o *output) row() error {
	row := make([]value.Value, len(o.b.items)+len(o.b.on))
	if err := o.f.run.keep(row); err != nil {
		return err
	}
	for i, n := range o.b.items {
		var err error
		if row[i], err = n.eval(o.f); err != nil {
			return err
		}
	}
	for i, n := range o.b.on {
		var err error
		if row[len(o.b.items)+i], err = n.eval(o.f); err != nil {
			return err
		}
	}
	if err := o.f.run.step(1); err != nil {
		return err
	}
	o.rows = append(o.rows, row)
	if o.wanted >= 0 && len(o.rows) >= o.wanted {
		return errEnough
	}
	return nil
}
