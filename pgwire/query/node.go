package query

import (
	"github.com/fdtserver/fdt/internal/value"
)

// node is a planned expression. Each part of a text becomes one node, which is
// evaluated once for each row.
type node interface {
	// typ is Unknown for a plain string, and nil for a parameter whose type is
	// still open while the statement is planned.
	typ() *value.Type
	eval(f *frame) (value.Value, error)
}

// frame is what nodes read while a query runs: the row of its tables, what was
// aggregated of it, and what its set-returning functions returned.
type frame struct {
	run   *Run
	row   []value.Value
	aggs  []value.Value
	sets  []value.Value
	outer *frame
	lists map[any]any // what was made once for this frame, by who made it
}

// literal is a constant.
type literal struct {
	v  value.Value
	at int
}

func (n literal) typ() *value.Type                 { return n.v.Type }
func (n literal) eval(*frame) (value.Value, error) { return n.v, nil }

// param is $N, whose type any later use of it may settle.
type param struct {
	types *[]*value.Type
	i     int // N - 1
}

func (n param) typ() *value.Type                   { return (*n.types)[n.i] }
func (n param) eval(f *frame) (value.Value, error) { return f.run.Params[n.i], nil }

// column is a column of a row, of an outer query if up is not 0.
type column struct {
	t         *value.Type
	up, index int
}

func (n column) typ() *value.Type { return n.t }

func (n column) eval(f *frame) (value.Value, error) {
	for range n.up {
		f = f.outer
	}
	return f.row[n.index], nil
}

// slot is what was aggregated, or what a set-returning function returned.
type slot struct {
	t     *value.Type
	index int
	set   bool
}

func (n *slot) typ() *value.Type { return n.t }

func (n *slot) eval(f *frame) (value.Value, error) {
	if n.set {
		return f.sets[n.index], nil
	}
	return f.aggs[n.index], nil
}

// cast forces a value to a type.
type cast struct {
	of  node
	to  *value.Type
	fit func(value.Value) (value.Value, error) // what the type's modifiers do; nil without
	at  int
}

func (n *cast) typ() *value.Type { return n.to }

func (n *cast) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil {
		return v, err
	}
	if v.Type != n.to || n.fit != nil {
		if err := f.run.step(1 + len(v.Text)/64); err != nil {
			return v, err
		}
		before := v.Text
		v, err = f.run.cast(v, n.to)
		if err == nil && n.fit != nil {
			v, err = n.fit(v)
		}
		if v.Text != before { // else it is the same memory
			v, err = f.run.made(v, err)
		}
	}
	return v, place(err, n.at)
}

// array is ARRAY[…], or a row of one.
type array struct {
	t     *value.Type
	elems []node
}

func (n *array) typ() *value.Type { return n.t }

func (n *array) eval(f *frame) (value.Value, error) {
	list := make([]value.Value, len(n.elems))
	bytes := 0
	for i, e := range n.elems {
		v, err := e.eval(f)
		if err != nil {
			return v, err
		}
		list[i] = v
		bytes += 2*len(v.Text) + 3 // all of it may have to be escaped, in quotes, behind a comma
	}
	if err := f.run.Took(bytes); err != nil { // before it is made
		return value.Value{}, err
	}
	return n.t.MakeArray(f.run.Zone, list)
}

// call is a call of a function, with arguments of its types.
type call struct {
	fn   *Function
	t    *value.Type
	args []node
	at   int
}

func (n *call) typ() *value.Type { return n.t }

func (n *call) eval(f *frame) (value.Value, error) {
	list, null, err := n.arguments(f)
	switch {
	case err != nil:
		return value.Value{}, err
	case null:
		return n.t.Null(), nil
	}
	v, err := f.run.made(n.fn.Call(f.run, list))
	if err == nil && v.Type != n.t && v.Null {
		v = n.t.Null()
	}
	return v, err
}

// arguments evaluates them; null tells that one is null that must not be.
func (n *call) arguments(f *frame) (list []value.Value, null bool, err error) {
	list = make([]value.Value, len(n.args))
	size := 0
	for i, a := range n.args {
		if list[i], err = a.eval(f); err != nil {
			return nil, false, err
		}
		null = null || list[i].Null && !n.fn.Lax
		size += len(list[i].Text)
	}
	return list, null, f.run.step(1 + size/64)
}

func boolean(b bool) value.Value {
	if b {
		return value.Value{Type: value.Bool, Text: "t"}
	}
	return value.Value{Type: value.Bool, Text: "f"}
}

func isTrue(v value.Value) bool { return !v.Null && v.Text == "t" }

// truth evaluates a condition.
func truth(n node, f *frame) (bool, error) {
	v, err := n.eval(f)
	return isTrue(v), err
}

// logic is AND or OR.
type logic struct {
	or   bool
	args []node
}

func (*logic) typ() *value.Type { return value.Bool }

func (n *logic) eval(f *frame) (value.Value, error) {
	null := false
	for _, a := range n.args {
		v, err := a.eval(f)
		if err != nil {
			return v, err
		}
		if v.Null {
			null = true
		} else if isTrue(v) == n.or {
			return v, nil
		}
	}
	if null {
		return value.Bool.Null(), nil
	}
	return boolean(!n.or), nil
}

// not is NOT.
type not struct{ of node }

