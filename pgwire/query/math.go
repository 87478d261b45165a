package query

import (
	"math"
	"math/big"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

// floats makes a function of double precision, which has no value beyond its
// domain.
func floats(do func(float64) float64, code, wrong0 string, within func(float64) bool) *Function {
	return fn(value.Float8, func(_ *Run, args []value.Value) (value.Value, error) {
		x := float(args[0])
		if within != nil && !within(x) {
			wrong := wrong0
			if x == 0 {
				wrong = strings.Replace(wrong, "a negative number", "zero", 1)
			}
			return args[0], errorf(code, "%s", wrong)
		}
		y := do(x)
		if math.IsInf(y, 0) && !math.IsInf(x, 0) {
			return args[0], errorf("22003", "value out of range: overflow")
		}
		return double(y)
	}, value.Float8)
}

// rounding makes a function of numeric, and of double precision.
func rounding(onFloat func(float64) float64, onDecimal func(decimal) decimal) []*Function {
	return []*Function{
		floats(onFloat, "", "", nil),
		fn(value.Numeric, func(_ *Run, args []value.Value) (value.Value, error) {
			if special(args[0].Text) {
				return args[0], nil
			}
			return onDecimal(readDecimal(args[0].Text)).value()
		}, value.Numeric),
	}
}

// toward divides by the unit, and rounds down or up.
func toward(d decimal, up bool) decimal {
	q, rest := new(big.Int).QuoRem(d.n, pow10(d.scale), new(big.Int))
	if rest.Sign() > 0 && up {
		q.Add(q, big.NewInt(1))
	}
	if rest.Sign() < 0 && !up {
		q.Sub(q, big.NewInt(1))
	}
	return decimal{q, 0}
}

// cut rounds to digits behind the point, or before it.
func cut(d decimal, digits int, round bool) decimal {
	digits = max(-2000, min(digits, 2000))
	if !round && d.scale > digits {
		unit := pow10(d.scale - max(digits, -d.scale-2000))
		d = decimal{new(big.Int).Mul(new(big.Int).Quo(d.n, unit), unit), d.scale}
	}
	if digits < 0 {
		unit := pow10(-digits)
		r := rounded(decimal{d.n, d.scale - digits}, 0)
		return decimal{r.n.Mul(r.n, unit), 0}
	}
	return rounded(d, digits)
}

func digitsOf(round bool) *Function {
	return fn(value.Numeric, func(_ *Run, args []value.Value) (value.Value, error) {
		if special(args[0].Text) {
			return args[0], nil
		}
		return cut(readDecimal(args[0].Text), atoi(args[1]), round).value()
	}, value.Numeric, value.Int4)
}

var (
	notNegative = func(x float64) bool { return !(x < 0) }
	positive    = func(x float64) bool { return !(x <= 0) }
)

const (
	badRoot = "cannot take square root of a negative number"
	badLog  = "cannot take logarithm of a negative number"
)

var mathFunctions = map[string][]*Function{
	"abs": each(func(r *Run, args []value.Value) (value.Value, error) {
		return (&unary{op: "@", of: literal{args[0], -1}}).eval(&frame{run: r})
	}, value.Int2, value.Int4, value.Int8, value.Numeric, value.Float4, value.Float8),
	"ceil":    rounding(math.Ceil, func(d decimal) decimal { return toward(d, true) }),
	"ceiling": rounding(math.Ceil, func(d decimal) decimal { return toward(d, true) }),
	"floor":   rounding(math.Floor, func(d decimal) decimal { return toward(d, false) }),
	"round":   append(rounding(math.RoundToEven, func(d decimal) decimal { return rounded(d, 0) }), digitsOf(true)),
	"trunc":   append(rounding(math.Trunc, func(d decimal) decimal { return cut(d, 0, false) }), digitsOf(false)),
	"sqrt":    one(floats(math.Sqrt, "2201F", badRoot, notNegative)),
	"exp":     one(floats(math.Exp, "", "", nil)),
	"ln":      one(floats(math.Log, "2201E", badLog, positive)),
	"log":     one(floats(math.Log10, "2201E", badLog, positive)),
	"sin":     one(floats(math.Sin, "", "", nil)),
	"cos":     one(floats(math.Cos, "", "", nil)),
	"tan":     one(floats(math.Tan, "", "", nil)),
	"degrees": one(floats(func(x float64) float64 { return x / math.Pi * 180 }, "", "", nil)),
	"radians": one(floats(func(x float64) float64 { return x / 180 * math.Pi }, "", "", nil)),
	"pi":      one(fn(value.Float8, func(*Run, []value.Value) (value.Value, error) { return double(math.Pi) })),
	"sign": {
		fn(value.Float8, func(_ *Run, args []value.Value) (value.Value, error) {
			x := float(args[0])
			switch {
			case x > 0:
				x = 1
			case x < 0:
				x = -1
			}
			return double(x)
		}, value.Float8),
		fn(value.Numeric, func(_ *Run, args []value.Value) (value.Value, error) {
			return integer(value.Numeric, int64(value.Compare(args[0], value.Value{Type: value.Numeric, Text: "0"}))), nil
		}, value.Numeric),
	},
	"mod":   computed("%", value.Int2, value.Int4, value.Int8, value.Numeric),
	"div":   one(fn(value.Numeric, div, value.Numeric, value.Numeric)),
	"power": computed("^", value.Float8, value.Numeric),
	"pow":   computed("^", value.Float8, value.Numeric),
}

// computed makes functions of an operator.
func computed(op string, types ...*value.Type) []*Function {
	var list []*Function
	for _, t := range types {
		n := &arithmetic{op: op, t: t}
		list = append(list, fn(t, func(r *Run, args []value.Value) (value.Value, error) { return n.compute(r, args[0], args[1]) }, t, t))
	}
	return list
}

func div(r *Run, args []value.Value) (value.Value, error) {
	if special(args[0].Text) || special(args[1].Text) {
		return specialNumeric("/", args[0].Text, args[1].Text)
	}
	x, y := readDecimal(args[0].Text), readDecimal(args[1].Text)
	if y.n.Sign() == 0 {
		return args[0], divisionByZero()
	}
	scale := max(x.scale, y.scale)
	return decimal{new(big.Int).Quo(x.scaled(scale), y.scaled(scale)), 0}.value()
}
