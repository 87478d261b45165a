package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// Hidden stands for every value that may be a secret by its place.
const Hidden = "********"

// Setting is one line of the effective configuration.
type Setting struct {
	Path string // such as listen.local.address, or procedures.pay.steps[0].sql
	Text string // the line as YAML, without what is told here: a configuration, but for what is Hidden
	// Value is a string, a boolean or a [json.Number], Hidden if it may be a secret; an empty map; nil where the following lines have it.
	Value any
	File  string // where it is written; empty: it is the default
	Line  int    // there, from 1
}

// Effective returns what a configuration without a fault says, line by line in the order of fdt.yaml(5), with all defaults.
func (p Places) Effective() []Setting {
	e := effective{d: p.d}
	e.mapping(p.d.effective.entries, "", "", "")
	return e.lines
}

type effective struct {
	d     *decoder
	lines []Setting
}

// mapping tells the entries of the mapping of a path. lead begins the first line, and indent the others.
func (e *effective) mapping(entries []entry, path, lead, indent string) {
	for _, inner := range append(entries[:len(entries):len(entries)], e.d.derived[path]...) {
		at, key := inner.key, inner.key
		key.tag = "!!str"
		e.value(&at, &inner.val, join(path, key.text), lead+spelled(&key)+":", indent)
		lead = indent
	}
}

// value tells a value, which was written at a place; head is what its first line begins with.
func (e *effective) value(at, v *value, path, head, indent string) {
	line := Setting{Path: path, Text: head}
	if at.src.name != byDefault {
		line.File, line.Line = at.src.name, at.line
	}
	nested := len(v.entries) > 0 || len(v.items) > 0
	if !nested {
		word := ""
		switch {
		case v.kind == yaml.MappingNode || v.isNull():
			line.Value, word = map[string]any{}, "{}"
		case v.secret:
			line.Value, word = Hidden, `"`+Hidden+`"`
		default:
			line.Value, word = v.plain(), spelled(v)
		}
		line.Text += " " + word
	}
	if !nested || strings.HasSuffix(head, ":") { // a dash stands on the line of what follows
		e.lines = append(e.lines, line)
	}
	for i := range v.items {
		item := &v.items[i]
		e.value(item, item, fmt.Sprintf("%s[%d]", path, i), indent+"  -", indent+"  ")
	}
	if len(v.entries) == 0 {
		return
	}
	lead := indent + "  "
	if strings.HasSuffix(head, "-") {
		lead = head + " "
	}
	e.mapping(v.entries, path, lead, indent+"  ")
}

// spelled is a single value on one line of YAML.
func spelled(v *value) string {
	if strings.ContainsAny(v.text, "\n\r\u0085\u2028\u2029") {
		return string(certain(json.Marshal(v.text))) // YAML reads that, too
	}
	text := certain(yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: v.tag, Value: v.text}))
	return strings.TrimSuffix(string(text), "\n")
}
