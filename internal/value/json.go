package value

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/bulk"
)

// maxNesting bounds how deep a jsonb nests, so that ordering the keys of
// objects within objects stays cheap.
const maxNesting = 256

func parseJSON(t *Type, s string) (string, error) {
	if err := checkText(s); err != nil {
		return "", err
	}
	if !json.Valid(bulk.Bytes(s)) {
		return "", errorf("22P02", "invalid input syntax for type %s", t.Name)
	}
	return s, nil
}

// readJSONB gives what PostgreSQL prints: a space behind each colon and comma,
// an object's keys once each, the last value of those that were given twice,
// ordered by length and then by bytes, and numbers as numeric.
func readJSONB(t *Type, s string, in *input) (string, error) {
	if _, err := parseJSON(t, s); err != nil {
		return "", err
	}
	w := jsonWriter{in: in, src: s, out: make([]byte, 0, len(s)+len(s)/8)}
	if err := w.value(0); err != nil {
		return "", err
	}
	return bulk.String(w.out), nil
}

// jsonbVersion is the first byte of jsonb's binary format.
const jsonbVersion = 1

func encodeJSONB(dst []byte, s string) []byte { return append(append(dst, jsonbVersion), s...) }

func decodeJSONB(t *Type, src []byte, in *input) (string, error) {
	if len(src) == 0 {
		return "", short()
	}
	if src[0] != jsonbVersion {
		return "", errorf("XX000", "unsupported jsonb version number %d", src[0])
	}
	return readJSONB(t, bulk.String(src[1:]), in)
}

// jsonWriter writes JSON, which is valid, anew.
type jsonWriter struct {
	in   *input
	src  string
	pos  int
	told int // of pos: what in knows of
	out  []byte
}

// peek passes over white space and returns the next byte.
func (w *jsonWriter) peek() byte {
	for strings.IndexByte(" \t\n\r", w.src[w.pos]) >= 0 {
		w.pos++
	}
	return w.src[w.pos]
}

func (w *jsonWriter) value(depth int) error {
	if depth > maxNesting {
		return errorf("54001", "a jsonb nests more than %d deep", maxNesting)
	}
	if len(w.out) > maxArray {
		return errorf("54000", "a jsonb takes more than %d bytes", maxArray)
	}
	read := w.pos - w.told
	w.told = w.pos
	if err := w.in.did(read); err != nil {
		return err
	}
	switch c := w.peek(); c {
	case '{':
		return w.object(depth)
	case '[':
		return w.array(depth)
	case '"':
		text, err := w.text()
		w.out = appendQuoted(w.out, text)
		return err
	case 't', 'f', 'n':
		n := len("true")
		if c == 'f' {
			n = len("false")
		}
		w.out = append(w.out, w.src[w.pos:w.pos+n]...)
		w.pos += n
		return nil
	}
	end := w.pos
	for end < len(w.src) && strings.IndexByte("+-.eE0123456789", w.src[end]) >= 0 {
		end++
	}
	number, err := parseNumeric(Numeric, w.src[w.pos:end])
	w.pos = end
	w.out = append(w.out, number...)
	return err
}

func (w *jsonWriter) array(depth int) error {
	w.out = append(w.out, '[')
	w.pos++
	for n := 0; w.peek() != ']'; n++ {
		if n > 0 {
			w.pos++ // the comma
			w.out = append(w.out, ", "...)
		}
		if err := w.value(depth + 1); err != nil {
			return err
		}
	}
	w.pos++
	w.out = append(w.out, ']')
	return nil
}

// pair is a key of an object, and where it and its value were written.
type pair struct {
	key        string
	start, end int
}

func (w *jsonWriter) object(depth int) error {
	w.out = append(w.out, '{')
	w.pos++
	begin := len(w.out)
	var pairs []pair
	sorted := true
	for n := 0; w.peek() != '}'; n++ {
		if n > 0 {
			w.pos++ // the comma
			w.peek()
			w.out = append(w.out, ", "...)
		}
		p := pair{start: len(w.out)}
		var err error
		if p.key, err = w.text(); err != nil {
			return err
		}
		w.out = append(appendQuoted(w.out, p.key), ": "...)
		w.peek()
		w.pos++ // the colon
		if err := w.value(depth + 1); err != nil {
			return err
		}
		p.end = len(w.out)
		sorted = sorted && (n == 0 || comparePairs(pairs[n-1], p) < 0)
		pairs = append(pairs, p)
	}
	w.pos++
	if !sorted {
		if err := w.in.did(len(w.out) - begin); err != nil {
			return err
		}
		w.order(begin, pairs)
	}
	w.out = append(w.out, '}')
	return nil
}

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key))
}

// order writes the pairs from begin on in their order, the last of equal ones.
func (w *jsonWriter) order(begin int, pairs []pair) {
	slices.SortStableFunc(pairs, comparePairs)
	was := bulk.Grow(w.out[begin:], len(w.out)-begin)
	w.out = w.out[:begin]
	for i, p := range pairs {
		if i+1 < len(pairs) && pairs[i+1].key == p.key {
			continue
		}
		if len(w.out) > begin {
			w.out = append(w.out, ", "...)
		}
		at := len(w.out) // what is in order takes no more room than it did
		w.out = w.out[:at+p.end-p.start]
		bulk.Copy(w.out[at:], was[p.start-begin:])
	}
}

// text reads a string. PostgreSQL's text holds no NUL and no half of a
// surrogate pair.
func (w *jsonWriter) text() (string, error) {
	var b strings.Builder
	for w.pos++; w.src[w.pos] != '"'; w.pos++ {
		c := w.src[w.pos]
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		w.pos++
		switch c := w.src[w.pos]; c {
		case 'u':
			r := w.unit()
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if strings.HasPrefix(w.src[w.pos+1:], `\u`) {
					w.pos += 2
					low = w.unit()
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", errorf("22P02", "invalid input syntax for type json: a Unicode surrogate stands alone")
				}
			}
			if r == 0 {
				return "", errorf("22P05", "unsupported Unicode escape sequence: \\u0000 cannot be converted to text")
			}
			b.WriteRune(r)
		default:
			if i := strings.IndexByte("bfnrt", c); i >= 0 {
				c = "\b\f\n\r\t"[i]
			}
			b.WriteByte(c)
		}
	}
	w.pos++
	return b.String(), nil
}

// unit reads the four digits behind the u at the position, and stops at the last.
func (w *jsonWriter) unit() rune {
	n, _ := strconv.ParseUint(w.src[w.pos+1:w.pos+5], 16, 16) // valid
	w.pos += 4
	return rune(n) //nolint:gosec // 16 bits
}

// appendQuoted writes a string as PostgreSQL's escape_json does.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case strings.IndexByte("\b\f\n\r\t", c) >= 0:
			dst = append(dst, '\\', "bfnrt"[strings.IndexByte("\b\f\n\r\t", c)])
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, "01"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	return append(dst, '"')
}
