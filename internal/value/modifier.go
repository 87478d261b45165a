package value

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of type modifiers: numeric.c, varchar.c and timestamp.h.
const (
	maxPrecision = 1000
	maxLength    = 10485760
	maxDecimals  = 6
)

// Modify returns what a cast to the type with modifiers, as in numeric(10,2),
// does to a value of the type, or to each element if it is an array. The error
// is an *[Error].
func (t *Type) Modify(mods []int) (func(Value) (Value, error), error) {
	if t.Elem != nil {
		inner, err := t.Elem.Modify(mods)
		return func(v Value) (Value, error) { return v.each(inner) }, err
	}
	one := func(low, high int, what string) error {
		if len(mods) > 1 && (t == Varchar || t == Bpchar) {
			return errorf("22023", "invalid type modifier")
		}
		if len(mods) > 1 {
			return errorf("42601", "syntax error at or near \",\"")
		}
		if mods[0] < 0 {
			return errorf("42601", "syntax error at or near \"-\"")
		}
		if mods[0] < low || mods[0] > high {
			return errorf("22023", "%s must be between %d and %d", what, low, high)
		}
		return nil
	}
	var f func(string) (string, error)
	var err error
	switch t {
	case Numeric:
		f, err = fitNumeric(mods)
	case Varchar, Bpchar:
		err = one(1, maxLength, "the length of type "+t.Name)
		pad := t == Bpchar
		f = func(s string) (string, error) { return fitLength(s, mods[0], pad), nil }
	case Time, Timestamp, Timestamptz:
		err = one(0, 1<<31-1, "the precision of type "+t.Name) // above six PostgreSQL takes six
		f = func(s string) (string, error) { return t.fitDecimals(s, min(mods[0], maxDecimals)) }
	default:
		err = errorf("42601", "type modifier is not allowed for type \"%s\"", t.Name)
	}
	return func(v Value) (Value, error) {
		if v.Null {
			return v, nil
		}
		s, err := f(v.Text)
		return Value{Type: t, Text: s}, err
	}, err
}

// each applies f to the elements of an array.
func (v Value) each(f func(Value) (Value, error)) (Value, error) {
	if v.Null {
		return v, nil
	}
	g := gridOf(v)
	to := grid{dims: g.dims, lower: g.lower}
	for _, e := range g.cells {
		c, err := f(Value{Type: v.Type.Elem, Null: e.null, Text: e.text})
		if err == nil && c.Null {
			to.cells = append(to.cells, e)
		} else if err == nil {
			err = to.add(c.Text)
		}
		if err != nil {
			return Value{}, err
		}
	}
	return Value{Type: v.Type, Text: to.text()}, nil
}

// fitLength cuts a text to n characters, or pads it with spaces.
func fitLength(s string, n int, pad bool) string {
	if len(s) > n { // else there are no more than n characters
		at := 0
		for i := range s {
			if at == n {
				return s[:i]
			}
			at++
		}
	}
	if pad {
		s += strings.Repeat(" ", n-utf8.RuneCountInString(s))
	}
	return s
}

func fitNumeric(mods []int) (func(string) (string, error), error) {
	precision, scale := mods[0], 0
	if len(mods) > 1 {
		scale = mods[1]
	}
	switch {
	case len(mods) > 2:
		return nil, errorf("22023", "invalid NUMERIC type modifier")
	case precision < 1 || precision > maxPrecision:
		return nil, errorf("22023", "NUMERIC precision %d must be between 1 and %d", precision, maxPrecision)
	case scale < -maxPrecision || scale > maxPrecision:
		return nil, errorf("22023", "NUMERIC scale %d must be between -%d and %d", scale, maxPrecision, maxPrecision)
	}
	return func(s string) (string, error) {
		if s == "NaN" {
			return s, nil
		}
		if strings.HasSuffix(s, "Infinity") {
			return "", overflow()
		}
		rounded := roundTo(s, scale)
		whole, fraction, _ := strings.Cut(strings.TrimPrefix(rounded, "-"), ".")
		significant := len(strings.TrimLeft(whole, "0"))
		if significant == 0 {
			significant = len(strings.TrimLeft(fraction, "0")) - len(fraction) // 0.001 begins two places behind the point
			if strings.Trim(fraction, "0") == "" {
				return rounded, nil
			}
		}
		if significant > precision-scale {
			return "", overflow()
		}
		return rounded, nil
	}, nil
}

func overflow() error { return errorf("22003", "numeric field overflow") }

// roundTo rounds a canonical numeric to a number of digits behind the point, or
// before it if that is negative, halves away from zero.
func roundTo(s string, scale int) string {
	rest, negative := strings.CutPrefix(s, "-")
	sign := ""
	if negative {
		sign = "-"
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if len(fraction) <= scale {
		return joinNumeric(sign, strings.TrimLeft(whole, "0"), fraction+strings.Repeat("0", scale-len(fraction)))
	}
	keep := len(whole) + scale // digits of all that stay
	if keep < 0 {
		keep, whole = 0, strings.Repeat("0", -scale)
	}
	all := whole + fraction
	digits := []byte("0" + all[:keep])
	if all[keep] >= '5' {
		i := len(digits) - 1
		for ; digits[i] == '9'; i-- {
			digits[i] = '0'
		}
		digits[i]++
	}
	point := len(digits) - max(scale, 0)
	return joinNumeric(sign, strings.TrimLeft(string(digits[:point])+strings.Repeat("0", max(-scale, 0)), "0"), string(digits[point:]))
}

// fitDecimals rounds a time to decimals of a second, halves away from zero.
func (t *Type) fitDecimals(s string, decimals int) (string, error) {
	unit, _ := strconv.ParseInt("1000000"[:1+maxDecimals-decimals], 10, 64)
	fit := func(us int64) int64 {
		if us < 0 {
			return -((-us + unit/2) / unit * unit)
		}
		return (us + unit/2) / unit * unit
	}
	if t == Time {
		us, _ := clock(s) // canonical
		return formatClock(fit(us)), nil
	}
	us, _ := readMoment(t, s, nil) // canonical
	if _, ok := endless(us); ok {
		return s, nil
	}
	if us = fit(us); us > maxTime {
		return "", errorf("22008", "timestamp out of range")
	}
	if t == Timestamp {
		return timestampOf(us), nil
	}
	return moment(us, nil), nil
}
