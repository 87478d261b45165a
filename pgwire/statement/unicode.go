package statement

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unicodeQuoted reads U&'text' and U&"name", with UESCAPE where another
// character than the backslash escapes (PostgreSQL's manual, 4.1.2.3).
func (l *lexer) unicodeQuoted() (token, error) {
	start := l.pos
	l.pos += 2
	read := func() (token, error) { return l.quoted(start, false) }
	if l.src[l.pos] == '"' {
		read = l.name
	}
	t, err := read()
	if err != nil {
		return token{}, err
	}
	mark := byte('\\')
	end := l.pos
	if _, err := l.skip(); err != nil {
		return token{}, err
	}
	if rest := l.src[l.pos:]; len(rest) > 7 && strings.EqualFold(rest[:7], "uescape") && !identPart(rest[7]) {
		l.pos += 7
		if _, err := l.skip(); err != nil {
			return token{}, err
		}
		if !strings.HasPrefix(l.src[l.pos:], "'") {
			return token{}, l.errorf(l.pos, codeSyntax, "UESCAPE must be followed by a simple string literal")
		}
		at := l.pos
		e, err := l.quoted(l.pos, false)
		if err != nil {
			return token{}, err
		}
		if len(e.text) != 1 || hex(e.text[0]) || space(e.text[0]) || strings.ContainsAny(e.text, `+'"`) {
			return token{}, l.errorf(at, codeSyntax, "invalid Unicode escape character at or near %q", l.src[at:l.pos])
		}
		mark = e.text[0]
	} else {
		l.pos = end
	}
	if t.text, err = l.unescape(t.text, mark, start); t.kind == tokenName {
		t.text = Shorten(t.text)
	}
	return t, err
}

// unescape replaces \XXXX and \+XXXXXX, also as surrogate pairs.
func (l *lexer) unescape(s string, mark byte, at int) (string, error) {
	var b strings.Builder
	high := rune(0)
	for i := 0; i < len(s); {
		if s[i] != mark || strings.HasPrefix(s[i+1:], string(mark)) {
			if high != 0 {
				return "", l.errorf(at, codeSyntax, "invalid Unicode surrogate pair")
			}
			b.WriteByte(s[i])
			if s[i] == mark {
				i++
			}
			i++
			continue
		}
		i++
		n := 4
		if strings.HasPrefix(s[i:], "+") {
			i++
			n = 6
		}
		if i+n > len(s) {
			return "", l.errorf(at, "42601", "invalid Unicode escape")
		}
		v, err := strconv.ParseUint(s[i:i+n], 16, 32)
		if err != nil {
			return "", l.errorf(at, "42601", "invalid Unicode escape")
		}
		i += n
		r := rune(v) //nolint:gosec // six digits
		switch {
		case high != 0:
			if r = utf16.DecodeRune(high, r); r == utf8.RuneError {
				return "", l.errorf(at, codeSyntax, "invalid Unicode surrogate pair")
			}
			high = 0
		case r >= 0xD800 && r < 0xDC00:
			high = r
			continue
		case r == 0 || !utf8.ValidRune(r):
			return "", l.errorf(at, codeSyntax, "invalid Unicode escape value")
		}
		b.WriteRune(r)
	}
	if high != 0 {
		return "", l.errorf(at, codeSyntax, "invalid Unicode surrogate pair")
	}
	return b.String(), nil
}
