package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Program reads configurations as the workers' program does, which knows all types of resource that there are: fdt's, and
// these of its own.
type Program struct{ Types []ResourceType }

func (p Program) knows() knowledge { return knowledge{slices.Concat(ownTypes(), p.Types), true} }

// Parse is [Load] of files that somebody else has read.
func (p Program) Parse(texts []Text) (*Config, error) { return (&decoder{reader: &p}).parseAll(texts) }

// LoadCopy is [Load] of a copy of a configuration; faults name its files relative to dir, as they are named where it was taken.
func (p Program) LoadCopy(dir string) (*Config, error) {
	texts, err := Texts(dir)
	if err != nil {
		return nil, err
	}
	for i, t := range texts {
		texts[i].Name = strings.TrimPrefix(t.Name, filepath.Clean(dir)+"/")
	}
	return p.Parse(texts)
}

// Schema is [Schema] with the program's types.
func (p Program) Schema() []byte {
	s := objectSchema(rootFields(new(Config), p.knows()))
	s.Version = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "fdt configuration"
	s.Description = "See fdt.yaml(5)."
	return append(certain(json.MarshalIndent(s, "", "  ")), '\n')
}

// checker is fdt.Checker.
type checker interface {
	Check(fault func(key, what, hint string))
}

// NewType is a type of resource of which S is the struct of its settings: each field is a key, with a tag
// `fdt:"KEY,required,secret,default=TEXT"` of which all but the name may be left out, and a tag `doc:"TEXT"` that describes it
// to editors. A field is a string, a bool, an int that is not negative, or a time.Duration. The error tells all that is wrong.
func NewType[S any](name string) (ResourceType, error) {
	t := reflect.TypeFor[S]()
	if err := apart(name, ownTypes()); err != nil {
		return ResourceType{}, err
	}
	if t.Kind() != reflect.Struct {
		return ResourceType{}, fmt.Errorf("%s is no struct", t)
	}
	if errs := unusable(t); errs != nil {
		return ResourceType{}, errors.Join(errs...)
	}
	return typed(ResourceType{Name: name}, *new(S),
		func(s *S) []field { return structFields(reflect.ValueOf(s).Elem()) },
		func(d *decoder, _ *Config, s *S, path string) {
			if c, ok := any(s).(checker); ok {
				c.Check(func(key, what, hint string) { d.at(join(path, key), hint, "%s: %s", join(path, key), what) })
			}
		}), nil
}

// unusable is what is wrong with a struct of settings.
func unusable(t reflect.Type) (errs []error) {
	seen := map[string]bool{"type": true}
	for i := range t.NumField() {
		f, err := structField(reflect.New(t).Elem(), i)
		if f == nil && err == nil {
			continue
		}
		if err == nil && seen[f.key] {
			err = fmt.Errorf("there is already a key %s", f.key)
		}
		if err == nil && f.def != "" {
			d := new(decoder)
			f.kind.read(d, builtin(f.def), f.key)
			if len(d.faults) > 0 {
				err = fmt.Errorf("default: %s", d.faults[0].What)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s of %s: %w", t.Field(i).Name, t, err))
			continue
		}
		seen[f.key] = true
	}
	return errs
}

// structFields are the keys that the fields of a struct are, which is usable.
func structFields(s reflect.Value) (fields []field) {
	for i := range s.NumField() {
		if f, _ := structField(s, i); f != nil {
			fields = append(fields, *f)
		}
	}
	return fields
}

// structField is the key that a field is; nil if it is none.
func structField(s reflect.Value, i int) (*field, error) {
	sf := s.Type().Field(i)
	tag, given := sf.Tag.Lookup("fdt")
	if !sf.IsExported() || tag == "-" {
		return nil, nil
	}
	rest, def, hasDefault := strings.Cut(tag, ",default=")
	words := strings.Split(rest, ",")
	f := field{key: words[0], doc: sf.Tag.Get("doc")}
	if !given || !sqlName.pattern.MatchString(f.key) {
		return nil, errors.New("it needs a tag such as `fdt:\"key\"`, with a name of small letters, digits and _")
	}
	switch dst := s.Field(i).Addr().Interface().(type) {
	case *string:
		f.kind, def = text(dst, schema{}, nil), strconv.Quote(def)
	case *bool:
		f.kind = boolean(dst)
	case *int:
		f.kind = number(dst, 0, maxCount)
	case *time.Duration:
		f.kind = duration(dst, 0)
	default:
		return nil, fmt.Errorf("a setting is a string, a bool, an int or a time.Duration, and not a %s", sf.Type)
	}
	switch {
	case hasDefault && f.kind.schema.Type != "string" && !plainKey.MatchString(def):
		return nil, fmt.Errorf("default: %q is none", def)
	case hasDefault:
		f.def = def
	}
	for _, w := range words[1:] {
		switch w {
		case "required":
			f.required = true
		case "secret":
			f.kind = private(f.kind)
		default:
			return nil, fmt.Errorf("%q is none of required, secret and default=TEXT", w)
		}
	}
	return &f, nil
}
