package config

import (
	"errors"
	"fmt"
	"strings"
)

// Placeholder is a :name within a text.
type Placeholder struct {
	Name       string
	Start, End int // bytes: text[Start:End] is the colon and the name
}

// Placeholders finds every :name in one SQL statement, in order. It passes over 'strings' (with ” and, after E,
// backslashes), "identifiers", `identifiers`, $tag$ quotes $tag$, -- and nested /* */ comments, and :: casts. What is opened and
// never closed is an error. The rules are those of PostgreSQL's lexical structure.
func Placeholders(text string) ([]Placeholder, error) {
	found, _, err := scan(text)
	return found, err
}

// scan is [Placeholders] that also returns where the first semicolon is, or the length of text.
func scan(text string) (found []Placeholder, semicolon int, err error) {
	semicolon = len(text)
	for i := 0; i < len(text); {
		c := text[i]
		end := i + 1
		switch {
		case c == '\'' || c == '"' || c == '`':
			escapes := c == '\'' && i > 0 && (text[i-1] == 'E' || text[i-1] == 'e') && (i == 1 || !inName(text[i-2]))
			if end = closing(text, i, escapes); end < 0 {
				return nil, 0, fmt.Errorf("the %c at byte %d is never closed", c, i+1)
			}
		case strings.HasPrefix(text[i:], "--"):
			if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
				end = i + n
			} else {
				end = len(text)
			}
		case strings.HasPrefix(text[i:], "/*"):
			if end = commentEnd(text, i); end < 0 {
				return nil, 0, fmt.Errorf("the comment at byte %d is never closed", i+1)
			}
		case c == '$':
			tag := dollarTag(text[i:])
			if tag == "" {
				break
			}
			n := strings.Index(text[i+len(tag):], tag)
			if n < 0 {
				return nil, 0, fmt.Errorf("the %s at byte %d is never closed", tag, i+1)
			}
			end = i + len(tag) + n + len(tag)
		case strings.HasPrefix(text[i:], "::"):
			end = i + 2
		case c == ':':
			for end < len(text) && (inName(text[end]) && (end > i+1 || startsName(text[end]))) {
				end++
			}
			if end > i+1 {
				found = append(found, Placeholder{Name: text[i+1 : end], Start: i, End: end})
			}
		case c == ';':
			semicolon = min(semicolon, i)
		case startsName(c):
			for end < len(text) && (inName(text[end]) || text[end] == '$') {
				end++
			}
		}
		i = end
	}
	return found, semicolon, nil
}

// PutPlaceholders finds every :name in a message, in order. There are no strings and no comments in a message: a
// colon before a letter always begins a name, except that two colons stand for one that does not.
func PutPlaceholders(text string) []Placeholder {
	var found []Placeholder
	for i := 0; i < len(text); {
		end := i + 1
		if strings.HasPrefix(text[i:], "::") {
			end = i + 2
		} else if text[i] == ':' {
			for end < len(text) && (inName(text[end]) && (end > i+1 || startsName(text[end]))) {
				end++
			}
			if end > i+1 {
				found = append(found, Placeholder{Name: text[i+1 : end], Start: i, End: end})
			}
		}
		i = end
	}
	return found
}

// closing returns the byte after the quote that closes the one at i, or -1. A doubled quote does not close.
func closing(text string, i int, escapes bool) int {
	quote := text[i]
	for j := i + 1; j < len(text); j++ {
		switch {
		case escapes && text[j] == '\\':
			j++
		case text[j] != quote:
		case j+1 < len(text) && text[j+1] == quote:
			j++
		default:
			return j + 1
		}
	}
	return -1
}

// commentEnd returns the byte after the comment that begins at i, or -1. Comments nest.
func commentEnd(text string, i int) int {
	depth := 0
	for j := i; j+1 < len(text); {
		switch text[j : j+2] {
		case "/*":
			depth++
			j += 2
		case "*/":
			depth--
			j += 2
		default:
			j++
		}
		if depth == 0 {
			return j
		}
	}
	return -1
}

// dollarTag returns the $tag$ that text begins with, or "".
func dollarTag(text string) string {
	for j := 1; j < len(text); j++ {
		switch {
		case text[j] == '$':
			return text[:j+1]
		case j == 1 && !startsName(text[j]), !inName(text[j]):
			return ""
		}
	}
	return ""
}

func startsName(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

func inName(c byte) bool { return startsName(c) || '0' <= c && c <= '9' }

// transactionWords begin statements that only the session may give.
var transactionWords = []string{"abort", "begin", "commit", "end", "prepare", "release", "rollback", "savepoint", "start", "xa"}

// checkStatement refuses what cannot be one step: nothing, several statements, or control of the transaction.
func checkStatement(text string) error {
	_, semicolon, err := scan(text)
	if err != nil {
		return err
	}
	if skipBlank(text[min(semicolon+1, len(text)):]) != "" {
		return errors.New("one step is one statement; make what follows the semicolon a step of its own")
	}
	rest := skipBlank(text)
	word := 0
	for word < len(rest) && inName(rest[word]) {
		word++
	}
	if rest == "" || rest[0] == ';' {
		return errors.New("there is no statement")
	}
	for _, w := range transactionWords {
		if strings.EqualFold(rest[:word], w) {
			return fmt.Errorf("%s would end or split the transaction that this step is part of", strings.ToUpper(w))
		}
	}
	return nil
}

// skipBlank drops white space and comments from the front of a statement.
func skipBlank(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(text, "--"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			text = text[commentEnd(text, 0):]
		default:
			return text
		}
	}
}
