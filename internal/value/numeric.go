package value

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// Limits of PostgreSQL's numeric.
const (
	maxWhole    = 131072 // digits before the point
	maxFraction = 16383  // digits after it
)

// maxPadding is a limit of this package alone: how many zeros an exponent may
// stand for, or a binary format leave out, so that a few bytes of a client do
// not become a hundred thousand.
// All of double precision's range fits.
const maxPadding = 400

// Signs of numeric's binary format (numeric.c).
const (
	signPositive = 0x0000
	signNegative = 0x4000
	signNaN      = 0xC000
	signInfinite = 0xD000
	signMinusInf = 0xF000

	scaleInfinite = 0x20 // what PostgreSQL writes
)

// parseNumeric gives sign, digits, and the point with the scale as written.
func parseNumeric(t *Type, s string) (string, error) {
	in := strings.Trim(s, white)
	switch strings.ToLower(in) {
	case "nan":
		return "NaN", nil
	case "inf", "infinity", "+inf", "+infinity":
		return "Infinity", nil
	case "-inf", "-infinity":
		return "-Infinity", nil
	}
	sign := ""
	rest := in
	if strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
		sign, rest = strings.TrimSuffix(rest[:1], "+"), rest[1:]
	}
	exp := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		e, err := strconv.Atoi(rest[i+1:])
		if err != nil {
			return "", t.input(s)
		}
		if e > maxPadding || e < -maxPadding {
			return "", errorf("22003", "value overflows numeric format")
		}
		rest, exp = rest[:i], e
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return "", t.input(s)
	}
	// Move the point.
	if exp > 0 {
		if n := exp - len(fraction); n > 0 {
			fraction += strings.Repeat("0", n)
		}
		whole, fraction = whole+fraction[:exp], fraction[exp:]
	} else if exp < 0 {
		if n := -exp - len(whole); n > 0 {
			whole = strings.Repeat("0", n) + whole
		}
		cut := len(whole) + exp
		whole, fraction = whole[:cut], whole[cut:]+fraction
	}
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > maxWhole || len(fraction) > maxFraction {
		return "", errorf("22003", "value overflows numeric format")
	}
	return joinNumeric(sign, whole, fraction), nil
}

func joinNumeric(sign, whole, fraction string) string {
	if strings.Trim(whole+fraction, "0") == "" {
		sign = "" // there is no minus zero
	}
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}

// encodeNumeric writes digits to the base 10,000: their number, the weight of
// the first, the sign, and the scale.
func encodeNumeric(dst []byte, s string) []byte {
	head := func(n, weight int, sign uint16, scale int) {
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))      //nolint:gosec // bounded by maxWhole and maxFraction
		dst = binary.BigEndian.AppendUint16(dst, uint16(weight)) //nolint:gosec // two's complement
		dst = binary.BigEndian.AppendUint16(dst, sign)
		dst = binary.BigEndian.AppendUint16(dst, uint16(scale)) //nolint:gosec // at most maxFraction
	}
	switch s {
	case "NaN":
		head(0, 0, signNaN, 0)
		return dst
	case "Infinity":
		head(0, 0, signInfinite, scaleInfinite)
		return dst
	case "-Infinity":
		head(0, 0, signMinusInf, scaleInfinite)
		return dst
	}
	sign := uint16(signPositive)
	if strings.HasPrefix(s, "-") {
		sign, s = signNegative, s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	scale := len(fraction)
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	fraction += strings.Repeat("0", (4-len(fraction)%4)%4)
	weight := len(whole)/4 - 1
	all := whole + fraction
	for strings.HasPrefix(all, "0000") {
		all = all[4:]
		weight--
	}
	for strings.HasSuffix(all, "0000") && len(all)%4 == 0 {
		all = all[:len(all)-4]
	}
	if all == "" {
		weight = 0
	}
	head(len(all)/4, weight, sign, scale)
	for ; all != ""; all = all[4:] {
		n, _ := strconv.ParseUint(all[:4], 10, 16)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	}
	return dst
}

func decodeNumeric(t *Type, src []byte) (string, error) {
	if len(src) < 8 {
		return "", short()
	}
	n := int(binary.BigEndian.Uint16(src))
	weight := int(int16(binary.BigEndian.Uint16(src[2:]))) //nolint:gosec // two's complement
	sign := binary.BigEndian.Uint16(src[4:])
	scale := int(binary.BigEndian.Uint16(src[6:]))
	if sign != signPositive && sign != signNegative && sign != signNaN && sign != signInfinite && sign != signMinusInf {
		return "", errorf("22P03", "invalid sign in external \"numeric\" value")
	}
	if scale > maxFraction {
		return "", errorf("22P03", "invalid scale in external \"numeric\" value")
	}
	var b strings.Builder
	src = src[8:]
	for range n {
		if len(src) < 2 {
			return "", short()
		}
		d := binary.BigEndian.Uint16(src)
		src = src[2:]
		if d > 9999 {
			return "", errorf("22P03", "invalid digit in external \"numeric\" value")
		}
		s := strconv.Itoa(int(d))
		b.WriteString("0000"[len(s):] + s)
	}
	if len(src) > 0 {
		return "", t.binary()
	}
	prefix := ""
	switch sign {
	case signNaN:
		return "NaN", nil
	case signInfinite:
		return "Infinity", nil
	case signMinusInf:
		return "-Infinity", nil
	case signNegative:
		prefix = "-"
	}
	digits := b.String()
	point := 4 * (weight + 1) // where the point stands in digits
	if point < -maxPadding || point+scale > len(digits)+maxPadding {
		return "", errorf("22003", "value overflows numeric format")
	}
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if need := point + scale; len(digits) < need {
		digits += strings.Repeat("0", need-len(digits))
	}
	return joinNumeric(prefix, strings.TrimLeft(digits[:point], "0"), digits[point:point+scale]), nil
}
