package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// What may be a secret is known by its place in the configuration, where it is read: the fields that are marked so, and
// whatever stands where nothing can be read, as it may have been meant for one of them. Everything else is quoted.

// position is a place in a text, as YAML counts: both from 1, the column in characters.
type position struct{ line, column int }

// span is a run of nodes: from is the first one's index in source.starts, to the one after the last.
type span struct{ from, to int }

// hide marks a value, with all that is in it, as one that may be a secret.
func (v *value) hide() {
	v.src.hidden = append(v.src.hidden, v.nodes)
	v.conceal()
}

func (v *value) conceal() {
	v.secret = true
	for i := range v.items {
		v.items[i].conceal()
	}
	for i := range v.entries {
		v.entries[i].key.conceal()
		v.entries[i].val.conceal()
	}
}

// plainKey is a key that was meant to be one. "alice:hunter2" and "pass=hunter2" are keys to YAML, too.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)

// named is a key that is not known, as it may be told. One that is no plain word, or that has no value and may have been
// meant to be one itself, is hidden.
func (e *entry) named() string {
	if plainKey.MatchString(e.key.text) && !e.val.isNull() {
		return fmt.Sprintf("%q", e.key.text)
	}
	e.key.hide()
	return "this"
}

// private is a kind whose values are hidden.
func private(k kind) kind {
	read := k.read
	k.read = func(d *decoder, v *value, path string) {
		v.hide()
		read(d, v, path)
	}
	return k
}

// stars replaces what can be seen by one star for each character, so that a caret below stays right.
func stars(runes []rune) {
	for i, r := range runes {
		if !unicode.IsSpace(r) {
			runes[i] = '*'
		}
	}
}

// quoted is a line of the source, by number, in which what is hidden is stars. The text of a node goes on to the next
// one's beginning: YAML does not tell its end, and the comments between them hide as little as they are missed.
func (s *source) quoted(number int) ([]rune, bool) {
	text, ok := lineOf(s.text, number)
	if s.torn {
		return unread(text), ok
	}
	runes := []rune(text)
	for _, h := range s.hidden {
		from, to := s.starts[h.from], position{line: number + 1}
		if h.to < len(s.starts) {
			to = s.starts[h.to]
		}
		if number < from.line || number > to.line {
			continue
		}
		first, last := 0, len(runes)
		if number == from.line {
			first = min(max(from.column-1, 0), len(runes))
		}
		if number == to.line {
			last = min(max(to.column-1, first), len(runes))
		}
		stars(runes[first:last])
	}
	return runes, ok
}

// knownKeys are all keys that a configuration can have.
var knownKeys = keysIn(objectSchema(rootFields(new(Config), knowledge{types: ownTypes()})))

func keysIn(s schema) map[string]bool {
	keys := make(map[string]bool)
	var walk func(s *schema)
	walk = func(s *schema) {
		for key, inner := range s.Properties {
			keys[key] = true
			walk(inner)
		}
		if inner, ok := s.AdditionalProperties.(*schema); ok {
			walk(inner)
		}
		if s.Items != nil {
			walk(s.Items)
		}
		for i := range s.AnyOf {
			walk(&s.AnyOf[i])
		}
	}
	walk(&s)
	return keys
}

var leadingKey = regexp.MustCompile(`^[\s-]*([a-z_]+):`)

// unread is a line of a file that is not YAML, in which no place is known: nothing of it is quoted but a known key that it
// begins with.
func unread(line string) []rune {
	kept := ""
	if m := leadingKey.FindStringSubmatch(line); m != nil && knownKeys[m[1]] {
		kept = m[0]
	}
	rest := []rune(strings.TrimPrefix(line, kept))
	stars(rest)
	return append([]rune(kept), rest...)
}
