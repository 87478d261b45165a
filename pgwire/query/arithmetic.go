package query

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

func text(s string) value.Value { return value.Value{Type: value.Text, Text: s} }

func integer(t *value.Type, n int64) value.Value {
	return value.Value{Type: t, Text: strconv.FormatInt(n, 10)}
}

// atoi is an integer's value.
func atoi(v value.Value) int {
	n, _ := strconv.ParseInt(v.Text, 10, 64) // canonical
	return int(n)
}

func float(v value.Value) float64 {
	f, _ := strconv.ParseFloat(v.Text, 64) // canonical
	return f
}

func double(f float64) (value.Value, error) { return real(value.Float8, f) }

func real(t *value.Type, f float64) (value.Value, error) {
	bits := 64
	if t == value.Float4 {
		bits = 32
	}
	return t.Parse(strconv.FormatFloat(f, 'g', -1, bits))
}

func outOfRange(t *value.Type) error { return errorf("22003", "%s out of range", t.Name) }

func divisionByZero() error { return errorf("22012", "division by zero") }

// arithmetic computes with two numbers of one type.
type arithmetic struct {
	op          string
	t           *value.Type
	left, right node
	at          int
}

func (n *arithmetic) typ() *value.Type { return n.t }

func (n *arithmetic) eval(f *frame) (value.Value, error) {
	l, r, err := both(f, n.left, n.right)
	if err != nil {
		return l, err
	}
	if l.Null || r.Null {
		return n.t.Null(), nil
	}
	return f.run.made(n.compute(f.run, l, r))
}

// compute does it for values that are not null.
func (n *arithmetic) compute(r *Run, a, b value.Value) (value.Value, error) {
	if err := r.step(1); err != nil {
		return a, err
	}
	switch n.t {
	case value.Numeric:
		return numeric(r, n.op, a.Text, b.Text)
	case value.Float4, value.Float8:
		return n.floating(float(a), float(b))
	}
	return n.whole(int64(atoi(a)), int64(atoi(b)))
}

func (n *arithmetic) floating(a, b float64) (value.Value, error) {
	var f float64
	switch n.op {
	case "+":
		f = a + b
	case "-":
		f = a - b
	case "*":
		f = a * b
	case "/":
		if b == 0 && !math.IsNaN(a) {
			return value.Value{}, divisionByZero()
		}
		f = a / b
	default:
		return power(a, b)
	}
	if n.t == value.Float4 {
		f = float64(float32(f))
	}
	if math.IsInf(f, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		return value.Value{}, errorf("22003", "value out of range: overflow")
	}
	if f == 0 && a != 0 && b != 0 && (n.op == "*" || n.op == "/") && !math.IsInf(b, 0) {
		return value.Value{}, errorf("22003", "value out of range: underflow")
	}
	return real(n.t, f)
}

func power(a, b float64) (value.Value, error) {
	switch {
	case a == 0 && b < 0:
		return value.Value{}, errorf("2201F", "zero raised to a negative power is undefined")
	case a < 0 && b != math.Trunc(b) && !math.IsInf(b, 0):
		return value.Value{}, errorf("2201F", "a negative number raised to a non-integer power yields a complex result")
	}
	f := math.Pow(a, b)
	if math.IsInf(f, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		return value.Value{}, errorf("22003", "value out of range: overflow")
	}
	return double(f)
}

// whole computes with integers; what does not fit is an error.
func (n *arithmetic) whole(a, b int64) (value.Value, error) {
	x, y := big.NewInt(a), big.NewInt(b)
	z := new(big.Int)
	switch n.op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "/", "%":
		if b == 0 {
			return value.Value{}, divisionByZero()
		}
		if n.op == "/" {
			z.Quo(x, y)
		} else {
			z.Rem(x, y)
		}
	case "&":
		z.SetInt64(a & b)
	case "|":
		z.SetInt64(a | b)
	case "#":
		z.SetInt64(a ^ b)
	case "<<", ">>":
		return n.shift(a, b), nil
	}
	v, err := n.t.Parse(z.String())
	if err != nil {
		return v, outOfRange(n.t)
	}
	return v, nil
}

