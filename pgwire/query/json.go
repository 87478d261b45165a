package query

import (
	"encoding/json"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

var jsonFunctions = map[string][]*Function{
	"json_build_object": {fn(value.JSON, jsonObject), fn(value.JSON, jsonObject, Any).variadic().lax()},
	"json_build_array":  {fn(value.JSON, jsonArray), fn(value.JSON, jsonArray, Any).variadic().lax()},
	"to_json":           one(fn(value.JSON, toJSON, AnyElement)),
}

// jsonOf prints a value as to_json does.
func jsonOf(r *Run, v value.Value) (string, error) {
	t := v.Type
	switch {
	case v.Null:
		return "null", nil
	case t == value.Bool:
		return map[string]string{"t": "true", "f": "false"}[v.Text], nil
	case rank[t] > 0 && !special(v.Text):
		return v.Text, nil
	case t == value.JSON || t == value.JSONB:
		return v.Text, nil
	case t.Elem != nil:
		list, err := r.elements(v)
		if err != nil {
			return "", err
		}
		return jsonList(r, list, ",")
	}
	s, err := printed(r, v)
	if err != nil {
		return "", err
	}
	if t == value.Timestamp || t == value.Timestamptz {
		s = strings.Replace(s, " ", "T", 1)
	}
	return quoted(s), r.Took(len(s))
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a text there is no error
	return strings.TrimSuffix(b.String(), "\n")
}

func jsonList(r *Run, list []value.Value, by string) (string, error) {
	parts := make([]string, len(list))
	for i, v := range list {
		var err error
		if parts[i], err = jsonOf(r, v); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(parts, by) + "]", nil
}

func jsonArray(r *Run, args []value.Value) (value.Value, error) {
	s, err := jsonList(r, args, ", ")
	return value.Value{Type: value.JSON, Text: s}, err
}

func toJSON(r *Run, args []value.Value) (value.Value, error) {
	s, err := jsonOf(r, args[0])
	return value.Value{Type: value.JSON, Text: s}, err
}

func jsonObject(r *Run, args []value.Value) (value.Value, error) {
	if len(args)%2 != 0 {
		return value.Value{}, errorf("22023", "argument list must have even number of elements").
			hint("The arguments of json_build_object() must consist of alternating keys and values.")
	}
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i < len(args); i += 2 {
		if args[i].Null {
			return value.Value{}, errorf("22023", "argument %d cannot be null", i+1).hint("Object keys should be text.")
		}
		key, err := printed(r, args[i])
		if err != nil {
			return value.Value{}, err
		}
		v, err := jsonOf(r, args[i+1])
		if err != nil {
			return value.Value{}, err
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoted(key) + " : " + v)
	}
	b.WriteByte('}')
	return value.Value{Type: value.JSON, Text: b.String()}, nil
}
