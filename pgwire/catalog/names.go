package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
)

func ident(s string) string { return query.QuoteIdent(s) }

func errorf(code, format string, args ...any) *query.Error {
	return &query.Error{Code: code, Message: fmt.Sprintf(format, args...), At: -1}
}

// nameParts splits a qualified name as SQL reads it.
func nameParts(s string) (list []string, ok bool) {
	s = strings.TrimSpace(s)
	for {
		var part strings.Builder
		if strings.HasPrefix(s, `"`) {
			s = s[1:]
			for {
				i := strings.IndexByte(s, '"')
				if i < 0 {
					return nil, false
				}
				part.WriteString(s[:i])
				s = s[i+1:]
				if !strings.HasPrefix(s, `"`) {
					break
				}
				part.WriteByte('"')
				s = s[1:]
			}
		} else {
			i := strings.IndexAny(s, `." `)
			if i < 0 {
				i = len(s)
			}
			part.WriteString(asciiLower(s[:i]))
			s = s[i:]
		}
		if part.Len() == 0 {
			return nil, false
		}
		list = append(list, part.String())
		s = strings.TrimSpace(s)
		if s == "" {
			return list, true
		}
		if s[0] != '.' {
			return nil, false
		}
		s = strings.TrimSpace(s[1:])
	}
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Object finds what a text names.
func (c *Catalogue) Object(r *query.Run, t *value.Type, s string) (value.Value, error) {
	if in := strings.TrimSpace(s); in == "-" {
		return value.Value{Type: t, Text: "0"}, nil
	} else if n, err := strconv.ParseUint(in, 10, 32); err == nil {
		return value.Value{Type: t, Text: strconv.FormatUint(n, 10)}, nil
	}
	var oid string
	var err *query.Error
	switch t {
	case value.RegType:
		oid, err = c.typeOID(s)
	case value.RegClass:
		oid, err = c.classOID(s)
	case value.RegProc, value.RegProcedure:
		oid, err = c.procOID(t, s)
	default:
		oid, err = c.simpleOID(r, t, s)
	}
	if err != nil {
		return value.Value{}, err
	}
	return value.Value{Type: t, Text: oid}, nil
}

func invalidName() *query.Error { return errorf("42602", "invalid name syntax") }

func (c *Catalogue) simpleOID(r *query.Run, t *value.Type, s string) (string, *query.Error) {
	list, ok := nameParts(s)
	if !ok || len(list) > 1 {
		return "", invalidName()
	}
	switch t {
	case value.RegNamespace:
		for _, n := range c.namespaces() {
			if n["nspname"] == list[0] {
				return n["oid"], nil
			}
		}
		return "", errorf("3F000", "schema %q does not exist", list[0])
	case value.RegRole:
		for _, role := range roles(session(r)) {
			if role == list[0] {
				return userOID(role), nil
			}
		}
		return "", errorf("42704", "role %q does not exist", list[0])
	}
	return "", errorf("42883", "operator does not exist: %s", s)
}

func (c *Catalogue) classOID(s string) (string, *query.Error) {
	list, ok := nameParts(s)
	switch {
	case !ok:
		return "", invalidName()
	case len(list) > 3:
		return "", errorf("42601", "improper relation name (too many dotted names): %s", strings.Join(list, "."))
	}
	schema := ""
	if len(list) > 1 {
		schema = list[len(list)-2]
	}
	r, ok := c.Relation(schema, list[len(list)-1])
	if !ok {
		return "", errorf("42P01", "relation %q does not exist", strings.Join(list, "."))
	}
	return number(r.OID), nil
}

func (c *Catalogue) typeOID(s string) (string, *query.Error) {
	in := strings.Join(strings.Fields(asciiLower(strings.TrimSpace(s))), " ")
	if i := strings.IndexByte(in, '('); i >= 0 { // varchar(10), timestamp(3) with time zone
		if j := strings.IndexByte(in, ')'); j > i {
			in = strings.TrimSpace(in[:i]) + in[j+1:]
		}
	}
	in = strings.TrimPrefix(in, "pg_catalog.")
	if list, ok := nameParts(s); ok {
		last := list[len(list)-1]
		if len(list) > 1 && list[0] != "pg_catalog" {
			return "", errorf("42704", "type %q does not exist", strings.Join(list, "."))
		}
		if strings.Contains(s, `"`) {
			if in = last; last == "char" {
				in = `"char"`
			}
		}
		for _, t := range c.types {
			if t["typname"] == in && in != "char" {
				return t["oid"], nil
			}
		}
	}
	if t, ok := value.Lookup(in); ok {
		return number(t.OID), nil
	}
	for oid, name := range c.pseudo {
		if name == in {
			return oid, nil
		}
	}
	return "", errorf("42704", "type %q does not exist", strings.TrimSpace(s))
}

// procOID finds a function by its name, for regprocedure with its arguments.
func (c *Catalogue) procOID(t *value.Type, s string) (string, *query.Error) {
	in, args := s, ""
	if t == value.RegProcedure {
		i, j := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
		if i < 0 || j < i {
			return "", errorf("22P02", "expected a left parenthesis")
		}
		in, args = s[:i], s[i+1:j]
	}
	list, ok := nameParts(in)
	if !ok {
		return "", invalidName()
	}
	var types []string
	if strings.TrimSpace(args) != "" {
		for a := range strings.SplitSeq(args, ",") {
			oid, err := c.typeOID(a)
			if err != nil {
				return "", err
			}
			types = append(types, oid)
		}
	}
	want, found := strings.Join(types, " "), ""
	for _, p := range c.procsNamed[list[len(list)-1]] {
		if len(list) > 1 && schemaOID(list[0]) != p["pronamespace"] {
			continue
		}
		if t == value.RegProcedure && p["proargtypes"] != want {
			continue
		}
		if found != "" {
			return "", errorf("42725", "more than one function named %q", strings.Join(list, "."))
		}
		found = p["oid"]
	}
	if found == "" {
		return "", errorf("42883", "function %q does not exist", s)
	}
	return found, nil
}

// ObjectName is what PostgreSQL prints for an OID: the number if it is nothing's.
func (c *Catalogue) ObjectName(r *query.Run, v value.Value) string {
	if v.Text == "0" {
		return "-"
	}
	name := ""
	switch v.Type {
	case value.RegType:
		name = c.typeName(v.Text)
	case value.RegClass:
		if n, err := strconv.ParseUint(v.Text, 10, 32); err == nil && c.byOID[uint32(n)] != nil {
			rel := c.byOID[uint32(n)]
			if name = ident(rel.Name); rel.Schema != "pg_catalog" {
				name = ident(rel.Schema) + "." + name
			}
		}
	case value.RegProc, value.RegProcedure:
		name = c.procName(v)
	case value.RegNamespace:
		for _, n := range c.namespaces() {
			if n["oid"] == v.Text {
				name = ident(n["nspname"])
			}
		}
	case value.RegRole:
		if role := roleNumbered(session(r), v.Text); role != "" {
			name = ident(role)
		}
	}
	if name == "" {
		return v.Text
	}
	return name
}

// typeName is format_type of an OID; empty for what is no type.
func (c *Catalogue) typeName(oid string) string {
	n, _ := strconv.ParseUint(oid, 10, 32) // canonical
	if t, ok := value.ByOID(uint32(n)); ok {
		return t.Name
	}
	return c.pseudo[oid]
}

func (c *Catalogue) procName(v value.Value) string {
	if p, ok := c.procByOID[v.Text]; ok {
		if v.Type == value.RegProc {
			return ident(p["proname"])
		}
		var names []string
		for _, a := range strings.Fields(p["proargtypes"]) {
			names = append(names, c.typeName(a))
		}
		return ident(p["proname"]) + "(" + strings.Join(names, ",") + ")"
	}
	return ""
}
