package value

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDimensions bounds how deep an array nests, as MAXDIM does.
const maxDimensions = 6

// maxArray bounds the bytes of an array's elements as text, which may be many
// times those that a client sent.
const maxArray = 64 << 20

// element is one element of an array, flat; null ones have no text.
type element struct {
	text string
	null bool
}

// grid is an array: the length of each dimension and all elements in order.
// An empty array has no dimension.
type grid struct {
	dims  []int
	lower []int // bound of each dimension; nil if all are 1
	cells []element
	size  int // bytes of text
}

// gridOf reads an array of the canonical form.
func gridOf(v Value) grid {
	p := arrayParser{t: v.Type, src: v.Text, rest: v.Text, raw: true}
	var g grid
	_ = p.array(&g)
	return g
}

// ElementSize bounds the memory in bytes that an element takes besides its text while an array is read.
const ElementSize = 32

// Cells bounds the number of elements in the text or the binary form of a value, which may be none of the type. It is zero unless the type
// is an array's.
func (t *Type) Cells(src []byte, isBinary bool) int {
	switch {
	case t.Elem == nil:
		return 0
	case !isBinary:
		return 1 + bytes.Count(src, []byte{','})
	}
	if len(src) < 20 { // no dimension
		return 0
	}
	n, most := uint64(1), uint64(len(src)/4) // each has a length
	for at, end := 12, min(len(src)-4, 8*int(min(maxDimensions, binary.BigEndian.Uint32(src)))+4); at <= end; at += 8 {
		n = min(most, n*uint64(binary.BigEndian.Uint32(src[at:])))
	}
	return int(n) //nolint:gosec // no more than len(src)
}

func (t *Type) malformed(s string) error {
	return errorf("22P02", "malformed array literal: %q", s)
}

// parseArray reads {1,2,{…}}, with bounds as in [0:1]={1,2}.
func parseArray(t *Type, s string, in *input) (string, error) {
	p := arrayParser{t: t, src: s, rest: strings.Trim(s, white), in: in}
	var g grid
	if err := p.array(&g); err != nil {
		return "", err
	}
	return g.text(), nil
}

type arrayParser struct {
	t    *Type
	src  string // for messages
	rest string
	in   *input
	raw  bool // elements are taken as they are: they are canonical
}

// array reads the whole.
func (p *arrayParser) array(g *grid) error {
	bounds, err := p.bounds()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(p.rest, "{") {
		return p.t.malformed(p.src)
	}
	g.cells = make([]element, 0, 1+strings.Count(p.rest, ","))
	if inner := strings.TrimLeft(p.rest[1:], white); strings.HasPrefix(inner, "}") && bounds == nil {
		p.rest = inner[1:]
	} else if _, err := p.level(g, 0); err != nil {
		return err
	}
	if p.rest != "" || bounds != nil && len(bounds) != len(g.dims) {
		return p.t.malformed(p.src)
	}
	for i, b := range bounds {
		if b[1]-b[0]+1 != g.dims[i] {
			return p.t.malformed(p.src)
		}
		if b[0] != 1 {
			g.lower = make([]int, len(bounds))
		}
	}
	for i := range g.lower {
		g.lower[i] = bounds[i][0]
	}
	return nil
}

