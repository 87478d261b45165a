package value

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// casts lists what pg_cast has between these types beyond widening.
var casts = map[*Type][]*Type{
	Bool:    {Int4},
	Int4:    {Bool, Int2, Char},
	Int8:    {Int2, Int4},
	Char:    {Int4},
	Numeric: {Int2, Int4, Int8},
	Float4:  {Int2, Int4, Int8, Numeric},
	Float8:  {Int2, Int4, Int8, Numeric, Float4},
	OID:     {Int4, Int8},
	RegProc: {Int4, Int8}, RegProcedure: {Int4, Int8}, RegOper: {Int4, Int8}, RegOperator: {Int4, Int8}, RegConfig: {Int4, Int8}, RegDict: {Int4, Int8}, RegCollation: {Int4, Int8}, RegClass: {Int4, Int8}, RegType: {Int4, Int8}, RegNamespace: {Int4, Int8}, RegRole: {Int4, Int8},
	Interval: {Time},
	Distinct: {Bytea}, Dependencies: {Bytea}, MCVList: {Bytea},
	XID8:        {XID},
	Timestamp:   {Date, Time},
	Timestamptz: {Date, Time, Timestamp},
	JSON:        {JSONB},
	JSONB:       {JSON, Bool, Int2, Int4, Int8, Float4, Float8, Numeric},
}

// Explicit tells whether a value of type from may be cast to a type: by a cast
// that PostgreSQL has, or through a text on either side.
func Explicit(from, to *Type) bool {
	switch {
	case Implicit(from, to) || slices.Contains(casts[from], to):
		return true
	case from.ElementType() != nil && to.Elem != nil:
		return Explicit(from.ElementType(), to.Elem)
	}
	return textual(from) || textual(to)
}

func textual(t *Type) bool { return t == Text || t == Varchar || t == Bpchar || t == Name }

// whole rounds a numeric to an integer, halves away from zero.
func (v Value) whole(t *Type) (Value, error) {
	switch {
	case v.Text == "NaN":
		return Value{}, errorf("0A000", "cannot convert NaN to %s", t.Name)
	case strings.HasSuffix(v.Text, "Infinity"):
		return Value{}, errorf("0A000", "cannot convert infinity to %s", t.Name)
	}
	return inRange(t, roundTo(v.Text, 0))
}

// inRange reads an integer that may be too large for its type.
func inRange(t *Type, s string) (Value, error) {
	v, err := t.Parse(s)
	if err != nil {
		err = errorf("22003", "%s out of range", t.Name)
	}
	return v, err
}

// floating converts a number of floating point: to an integer by rounding
// halves to even, and to a numeric with the digits that are certain.
func (v Value) floating(t *Type) (Value, error) {
	bits, certain := 64, 15 // DBL_DIG
	if v.Type == Float4 {
		bits, certain = 32, 6 // FLT_DIG
	}
	f, _ := strconv.ParseFloat(v.Text, bits) // canonical
	switch {
	case integral(t):
		return inRange(t, strconv.FormatFloat(math.RoundToEven(f), 'f', 0, 64))
	case t == Float8:
		return Value{Type: t, Text: formatFloat(f, 64)}, nil
	case t == Float4:
		narrow := float64(float32(f))
		if math.IsInf(narrow, 0) && !math.IsInf(f, 0) {
			return Value{}, errorf("22003", "value out of range: overflow")
		}
		if narrow == 0 && f != 0 {
			return Value{}, errorf("22003", "value out of range: underflow")
		}
		return Value{Type: t, Text: formatFloat(narrow, 32)}, nil
	case t == Numeric && !math.IsInf(f, 0) && f == f:
		return t.Parse(strconv.FormatFloat(f, 'g', certain, 64))
	}
	return t.Parse(v.Text)
}

// member converts a jsonb that is a boolean or a number.
func (v Value) member(t *Type) (Value, error) {
	kind := map[byte]string{'{': "object", '[': "array", '"': "string", 'n': "null", 't': "boolean", 'f': "boolean"}[v.Text[0]]
	switch {
	case t == Bool && kind == "boolean":
		return Value{Type: t, Text: v.Text[:1]}, nil
	case t != Bool && kind == "":
		return Value{Type: Numeric, Text: v.Text}.As(t)
	case kind == "":
		kind = "numeric"
	}
	return Value{}, errorf("22023", "cannot cast jsonb %s to type %s", kind, t.Name)
}
