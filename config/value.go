package config

import (
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// source is one file that was read.
type source struct {
	name   string
	text   string
	starts []position // of every node, in the order of the text
	hidden []span     // what is quoted nowhere
	torn   bool       // it is not YAML to its end
}

// value is a YAML value that knows where it stands, also after files were merged.
type value struct {
	src          *source
	line, column int
	width        int // characters that a caret underlines
	kind         yaml.Kind
	tag          string  // !!str, !!int, …
	text         string  // of a scalar
	items        []value // of a sequence
	entries      []entry // of a mapping, in the order written
	nodes        span    // itself with all that is in it
	secret       bool    // told by no fault, in no way
}

type entry struct {
	key value
	val value
}

// isNull tells a key without a value from one with an empty value.
func (v *value) isNull() bool { return v.kind == yaml.ScalarNode && v.tag == "!!null" }

// describe names the kind of a value in words of the file's author, and tells it unless it is secret.
func (v *value) describe() string {
	if v.secret && v.kind == yaml.ScalarNode && !v.isNull() {
		return "a single value"
	}
	if v.kind == yaml.MappingNode {
		return "a mapping"
	}
	if v.kind == yaml.SequenceNode {
		return "a list"
	}
	switch v.tag {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + v.text
	case "!!bool":
		return v.text
	}
	return `"` + v.text + `"`
}

// build turns yaml's nodes into values and reports what a strict configuration does not have.
func (d *decoder) build(src *source, n *yaml.Node) (v value) {
	v = value{src: src, line: n.Line, column: n.Column, width: 1, kind: n.Kind, tag: n.ShortTag(), text: n.Value}
	v.nodes.from = len(src.starts)
	src.starts = append(src.starts, position{n.Line, n.Column})
	defer func() {
		v.nodes.to = len(src.starts)
		if v.isNull() {
			v.hide() // what follows is no part of it: a comment, in which a value may stand
		}
	}()
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		v.width = len([]rune(n.Value))
	}
	if n.Anchor != "" {
		d.fault(&v, "write the value out where it is needed", "anchors are not read here")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fault(&v, "leave it out; a text in quotes is a text", "tags of YAML, such as !!str, are not read here")
	}
	if n.Kind == yaml.AliasNode {
		d.fault(&v, "write the value out where it is needed", "aliases are not read here")
		v.kind, v.tag, v.text = yaml.ScalarNode, "!!null", ""
		return v
	}
	if n.Kind == yaml.SequenceNode {
		for _, c := range n.Content {
			v.items = append(v.items, d.build(src, c))
		}
		return v
	}
	for i := 0; i+1 < len(n.Content); i += 2 { // a scalar has no content
		e := entry{key: d.build(src, n.Content[i]), val: d.build(src, n.Content[i+1])}
		switch {
		case e.key.kind != yaml.ScalarNode:
			e.key.hide()
			e.val.hide()
			d.fault(&e.key, "", "a key must be a plain word")
		case e.key.tag == "!!merge":
			e.val.hide()
			d.fault(&e.key, "write the value out where it is needed", "merge keys are not read here")
		default:
			d.add(&v, e)
		}
	}
	return v
}

// add puts an entry into a mapping. A key that both have is merged if both values are mappings, of different
// files; otherwise it is given twice.
func (d *decoder) add(v *value, e entry) {
	for i := range v.entries {
		old := &v.entries[i]
		if old.key.text != e.key.text {
			continue
		}
		mergeable := old.val.kind == yaml.MappingNode && e.val.kind == yaml.MappingNode && old.key.src != e.key.src
		if !mergeable {
			e.val.hide()
			d.fault(&e.key, "keep one of them", "%s is given twice; first at %s", e.named(), old.key.place())
			return
		}
		for _, inner := range e.val.entries {
			d.add(&old.val, inner)
		}
		return
	}
	v.entries = append(v.entries, e)
}

// place is where the value stands, as file:line:column.
func (v *value) place() string {
	f := Fault{File: v.src.name, Line: v.line, Column: v.column}
	return strings.TrimSuffix(f.Error(), ": ")
}

// within is the part of a scalar between two of its bytes, or all of it where the file spells it otherwise.
func (v *value) within(start, end int) value {
	part := *v
	line, _ := lineOf(v.src.text, v.line)
	runes := []rune(line)
	for quote := range 2 { // plain, or in quotes
		from := v.column - 1 + quote
		if from <= len(runes) && strings.HasPrefix(string(runes[from:]), v.text) {
			part.column += quote + utf8.RuneCountInString(v.text[:start])
			part.width = utf8.RuneCountInString(v.text[start:end])
			break
		}
	}
	return part
}
