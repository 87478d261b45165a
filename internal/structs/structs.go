// Package structs reads values into the fields of Go structs, and makes values
// of them. What a field can hold is what pgx's package pgtype says; a null needs
// a pointer, or a type that knows nulls.
package structs

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fdtserver/fdt/internal/value"
)

// Field is a field with a value: one that is exported, without the tag "-".
type Field struct {
	Name    string // in SQL
	Type    *value.Type
	Default *value.Value // nil: none

	index []int
}

// Struct is a struct type; it is immutable.
type Struct struct{ fields []Field }

// Null is the error of a null for a field that cannot hold one.
type Null struct{ Field string }

func (e *Null) Error() string { return e.Field + " must not be null" }

// kinds are the types of fields without one in the tag.
var kinds = map[reflect.Type]*value.Type{
	reflect.TypeFor[bool]():            value.Bool,
	reflect.TypeFor[int16]():           value.Int2,
	reflect.TypeFor[int32]():           value.Int4,
	reflect.TypeFor[int64]():           value.Int8,
	reflect.TypeFor[int]():             value.Int8,
	reflect.TypeFor[float32]():         value.Float4,
	reflect.TypeFor[float64]():         value.Float8,
	reflect.TypeFor[string]():          value.Text,
	reflect.TypeFor[[]byte]():          value.Bytea,
	reflect.TypeFor[time.Time]():       value.Timestamptz,
	reflect.TypeFor[json.RawMessage](): value.JSONB,
	reflect.TypeFor[[16]byte]():        value.UUID,
}

// samples are a value of each type, to try a field with.
var samples = map[*value.Type]string{
	value.Bool: "t", value.Bytea: `\x00`, value.Int8: "1", value.Int2: "1", value.Int4: "1", value.Text: "a", value.Varchar: "a", value.Bpchar: "a",
	value.JSON: "[]", value.JSONB: "[]", value.Float4: "1", value.Float8: "1", value.Numeric: "1", value.Date: "2000-01-01",
	value.Timestamp: "2000-01-01 00:00:00", value.Timestamptz: "2000-01-01 00:00:00+00", value.UUID: "00000000-0000-0000-0000-000000000000",
}

// sqlName is what can be written in SQL without quotes.
var sqlName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// maps are pgtype's, which remember how they converted, and are for one
// goroutine at a time.
var maps = sync.Pool{New: func() any { return pgtype.NewMap() }}

// with calls f with a map.
func with(f func(*pgtype.Map) error) error {
	m, _ := maps.Get().(*pgtype.Map) // there is nothing else in it
	defer maps.Put(m)
	return f(m)
}

// Of reads a struct type. A field's tag is `fdt:"NAME,TYPE,default=TEXT"`, of
// which each part may be left out: the name is then the field's in small
// letters with underscores, the type that of the commonest use. Fields that are
// not exported are not the struct's own to show, and have no tag; a struct of
// such alone is a mistake. All that is wrong is returned.
func Of(t reflect.Type) (*Struct, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is no struct", t)
	}
	s := new(Struct)
	var errs []error
	hidden := ""
	for _, sf := range reflect.VisibleFields(t) {
		tag, tagged := sf.Tag.Lookup("fdt")
		if !sf.IsExported() && !sf.Anonymous && tag != "-" {
			hidden = sf.Name
			if tagged {
				errs = append(errs, fmt.Errorf("field %s of %s has a tag, and is not exported", sf.Name, t))
			}
		}
		if !sf.IsExported() || sf.Anonymous || tag == "-" {
			continue
		}
		f, err := field(sf, tag)
		if err == nil && slices.ContainsFunc(s.fields, func(o Field) bool { return o.Name == f.Name }) {
			err = fmt.Errorf("there is another field of name %s", f.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s of %s: %w", sf.Name, t, err))
		}
		s.fields = append(s.fields, f)
	}
	if len(s.fields) == 0 && hidden != "" && errs == nil {
		errs = append(errs, fmt.Errorf("no field of %s is exported, as %s is to be: write it with a capital letter, or give it the tag \"-\"", t, hidden))
	}
	return s, errors.Join(errs...)
}

