package statement

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is the class of a token.
type kind uint8

const (
	tokenEnd     kind = iota // end of the text
	tokenWord                // unquoted identifier or keyword, folded to lower case
	tokenName                // quoted identifier
	tokenString              // any string constant, unescaped
	tokenInteger             // digits only
	tokenDecimal             // a number with a point or an exponent
	tokenParam               // $1
	tokenMark                // operator or punctuation
)

// token is one lexical unit; pos and end are byte offsets into the text.
type token struct {
	kind     kind
	text     string
	pos, end int
}

// maxName is how many bytes of an identifier count (NAMEDATALEN - 1).
const maxName = 63

// lexer cuts a query text into tokens as PostgreSQL's scan.l does with
// standard_conforming_strings on.
type lexer struct {
	src string
	pos int
}

func (l *lexer) errorf(pos int, code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), at: pos}
}

// Position turns a byte offset into the 1-based count of characters that the
// protocol's Position field wants. It reads all the text before: it is for an
// error, and not for what may be none.
func Position(src string, offset int) int {
	return utf8.RuneCountInString(src[:offset]) + 1
}

func space(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func identPart(c byte) bool { return identStart(c) || digit(c) || c == '$' }

// skip passes over white space and comments; newline tells whether a line
// ended on the way, which is what joins two string constants.
func (l *lexer) skip() (newline bool, err error) {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case space(rest[0]):
			newline = newline || rest[0] == '\n' || rest[0] == '\r'
			l.pos++
		case strings.HasPrefix(rest, "--"):
			if i := strings.IndexAny(rest, "\n\r"); i >= 0 {
				l.pos += i
			} else {
				l.pos = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			if err := l.block(); err != nil {
				return newline, err
			}
		default:
			return newline, nil
		}
	}
	return newline, nil
}

// block passes over a comment in /* */, which may nest.
func (l *lexer) block() error {
	start, depth := l.pos, 0
	for l.pos < len(l.src) {
		switch rest := l.src[l.pos:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.pos += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.pos += 2
			if depth == 0 {
				return nil
			}
		default:
			l.pos++
		}
	}
	return l.errorf(start, codeSyntax, "unterminated /* comment at or near %q", l.src[start:])
}

// next returns the next token.
func (l *lexer) next() (token, error) {
	if _, err := l.skip(); err != nil {
		return token{}, err
	}
	start := l.pos
	t, err := l.scan()
	t.pos, t.end = start, l.pos
	return t, err
}

func (l *lexer) scan() (token, error) {
	if l.pos == len(l.src) {
		return token{kind: tokenEnd}, nil
	}
	rest := l.src[l.pos:]
	c := rest[0]
	switch {
	case c == '\'':
		return l.quoted(l.pos, false)
	case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
		l.pos++
		return l.quoted(l.pos-1, true)
	case (c == 'n' || c == 'N') && strings.HasPrefix(rest[1:], "'"):
		l.pos++
		return l.quoted(l.pos-1, false)
	case (c == 'b' || c == 'B' || c == 'x' || c == 'X') && strings.HasPrefix(rest[1:], "'"):
		return token{}, l.errorf(l.pos, codeUnsupported, "fdt does not take bit string constants")
	case (c == 'u' || c == 'U') && (strings.HasPrefix(rest[1:], "&'") || strings.HasPrefix(rest[1:], `&"`)):
		return l.unicodeQuoted()
	case c == '"':
		return l.name()
	case c == '$':
		return l.dollar()
	case digit(c) || c == '.' && len(rest) > 1 && digit(rest[1]):
		return l.number()
	case identStart(c):
		return l.word(), nil
	}
	return l.mark(c)
}

// operatorChars are those of which operators are made.
const operatorChars = "+-*/<>=~!@#%^&|`?"

// mark reads an operator, or punctuation. An operator ends before a comment,
// and does not end in a sign unless it has a character that marks it as no
// arithmetic (PostgreSQL's manual, 4.1.3).
func (l *lexer) mark(c byte) (token, error) {
	rest := l.src[l.pos:]
	if c < ' ' || c > '~' || c == '\\' {
		_, size := utf8.DecodeRuneInString(rest)
		return token{}, l.errorf(l.pos, codeSyntax, "syntax error at or near %q", rest[:size])
	}
	n := 1
	switch {
	case strings.HasPrefix(rest, "::"), strings.HasPrefix(rest, ":="):
		n = 2
	case strings.IndexByte(operatorChars, c) >= 0:
		for n < len(rest) && strings.IndexByte(operatorChars, rest[n]) >= 0 && !comment(rest[n:]) {
			n++
		}
		for n > 1 && (rest[n-1] == '+' || rest[n-1] == '-') && !strings.ContainsAny(rest[:n], "~!@#%^&|`?") {
			n--
		}
	}
	l.pos += n
	return token{kind: tokenMark, text: rest[:n]}, nil
}

