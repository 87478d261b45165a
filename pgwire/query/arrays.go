package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

// expanded is the type of what _pg_expandarray returns.
var expanded = value.NewRecord()

var expandedColumns = []Column{{Name: "x", Type: value.Int4}, {Name: "n", Type: value.Int4}}

var arrayFunctions = map[string][]*Function{
	"array_length":    one(fn(value.Int4, arrayLength, AnyArray, value.Int4)),
	"array_upper":     one(fn(value.Int4, arrayBound(true), AnyArray, value.Int4)),
	"array_lower":     one(fn(value.Int4, arrayBound(false), AnyArray, value.Int4)),
	"array_ndims":     one(fn(value.Int4, arrayDims, AnyArray)),
	"cardinality":     one(fn(value.Int4, cardinality, AnyArray)),
	"array_to_string": one(fn(value.Text, arrayToString, AnyArray, value.Text, value.Text).optional(1).lax()),
	"string_to_array": one(fn(value.Text.Array, stringToArray, value.Text, value.Text, value.Text).optional(1).lax()),
	"array_append":    one(fn(AnyArray, arrayAppend, AnyArray, AnyElement).lax()),
	"array_prepend":   one(fn(AnyArray, arrayPrepend, AnyElement, AnyArray).lax()),
	"array_cat":       one(fn(AnyArray, arrayCat, AnyArray, AnyArray).lax()),
	"array_remove":    one(fn(AnyArray, arrayRemove, AnyArray, AnyElement).lax()),
	"array_position":  one(fn(value.Int4, arrayPosition, AnyArray, AnyElement).lax()),
	"unnest":          one(&Function{Args: []*value.Type{AnyArray}, Result: AnyElement, Set: unnest}),
	"generate_series": {
		{Args: []*value.Type{value.Int4, value.Int4, value.Int4}, Optional: 1, Result: value.Int4, Set: series},
		{Args: []*value.Type{value.Int8, value.Int8, value.Int8}, Optional: 1, Result: value.Int8, Set: series},
	},
	"generate_subscripts":                one(&Function{Args: []*value.Type{AnyArray, value.Int4}, Result: value.Int4, Set: subscripts}),
	"information_schema._pg_expandarray": one(&Function{Args: []*value.Type{AnyArray}, Result: expanded, Columns: expandedColumns, Set: expandArray}),
	"num_nulls":                          one(fn(value.Int4, nulls(true), Any).variadic().lax()),
	"num_nonnulls":                       one(fn(value.Int4, nulls(false), Any).variadic().lax()),
}

func dimension(args []value.Value) (length, low int, ok bool) {
	lengths, lower := args[0].Dimensions()
	n := atoi(args[1])
	if n < 1 || n > len(lengths) {
		return 0, 0, false
	}
	return lengths[n-1], lower[n-1], true
}

func arrayLength(_ *Run, args []value.Value) (value.Value, error) {
	n, _, ok := dimension(args)
	if !ok {
		return value.Int4.Null(), nil
	}
	return integer(value.Int4, int64(n)), nil
}

func arrayBound(upper bool) body {
	return func(_ *Run, args []value.Value) (value.Value, error) {
		n, low, ok := dimension(args)
		switch {
		case !ok:
			return value.Int4.Null(), nil
		case upper:
			low += n - 1
		}
		return integer(value.Int4, int64(low)), nil
	}
}

func arrayDims(_ *Run, args []value.Value) (value.Value, error) {
	lengths, _ := args[0].Dimensions()
	if len(lengths) == 0 {
		return value.Int4.Null(), nil
	}
	return integer(value.Int4, int64(len(lengths))), nil
}

func cardinality(r *Run, args []value.Value) (value.Value, error) {
	list, err := r.elements(args[0])
	return integer(value.Int4, int64(len(list))), err
}

func arrayToString(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null || args[1].Null {
		return value.Text.Null(), nil
	}
	list, err := r.elements(args[0])
	if err != nil {
		return args[0], err
	}
	var b strings.Builder
	some := false
	for _, v := range list {
		t := ""
		switch {
		case !v.Null:
			if t, err = printed(r, v); err != nil {
				return v, err
			}
		case len(args) < 3 || args[2].Null:
			continue
		default:
			t = args[2].Text
		}
		if some {
			b.WriteString(args[1].Text)
		}
		some = true
		b.WriteString(t)
		if err := r.Took(len(t) + len(args[1].Text)); err != nil {
			return v, err
		}
	}
	return text(b.String()), nil
}

