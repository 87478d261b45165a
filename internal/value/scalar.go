package value

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/bulk"
)

// white is what PostgreSQL's input functions pass over at both ends.
const white = " \t\n\r\v\f"

func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return errorf("22021", "invalid byte sequence for encoding \"UTF8\"")
	}
	return nil
}

func parseText(_ *Type, s string) (string, error) { return s, checkText(s) }

func encodeText(dst []byte, s string) []byte { return append(dst, s...) }

func decodeText(_ *Type, src []byte) (string, error) {
	s := bulk.String(src)
	return s, checkText(s)
}

// decodeParsed reads a type whose binary format is its text.
func decodeParsed(t *Type, src []byte) (string, error) { return t.parse(t, bulk.String(src)) }

// maxName is the longest identifier in bytes, PostgreSQL's NAMEDATALEN - 1.
const maxName = 63

func parseName(_ *Type, s string) (string, error) {
	if len(s) > maxName {
		n := maxName
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return s, checkText(s)
}

// decodeName refuses what parseName would cut, as PostgreSQL's namerecv does.
func decodeName(t *Type, src []byte) (string, error) {
	if len(src) > maxName {
		return "", errorf("42622", "identifier too long")
	}
	return decodeText(t, src)
}

// parseBool takes every unique prefix that PostgreSQL's parse_bool takes.
func parseBool(t *Type, s string) (string, error) {
	in := strings.ToLower(strings.Trim(s, white))
	for _, w := range []struct {
		word string
		min  int
		is   string
	}{{"true", 1, "t"}, {"false", 1, "f"}, {"yes", 1, "t"}, {"no", 1, "f"}, {"on", 2, "t"}, {"off", 2, "f"}, {"1", 1, "t"}, {"0", 1, "f"}} {
		if len(in) >= w.min && strings.HasPrefix(w.word, in) {
			return w.is, nil
		}
	}
	return "", t.input(s)
}

func encodeBool(dst []byte, s string) []byte {
	if s == "t" {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func decodeBool(_ *Type, src []byte) (string, error) {
	if src[0] != 0 {
		return "t", nil
	}
	return "f", nil
}

func parseInt(bits int) func(*Type, string) (string, error) {
	return func(t *Type, s string) (string, error) {
		n, err := strconv.ParseInt(strings.Trim(s, white), 10, bits)
		if err != nil {
			return "", t.number(s, err)
		}
		return strconv.FormatInt(n, 10), nil
	}
}

// number tells a number too large from what is none.
func (t *Type) number(s string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errorf("22003", "value %q is out of range for type %s", s, t.Name)
	}
	return t.input(s)
}

// encodeInt writes the low size bytes; the text is canonical, so it parses.
func encodeInt(size int) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte {
		n, _ := strconv.ParseInt(s, 10, 64)
		b := binary.BigEndian.AppendUint64(nil, uint64(n)) //nolint:gosec // two's complement is the format
		return append(dst, b[8-size:]...)
	}
}

func decodeInt(_ *Type, src []byte) (string, error) {
	n := int64(int8(src[0])) //nolint:gosec // sign extension
	for _, b := range src[1:] {
		n = n<<8 | int64(b)
	}
	return strconv.FormatInt(n, 10), nil
}

func parseUint(bits int) func(*Type, string) (string, error) {
	return func(t *Type, s string) (string, error) {
		in := strings.Trim(s, white)
		if len(in) > 1 && in[0] == '0' && t.OID != oidOID { // octal to PostgreSQL
			return "", t.input(s)
		}
		n, err := strconv.ParseUint(in, 10, bits)
		if err != nil {
			return "", t.number(s, err)
		}
		return strconv.FormatUint(n, 10), nil
	}
}

func encodeUint(size int) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte {
		n, _ := strconv.ParseUint(s, 10, 64)
		b := binary.BigEndian.AppendUint64(nil, n)
		return append(dst, b[8-size:]...)
	}
}

func decodeUint(_ *Type, src []byte) (string, error) {
	var n uint64
	for _, b := range src {
		n = n<<8 | uint64(b)
	}
	return strconv.FormatUint(n, 10), nil
}

func parseFloat(bits int) func(*Type, string) (string, error) {
	return func(t *Type, s string) (string, error) {
		in := strings.Trim(s, white)
		if strings.ContainsAny(in, "_xXpP") { // Go's own forms
			return "", t.input(s)
		}
		if len(in) == 4 && strings.EqualFold(in[1:], "nan") && strings.IndexByte("+-", in[0]) >= 0 {
			in = in[1:]
		}
		f, err := strconv.ParseFloat(in, bits)
		if err != nil {
			return "", t.number(s, err)
		}
		if mantissa, _, _ := strings.Cut(strings.ToLower(in), "e"); f == 0 && strings.ContainsAny(mantissa, "123456789") {
			return "", t.number(s, strconv.ErrRange) // too small to hold
		}
		return formatFloat(f, bits), nil
	}
}

// formatFloat prints the shortest text that reads back the same, with an
// exponent where PostgreSQL has one.
func formatFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	e := shortest(f, bits)
	exp, _ := strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	limit := 15
	if bits == 32 {
		limit = 6
	}
	if exp < -4 || exp >= limit {
		return e
	}
	digits, _, _ := strings.Cut(e, "e")
	digits, negative := strings.CutPrefix(digits, "-")
	digits = strings.Replace(digits, ".", "", 1)
	var s string
	switch {
	case exp < 0:
		s = "0." + strings.Repeat("0", -exp-1) + digits
	case exp+1 >= len(digits):
		s = digits + strings.Repeat("0", exp+1-len(digits))
	default:
		s = digits[:exp+1] + "." + digits[exp+1:]
	}
	if negative {
		s = "-" + s
	}
	return s
}