func (*not) typ() *value.Type { return value.Bool }

func (n *not) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil || v.Null {
		return value.Bool.Null(), err
	}
	return boolean(v.Text != "t"), nil
}

// is is IS NULL, and IS TRUE and its like, of which text is the value's.
type is struct {
	of   node
	null bool
	text string
	not  bool
}

func (*is) typ() *value.Type { return value.Bool }

func (n *is) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	found := v.Null
	if !n.null {
		found = !v.Null && v.Text == n.text
	}
	return boolean(found != n.not), err
}

// compare is a comparison of two values of one type.
type compare struct {
	op          string
	left, right node
	distinct    bool // IS [NOT] DISTINCT FROM, to which null is a value
	l, r        span // what each side reads
}

// both evaluates two operands, the left one first.
func both(f *frame, left, right node) (l, r value.Value, err error) {
	if l, err = left.eval(f); err == nil {
		r, err = right.eval(f)
	}
	return l, r, err
}

func (*compare) typ() *value.Type { return value.Bool }

func (n *compare) eval(f *frame) (value.Value, error) {
	l, r, err := both(f, n.left, n.right)
	if err != nil {
		return l, err
	}
	if err := f.run.step(1 + min(len(l.Text), len(r.Text))/64); err != nil {
		return r, err
	}
	if n.distinct {
		same := l.Null && r.Null || !l.Null && !r.Null && value.Compare(l, r) == 0
		return boolean(same == (n.op == "=")), nil
	}
	return compared(n.op, l, r), nil
}

func compared(op string, l, r value.Value) value.Value {
	if l.Null || r.Null {
		return value.Bool.Null()
	}
	return boolean(holds(op, value.Compare(l, r)))
}

func holds(op string, c int) bool {
	switch op {
	case "=":
		return c == 0
	case "<>":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// between is [NOT] BETWEEN; its values are of one type.
type between struct {
	of, low, high  node
	not, symmetric bool
}

func (*between) typ() *value.Type { return value.Bool }

func (n *between) eval(f *frame) (value.Value, error) {
	var v [3]value.Value
	for i, e := range []node{n.of, n.low, n.high} {
		var err error
		if v[i], err = e.eval(f); err != nil {
			return v[i], err
		}
	}
	low, high := v[1], v[2]
	if n.symmetric && !low.Null && !high.Null && value.Compare(low, high) > 0 {
		low, high = high, low
	}
	a, b := compared(">=", v[0], low), compared("<=", v[0], high)
	switch {
	case !a.Null && !isTrue(a), !b.Null && !isTrue(b):
		return boolean(n.not), nil
	case a.Null || b.Null:
		return value.Bool.Null(), nil
	}
	return boolean(!n.not), nil
}

// choice is CASE; of is nil where the conditions stand alone.
type choice struct {
	t     *value.Type
	whens [][2]node
	other node
}

func (n *choice) typ() *value.Type { return n.t }

func (n *choice) eval(f *frame) (value.Value, error) {
	for _, w := range n.whens {
		yes, err := truth(w[0], f)
		if err != nil {
			return value.Value{}, err
		}
		if yes {
			return w[1].eval(f)
		}
	}
	if n.other == nil {
		return n.t.Null(), nil
	}
	return n.other.eval(f)
}

// subject hands a CASE its operand.
type subject struct {
	choice node
	of     node
	held   *held
}

type held struct {
	t *value.Type
}

func (h *held) typ() *value.Type { return h.t }

func (h *held) eval(f *frame) (value.Value, error) {
	v, _ := f.lists[h].(value.Value)
	return v, nil
}

func (n *subject) typ() *value.Type { return n.choice.typ() }

func (n *subject) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil {
		return v, err
	}
	if f.lists == nil {
		f.lists = map[any]any{}
	}
	f.lists[n.held] = v
	return n.choice.eval(f)
}

// coalesce is the first value that is not null.
type coalesce struct {
	t    *value.Type
	args []node
}

func (n *coalesce) typ() *value.Type { return n.t }

func (n *coalesce) eval(f *frame) (value.Value, error) {
	for _, a := range n.args {
		if v, err := a.eval(f); err != nil || !v.Null {
			return v, err
		}
	}
	return n.t.Null(), nil
}

// extreme is GREATEST, or LEAST.
type extreme struct {
	t     *value.Type
	least bool
	args  []node
}

func (n *extreme) typ() *value.Type { return n.t }

func (n *extreme) eval(f *frame) (value.Value, error) {
	best := n.t.Null()
	for _, a := range n.args {
		v, err := a.eval(f)
		if err != nil {
			return v, err
		}
		if !v.Null && (best.Null || (value.Compare(v, best) < 0) == n.least) {
			best = v
		}
	}
	return best, nil
}

// nullif is NULLIF; both values are compared as of one type, and the result is
// the first as it was.
type nullif struct {
	of, with node
	as       *value.Type
}

func (n *nullif) typ() *value.Type { return n.of.typ() }

func (n *nullif) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil || v.Null {
		return v, err
	}
	with, err := n.with.eval(f)
	if err != nil || with.Null {
		return v, err
	}
	l, err := f.run.cast(v, n.as)
	if err != nil {
		return v, err
	}
	if value.Compare(l, with) == 0 {
		return v.Type.Null(), nil
	}
	return v, nil
}
