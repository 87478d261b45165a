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

// Dialect is by whose rules a statement is read.
type Dialect int

// The dialects.
const (
	DialectPostgres Dialect = iota
	DialectMariaDB
)

// Placeholders finds every :name in one SQL statement, in order, by the lexical rules of the dialect's database.
// What is opened and never closed is an error.
//
// PostgreSQL (documentation, "Lexical Structure"): it passes over 'strings' (with ’’ and, after E, backslashes), "identifiers", $tag$
// quotes $tag$, -- and nested /* */ comments, and :: casts. MariaDB (knowledge base, "Lexical Structure", with the default sql_mode): over
// 'strings' and "strings" with backslashes, `identifiers`, comments from # or from -- and a space to the end of the line, and /* */ comments
// that do not nest; the inside of /*! */ and /*M! */ is part of the statement.
func Placeholders(text string, dialect Dialect) ([]Placeholder, error) {
	found, _, err := scan(text, dialect)
	return found, err
}

// scan is [Placeholders] that also returns where the first semicolon is, or the length of text.
func scan(text string, dialect Dialect) (found []Placeholder, semicolon int, err error) {
	skip := skipPostgres
	if dialect == DialectMariaDB {
		skip = skipMariaDB
	}
	semicolon = len(text)
	for i := 0; i < len(text); {
		end, err := skip(text, i)
		if err != nil {
			return nil, 0, err
		}
		c := text[i]
		switch {
		case end > i:
		case c == ':':
			if end = nameEnd(text, i+1); end > i+1 {
				found = append(found, Placeholder{Name: text[i+1 : end], Start: i, End: end})
			}
		case c == ';':
			semicolon = min(semicolon, i)
			end = i + 1
		case startsName(c):
			for end = i + 1; end < len(text) && (inName(text[end]) || text[end] == '$'); {
				end++
			}
		default:
			end = i + 1
		}
		i = end
	}
	return found, semicolon, nil
}

// nameEnd returns the byte after the name that begins at i; i if none does.
func nameEnd(text string, i int) int {
	if i == len(text) || !startsName(text[i]) {
		return i
	}
	for i < len(text) && inName(text[i]) {
		i++
	}
	return i
}

// skipPostgres returns the byte after what begins at i and holds no placeholder; i if nothing of the kind does.
func skipPostgres(text string, i int) (end int, err error) {
	rest := text[i:]
	switch c := text[i]; {
	case c == '\'' || c == '"':
		escapes := c == '\'' && i > 0 && (text[i-1] == 'E' || text[i-1] == 'e') && (i == 1 || !inName(text[i-2]))
		return closing(text, i, escapes)
	case strings.HasPrefix(rest, "--"):
		return lineEnd(text, i, "\n\r"), nil
	case strings.HasPrefix(rest, "/*"):
		return commentEnd(text, i)
	case c == '$':
		tag := dollarTag(rest)
		if tag == "" {
			return i, nil
		}
		n := strings.Index(rest[len(tag):], tag)
		if n < 0 {
			return 0, fmt.Errorf("the %s at byte %d is never closed", tag, i+1)
		}
		return i + len(tag) + n + len(tag), nil
	case strings.HasPrefix(rest, "::"):
		return i + 2, nil
	}
	return i, nil
}

// skipMariaDB is skipPostgres for MariaDB.
func skipMariaDB(text string, i int) (end int, err error) {
	rest := text[i:]
	switch c := text[i]; {
	case c == '\'' || c == '"' || c == '`':
		return closing(text, i, c != '`')
	case c == '#', rest == "--", strings.HasPrefix(rest, "--") && rest[2] <= ' ':
		return lineEnd(text, i, "\n"), nil
	case strings.HasPrefix(rest, "/*!"), strings.HasPrefix(rest, "/*M!"):
		return i + len("/*"), nil // what follows is read as if it stood by itself
	case strings.HasPrefix(rest, "/*"):
		n := strings.Index(rest[2:], "*/")
		if n < 0 {
			return 0, fmt.Errorf("the comment at byte %d is never closed", i+1)
		}
		return i + 2 + n + 2, nil
	}
	return i, nil
}

// lineEnd returns where the line ends that i is in.
func lineEnd(text string, i int, ends string) int {
	if n := strings.IndexAny(text[i:], ends); n >= 0 {
		return i + n
	}
	return len(text)
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
			if end = nameEnd(text, i+1); end > i+1 {
				found = append(found, Placeholder{Name: text[i+1 : end], Start: i, End: end})
			}
		}
		i = end
	}
	return found
}

// closing returns the byte after the quote that closes the one at i. A doubled quote does not close.
func closing(text string, i int, escapes bool) (int, error) {
	quote := text[i]
	for j := i + 1; j < len(text); j++ {
		switch {
		case escapes && text[j] == '\\':
			j++
		case text[j] != quote:
		case j+1 < len(text) && text[j+1] == quote:
			j++
		default:
			return j + 1, nil
		}
	}
	return 0, fmt.Errorf("the %c at byte %d is never closed", quote, i+1)
}

// commentEnd returns the byte after PostgreSQL's comment that begins at i. Comments nest.
func commentEnd(text string, i int) (int, error) {
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
			return j, nil
		}
	}
	return 0, fmt.Errorf("the comment at byte %d is never closed", i+1)
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
func checkStatement(text string, dialect Dialect) error {
	_, semicolon, err := scan(text, dialect)
	if err != nil {
		return err
	}
	if skipBlank(text[min(semicolon+1, len(text)):], dialect) != "" {
		return errors.New("one step is one statement; make what follows the semicolon a step of its own")
	}
	rest := skipBlank(text, dialect)
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

// skipBlank drops white space and comments from the front of a statement that scan has read. Of MariaDB's /*! it drops the beginning, and
// the number behind it.
func skipBlank(text string, dialect Dialect) string {
	for {
		text = strings.TrimLeft(text, " \t\r\n\f\v")
		switch {
		case dialect == DialectMariaDB && (strings.HasPrefix(text, "/*!") || strings.HasPrefix(text, "/*M!")):
			_, text, _ = strings.Cut(text, "!")
			text = strings.TrimLeft(text, "0123456789")
		case dialect == DialectMariaDB && (strings.HasPrefix(text, "#") || strings.HasPrefix(text, "--") || strings.HasPrefix(text, "/*")):
			end, _ := skipMariaDB(text, 0)
			if end == 0 {
				return text
			}
			text = text[end:]
		case dialect == DialectMariaDB && strings.HasPrefix(text, "*/"):
			text = text[2:]
		case dialect != DialectMariaDB && (strings.HasPrefix(text, "--") || strings.HasPrefix(text, "/*")):
			end, _ := skipPostgres(text, 0)
			text = text[end:]
		default:
			return text
		}
	}
}
