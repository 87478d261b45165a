package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

// member is [NOT] IN of a list: its constants are looked up.
type member struct {
	of     node
	not    bool
	fixed  map[string]struct{}
	others []node
	null   bool // one of the constants is null
}

func (*member) typ() *value.Type { return value.Bool }

// split takes the constants out of the list.
func (n *member) split(list []node) {
	n.fixed = map[string]struct{}{}
	for _, e := range list {
		l, ok := e.(literal)
		switch {
		case !ok || l.v.Type == value.JSONB || l.v.Type.Elem != nil:
			n.others = append(n.others, e)
		case l.v.Null:
			n.null = true
		default:
			n.fixed[l.v.Key()] = struct{}{}
		}
	}
}

func (n *member) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil || v.Null {
		return value.Bool.Null(), err
	}
	if _, ok := n.fixed[v.Key()]; ok {
		return boolean(!n.not), nil
	}
	null := n.null
	if err := f.run.step(1 + len(n.others)); err != nil {
		return v, err
	}
	for _, e := range n.others {
		o, err := e.eval(f)
		if err != nil {
			return o, err
		}
		if o.Null {
			null = true
		} else if value.Compare(v, o) == 0 {
			return boolean(!n.not), nil
		}
	}
	if null {
		return value.Bool.Null(), nil
	}
	return boolean(n.not), nil
}

// hold gives a test the value that it looks at.
func (f *frame) hold(h *held, v value.Value) {
	if f.lists == nil {
		f.lists = map[any]any{}
	}
	f.lists[h] = v
}

// tally adds up the answers of a test with ANY or ALL.
type tally struct {
	all, null bool
}

// add tells whether the answer is settled.
func (t *tally) add(v value.Value) bool {
	if v.Null {
		t.null = true
		return false
	}
	return isTrue(v) != t.all
}

func (t *tally) result(settled bool) value.Value {
	switch {
	case settled:
		return boolean(!t.all)
	case t.null:
		return value.Bool.Null()
	}
	return boolean(t.all)
}

// quantified is a test with ANY or ALL of an array.
type quantified struct {
	test  node
	held  *held
	array node
	all   bool
}

func (*quantified) typ() *value.Type { return value.Bool }

func (n *quantified) eval(f *frame) (value.Value, error) {
	a, err := n.array.eval(f)
	if err != nil || a.Null {
		return value.Bool.Null(), err
	}
	if err := f.run.step(1 + len(a.Text)/8); err != nil {
		return a, err
	}
	list, err := f.run.elements(a)
	if err != nil {
		return a, err
	}
	t := tally{all: n.all}
	for _, v := range list {
		f.hold(n.held, v)
		yes, err := n.test.eval(f)
		if err != nil {
			return yes, err
		}
		if t.add(yes) {
			return t.result(true), nil
		}
	}
	return t.result(false), nil
}

// inQuery is IN, ANY or ALL of a query. keys are its tests where all are
// equalities: then what a query returned that is the same for every row is
// looked up.
type inQuery struct {
	q     *query
	tests []node
	held  []*held
	keys  []*compare
	all   bool
}

func (*inQuery) typ() *value.Type { return value.Bool }

func (n *inQuery) eval(f *frame) (value.Value, error) {
	rows, err := n.q.rows(f, -1)
	if err != nil {
		return value.Value{}, err
	}
	if len(n.keys) == len(n.tests) && !n.q.correlated {
		return n.lookup(f, rows)
	}
	t := tally{all: n.all}
	for _, row := range rows {
		and := &logic{args: n.tests}
		for i, h := range n.held {
			f.hold(h, row[i])
		}
		if err := f.run.step(1); err != nil {
			return value.Value{}, err
		}
		yes, err := and.eval(f)
		if err != nil {
			return yes, err
		}
		if t.add(yes) {
			return t.result(true), nil
		}
	}
	return t.result(false), nil
}

// found is a query's rows by their keys.
type found struct {
	keys map[string]struct{}
	null bool
}

func (n *inQuery) lookup(f *frame, rows [][]value.Value) (value.Value, error) {
	in, err := once(f.run, n, func() (*found, error) {
		in := &found{keys: make(map[string]struct{}, len(rows))}
		for _, row := range rows {
			for i, h := range n.held {
				f.hold(h, row[i])
			}
			k, null, err := keyOfAll(f, n.keys, func(c *compare) node { return c.right })
			if err == nil {
				err = f.run.Took(len(k) + valueBytes)
			}
			if err != nil {
				return nil, err
			}
			if in.null = in.null || null; !null {
				in.keys[k] = struct{}{}
			}
		}
		return in, nil
	})
	if err != nil {
		return value.Value{}, err
	}
	k, null, err := keyOfAll(f, n.keys, func(c *compare) node { return c.left })
	if err != nil {
		return value.Value{}, err
	}
	if !null {
		if _, ok := in.keys[k]; ok {
			return boolean(true), nil
		}
	}
	if null && len(rows) > 0 || in.null {
		return value.Bool.Null(), nil
	}
	return boolean(false), f.run.step(1)
}

