package value

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Compare orders two values of one type, none of them null, as PostgreSQL
// does with the collation C.
func Compare(a, b Value) int {
	t := a.Type
	switch {
	case a.Text == b.Text && t != Float4 && t != Float8:
		return 0
	case integral(t):
		return cmp.Compare(integer(a.Text), integer(b.Text))
	case t == OID || t == XID || t == XID8 || t == CID || t.Reg():
		return cmp.Compare(natural(a.Text), natural(b.Text))
	case t == Numeric:
		return compareNumeric(a.Text, b.Text)
	case t == Float4, t == Float8:
		return compareFloats(a.Text, b.Text)
	case t == Bpchar:
		return strings.Compare(strings.TrimRight(a.Text, " "), strings.TrimRight(b.Text, " "))
	case t == Date, t == Timestamp, t == Timestamptz, t == Time:
		return cmp.Compare(a.Micros(), b.Micros())
	case t == Interval:
		x, y := SpanOf(a), SpanOf(b)
		return x.total().Cmp(y.total())
	case t == Int2Vector, t == OIDVector:
		x, _ := a.AsArray()
		y, _ := b.AsArray()
		return compareArrays(x, y)
	case t.Elem != nil:
		return compareArrays(a, b)
	}
	return strings.Compare(a.Text, b.Text)
}

func integer(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64) // canonical
	return n
}

func natural(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // canonical
	return n
}

// total is the length in microseconds, of months of thirty days.
func (s Span) total() *big.Int {
	n := big.NewInt(int64(s.Months)*30 + int64(s.Days))
	return n.Add(n.Mul(n, big.NewInt(day)), big.NewInt(s.Micros))
}

// compareFloats has NaN behind all others.
func compareFloats(a, b string) int {
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	switch {
	case math.IsNaN(x) && math.IsNaN(y):
		return 0
	case math.IsNaN(x):
		return 1
	case math.IsNaN(y):
		return -1
	}
	return cmp.Compare(x, y)
}

// compareNumeric compares by the digits, however many there are.
func compareNumeric(a, b string) int {
	rank := func(s string) int {
		switch s {
		case "NaN":
			return 2
		case "Infinity":
			return 1
		case "-Infinity":
			return -1
		}
		return 0
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 || rank(a) != 0 {
		return c
	}
	x, less := strings.CutPrefix(a, "-")
	y, lesser := strings.CutPrefix(b, "-")
	switch {
	case less && !lesser:
		return -1
	case lesser && !less:
		return 1
	case less:
		x, y = y, x
	}
	xw, xf, _ := strings.Cut(x, ".")
	yw, yf, _ := strings.Cut(y, ".")
	if c := cmp.Compare(len(xw), len(yw)); c != 0 {
		return c
	}
	if c := strings.Compare(xw, yw); c != 0 {
		return c
	}
	return strings.Compare(strings.TrimRight(xf, "0"), strings.TrimRight(yf, "0"))
}

// compareArrays compares element by element; a null is greater than all else.
func compareArrays(a, b Value) int {
	x, y := gridOf(a), gridOf(b)
	for i := range min(len(x.cells), len(y.cells)) {
		p, q := x.cells[i], y.cells[i]
		switch {
		case p.null && q.null:
			continue
		case p.null:
			return 1
		case q.null:
			return -1
		}
		if c := Compare(Value{Type: a.Type.Elem, Text: p.text}, Value{Type: a.Type.Elem, Text: q.text}); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(len(x.cells), len(y.cells)); c != 0 {
		return c
	}
	if c := cmp.Compare(len(x.dims), len(y.dims)); c != 0 {
		return c
	}
	if c := slices.Compare(x.dims, y.dims); c != 0 {
		return c
	}
	return slices.Compare(x.bounds(), y.bounds())
}

func (g grid) bounds() []int {
	if g.lower != nil {
		return g.lower
	}
	return slices.Repeat([]int{1}, len(g.dims))
}

// Elements are those of an array, or of a vector, in order, whatever its
// dimensions; of a null there are none.
func (v Value) Elements() []Value {
	a, ok := v.AsArray()
	if !ok || a.Null {
		return nil
	}
	g := gridOf(a)
	list := make([]Value, len(g.cells))
	for i, c := range g.cells {
		list[i] = Value{Type: a.Type.Elem, Null: c.null, Text: c.text}
	}
	return list
}

// Dimensions are an array's lengths and lower bounds.
func (v Value) Dimensions() (lengths, lower []int) {
	a, ok := v.AsArray()
	if !ok || a.Null {
		return nil, nil
	}
	g := gridOf(a)
	return g.dims, g.bounds()
}

// Key is a text that equal values of one type share, and no others.
func (v Value) Key() string {
	switch {
	case v.Type == Numeric:
		if whole, fraction, ok := strings.Cut(v.Text, "."); ok {
			if fraction = strings.TrimRight(fraction, "0"); fraction == "" {
				return whole
			}
			return whole + "." + fraction
		}
	case v.Type == Bpchar:
		return strings.TrimRight(v.Text, " ")
	case v.Type == Interval:
		return SpanOf(v).total().String()
	case (v.Type == Float4 || v.Type == Float8) && v.Text == "-0":
		return "0"
	}
	return v.Text
}