// shift wraps around as C does.
func (n *arithmetic) shift(a, b int64) value.Value {
	bits := map[*value.Type]int64{value.Int2: 32, value.Int4: 32, value.Int8: 64}[n.t]
	by := uint(b & (bits - 1)) //nolint:gosec // masked
	if n.op == ">>" {
		return integer(n.t, a>>by)
	}
	a <<= by
	switch n.t {
	case value.Int2:
		a = int64(int16(a)) //nolint:gosec // wraps around
	case value.Int4:
		a = int64(int32(a)) //nolint:gosec // wraps around
	}
	return integer(n.t, a)
}

// decimal is a numeric as an integer and how many of its digits are behind the
// point.
type decimal struct {
	n     *big.Int
	scale int
}

func readDecimal(s string) decimal {
	whole, fraction, _ := strings.Cut(s, ".")
	n, _ := new(big.Int).SetString(whole+fraction, 10) // canonical
	return decimal{n, len(fraction)}
}

func (d decimal) scaled(to int) *big.Int {
	if to <= d.scale {
		return d.n
	}
	return new(big.Int).Mul(d.n, pow10(to-d.scale))
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func (d decimal) value() (value.Value, error) {
	s := d.n.String()
	rest, negative := strings.CutPrefix(s, "-")
	if d.scale > 0 {
		if len(rest) <= d.scale {
			rest = strings.Repeat("0", d.scale-len(rest)+1) + rest
		}
		rest = rest[:len(rest)-d.scale] + "." + rest[len(rest)-d.scale:]
	}
	if negative {
		rest = "-" + rest
	}
	return value.Numeric.Parse(rest)
}

// maxScale is the most digits behind the point that are computed.
const maxScale = 16383

// numeric computes with numerics.
func numeric(r *Run, op, a, b string) (value.Value, error) {
	if special(a) || special(b) {
		return specialNumeric(op, a, b)
	}
	if err := r.step((len(a)/16 + 1) * (len(b)/16 + 1) / 16); err != nil {
		return value.Value{}, err
	}
	x, y := readDecimal(a), readDecimal(b)
	scale := max(x.scale, y.scale)
	switch op {
	case "+":
		return decimal{new(big.Int).Add(x.scaled(scale), y.scaled(scale)), scale}.value()
	case "-":
		return decimal{new(big.Int).Sub(x.scaled(scale), y.scaled(scale)), scale}.value()
	case "*":
		return rounded(decimal{new(big.Int).Mul(x.n, y.n), x.scale + y.scale}, min(x.scale+y.scale, maxScale)).value()
	case "^":
		return numericPower(r, x, y)
	}
	if y.n.Sign() == 0 {
		return value.Value{}, divisionByZero()
	}
	if op == "%" {
		return decimal{new(big.Int).Rem(x.scaled(scale), y.scaled(scale)), scale}.value()
	}
	return quotient(x, y, divisionScale(a, b, scale)).value()
}

// quotient divides, and rounds halves away from zero.
func quotient(x, y decimal, scale int) decimal {
	num := new(big.Int).Mul(x.n, pow10(scale+1+y.scale))
	den := new(big.Int).Mul(y.n, pow10(x.scale))
	return rounded(decimal{num.Quo(num, den), scale + 1}, scale)
}

// rounded rounds halves away from zero.
func rounded(d decimal, scale int) decimal {
	if d.scale <= scale {
		return decimal{d.scaled(scale), scale}
	}
	unit := pow10(d.scale - scale)
	half := new(big.Int).Quo(unit, big.NewInt(2))
	n := new(big.Int).Set(d.n)
	if n.Sign() < 0 {
		half.Neg(half)
	}
	return decimal{n.Add(n, half).Quo(n, unit), scale}
}

// divisionScale is how many digits a quotient has behind the point:
// numeric.c's select_div_scale.
func divisionScale(a, b string, scale int) int {
	w1, d1 := leading(a)
	w2, d2 := leading(b)
	weight := w1 - w2
	if d1 <= d2 {
		weight--
	}
	return min(max(16-weight*4, scale, 0), 1000)
}

// leading is the weight of a numeric's first digit to the base 10,000 that is
// not zero, and that digit.
func leading(s string) (weight, digit int) {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if pad := (4 - len(whole)%4) % 4; pad > 0 {
		whole = "0000"[:pad] + whole
	}
	if pad := (4 - len(fraction)%4) % 4; pad > 0 {
		fraction += "0000"[:pad]
	}
	all := whole + fraction
	for i := 0; i < len(all); i += 4 {
		if d, _ := strconv.Atoi(all[i : i+4]); d != 0 {
			return len(whole)/4 - 1 - i/4, d
		}
	}
	return 0, 0
}

func special(s string) bool { return s == "NaN" || strings.HasSuffix(s, "Infinity") }

// specialNumeric computes where one is not finite, as floating point does.
func specialNumeric(op, a, b string) (value.Value, error) {
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	var f float64
	switch op {
	case "+":
		f = x + y
	case "-":
		f = x - y
	case "*":
		f = x * y
	case "/", "%":
		if y == 0 && !math.IsNaN(x) {
			return value.Value{}, divisionByZero()
		}
		if f = x / y; op == "%" {
			f = math.Mod(x, y)
		}
	default:
		f = math.Pow(x, y)
	}
	if !math.IsNaN(f) && !math.IsInf(f, 0) { // a finite one over infinity
		if op == "%" {
			return value.Numeric.Parse(a)
		}
		f = 0
	}
	return value.Numeric.Parse(strconv.FormatFloat(f, 'g', -1, 64))
}

// numericPower serves whole powers, and roots by floating point.
func numericPower(r *Run, x, y decimal) (value.Value, error) {
	unit := pow10(y.scale)
	if new(big.Int).Rem(y.n, unit).Sign() == 0 {
		n := new(big.Int).Quo(y.n, unit)
		if n.Sign() >= 0 && n.IsInt64() && n.Int64() <= 1000 && len(x.n.String()) <= 1000 {
			if err := r.step(x.n.BitLen() * int(n.Int64()) / 16); err != nil {
				return value.Value{}, err
			}
			d := decimal{new(big.Int).Exp(x.n, n, nil), x.scale * int(n.Int64())}
			scale := max(16-len(d.n.String())+d.scale, x.scale, 0)
			return rounded(d, min(max(scale, 16), 1000)).value()
		}
	}
	xf, _ := new(big.Rat).SetFrac(x.n, pow10(x.scale)).Float64()
	yf, _ := new(big.Rat).SetFrac(y.n, unit).Float64()
	v, err := power(xf, yf)
	if err != nil {
		return v, err
	}
	return v.As(value.Numeric)
}

// unary is an operator in front of a number, or of an interval.
type unary struct {
	op string
	of node
	at int
}

func (n *unary) typ() *value.Type { return known(n.of) }

func (n *unary) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil || v.Null || n.op == "+" {
		return v, err
	}
	t := v.Type
	switch {
	case n.op == "~":
		return integer(t, int64(^atoi(v))), f.run.step(1)
	case t == value.Interval:
		return value.SpanOf(v).Negate().Value(), f.run.step(1)
	case n.op == "@" && !strings.HasPrefix(v.Text, "-"):
		return v, nil
	}
	s, negative := strings.CutPrefix(v.Text, "-")
	if !negative && s != "NaN" {
		s = "-" + s
	}
	w, err := t.Parse(s)
	if err != nil {
		return v, outOfRange(t)
	}
	return f.run.made(w, f.run.step(1))
}
