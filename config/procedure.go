package config

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// typeNames are the types of parameters and columns: as PostgreSQL names them, and what else they are called.
var typeNames = map[string]string{
	"text": "text", "varchar": "text", "character varying": "text", "string": "text",
	"smallint": "smallint", "int2": "smallint",
	"integer": "integer", "int": "integer", "int4": "integer",
	"bigint": "bigint", "int8": "bigint",
	"numeric": "numeric", "decimal": "numeric",
	"real": "real", "float4": "real",
	"double precision": "double precision", "float8": "double precision", "double": "double precision",
	"boolean": "boolean", "bool": "boolean",
	"bytea": "bytea", "uuid": "uuid", "json": "json", "jsonb": "jsonb", "date": "date",
	"timestamp": "timestamp", "timestamp without time zone": "timestamp",
	"timestamptz": "timestamptz", "timestamp with time zone": "timestamptz",
}

// array ends the name of a type whose values are arrays of one dimension.
const array = "[]"

// Types lists the types that a parameter can have, sorted. Of each there are arrays too.
func Types() []string {
	return slices.Compact(slices.Sorted(maps.Values(typeNames)))
}

var (
	arrayText   = regexp.MustCompile(`(?s)^\{.*\}$`)
	numericText = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$|^NaN$`)
	uuidText    = regexp.MustCompile(`^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$`)
)

// checkValue reports whether a text can be a value of a type.
func checkValue(text, typ string) error {
	if strings.HasSuffix(typ, array) && !arrayText.MatchString(text) {
		return fmt.Errorf("%q is no array as {1,2}", text)
	}
	var err error
	switch typ {
	case "smallint":
		_, err = strconv.ParseInt(text, 10, 16)
	case "integer":
		_, err = strconv.ParseInt(text, 10, 32)
	case "bigint":
		_, err = strconv.ParseInt(text, 10, 64)
	case "real", "double precision":
		_, err = strconv.ParseFloat(text, 64)
	case "numeric":
		err = matches(numericText, "no number")(text)
	case "boolean":
		if text != "true" && text != "false" {
			err = errors.New("no boolean")
		}
	case "uuid":
		err = matches(uuidText, "no uuid")(text)
	case "json", "jsonb":
		if !json.Valid([]byte(text)) {
			err = errors.New("no JSON")
		}
	case "date":
		_, err = time.Parse(time.DateOnly, text)
	case "bytea":
		digits, ok := strings.CutPrefix(text, `\x`)
		if _, err = hex.DecodeString(digits); !ok {
			err = errors.New("no bytes")
		}
	case "timestamp":
		_, err = time.Parse("2006-01-02 15:04:05", text)
	case "timestamptz":
		_, err = time.Parse("2006-01-02 15:04:05Z07:00", text)
	}
	if err != nil {
		return fmt.Errorf("%q is no %s", text, typ)
	}
	return nil
}

func typeKind(dst *string) kind {
	names := slices.Sorted(maps.Keys(typeNames))
	for _, name := range names {
		names = append(names, name+array)
	}
	return scalar(schema{Type: "string", Enum: names}, "a type such as text or bigint[]", tagText, func(t string) (string, error) {
		element, isArray := strings.CutSuffix(t, array)
		known, ok := typeNames[element]
		if !ok {
			return didYouMean(strings.ToLower(element), Types()), fmt.Errorf("%q is no type", t)
		}
		if isArray {
			known += array
		}
		*dst = known
		return "", nil
	})
}

// parameters reads a mapping from names to types, or to mappings with a type and a default.
func parameters(dst *[]Parameter, defaults bool) kind {
	long := func(p *Parameter) []field {
		return []field{
			{key: "type", required: true, kind: typeKind(&p.Type), doc: "Type of the parameter."},
			{key: "default", doc: "Value when the caller gives none.", kind: scalar(
				schema{Type: []string{"string", "number", "boolean"}}, "a value", tagAny, func(t string) (string, error) {
					p.Default = &t
					return "", nil
				})},
		}
	}
	inner := typeKind(new(string)).schema
	if defaults {
		inner = schema{AnyOf: []schema{inner, objectSchema(long(new(Parameter)))}}
	}
	s := schema{Type: "object", AdditionalProperties: &inner, PropertyNames: &schema{Pattern: sqlName.pattern.String()}}
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		if !v.isNull() && v.kind != yaml.MappingNode {
			d.fault(v, "write them as {name: type}", "%s must be a mapping from names to types, not %s", path, v.describe())
			return
		}
		for i := range v.entries {
			e := &v.entries[i]
			p := Parameter{Name: e.key.text}
			inner := join(path, p.Name)
			d.remember(inner, &e.val)
			if err := sqlName.check(p.Name); err != nil {
				d.fault(&e.key, "", "%q: %v", p.Name, err)
			}
			if defaults && e.val.kind == yaml.MappingNode {
				d.section(&e.val, inner, long(&p))
			} else {
				typeKind(&p.Type).read(d, &e.val, inner)
			}
			*dst = append(*dst, p)
		}
	}}
}

func steps(dst *[]Step) kind {
	inner := objectSchema(stepFields(new(Step)))
	s := schema{Type: "array", Items: &inner, MinItems: 1}
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		if v.kind != yaml.SequenceNode {
			d.fault(v, "begin each step with a dash", "%s must be a list, not %s", path, v.describe())
			return
		}
		if len(v.items) == 0 {
			d.fault(v, "", "%s needs at least one step", path)
		}
		for i := range v.items {
			var s Step
			inner := fmt.Sprintf("%s[%d]", path, i)
			d.section(&v.items[i], inner, stepFields(&s))
			*dst = append(*dst, s)
		}
	}}
}

// procedure checks what holds between the parts of one procedure.
func (d *decoder) procedure(c *Config, p *Procedure) {
	path := "procedures." + p.Name
	values := make(map[string]bool) // what :name may name
	optional := ""
	for _, param := range p.Parameters {
		at := path + ".parameters." + param.Name
		values[param.Name] = true
		switch {
		case param.Default != nil && param.Type != "":
			if err := checkValue(*param.Default, param.Type); err != nil {
				d.at(at+".default", "", "%s: %v", at+".default", err)
			}
			optional = param.Name
		case optional != "":
			d.at(at, "give it a default too, or put it first", "%s must have a default because %s before it has one", at, optional)
		}
	}
	for i := range p.Steps {
		d.step(c, p, i, fmt.Sprintf("%s.steps[%d]", path, i), values)
	}
	for _, col := range p.Returns {
		if !p.Many() && !values[col.Name] {
			at := path + ".returns." + col.Name
			d.at(at, didYouMean(col.Name, slices.Collect(maps.Keys(values))), "%s is neither a parameter nor the as of a step", at)
		}
	}
}

// step checks one step, fills in its defaults and adds its result to values.
func (d *decoder) step(c *Config, p *Procedure, i int, path string, values map[string]bool) {
	s := &p.Steps[i]
	if s.When != "" && !values[s.When] {
		d.at(path+".when", didYouMean(s.When, slices.Collect(maps.Keys(values))), "%q is neither a parameter nor the as of an earlier step", s.When)
	}
	r, known := c.Resources[s.On]
	if at := path + ".sql"; d.places[at] != nil && r.ofType().takes != takesMessages { // of one that takes none it is reported below
		if err := checkStatement(s.SQL, r.Dialect()); err != nil {
			d.at(at, "", "%s: %v", at, err)
		} else {
			found, _ := Placeholders(s.SQL, r.Dialect()) // checked
			d.placeholders(at, found, values)
		}
	}
	d.placeholders(path+".put", PutPlaceholders(s.Put), values)
	if s.As != "" {
		if values[s.As] {
			d.at(path+".as", "choose another name", "there is already a value %q", s.As)
		}
		values[s.As] = true
	}
	if s.Many {
		d.many(p, i, path)
	} else if s.Rows == nil {
		for key, set := range map[string]bool{"else": s.Else != "", "sqlstate": s.SQLState != ""} {
			if set {
				d.at(path+"."+key, "say how many rows there must be", "%s without rows has no meaning", key)
			}
		}
	} else if s.SQLState == "" {
		s.SQLState = "P0001" // raise_exception
		d.derive(path, "sqlstate", s.SQLState)
	}
	if !known {
		if s.On != "" {
			d.at(path+".on", didYouMean(s.On, slices.Collect(maps.Keys(c.Resources))), "there is no resource %q", s.On)
		}
		return
	}
	d.action(s, r, path)
}

// Many tells whether the result has any number of rows.
func (p *Procedure) Many() bool { return len(p.Steps) > 0 && p.Steps[len(p.Steps)-1].Many }

// many checks a step with rows: many.
func (d *decoder) many(p *Procedure, i int, path string) {
	if i < len(p.Steps)-1 {
		d.at(path+".rows", "make it the last step", "the rows of a result are those of the last step")
	}
	if len(p.Returns) == 0 {
		d.at(path+".rows", "name them in returns", "of a result of many rows %s must know the columns", p.Name)
	}
	for _, key := range []string{"else", "sqlstate", "as"} {
		if d.places[path+"."+key] != nil {
			d.at(path+"."+key, "leave it out", "%s has no meaning with rows: many", key)
		}
	}
}

// action checks that a step asks of its resource what that can do.
func (d *decoder) action(s *Step, r Resource, path string) {
	if r.Type == "" {
		return
	}
	put, sql := d.places[path+".put"] != nil, d.places[path+".sql"] != nil
	wanted, foreign := "sql", []string{"put"}
	switch of := r.ofType().takes; {
	case of == takesEither && !put && !sql:
		d.at(path, "", "a step on %s needs the key \"sql\" or the key \"put\", whichever a %s takes", r.Name, r.Type)
		return
	case of == takesMessages, of == takesEither && !sql:
		wanted, foreign = "put", []string{"sql", "rows", "else", "sqlstate", "as"}
	}
	for _, key := range foreign {
		if d.places[path+"."+key] != nil {
			d.at(path+"."+key, "", "%s has no meaning on %s, which is a %s", key, r.Name, r.Type)
		}
	}
	if d.places[path+"."+wanted] == nil {
		d.at(path, "", "a step on %s, which is a %s, needs the key %q", r.Name, r.Type, wanted)
	}
}

// placeholders reports names that no value has.
func (d *decoder) placeholders(path string, found []Placeholder, values map[string]bool) {
	var reported []string
	for _, f := range found {
		if values[f.Name] || slices.Contains(reported, f.Name) {
			continue
		}
		reported = append(reported, f.Name)
		hint := didYouMean(f.Name, slices.Collect(maps.Keys(values)))
		if hint == "" {
			hint = "add it to parameters"
		}
		v := d.places[path].within(f.Start, f.End)
		d.fault(&v, hint, ":%s is neither a parameter nor the as of an earlier step", f.Name)
	}
}
