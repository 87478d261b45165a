package config

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/fdtserver/fdt/internal/testgolden"
)

func TestSchemaIsShipped(t *testing.T) {
	testgolden.Compare(t, "../packaging/fdt.schema.json", string(Schema()))
}

// accepts is as much of JSON Schema as ours uses.
func accepts(s map[string]any, v any) error {
	if alternatives, ok := s["anyOf"].([]any); ok {
		for _, one := range alternatives {
			if accepts(one.(map[string]any), v) == nil {
				return nil
			}
		}
		return fmt.Errorf("%v is none of %v", v, alternatives)
	}
	types, _ := s["type"].([]any)
	if one, ok := s["type"].(string); ok {
		types = []any{one}
	}
	kind := "null"
	switch v.(type) {
	case map[string]any:
		kind = "object"
	case []any:
		kind = "array"
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
	case int:
		kind = "integer"
	}
	integral := kind == "integer" && slices.Contains(types, any("number"))
	if types != nil && !slices.Contains(types, any(kind)) && !integral {
		return fmt.Errorf("%v is a %s, not a %v", v, kind, types)
	}
	switch v := v.(type) {
	case string:
		if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, any(v)) {
			return fmt.Errorf("%q is none of %v", v, enum)
		}
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%q does not match %s", v, p)
		}
	case int:
		low, hasLow := s["minimum"].(float64)
		high, hasHigh := s["maximum"].(float64)
		if hasLow && float64(v) < low || hasHigh && float64(v) > high {
			return fmt.Errorf("%d is not between %v and %v", v, low, high)
		}
	case []any:
		for _, item := range v {
			if err := accepts(s["items"].(map[string]any), item); err != nil {
				return err
			}
		}
	case map[string]any:
		return acceptsObject(s, v)
	}
	return nil
}

func acceptsObject(s, v map[string]any) error {
	required, _ := s["required"].([]any)
	for _, key := range required {
		if _, ok := v[key.(string)]; !ok {
			return fmt.Errorf("%v is missing", key)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for key, val := range v {
		if name, ok := s["propertyNames"].(map[string]any); ok {
			if err := accepts(name, key); err != nil {
				return err
			}
		}
		inner, ok := properties[key].(map[string]any)
		if !ok {
			if inner, ok = s["additionalProperties"].(map[string]any); !ok {
				return fmt.Errorf("%s is unknown", key)
			}
		}
		if err := accepts(inner, val); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// validate reports whether the schema accepts a file.
func validate(text string) error {
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		return err
	}
	var v map[string]any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	return accepts(s, v)
}

func TestSchemaAcceptsWhatLoads(t *testing.T) {
	installed, err := os.ReadFile("../packaging/deb/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{}", string(installed), everything} {
		if err := validate(strings.ReplaceAll(text, " 0660", ` "0660"`)); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	for _, text := range []string{
		"{workrs: {}}", "{workers: {count: 0}}", "{workers: {count: many}}", "{drain: {timeout: 5}}", "{drain: {timeout: 5 m}}",
		"{listen: {a: {auth: peer}}}", "{listen: {A: {address: x}}}", "{listen: {a: {address: 1}}}", "{resources: {a: {type: x}}}",
		"{procedures: {f: {steps: [{put: x}]}}}", "{procedures: {f: {steps: x}}}", "{users: {a: b}}",
	} {
		if validate(text) == nil {
			t.Errorf("the schema accepts %s", text)
		}
	}
}

// keysOf lists every key of the configuration, as "listen.*.address", with its default.
func keysOf(s *schema, path string, found map[string]any) {
	for key, inner := range s.Properties {
		found[join(path, key)] = inner.Default
		keysOf(inner, join(path, key), found)
	}
	if inner, ok := s.AdditionalProperties.(*schema); ok {
		keysOf(inner, join(path, "*"), found)
	}
	if s.Items != nil {
		keysOf(s.Items, join(path, "*"), found)
	}
	for i := range s.AnyOf {
		keysOf(&s.AnyOf[i], path, found)
	}
}

// TestManualIsComplete demands that fdt.yaml(5) has an entry for every key, with its default, and for no other.
func TestManualIsComplete(t *testing.T) {
	page, err := os.ReadFile("../docs/man/fdt.yaml.5")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[string]string) // what the manual says of the default
	for _, m := range regexp.MustCompile(`(?m)^\.It Ic (\S+)(?: No = Li (.*))?$`).FindAllStringSubmatch(string(page), -1) {
		entries[m[1]] = m[2]
	}
	root := objectSchema(rootFields(new(Config), knowledge{types: ownTypes()}))
	keys := make(map[string]any)
	keysOf(&root, "", keys)
	if len(keys) < 50 {
		t.Fatalf("only %d keys", len(keys))
	}
	for key, byDefault := range keys {
		name := strings.ReplaceAll(strings.ReplaceAll(key, "steps.*.", "steps."), "*", "NAME")
		said, ok := entries[name]
		if !ok {
			t.Errorf("fdt.yaml(5) has no entry %s", name)
		}
		if want := fmt.Sprint(byDefault); byDefault != nil && reflect.TypeOf(byDefault).Kind() == reflect.String && said != want {
			t.Errorf("fdt.yaml(5) gives %s the default %q, not %q", name, said, want)
		}
		delete(entries, name)
	}
	for name := range entries {
		t.Errorf("fdt.yaml(5) has an entry %s, which is no key", name)
	}
}
