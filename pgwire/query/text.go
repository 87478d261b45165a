package query

import (
	"crypto/md5" //nolint:gosec // it is a function of SQL
	"encoding/hex"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/value"
)

// pure makes a function of texts that gives a text no longer than its arguments.
func pure(do func(s []string) string, n int) *Function {
	args := make([]*value.Type, n)
	for i := range args {
		args[i] = value.Text
	}
	return fn(value.Text, func(_ *Run, args []value.Value) (value.Value, error) {
		s := make([]string, len(args))
		for i, a := range args {
			s[i] = a.Text
		}
		return text(do(s)), nil
	}, args...)
}

func count(do func(s string) int) []*Function {
	return []*Function{fn(value.Int4, func(_ *Run, args []value.Value) (value.Value, error) {
		return integer(value.Int4, int64(do(args[0].Text))), nil
	}, value.Text)}
}

func trim(do func(s, cut string) string) []*Function {
	return []*Function{
		pure(func(s []string) string { return do(s[0], " ") }, 1),
		pure(func(s []string) string { return do(s[0], s[1]) }, 2),
	}
}

func one(f *Function) []*Function { return []*Function{f} }

var textFunctions = map[string][]*Function{
	"lower":            one(pure(func(s []string) string { return asciiCase(s[0], 'A', 'Z') }, 1)),
	"upper":            one(pure(func(s []string) string { return asciiCase(s[0], 'a', 'z') }, 1)),
	"initcap":          one(pure(func(s []string) string { return initcap(s[0]) }, 1)),
	"reverse":          one(pure(func(s []string) string { return reverse(s[0]) }, 1)),
	"btrim":            trim(strings.Trim),
	"ltrim":            trim(strings.TrimLeft),
	"rtrim":            trim(strings.TrimRight),
	"length":           count(utf8.RuneCountInString),
	"char_length":      count(utf8.RuneCountInString),
	"character_length": count(utf8.RuneCountInString),
	"octet_length":     count(func(s string) int { return len(s) }),
	"bit_length":       count(func(s string) int { return 8 * len(s) }),
	"ascii": count(func(s string) int {
		if s == "" {
			return 0
		}
		r, _ := utf8.DecodeRuneInString(s)
		return int(r)
	}),
	"textcat":     one(fn(value.Text, textcat, value.Text, value.Text)),
	"like_escape": one(fn(value.Text, likeEscape, value.Text, value.Text)),
	"chr":         one(fn(value.Text, chr, value.Int4)),
	"md5": one(pure(func(s []string) string {
		sum := md5.Sum([]byte(s[0])) //nolint:gosec // it is a function of SQL
		return hex.EncodeToString(sum[:])
	}, 1)),
	"repeat":     one(fn(value.Text, repeat, value.Text, value.Int4)),
	"lpad":       one(fn(value.Text, pad(true), value.Text, value.Int4, value.Text).optional(1)),
	"rpad":       one(fn(value.Text, pad(false), value.Text, value.Int4, value.Text).optional(1)),
	"left":       one(fn(value.Text, side(true), value.Text, value.Int4)),
	"right":      one(fn(value.Text, side(false), value.Text, value.Int4)),
	"replace":    one(fn(value.Text, replace, value.Text, value.Text, value.Text)),
	"translate":  one(fn(value.Text, translate, value.Text, value.Text, value.Text)),
	"strpos":     one(fn(value.Int4, strpos, value.Text, value.Text)),
	"position":   one(fn(value.Int4, strpos, value.Text, value.Text)),
	"substring":  {fn(value.Text, substr, value.Text, value.Int4, value.Int4).optional(1), fn(value.Text, substringPattern, value.Text, value.Text)},
	"substr":     one(fn(value.Text, substr, value.Text, value.Int4, value.Int4).optional(1)),
	"split_part": one(fn(value.Text, splitPart, value.Text, value.Text, value.Int4)),
	"starts_with": one(fn(value.Bool, func(_ *Run, args []value.Value) (value.Value, error) {
		return boolean(strings.HasPrefix(args[0].Text, args[1].Text)), nil
	}, value.Text, value.Text)),
	"concat":                one(fn(value.Text, concat, Any).variadic().lax()),
	"concat_ws":             one(fn(value.Text, concatWith, value.Text, Any).variadic().lax()),
	"format":                {fn(value.Text, format, value.Text).lax(), fn(value.Text, format, value.Text, Any).variadic().lax()},
	"quote_ident":           one(pure(func(s []string) string { return QuoteIdent(s[0]) }, 1)),
	"quote_literal":         {fn(value.Text, quoteLiteral, value.Text), fn(value.Text, quoteLiteral, AnyElement)},
	"quote_nullable":        {fn(value.Text, quoteNullable, value.Text).lax(), fn(value.Text, quoteNullable, AnyElement).lax()},
	"regexp_replace":        one(fn(value.Text, regexpReplace, value.Text, value.Text, value.Text, value.Text).optional(1)),
	"regexp_match":          one(fn(value.Text.Array, regexpMatch, value.Text, value.Text, value.Text).optional(1)),
	"regexp_split_to_array": one(fn(value.Text.Array, regexpSplit, value.Text, value.Text, value.Text).optional(1)),
	"regexp_split_to_table": one(set(value.Text, splitTable(regexpSplit), value.Text, value.Text, value.Text).optional(1)),
	"regexp_matches":        one(set(value.Text.Array, regexpMatches, value.Text, value.Text, value.Text).optional(1)),
	"string_to_table":       one(set(value.Text, splitTable(stringToArray), value.Text, value.Text, value.Text).optional(1).lax()),
	"to_hex":                {fn(value.Text, toHex, value.Int4), fn(value.Text, toHex, value.Int8)},
}

