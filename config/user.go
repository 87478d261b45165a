package config

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// WithUser returns the text of one file of a configuration in which a user has that SCRAM verifier, or, if it is empty, is not.
// Everything else stays as it is, comments included, and so does all of a text that is not YAML. The outcome is not checked, as that
// takes all files.
func WithUser(text, name, verifier string) string {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil {
		return text
	}
	before := ""
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode { // nothing but comments, which belong to no node
		if before = text; before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	users := valueOf(doc.Content[0], "users")
	if users.Kind != yaml.MappingNode {
		*users = yaml.Node{Kind: yaml.MappingNode}
	}
	if len(users.Content) == 0 {
		users.Style = 0 // a line for each
	}
	if verifier == "" {
		drop(users, name)
	} else {
		valueOf(users, name).SetString(verifier)
	}
	var out strings.Builder
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	certain(users, enc.Encode(&doc))
	return before + out.String()
}

// valueOf is the value of a key of a mapping, which gets it if it has it not.
func valueOf(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	k, v := new(yaml.Node), new(yaml.Node)
	k.SetString(key)
	m.Content = append(m.Content, k, v)
	return v
}

// drop takes a key out of a mapping.
func drop(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = append(m.Content[:i:i], m.Content[i+2:]...)
			return
		}
	}
}
