package config

import "encoding/json"

// schema is the part of JSON Schema (draft 2020-12) that the configuration needs.
type schema struct {
	Version              string             `json:"$schema,omitempty"`
	ID                   string             `json:"$id,omitempty"`
	Title                string             `json:"title,omitempty"`
	Description          string             `json:"description,omitempty"`
	Type                 any                `json:"type,omitempty"` // a string or several
	Enum                 []string           `json:"enum,omitempty"`
	Pattern              string             `json:"pattern,omitempty"`
	Minimum              *int               `json:"minimum,omitempty"`
	Maximum              *int               `json:"maximum,omitempty"`
	Default              any                `json:"default,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	MinItems             int                `json:"minItems,omitempty"`
	AnyOf                []schema           `json:"anyOf,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	PropertyNames        *schema            `json:"propertyNames,omitempty"`
	Required             []string           `json:"required,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"` // *schema or false
}

// objectSchema describes a mapping with known keys.
func objectSchema(fields []field) schema {
	s := schema{Type: "object", Properties: make(map[string]*schema), AdditionalProperties: false}
	for _, f := range fields {
		property := f.kind.schema
		property.Description = f.doc
		if f.def != "" {
			property.Default = builtin(f.def).plain()
		}
		s.Properties[f.key] = &property
		if f.required {
			s.Required = append(s.Required, f.key)
		}
	}
	return s
}

// Schema returns the JSON Schema of a configuration file, for editors. It is made from the same table that reads
// the file: it knows every key, type and default, but not what only holds between keys, nor the types of resources that a
// program has of its own.
func Schema() []byte { return Program{}.Schema() }

// plain is a value as encoding/json shows it.
func (v *value) plain() any {
	switch {
	case v.entries != nil:
		m := make(map[string]any)
		for _, e := range v.entries {
			m[e.key.text] = e.val.plain()
		}
		return m
	case v.tag == "!!map":
		return map[string]any{}
	case v.tag == "!!bool":
		return v.text == "true"
	case v.tag == "!!int" && json.Valid([]byte(v.text)): // not 0660
		return json.Number(v.text)
	}
	return v.text
}