// keyOfAll puts the keys of one side of comparisons together.
func keyOfAll(f *frame, list []*compare, side func(*compare) node) (key string, null bool, err error) {
	var b strings.Builder
	for _, c := range list {
		v, err := side(c).eval(f)
		if err != nil {
			return "", false, err
		}
		null = null || v.Null
		appendKey(&b, v)
	}
	return b.String(), null, nil
}

// appendKey appends a value's key so that no two lists of values have the same.
func appendKey(b *strings.Builder, v value.Value) {
	if v.Null {
		b.WriteByte('n')
		return
	}
	k := v.Key()
	n := len(k)
	for ; n >= 0x80; n >>= 7 {
		b.WriteByte(byte(n) | 0x80)
	}
	b.WriteByte(byte(n))
	b.WriteString(k)
}

// exists is EXISTS.
type exists struct{ q *query }

func (*exists) typ() *value.Type { return value.Bool }

func (n *exists) eval(f *frame) (value.Value, error) {
	rows, err := n.q.rows(f, 1)
	return boolean(len(rows) > 0), err
}

// scalar is a query as a value.
type scalar struct {
	q *query
	t *value.Type
}

func (n *scalar) typ() *value.Type { return n.t }

func (n *scalar) eval(f *frame) (value.Value, error) {
	rows, err := n.q.rows(f, 2)
	switch {
	case err != nil:
		return value.Value{}, err
	case len(rows) == 0:
		return n.t.Null(), nil
	case len(rows) > 1:
		return value.Value{}, errorf("21000", "more than one row returned by a subquery used as an expression")
	}
	return rows[0][0], nil
}

// arrayOf is ARRAY of a query.
type arrayOf struct {
	q *query
	t *value.Type
}

func (n *arrayOf) typ() *value.Type { return n.t }

func (n *arrayOf) eval(f *frame) (value.Value, error) {
	rows, err := n.q.rows(f, -1)
	if err != nil {
		return value.Value{}, err
	}
	list := make([]value.Value, len(rows))
	size := 0
	for i, row := range rows {
		list[i] = row[0]
		size += 2*len(row[0].Text) + 3
	}
	if err := f.run.Took(size); err != nil {
		return value.Value{}, err
	}
	return makeArray(f.run, n.t, list)
}

// makeArray is [value.Type.MakeArray] with empty arrays left out of those that
// are put together.
func makeArray(r *Run, t *value.Type, list []value.Value) (value.Value, error) {
	return t.MakeArray(r.Zone, list)
}

// element is a subscript, or a slice of an array.
type element struct {
	of, low, top node
	slice        bool
	t            *value.Type
}

func (n *element) typ() *value.Type { return n.t }

func (n *element) eval(f *frame) (value.Value, error) {
	a, err := n.of.eval(f)
	if err != nil {
		return a, err
	}
	bound := func(b node, otherwise int) (int, bool, error) {
		if b == nil {
			return otherwise, true, nil
		}
		v, err := b.eval(f)
		if err != nil || v.Null {
			return 0, false, err
		}
		return atoi(v), true, nil
	}
	lengths, lower := a.Dimensions()
	first, last := 1, 0
	if len(lower) > 0 {
		first, last = lower[0], lower[0]+lengths[0]-1
	}
	low, ok1, err := bound(n.low, first)
	if err != nil {
		return a, err
	}
	top, ok2, err := bound(n.top, last)
	if err != nil || a.Null || !ok1 || !ok2 {
		return n.t.Null(), err
	}
	if err := f.run.step(1 + len(a.Text)/16); err != nil {
		return a, err
	}
	list, err := f.run.elements(a)
	if err != nil {
		return a, err
	}
	if !n.slice {
		if len(lengths) != 1 || low < first || low > last {
			return n.t.Null(), nil
		}
		return list[low-first], nil
	}
	if len(lengths) != 1 || max(low, first) > min(top, last) {
		return value.Value{Type: n.t, Text: "{}"}, nil
	}
	return makeArray(f.run, n.t, list[max(low, first)-first:min(top, last)-first+1])
}

// overlap is @>, <@ or && of two arrays.
type overlap struct {
	op          string
	left, right node
}

func (*overlap) typ() *value.Type { return value.Bool }

func (n *overlap) eval(f *frame) (value.Value, error) {
	l, r, err := both(f, n.left, n.right)
	if err != nil || l.Null || r.Null {
		return value.Bool.Null(), err
	}
	if n.op == "<@" {
		l, r = r, l
	}
	if err := f.run.step(1 + (len(l.Text)+len(r.Text))/16); err != nil {
		return r, err
	}
	left, err := f.run.elements(l)
	if err != nil {
		return l, err
	}
	right, err := f.run.elements(r)
	if err != nil {
		return r, err
	}
	has := map[string]bool{}
	for _, v := range left {
		if !v.Null {
			has[v.Key()] = true
		}
	}
	in := func(v value.Value) bool { return !v.Null && has[v.Key()] }
	if n.op == "&&" {
		return boolean(slices.ContainsFunc(right, in)), nil
	}
	return boolean(!slices.ContainsFunc(right, func(v value.Value) bool { return !in(v) })), nil
}
