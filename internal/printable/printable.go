// Package printable makes text that others chose safe to look at: on a terminal, in the journal, in a line of STATUS=. What it
// returns moves no cursor, rings no bell, hides nothing and is valid UTF-8.
//
// What may be shown is what strconv.IsPrint takes: letters, marks, numbers, punctuation, symbols and the ASCII space of any script.
package printable

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Cut returns s, or of a longer one the first limit bytes, less a character that would be torn, and how much is missing.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	keep := whole([]byte(s[:limit]))
	return fmt.Sprintf("%s… (%d bytes more)", s[:keep], len(s)-keep)
}

// whole is the length of data without a character at its end that is not all there.
func whole(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if last := data[len(data)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return len(data) - n
			}
			break
		}
	}
	return len(data)
}

// Text returns s with every character that cannot be shown as its escape, newlines and tabs apart.
func Text(s string) string { return escaped(s, true) }

// Line is Text with newlines and tabs escaped, too.
func Line(s string) string { return escaped(s, false) }

func escaped(s string, lines bool) string {
	if clean(s, lines) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if plain(r, n, lines) {
			b.WriteString(s[:n])
		} else {
			b.WriteString(escape(r, s[:n]))
		}
		s = s[n:]
	}
	return b.String()
}

// clean reports whether nothing in s needs an escape.
func clean(s string, lines bool) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r, 0, lines) })
}

// plain reports whether a character that takes n bytes may be shown as it is.
func plain(r rune, n int, lines bool) bool {
	switch {
	case r == '\n', r == '\t':
		return lines
	case r == utf8.RuneError && n == 1:
		return false
	}
	return strconv.IsPrint(r)
}

// escape writes a character so that JSON can read it where JSON can have it: \u001b, and \xff for a byte that is no character.
func escape(r rune, raw string) string {
	switch {
	case r == utf8.RuneError:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// Writer passes on what is printable, newlines and tabs as they are and the rest as escapes. It is safe for concurrent use.
type Writer struct {
	to   io.Writer
	mu   sync.Mutex
	rest []byte // the beginning of a character whose end is in the next Write
	err  error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w} }

// Unwrap returns what w writes to, for who has to send a terminal more than text.
func (w *Writer) Unwrap() io.Writer { return w.to }

// Write implements io.Writer; n counts bytes of p.
func (w *Writer) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := append(w.rest, p...)
	end := whole(data)
	w.rest = append([]byte(nil), data[end:]...)
	if _, err := io.WriteString(w.to, Text(string(data[:end]))); err != nil {
		w.err = err
		return 0, err
	}
	return len(p), nil
}

// Err returns the last error of a Write, nil if there was none.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