func field(sf reflect.StructField, tag string) (f Field, err error) {
	name, rest, _ := strings.Cut(tag, ",")
	typ, def, hasDefault := strings.Cut(rest, "default=")
	typ = strings.TrimSuffix(typ, ",")
	f = Field{Name: name, index: sf.Index}
	if name == "" {
		f.Name = snake(sf.Name)
	}
	if !sqlName.MatchString(f.Name) {
		return f, fmt.Errorf("%q: a name has at most 63 small letters, digits or _, and no digit first", f.Name)
	}
	if f.Type, err = typeOf(sf.Type, typ); err != nil {
		return f, err
	}
	if err := fits(sf.Type, f.Type); err != nil {
		return f, fmt.Errorf("%s cannot hold %s: %w", sf.Type, f.Type, err)
	}
	if hasDefault {
		v, err := f.Type.Parse(def)
		if err != nil {
			return f, fmt.Errorf("default: %w", err)
		}
		f.Default = &v
	}
	return f, nil
}

// typeOf is the type that the tag names, or that of the field.
func typeOf(t reflect.Type, name string) (*value.Type, error) {
	if name != "" {
		typ, ok := value.Lookup(name)
		if base := typ; ok {
			if typ.Elem != nil {
				base = typ.Elem
			}
			_, ok = samples[base]
		}
		if !ok {
			return nil, fmt.Errorf("there is no type %q", name)
		}
		return typ, nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if typ := kinds[t]; typ != nil {
		return typ, nil
	}
	if t.Kind() == reflect.Slice {
		if typ := kinds[t.Elem()]; typ != nil {
			return typ.Array, nil
		}
	}
	return nil, fmt.Errorf("say which type a %s is, as in `fdt:\"name,numeric\"`", t)
}

// fits tries whether a field takes a value of the type, and gives it back.
func fits(t reflect.Type, typ *value.Type) error {
	sample := "{}"
	if typ.Elem == nil {
		sample = samples[typ]
	}
	return with(func(m *pgtype.Map) error {
		dst := reflect.New(t)
		if err := m.Scan(typ.OID, pgtype.TextFormatCode, []byte(sample), dst.Interface()); err != nil {
			return err
		}
		_, err := m.Encode(typ.OID, pgtype.TextFormatCode, dst.Elem().Interface(), nil)
		return err
	})
}

// snake turns FromAccount into from_account, and AccountID into account_id.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Fields returns the fields in order; the caller must not change them.
func (s *Struct) Fields() []Field { return s.fields }

// Set reads values, one for each field, into the struct. The error is a *Null,
// or names the field that has no room for its value.
func (s *Struct) Set(dst reflect.Value, values []value.Value) error {
	return with(func(m *pgtype.Map) error {
		for i, f := range s.fields {
			var text []byte
			if !values[i].Null {
				text = []byte(values[i].Text)
			}
			at := dst.FieldByIndex(f.index).Addr().Interface()
			if err := m.Scan(f.Type.OID, pgtype.TextFormatCode, text, at); err != nil {
				if values[i].Null {
					return &Null{f.Name}
				}
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		return nil
	})
}

// Get makes a value of each field.
func (s *Struct) Get(src reflect.Value) ([]value.Value, error) {
	values := make([]value.Value, len(s.fields))
	err := with(func(m *pgtype.Map) error {
		for i, f := range s.fields {
			text, err := m.Encode(f.Type.OID, pgtype.TextFormatCode, src.FieldByIndex(f.index).Interface(), nil)
			switch {
			case err != nil:
			case text == nil:
				values[i] = f.Type.Null()
			default:
				values[i], err = f.Type.Parse(string(text))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		return nil
	})
	return values, err
}