// bounds reads [1:2][0:1]= in front; nil if there are none.
func (p *arrayParser) bounds() (list [][2]int, err error) {
	rest := p.rest
	for strings.HasPrefix(rest, "[") {
		if len(list) == maxDimensions {
			return nil, tooDeep()
		}
		inner, behind, ok := strings.Cut(rest[1:], "]")
		low, high, both := strings.Cut(inner, ":")
		if !both {
			low, high = "1", inner
		}
		a, err1 := strconv.ParseInt(low, 10, 32)
		b, err2 := strconv.ParseInt(high, 10, 32)
		switch {
		case !ok, errors.Is(err1, strconv.ErrSyntax), errors.Is(err2, strconv.ErrSyntax):
			return nil, p.t.malformed(p.src)
		case err1 != nil || err2 != nil:
			return nil, errorf("22003", "array bound is out of integer range")
		case b == math.MaxInt32:
			return nil, errorf("54000", "array upper bound is too large: %d", b)
		case b < a:
			return nil, errorf("2202E", "upper bound cannot be less than lower bound")
		}
		list = append(list, [2]int{int(a), int(b)})
		rest = strings.TrimLeft(behind, white)
	}
	if list == nil {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(rest, "=")
	if !ok {
		return nil, p.t.malformed(p.src)
	}
	p.rest = strings.TrimLeft(rest, white)
	return list, nil
}

func tooDeep() error {
	return errorf("54000", "number of array dimensions exceeds the maximum allowed (%d)", maxDimensions)
}

// level reads one pair of braces at the depth and returns how many it held.
func (p *arrayParser) level(g *grid, depth int) (int, error) {
	if depth == maxDimensions {
		return 0, tooDeep()
	}
	if depth == len(g.dims) {
		if len(g.cells) > 0 { // deeper than the first path went
			return 0, p.t.malformed(p.src)
		}
		g.dims = append(g.dims, -1)
	}
	n := 0
	for sep := byte(','); sep == ','; n++ {
		p.rest = strings.TrimLeft(p.rest[1:], white) // past { or ,
		if strings.HasPrefix(p.rest, "{") {
			if _, err := p.level(g, depth+1); err != nil {
				return 0, err
			}
		} else {
			if depth != len(g.dims)-1 {
				return 0, p.t.malformed(p.src)
			}
			if err := p.cell(g); err != nil {
				return 0, err
			}
		}
		p.rest = strings.TrimLeft(p.rest, white)
		if p.rest == "" || p.rest[0] != ',' && p.rest[0] != '}' {
			return 0, p.t.malformed(p.src)
		}
		sep = p.rest[0]
	}
	p.rest = strings.TrimLeft(p.rest[1:], white) // past }
	if g.dims[depth] == -1 {
		g.dims[depth] = n
	}
	if g.dims[depth] != n {
		return 0, p.t.malformed(p.src)
	}
	return n, nil
}

// cell reads one element, quoted or not.
func (p *arrayParser) cell(g *grid) error {
	var b strings.Builder // what is before the last escaped byte, with it
	hard := 0             // length of that, which is not trimmed
	quoted := strings.HasPrefix(p.rest, `"`)
	i := 0
	if quoted {
		i++
	}
	from := i // of what is not in b
	for ; ; i++ {
		if i == len(p.rest) {
			return p.t.malformed(p.src)
		}
		c := p.rest[i]
		if c == '\\' {
			b.WriteString(p.rest[from:i])
			if i++; i == len(p.rest) {
				return p.t.malformed(p.src)
			}
			b.WriteByte(p.rest[i])
			hard, from = b.Len(), i+1
			continue
		}
		if quoted && c == '"' || !quoted && (c == ',' || c == '}') {
			break
		}
		if !quoted && (c == '"' || c == '{') {
			return p.t.malformed(p.src)
		}
	}
	s := p.rest[from:i]
	if hard > 0 {
		b.WriteString(s)
		s = b.String()
	}
	if quoted {
		i++
	}
	p.rest = p.rest[i:]
	if !quoted {
		s = s[:hard] + strings.TrimRight(s[hard:], white)
		if s == "" {
			return p.t.malformed(p.src)
		}
		if hard == 0 && strings.EqualFold(s, "null") {
			g.cells = append(g.cells, element{null: true})
			return nil
		}
	}
	if p.raw {
		g.cells = append(g.cells, element{text: strings.Clone(s)}) // it may be kept for longer than the array
		return nil
	}
	text, err := p.t.Elem.read(p.in, s)
	if err == nil {
		err = p.in.did(1 + i)
	}
	if err != nil {
		return err
	}
	return g.add(text)
}

// add adds an element that is not null.
func (g *grid) add(text string) error {
	if g.size += len(text); g.size > maxArray {
		return errorf("54000", "the elements of an array take more than %d bytes", maxArray)
	}
	g.cells = append(g.cells, element{text: text})
	return nil
}

// text prints the array as array_out does.
func (g *grid) text() string {
	if len(g.cells) == 0 {
		return "{}"
	}
	var b strings.Builder
	b.Grow(g.size + len(g.cells))
	for i, low := range g.lower {
		fmt.Fprintf(&b, "[%d:%d]", low, low+g.dims[i]-1)
	}
	if g.lower != nil {
		b.WriteByte('=')
	}
	next := 0
	var level func(depth int)
	level = func(depth int) {
		b.WriteByte('{')
		for i := range g.dims[depth] {
			if i > 0 {
				b.WriteByte(',')
			}
			if depth < len(g.dims)-1 {
				level(depth + 1)
				continue
			}
			g.cells[next].write(&b)
			next++
		}
		b.WriteByte('}')
	}
	level(0)
	return b.String()
}

func (e element) write(b *strings.Builder) {
	switch {
	case e.null:
		b.WriteString("NULL")
	case e.text == "" || strings.EqualFold(e.text, "null") || strings.ContainsAny(e.text, "{},\"\\"+white):
		b.WriteByte('"')
		rest := e.text
		for i := strings.IndexAny(rest, `"\`); i >= 0; i = strings.IndexAny(rest, `"\`) {
			b.WriteString(rest[:i])
			b.WriteByte('\\')
			b.WriteByte(rest[i])
			rest = rest[i+1:]
		}
		b.WriteString(rest)
		b.WriteByte('"')
	default:
		b.WriteString(e.text)
	}
}

// encodeArray writes dimensions, whether there are nulls, the element's OID,
// each dimension's length and lower bound, and the elements with lengths.
func encodeArray(t *Type, dst []byte, s string) []byte {
	g := gridOf(Value{Type: t, Text: s})
	nulls := uint32(0)
	for _, e := range g.cells {
		if e.null {
			nulls = 1
		}
	}
	put := func(n uint32) { dst = binary.BigEndian.AppendUint32(dst, n) }
	put(uint32(len(g.dims))) //nolint:gosec // at most maxDimensions
	put(nulls)
	put(t.Elem.OID)
	for i, n := range g.dims {
		put(uint32(n)) //nolint:gosec // came out of a text in memory
		low := 1
		if g.lower != nil {
			low = g.lower[i]
		}
		put(uint32(low)) //nolint:gosec // two's complement
	}
	for _, e := range g.cells {
		at := len(dst)
		put(0xFFFFFFFF)
		if !e.null {
			dst = t.Elem.encode(dst, e.text)
			binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4)) //nolint:gosec // came out of a text in memory
		}
	}
	return dst
}