// asciiCase turns the letters between two into those of the other case, as the
// collation C has it.
func asciiCase(s string, from, to byte) string {
	return strings.Map(func(r rune) rune {
		if r >= rune(from) && r <= rune(to) {
			return r ^ 0x20
		}
		return r
	}, s)
}

func initcap(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		letter := r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r))
		defer func() { inside = letter }()
		switch {
		case !letter:
			return r
		case inside:
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

func reverse(s string) string {
	b := make([]byte, len(s))
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		copy(b[len(s)-i-n:], s[i:i+n])
		i += n
	}
	return string(b)
}

func textcat(r *Run, args []value.Value) (value.Value, error) {
	if err := r.Took(len(args[0].Text) + len(args[1].Text)); err != nil {
		return args[0], err
	}
	return text(args[0].Text + args[1].Text), nil
}

func chr(_ *Run, args []value.Value) (value.Value, error) {
	n := atoi(args[0])
	switch {
	case n == 0:
		return args[0], errorf("54000", "null character not permitted")
	case n < 0:
		return args[0], errorf("22023", "character number must be positive")
	case !utf8.ValidRune(rune(n)): //nolint:gosec // an int4
		return args[0], errorf("54000", "requested character too large for encoding: %d", n)
	}
	return text(string(rune(n))), nil //nolint:gosec // checked
}

// maxText bounds what one function may make, as PostgreSQL's MaxAllocSize does.
const maxText = 1<<30 - 1

func tooLarge() error { return errorf("54000", "requested length too large") }

func repeat(r *Run, args []value.Value) (value.Value, error) {
	n, s := max(0, atoi(args[1])), args[0].Text
	if len(s) > 0 && n > maxText/len(s) {
		return args[0], tooLarge()
	}
	if err := r.Took(n * len(s)); err != nil {
		return args[0], err
	}
	return text(strings.Repeat(s, n)), nil
}

// pad is lpad and rpad.
func pad(before bool) body {
	return func(r *Run, args []value.Value) (value.Value, error) {
		s, n, with := args[0].Text, max(0, atoi(args[1])), " "
		if len(args) == 3 {
			with = args[2].Text
		}
		have := utf8.RuneCountInString(s)
		if have >= n || with == "" {
			return text(first(s, n)), nil
		}
		if n > maxText/4 {
			return args[0], tooLarge()
		}
		missing, width := n-have, utf8.RuneCountInString(with)
		if err := r.Took((missing/width + 1) * len(with)); err != nil {
			return args[0], err
		}
		fill := first(strings.Repeat(with, missing/width+1), missing)
		if before {
			return text(fill + s), nil
		}
		return text(s + fill), nil
	}
}