func comment(s string) bool { return strings.HasPrefix(s, "--") || strings.HasPrefix(s, "/*") }

func (l *lexer) word() token {
	start := l.pos
	for l.pos < len(l.src) && identPart(l.src[l.pos]) {
		l.pos++
	}
	return token{kind: tokenWord, text: Shorten(lower(l.src[start:l.pos]))}
}

// lower folds ASCII only, as PostgreSQL does in a UTF-8 database.
func lower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// Shorten cuts a name to the 63 bytes of an identifier that count (NAMEDATALEN - 1), never inside a character, as
// PostgreSQL does with those in texts and in messages.
func Shorten(s string) string {
	if len(s) <= maxName {
		return s
	}
	n := maxName
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (l *lexer) name() (token, error) {
	start := l.pos
	var b pieces
	for l.pos++; ; {
		rest := l.src[l.pos:]
		i := strings.IndexByte(rest, '"')
		if i < 0 {
			return token{}, l.errorf(start, codeSyntax, `unterminated quoted identifier at or near "%s"`, l.src[start:])
		}
		b.add(rest[:i])
		l.pos += i + 1
		if strings.HasPrefix(rest[i+1:], `"`) {
			b.add(`"`)
			l.pos++
			continue
		}
		s := b.String()
		if s == "" {
			return token{}, l.errorf(start, codeSyntax, `zero-length delimited identifier at or near "%s"`, l.src[start:l.pos])
		}
		return token{kind: tokenName, text: Shorten(s)}, nil
	}
}

// quoted reads a constant in single quotes and, as SQL demands, those that
// follow it on later lines.
func (l *lexer) quoted(start int, escapes bool) (token, error) {
	var b pieces
	for {
		if err := l.run(&b, start, escapes); err != nil {
			return token{}, err
		}
		end := l.pos
		newline, err := l.skip()
		if err != nil {
			return token{}, err
		}
		if !newline || !strings.HasPrefix(l.src[l.pos:], "'") {
			l.pos = end
			break
		}
	}
	s := b.String()
	if escapes && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
		return token{}, l.errorf(start, codeEncoding, "invalid byte sequence for encoding \"UTF8\" in a string constant")
	}
	return token{kind: tokenString, text: s}, nil
}

// pieces is a text that is put together; a single piece is not copied.
type pieces struct {
	first string
	all   strings.Builder // unless there is no more than the first
}

func (p *pieces) add(s string) {
	if p.all.Len() == 0 {
		if p.first == "" {
			p.first = s
			return
		}
		p.all.WriteString(p.first)
	}
	p.all.WriteString(s)
}

// String returns the text.
func (p *pieces) String() string {
	if p.all.Len() == 0 {
		return p.first
	}
	return p.all.String()
}