func decodeArray(t *Type, src []byte) (string, error) {
	if len(src) < 12 {
		return "", short()
	}
	dims := binary.BigEndian.Uint32(src)
	if dims > maxDimensions {
		return "", tooDeep()
	}
	if flags := binary.BigEndian.Uint32(src[4:]); flags > 1 {
		return "", errorf("22P03", "invalid array flags")
	}
	if oid := binary.BigEndian.Uint32(src[8:]); oid != t.Elem.OID {
		return "", errorf("42804", "wrong element type: %d is not %s", oid, t.Elem.Name)
	}
	src = src[12:]
	var g grid
	cells := uint64(1)
	for range dims {
		if len(src) < 8 {
			return "", short()
		}
		n := binary.BigEndian.Uint32(src)
		cells *= uint64(n)
		if cells > uint64(len(src)) { // every element takes four bytes at least
			return "", short()
		}
		low := int32(binary.BigEndian.Uint32(src[4:])) //nolint:gosec // two's complement
		if int64(low)+int64(n) > math.MaxInt32 {
			return "", errorf("22003", "array lower bound is too large: %d", low)
		}
		g.dims = append(g.dims, int(n))
		g.lower = append(g.lower, int(low))
		src = src[8:]
	}
	if !slices.ContainsFunc(g.lower, func(low int) bool { return low != 1 }) {
		g.lower = nil
	}
	for range cells * uint64(min(dims, 1)) {
		if len(src) < 4 {
			return "", short()
		}
		n := int(int32(binary.BigEndian.Uint32(src))) //nolint:gosec // -1 is null
		src = src[4:]
		if n == -1 {
			g.cells = append(g.cells, element{null: true})
			continue
		}
		if n < 0 || n > len(src) {
			return "", errorf("22P03", "insufficient data left in message")
		}
		v, err := t.Elem.Decode(src[:n])
		if err != nil {
			return "", err
		}
		if err := g.add(v.Text); err != nil {
			return "", err
		}
		src = src[n:]
	}
	if len(src) != 0 {
		return "", t.binary()
	}
	return g.text(), nil
}

// recast converts an array element by element.
func (v Value) recast(loc *time.Location, t *Type) (Value, error) {
	from := gridOf(v)
	to := grid{dims: from.dims, lower: from.lower}
	for _, e := range from.cells {
		if e.null {
			to.cells = append(to.cells, e)
			continue
		}
		c, err := Value{Type: v.Type.Elem, Text: e.text}.AsIn(loc, t.Elem)
		if err != nil {
			return Value{}, err
		}
		if err := to.add(c.Text); err != nil {
			return Value{}, err
		}
	}
	return Value{Type: t, Text: to.text()}, nil
}

// MakeArray returns the array of the values, each converted to the type's element as [Value.AsIn] does;
// those that are arrays themselves are the rows of its next dimension. The
// error is an *[Error].
func (t *Type) MakeArray(loc *time.Location, list []Value) (Value, error) {
	if len(list) == 0 {
		return Value{Type: t, Text: "{}"}, nil
	}
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		to := t.Elem
		if v.Type.Elem != nil {
			to = t
		}
		v, err := v.AsIn(loc, to)
		if err != nil {
			return Value{}, err
		}
		if to == t && !v.Null {
			b.WriteString(v.Text)
			continue
		}
		element{text: v.Text, null: v.Null}.write(&b)
	}
	v, err := t.Parse("{" + b.String() + "}")
	if e, ok := err.(*Error); ok && e.Code == "22P02" { //nolint:errorlint // Parse wraps none
		return Value{}, errorf("2202E", "multidimensional arrays must have array expressions with matching dimensions")
	}
	return v, err
}