// first is the first n characters.
func first(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func side(left bool) body {
	return func(_ *Run, args []value.Value) (value.Value, error) {
		s, n := args[0].Text, atoi(args[1])
		size := utf8.RuneCountInString(s)
		if n < 0 {
			n = max(0, size+n)
		}
		n = min(n, size)
		if left {
			return text(first(s, n)), nil
		}
		return text(s[len(first(s, size-n)):]), nil
	}
}

func replace(r *Run, args []value.Value) (value.Value, error) {
	s, old, with := args[0].Text, args[1].Text, args[2].Text
	if old == "" {
		return text(s), nil
	}
	if n := strings.Count(s, old); n*len(with) > maxText {
		return args[0], tooLarge()
	} else if err := r.Took(n * len(with)); err != nil {
		return args[0], err
	}
	return text(strings.ReplaceAll(s, old, with)), nil
}

func translate(_ *Run, args []value.Value) (value.Value, error) {
	m := map[rune]rune{}
	to := []rune(args[2].Text)
	i := 0
	for _, c := range args[1].Text {
		if _, ok := m[c]; !ok {
			m[c] = -1
			if i < len(to) {
				m[c] = to[i]
			}
		}
		i++
	}
	return text(strings.Map(func(c rune) rune {
		if t, ok := m[c]; ok {
			return t
		}
		return c
	}, args[0].Text)), nil
}

func strpos(_ *Run, args []value.Value) (value.Value, error) {
	i := strings.Index(args[0].Text, args[1].Text)
	if i >= 0 {
		i = utf8.RuneCountInString(args[0].Text[:i])
	}
	return integer(value.Int4, int64(i+1)), nil
}

func substr(_ *Run, args []value.Value) (value.Value, error) {
	s, from := args[0].Text, atoi(args[1])
	end := utf8.RuneCountInString(s) + 1
	if len(args) == 3 {
		n := atoi(args[2])
		if n < 0 {
			return args[0], errorf("22011", "negative substring length not allowed")
		}
		end = min(end, from+n)
	}
	from = max(from, 1)
	if end <= from {
		return text(""), nil
	}
	s = s[len(first(s, from-1)):]
	return text(first(s, end-from)), nil
}

// regexpFor is the expression of a function's pattern, with its flags.
func regexpFor(r *Run, args []value.Value, flags int) (re *compiled, global bool, err error) {
	fold := false
	if len(args) > flags {
		for _, c := range args[flags].Text {
			switch c {
			case 'g':
				global = true
			case 'i':
				fold = true
			case 'c', 's', 't':
			default:
				return nil, false, errorf("22023", "invalid regular expression option: %q", string(c))
			}
		}
	}
	if re, err = expression(r, args[1].Text, fold); err == nil {
		err = re.costs(r, args[0].Text)
	}
	return re, global, err
}

func substringPattern(r *Run, args []value.Value) (value.Value, error) {
	re, _, err := regexpFor(r, args, 2)
	if err != nil {
		return args[0], err
	}
	m := re.FindStringSubmatchIndex(args[0].Text)
	if m == nil {
		return value.Text.Null(), nil
	}
	if len(m) > 2 {
		m = m[2:]
	}
	if m[0] < 0 {
		return value.Text.Null(), nil
	}
	return text(args[0].Text[m[0]:m[1]]), nil
}

func regexpReplace(r *Run, args []value.Value) (value.Value, error) {
	re, global, err := regexpFor(r, args, 3)
	if err != nil {
		return args[0], err
	}
	s := args[0].Text
	var b strings.Builder
	end := 0
	err = re.each(r, s, func(m []int) error {
		before := b.Len()
		b.WriteString(s[end:m[0]])
		expand(&b, args[2].Text, s, m)
		end = m[1]
		if b.Len() > maxText {
			return tooLarge()
		}
		if err := r.Took(b.Len() - before); err != nil || global {
			return err
		}
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return args[0], err
	}
	b.WriteString(s[end:])
	return text(b.String()), nil
}

// expand writes a replacement, in which \1 is the first part that was matched.
func expand(b *strings.Builder, with, s string, m []int) {
	for i := 0; i < len(with); i++ {
		if with[i] != '\\' || i+1 == len(with) {
			b.WriteByte(with[i])
			continue
		}
		i++
		c := with[i]
		n := -1
		if c == '&' {
			n = 0
		} else if c >= '1' && c <= '9' {
			n = int(c - '0')
		}
		switch {
		case n >= 0 && 2*n+1 < len(m) && m[2*n] >= 0:
			b.WriteString(s[m[2*n]:m[2*n+1]])
		case n < 0:
			if c != '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
}

func regexpMatch(r *Run, args []value.Value) (value.Value, error) {
	re, _, err := regexpFor(r, args, 2)
	if err != nil {
		return args[0], err
	}
	m := re.FindStringSubmatchIndex(args[0].Text)
	if m == nil {
		return value.Text.Array.Null(), nil
	}
	return captured(r, args[0].Text, m)
}

// captured is what the parts of an expression in parentheses matched, or all of
// it if there are none.
func captured(r *Run, s string, m []int) (value.Value, error) {
	if len(m) > 2 {
		m = m[2:]
	}
	list := make([]value.Value, len(m)/2)
	for i := range list {
		list[i] = value.Text.Null()
		if m[2*i] >= 0 {
			list[i] = text(s[m[2*i]:m[2*i+1]])
		}
	}
	return rebuilt(r, value.Text.Array, list)
}

func regexpSplit(r *Run, args []value.Value) (value.Value, error) {
	re, _, err := regexpFor(r, args, 2)
	if err != nil {
		return args[0], err
	}
	s := args[0].Text
	var list []value.Value
	end := 0
	add := func(to int) error {
		list = append(list, text(s[end:to]))
		return r.Took(valueBytes)
	}
	err = re.each(r, s, func(m []int) error {
		if m[0] == m[1] && (m[0] == len(s) || m[0] == end) { // splits nothing
			return nil
		}
		if err := add(m[0]); err != nil {
			return err
		}
		end = m[1]
		return nil
	})
	if err == nil {
		err = add(len(s))
	}
	if err != nil {
		return args[0], err
	}
	return rebuilt(r, value.Text.Array, list)
}

// splitTable is a function that splits a text, with a row for each part.
func splitTable(split body) func(r *Run, args []value.Value) ([][]value.Value, error) {
	return func(r *Run, args []value.Value) ([][]value.Value, error) {
		a, err := split(r, args)
		if err != nil || a.Null {
			return nil, err
		}
		return unnest(r, []value.Value{a})
	}
}

// regexpMatches has a row for the first match, or with the option g for each.
func regexpMatches(r *Run, args []value.Value) ([][]value.Value, error) {
	re, global, err := regexpFor(r, args, 2)
	if err != nil {
		return nil, err
	}
	var rows [][]value.Value
	err = re.each(r, args[0].Text, func(m []int) error {
		v, err := captured(r, args[0].Text, m)
		if err != nil {
			return err
		}
		rows = append(rows, []value.Value{v})
		if err := r.keep(rows[len(rows)-1]); err != nil || global {
			return err
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return rows, err
}

func splitPart(_ *Run, args []value.Value) (value.Value, error) {
	s, by, n := args[0].Text, args[1].Text, atoi(args[2])
	if n == 0 {
		return args[0], errorf("22023", "field position must not be zero")
	}
	count := 1
	if by != "" {
		count += strings.Count(s, by)
	}
	if n < 0 {
		n = count + n + 1
	}
	if n < 1 || n > count {
		return text(""), nil
	}
	for range n - 1 {
		_, s, _ = strings.Cut(s, by)
	}
	if n < count {
		s, _, _ = strings.Cut(s, by)
	}
	return text(s), nil
}

func concat(r *Run, args []value.Value) (value.Value, error) {
	return joined(r, "", args)
}

func concatWith(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Text.Null(), nil
	}
	return joined(r, args[0].Text, args[1:])
}

func joined(r *Run, by string, list []value.Value) (value.Value, error) {
	var b strings.Builder
	some := false
	for _, v := range list {
		if v.Null {
			continue
		}
		t, err := printed(r, v)
		if err != nil {
			return v, err
		}
		if some {
			b.WriteString(by)
		}
		some = true
		b.WriteString(t)
		if err := r.Took(len(t) + len(by)); err != nil {
			return v, err
		}
	}
	return text(b.String()), nil
}

// printed is a value as its output function prints it: other than a cast to
// text, it leaves a boolean one letter.
func printed(r *Run, v value.Value) (string, error) {
	if v.Type == value.Bool || v.Type == value.Bpchar {
		return v.Text, nil
	}
	t, err := r.Text(v)
	return t.Text, err
}

// format is format(): %s, %I, %L and %%, with positions and widths.
func format(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Text.Null(), nil
	}
	var b strings.Builder
	s, next := args[0].Text, 1
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return args[0], errorf("22023", "unterminated format() type specifier").hint(`For a single "%" use "%%".`)
		}
		if s[i] == '%' {
			b.WriteByte('%')
			continue
		}
		n, width, left := 0, 0, false
		for i < len(s) && s[i] >= '0' && s[i] <= '9' && n < 1e6 {
			n = n*10 + int(s[i]-'0')
			i++
		}
		at := next
		if i < len(s) && s[i] == '$' {
			if at = n; at == 0 {
				return args[0], errorf("22023", "format specifies argument 0, but arguments are numbered from 1")
			}
			i++
			n = 0
		}
		if i < len(s) && s[i] == '-' {
			left = true
			i++
		}
		for width = n; i < len(s) && s[i] >= '0' && s[i] <= '9' && width < 1e6; i++ {
			width = width*10 + int(s[i]-'0')
		}
		if i == len(s) {
			return args[0], errorf("22023", "unterminated format() type specifier")
		}
		if at >= len(args) {
			return args[0], errorf("22023", "too few arguments for format()")
		}
		next = at + 1
		t, err := formatted(r, s[i], args[at])
		if err != nil {
			return args[0], err
		}
		fill := max(0, width-utf8.RuneCountInString(t))
		if err := r.Took(len(t) + fill); err != nil {
			return args[0], err
		}
		if left {
			b.WriteString(t + strings.Repeat(" ", fill))
		} else {
			b.WriteString(strings.Repeat(" ", fill) + t)
		}
	}
	return text(b.String()), nil
}

func formatted(r *Run, how byte, v value.Value) (string, error) {
	t := ""
	if !v.Null {
		var err error
		if t, err = printed(r, v); err != nil {
			return "", err
		}
	}
	switch how {
	case 's':
		return t, nil
	case 'I':
		if v.Null {
			return "", errorf("22004", "null values cannot be formatted as an SQL identifier")
		}
		return QuoteIdent(t), nil
	case 'L':
		if v.Null {
			return "NULL", nil
		}
		return literalOf(t), nil
	}
	return "", errorf("22023", "unrecognized format() type specifier %q", string(how)).hint(`For a single "%" use "%%".`)
}

func literalOf(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		q = "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

func quoteLiteral(r *Run, args []value.Value) (value.Value, error) {
	t, err := r.Text(args[0])
	return text(literalOf(t.Text)), err
}

func quoteNullable(r *Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return text("NULL"), nil
	}
	return quoteLiteral(r, args)
}

func toHex(_ *Run, args []value.Value) (value.Value, error) {
	n := uint64(atoi(args[0])) //nolint:gosec // two's complement
	if args[0].Type == value.Int4 {
		n &= 0xFFFFFFFF
	}
	return text(strings.ToLower(hexOf(n))), nil
}

func hexOf(n uint64) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; n > 0 || s == ""; n >>= 4 {
		s = string(digits[n&15]) + s
	}
	return s
}