// shortest prints a finite number with an exponent, in as few digits as are
// nearer to it than to any other. Go's own shortest form may lie just between
// two numbers, where the even one wins; PostgreSQL's never does (d2s.c,
// without STRICTLY_SHORTEST).
func shortest(f float64, bits int) string {
	e := strconv.FormatFloat(f, 'e', -1, bits)
	mantissa, _, _ := strings.Cut(e, "e")
	n := len(strings.NewReplacer(".", "", "-", "").Replace(mantissa)) // digits
	even := strconv.FormatFloat(f, 'e', n-1, bits)                    // of two that are as near, the even one
	if g, _ := strconv.ParseFloat(even, bits); g == f {
		e = even
	}
	for ; between(e, f, bits); n++ {
		e = strconv.FormatFloat(f, 'e', n, bits)
	}
	return e
}

// between tells whether a text that reads as f is as near to a neighbour of it: then
// a little more or less reads as the neighbour.
func between(e string, f float64, bits int) bool {
	digits, exp, _ := strings.Cut(e, "e")
	point := ""
	if !strings.Contains(digits, ".") {
		point = "."
	}
	if f == 0 {
		return false
	}
	last := len(digits) - 1
	for digits[last] == '0' || digits[last] == '.' {
		last--
	}
	less := []byte(digits)
	for i := last; i < len(less); i++ {
		switch {
		case i == last:
			less[i]--
		case less[i] != '.':
			less[i] = '9'
		}
	}
	for _, near := range []string{digits + point + strings.Repeat("0", 60) + "1", string(less) + point + strings.Repeat("9", 60)} {
		if g, err := strconv.ParseFloat(near+"e"+exp, bits); g != f || err != nil {
			return true
		}
	}
	return false
}

func encodeFloat4(dst []byte, s string) []byte {
	f, _ := strconv.ParseFloat(s, 32)
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(f)))
}

func encodeFloat8(dst []byte, s string) []byte {
	f, _ := strconv.ParseFloat(s, 64)
	bits := math.Float64bits(f)
	if f != f {
		bits = 0x7ff8000000000000 // math.NaN has one more bit set than C's
	}
	return binary.BigEndian.AppendUint64(dst, bits)
}

func decodeFloat4(_ *Type, src []byte) (string, error) {
	return formatFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(src))), 32), nil
}

func decodeFloat8(_ *Type, src []byte) (string, error) {
	return formatFloat(math.Float64frombits(binary.BigEndian.Uint64(src)), 64), nil
}

// parseBytea takes the hex and the escape format.
func parseBytea(t *Type, s string) (string, error) {
	if digits, ok := strings.CutPrefix(s, `\x`); ok {
		b := make([]byte, 0, len(digits)/2)
		for digits = strings.TrimLeft(digits, hexWhite); digits != ""; digits = strings.TrimLeft(digits, hexWhite) {
			var err error
			if b, err = hex.AppendDecode(b, []byte(digits[:min(2, len(digits))])); err != nil {
				return "", errorf("22023", "invalid hexadecimal data")
			}
			digits = digits[2:]
		}
		return `\x` + hex.EncodeToString(b), nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			b = append(b, s[i])
		case strings.HasPrefix(s[i+1:], `\`):
			b = append(b, '\\')
			i++
		case len(s) > i+3:
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil {
				return "", t.input(s)
			}
			b = append(b, byte(n))
			i += 3
		default:
			return "", t.input(s)
		}
	}
	return `\x` + hex.EncodeToString(b), nil
}

// hexWhite may stand between two bytes in hexadecimal.
const hexWhite = " \t\n\r"

func encodeBytea(dst []byte, s string) []byte {
	dst, _ = hex.AppendDecode(dst, bulk.Bytes(s[2:])) // canonical
	return dst
}

func decodeBytea(_ *Type, src []byte) (string, error) { return `\x` + hex.EncodeToString(src), nil }

// parseUUID takes hexadecimal digits with a hyphen after any four of them,
// and braces around all.
func parseUUID(t *Type, s string) (string, error) {
	in := s
	if strings.HasPrefix(in, "{") && strings.HasSuffix(in, "}") {
		in = in[1 : len(in)-1]
	}
	digits := make([]byte, 0, 32)
	for i := range len(in) {
		if in[i] == '-' && len(digits)%4 == 0 && len(digits) > 0 && i > 0 && in[i-1] != '-' {
			continue
		}
		digits = append(digits, in[i])
	}
	b, err := hex.DecodeString(string(digits))
	if err != nil || len(b) != 16 || strings.HasSuffix(in, "-") {
		return "", t.input(s)
	}
	return decodeUUID(t, b)
}

func encodeUUID(dst []byte, s string) []byte {
	dst, _ = hex.AppendDecode(dst, []byte(strings.ReplaceAll(s, "-", "")))
	return dst
}

func decodeUUID(_ *Type, src []byte) (string, error) {
	h := hex.EncodeToString(src)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
}

// A function that returns void gives an empty text, and no bytes in binary.
func parseVoid(*Type, string) (string, error)  { return "", nil }
func encodeVoid(dst []byte, _ string) []byte   { return dst }
func decodeVoid(*Type, []byte) (string, error) { return "", nil }