// run reads one pair of single quotes.
func (l *lexer) run(b *pieces, start int, escapes bool) error {
	stops := "'"
	if escapes {
		stops = `'\`
	}
	for l.pos++; ; {
		rest := l.src[l.pos:]
		i := strings.IndexAny(rest, stops)
		if i < 0 {
			return l.errorf(start, codeSyntax, `unterminated quoted string at or near "%s"`, l.src[start:])
		}
		b.add(rest[:i])
		l.pos += i
		switch {
		case rest[i] == '\\':
			if err := l.escape(b); err != nil {
				return err
			}
		case strings.HasPrefix(rest[i+1:], "'"):
			b.add("'")
			l.pos += 2
		default:
			l.pos++
			return nil
		}
	}
}

// escape reads one backslash sequence of an E” constant.
func (l *lexer) escape(b *pieces) error {
	start := l.pos
	l.pos++
	if l.pos == len(l.src) {
		return nil // run reports the missing quote
	}
	c := l.src[l.pos]
	l.pos++
	switch {
	case c == 'b':
		b.add("\b")
	case c == 'f':
		b.add("\f")
	case c == 'n':
		b.add("\n")
	case c == 'r':
		b.add("\r")
	case c == 't':
		b.add("\t")
	case c == 'v':
		b.add("\v")
	case c >= '0' && c <= '7':
		l.pos--
		b.add(string([]byte{byte(l.base(8, 3))}))
	case c == 'x' && l.pos < len(l.src) && hex(l.src[l.pos]):
		b.add(string([]byte{byte(l.base(16, 2))}))
	case c == 'u', c == 'U':
		return l.unicode(b, start, c)
	default:
		b.add(string([]byte{c}))
	}
	return nil
}

func hex(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// base reads up to n digits of the base.
func (l *lexer) base(base, n int) uint64 {
	start := l.pos
	for l.pos < len(l.src) && l.pos-start < n {
		c := l.src[l.pos]
		if !hex(c) || base == 8 && (c < '0' || c > '7') {
			break
		}
		l.pos++
	}
	v, _ := strconv.ParseUint(l.src[start:l.pos], base, 64) // only digits of the base, at most eight
	return v
}

// unicode reads \uXXXX, also as a surrogate pair, or \UXXXXXXXX.
func (l *lexer) unicode(b *pieces, start int, c byte) error {
	n := 4
	if c == 'U' {
		n = 8
	}
	from := l.pos
	r := rune(l.base(16, n)) //nolint:gosec // eight digits may overflow to a negative rune, refused below
	if l.pos-from < n {
		return l.errorf(start, "22025", "invalid Unicode escape: \\uXXXX or \\UXXXXXXXX is wanted")
	}
	if r >= 0xD800 && r < 0xDC00 && strings.HasPrefix(l.src[l.pos:], `\u`) {
		l.pos += 2
		if low := rune(l.base(16, 4)); low >= 0xDC00 && low < 0xE000 { //nolint:gosec // four digits
			r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
		}
	}
	if r == 0 || !utf8.ValidRune(r) {
		return l.errorf(start, codeSyntax, "invalid Unicode escape value")
	}
	b.add(string(r))
	return nil
}

// dollar reads $1 or a constant in dollar quotes.
func (l *lexer) dollar() (token, error) {
	start := l.pos
	i := l.pos + 1
	if i < len(l.src) && digit(l.src[i]) {
		for i < len(l.src) && digit(l.src[i]) {
			i++
		}
		if i < len(l.src) && identStart(l.src[i]) {
			return token{}, l.errorf(start, codeSyntax, `trailing junk after parameter at or near "%s"`, l.src[start:i+1])
		}
		l.pos = i
		return token{kind: tokenParam, text: l.src[start+1 : i]}, nil
	}
	for i < len(l.src) && (identStart(l.src[i]) || digit(l.src[i])) {
		i++
	}
	if i == len(l.src) || l.src[i] != '$' {
		return token{}, l.errorf(start, codeSyntax, `syntax error at or near "$"`)
	}
	tag := l.src[start : i+1]
	body := l.src[i+1:]
	end := strings.Index(body, tag)
	if end < 0 {
		return token{}, l.errorf(start, codeSyntax, `unterminated dollar-quoted string at or near "%s"`, l.src[start:])
	}
	l.pos = i + 1 + end + len(tag)
	return token{kind: tokenString, text: body[:end]}, nil
}

func (l *lexer) digits() {
	for l.pos < len(l.src) && digit(l.src[l.pos]) {
		l.pos++
	}
}

func (l *lexer) number() (token, error) {
	start := l.pos
	k := tokenInteger
	l.digits()
	if l.pos < len(l.src) && l.src[l.pos] == '.' {
		k = tokenDecimal
		l.pos++
		l.digits()
	}
	if l.pos < len(l.src) && (l.src[l.pos] == 'e' || l.src[l.pos] == 'E') {
		k = tokenDecimal
		i := l.pos + 1
		if i < len(l.src) && (l.src[i] == '+' || l.src[i] == '-') {
			i++
		}
		if i < len(l.src) && digit(l.src[i]) {
			l.pos = i
			l.digits()
		}
	}
	if l.pos < len(l.src) && identStart(l.src[l.pos]) {
		return token{}, l.errorf(start, codeSyntax, `trailing junk after numeric literal at or near "%s"`, l.src[start:l.pos+1])
	}
	return token{kind: k, text: l.src[start:l.pos]}, nil
}