func stringToArray(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Text.Array.Null(), nil
	}
	var parts []string
	if err := r.room(16 * (len(args[0].Text) + 1)); err != nil { // it may be split everywhere
		return args[0], err
	}
	switch s := args[0].Text; {
	case s == "":
	case args[1].Null:
		parts = strings.Split(s, "")
	case args[1].Text == "":
		parts = []string{s}
	default:
		parts = strings.Split(s, args[1].Text)
	}
	if err := r.Took(valueBytes * len(parts)); err != nil {
		return args[0], err
	}
	list := make([]value.Value, len(parts))
	for i, p := range parts {
		if list[i] = text(p); len(args) > 2 && !args[2].Null && p == args[2].Text {
			list[i] = value.Text.Null()
		}
	}
	return rebuilt(r, value.Text.Array, list)
}

// rebuilt makes an array of elements, counted from 1.
func rebuilt(r *Run, t *value.Type, list []value.Value) (value.Value, error) {
	size := 0
	for _, v := range list {
		size += 2*len(v.Text) + 3
	}
	if err := r.Took(size); err != nil {
		return value.Value{}, err
	}
	return makeArray(r, t, list)
}

func arrayAppend(r *Run, args []value.Value) (value.Value, error) {
	list, err := r.elements(args[0])
	if err != nil {
		return args[0], err
	}
	return rebuilt(r, args[1].Type.Array, append(list, args[1]))
}

func arrayPrepend(r *Run, args []value.Value) (value.Value, error) {
	list, err := r.elements(args[1])
	if err != nil {
		return args[0], err
	}
	return rebuilt(r, args[0].Type.Array, append([]value.Value{args[0]}, list...))
}

func arrayCat(r *Run, args []value.Value) (value.Value, error) {
	switch {
	case args[0].Null:
		return args[1], nil
	case args[1].Null:
		return args[0], nil
	}
	a, _ := args[0].Dimensions()
	b, _ := args[1].Dimensions()
	switch {
	case len(a) == 0:
		return args[1], nil
	case len(b) == 0:
		return args[0], nil
	case len(a) > 1 || len(b) > 1:
		return args[0], errorf("0A000", "fdt puts arrays of one dimension together alone")
	}
	list, err := r.elements(args[0])
	if err != nil {
		return args[0], err
	}
	more, err := r.elements(args[1])
	if err != nil {
		return args[0], err
	}
	return rebuilt(r, args[0].Type, append(list, more...))
}

func arrayRemove(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return args[0], nil
	}
	list, err := r.elements(args[0])
	if err != nil {
		return args[0], err
	}
	return rebuilt(r, args[0].Type, slices.DeleteFunc(list, func(v value.Value) bool { return sameElement(v, args[1]) }))
}

// sameElement tells whether two elements are equal, or are both null.
func sameElement(a, b value.Value) bool {
	return a.Null && b.Null || !a.Null && !b.Null && value.Compare(a, b) == 0
}

func arrayPosition(r *Run, args []value.Value) (value.Value, error) {
	list, err := r.elements(args[0])
	if err != nil {
		return args[0], err
	}
	_, lower := args[0].Dimensions()
	for i, v := range list {
		if sameElement(v, args[1]) {
			return integer(value.Int4, int64(i+lower[0])), nil
		}
	}
	return value.Int4.Null(), nil
}

func unnest(r *Run, args []value.Value) ([][]value.Value, error) {
	list, err := r.elements(args[0])
	if err != nil {
		return nil, err
	}
	rows := make([][]value.Value, len(list))
	for i := range list {
		rows[i] = list[i : i+1 : i+1]
		if err := r.keep(rows[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func series(r *Run, args []value.Value) ([][]value.Value, error) {
	from, to, by := atoi(args[0]), atoi(args[1]), 1
	if len(args) > 2 {
		by = atoi(args[2])
	}
	if by == 0 {
		return nil, errorf("22023", "step size cannot equal zero")
	}
	var rows [][]value.Value
	for n := from; by > 0 && n <= to || by < 0 && n >= to; {
		rows = append(rows, []value.Value{integer(args[0].Type, int64(n))})
		if err := r.keep(rows[len(rows)-1]); err != nil {
			return nil, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		next := n + by
		if (next > n) != (by > 0) { // it went beyond the type
			break
		}
		n = next
	}
	return rows, nil
}

func subscripts(r *Run, args []value.Value) ([][]value.Value, error) {
	n, low, ok := dimension(args)
	if !ok {
		return nil, nil
	}
	rows := make([][]value.Value, n)
	for i := range rows {
		rows[i] = []value.Value{integer(value.Int4, int64(low+i))}
		if err := r.keep(rows[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func expandArray(r *Run, args []value.Value) ([][]value.Value, error) {
	list, err := r.elements(args[0])
	if err != nil {
		return nil, err
	}
	var rows [][]value.Value
	for i, v := range list {
		n, err := r.cast(v, value.Int4)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []value.Value{n, integer(value.Int4, int64(i+1))})
		if err := r.keep(rows[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func nulls(null bool) body {
	return func(_ *Run, args []value.Value) (value.Value, error) {
		n := 0
		for _, a := range args {
			if a.Null == null {
				n++
			}
		}
		return integer(value.Int4, int64(n)), nil
	}
}
