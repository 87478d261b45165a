package catalog

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
)

// addPrivileges adds the functions that ask what a user may do: here everybody
// may read the catalogue, use the schemas, connect, and call the procedures
// that the configuration allows him.
func (c *Catalogue) addPrivileges() {
	c.asks("database", []string{"connect"}, "create temporary temp connect", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	c.asks("schema", []string{"usage"}, "create usage", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	const onTable = "select insert update delete truncate references trigger"
	c.asks("table", []string{"select"}, onTable, tText, c.thereIs(value.RegClass))
	c.asks("any_column", []string{"select"}, onTable, tText, c.thereIs(value.RegClass))
	c.asks("sequence", nil, "usage select update", tText, c.thereIs(value.RegClass))
	c.asks("type", []string{"usage"}, "usage", tText, c.thereIs(value.RegType))
	c.asks("language", []string{"usage"}, "usage", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	c.asks("tablespace", nil, "create", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	c.asks("server", nil, "usage", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	c.asks("foreign_data_wrapper", nil, "usage", tText, func(*query.Run, value.Value) (bool, error) { return true, nil })
	c.asks("function", []string{"execute"}, "execute", tText, func(r *query.Run, v value.Value) (bool, error) {
		if v.Type == tText {
			var err error
			if v, err = c.Object(r, value.RegProcedure, v.Text); err != nil {
				return false, err
			}
		}
		p, ok := c.procedureOf(oidOf(v))
		return !ok || session(r).Allowed(p), nil
	})
	for _, column := range []*value.Type{tText, tInt2} {
		for _, table := range []*value.Type{tText, tOID} {
			is := c.thereIs(value.RegClass)
			c.add("has_column_privilege", tBool, func(r *query.Run, args []value.Value) (value.Value, error) {
				if _, err := is(r, args[0]); err != nil {
					return args[0], err
				}
				return may(args[2].Text, []string{"select"}, "select insert update references")
			}, table, column, tText)
		}
	}
	role := func(r *query.Run, args []value.Value) (value.Value, error) {
		v := args[len(args)-2]
		name := v.Text
		if v.Type == tOID {
			name = roleNumbered(session(r), v.Text)
		}
		return truth(name == session(r).User()), nil
	}
	for _, of := range []*value.Type{tName, tOID} {
		c.add("pg_has_role", tBool, role, of, tText)
		c.add("pg_has_role", tBool, role, tName, of, tText)
		c.add("pg_has_role", tBool, role, tOID, of, tText)
	}
}

// thereIs asks whether an object that is named exists.
func (c *Catalogue) thereIs(t *value.Type) func(*query.Run, value.Value) (bool, error) {
	return func(r *query.Run, v value.Value) (bool, error) {
		if v.Type != tText {
			return true, nil
		}
		_, err := c.Object(r, t, v.Text)
		return err == nil, err
	}
}

// asks adds has_…_privilege of an object, by its name or its OID, for the
// session's user or one that is named.
func (c *Catalogue) asks(what string, granted []string, known string, name *value.Type, there func(*query.Run, value.Value) (bool, error)) {
	do := func(r *query.Run, args []value.Value) (value.Value, error) {
		n := len(args)
		ok, err := there(r, args[n-2])
		if err != nil {
			return args[0], err
		}
		v, err := may(args[n-1].Text, granted, known)
		if err == nil && !ok {
			v = truth(false)
		}
		return v, err
	}
	for _, of := range []*value.Type{name, tOID} {
		c.add("has_"+what+"_privilege", tBool, do, of, tText)
		c.add("has_"+what+"_privilege", tBool, do, tName, of, tText)
		c.add("has_"+what+"_privilege", tBool, do, tOID, of, tText)
	}
}

// may tells whether one of the privileges in a list is granted.
func may(list string, granted []string, known string) (value.Value, error) {
	yes := false
	for p := range strings.SplitSeq(list, ",") {
		p = strings.ToLower(strings.TrimSpace(p))
		base, option := strings.CutSuffix(p, " with grant option")
		if !slices.Contains(strings.Fields(known), base) {
			return value.Value{}, errorf("22023", "unrecognized privilege type: %q", strings.TrimSpace(p))
		}
		yes = yes || !option && slices.Contains(granted, base)
	}
	return truth(yes), nil
}
