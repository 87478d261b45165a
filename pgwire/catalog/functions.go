package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
)

// Short names of types, for the table of functions.
var (
	tName = value.Name
	tText = value.Text
	tOID  = value.OID
	tBool = value.Bool
	tInt4 = value.Int4
	tInt8 = value.Int8
	tInt2 = value.Int2
)

type body = func(r *query.Run, args []value.Value) (value.Value, error)

func (c *Catalogue) add(name string, result *value.Type, do body, args ...*value.Type) *query.Function {
	f := &query.Function{Args: args, Result: result, Call: do}
	c.names[name] = append(c.names[name], f)
	return f
}

// Add adds a function that is the server's own.
func (c *Catalogue) Add(name string, f *query.Function) { c.names[name] = append(c.names[name], f) }

func text(s string) value.Value { return value.Value{Type: tText, Text: s} }

func truth(b bool) value.Value { return value.Value{Type: tBool, Text: boolean(b)} }

// always is a function that has one answer.
func always(v value.Value) body {
	return func(*query.Run, []value.Value) (value.Value, error) { return v, nil }
}

func none(t *value.Type) body { return always(t.Null()) }

func of(do func(s Session) value.Value) body {
	return func(r *query.Run, _ []value.Value) (value.Value, error) { return do(session(r)), nil }
}

func oidOf(v value.Value) uint64 {
	n, _ := strconv.ParseUint(v.Text, 10, 64) // canonical
	return n
}

func (c *Catalogue) addFunctions() {
	c.addTypes()
	c.addProcedures()
	c.addVisibility()
	c.addPrivileges()
	c.addEmpty()
	c.addSession()
}

// addTypes adds what tells of types, names and encodings.
func (c *Catalogue) addTypes() {
	c.add("format_type", tText, c.formatType, tOID, tInt4).Lax = true
	for name, t := range map[string]*value.Type{
		"to_regtype": value.RegType, "to_regclass": value.RegClass, "to_regproc": value.RegProc, "to_regprocedure": value.RegProcedure,
		"to_regnamespace": value.RegNamespace, "to_regrole": value.RegRole,
	} {
		c.add(name, t, func(r *query.Run, args []value.Value) (value.Value, error) {
			v, err := c.Object(r, t, args[0].Text)
			if _, e := strconv.Atoi(args[0].Text); err != nil || e == nil {
				return t.Null(), nil //nolint:nilerr // null says that there is none
			}
			return v, nil
		}, tText)
	}
	c.add("pg_typeof", value.RegType, func(_ *query.Run, args []value.Value) (value.Value, error) {
		return value.Value{Type: value.RegType, Text: number(args[0].Type.OID)}, nil
	}, query.Any).Lax = true
	c.add("oidvectortypes", tText, func(_ *query.Run, args []value.Value) (value.Value, error) {
		var names []string
		for _, o := range args[0].Elements() {
			names = append(names, c.typeName(o.Text))
		}
		return text(strings.Join(names, ", ")), nil
	}, value.OIDVector)
	c.add("pg_encoding_to_char", tName, func(_ *query.Run, args []value.Value) (value.Value, error) {
		return value.Value{Type: tName, Text: map[bool]string{true: "UTF8"}[args[0].Text == "6"]}, nil
	}, tInt4)
	c.add("pg_char_to_encoding", tInt4, func(_ *query.Run, args []value.Value) (value.Value, error) {
		utf8 := slices.Contains([]string{"utf8", "unicode"}, strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(args[0].Text)))
		return value.Value{Type: tInt4, Text: map[bool]string{true: "6", false: "-1"}[utf8]}, nil
	}, tName)
	c.add("pg_client_encoding", tName, always(value.Value{Type: tName, Text: "UTF8"}))
	c.add("getdatabaseencoding", tName, always(value.Value{Type: tName, Text: "UTF8"}))
	c.add("pg_size_pretty", tText, sizePretty, tInt8)
}

// sizePretty prints bytes as pg_size_pretty does.
func sizePretty(_ *query.Run, args []value.Value) (value.Value, error) {
	n, _ := strconv.ParseInt(args[0].Text, 10, 64) // canonical
	units := []string{"bytes", "kB", "MB", "GB", "TB", "PB"}
	half := n
	u := 0
	for ; u < len(units)-1 && (half >= 10*1024 || half <= -10*1024); u++ {
		if half /= 512; u > 0 || true {
			half = (half + map[bool]int64{true: 1, false: -1}[half >= 0]) / 2
		}
	}
	return text(fmt.Sprintf("%d %s", half, units[u])), nil
}

func (c *Catalogue) formatType(_ *query.Run, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return tText.Null(), nil
	}
	if args[0].Text == "0" {
		return text("-"), nil
	}
	t, ok := value.ByOID(uint32(oidOf(args[0]))) //nolint:gosec // an oid
	if !ok {
		return text(cmp.Or(c.pseudo[args[0].Text], "???")), nil
	}
	mod := -1
	if !args[1].Null {
		mod, _ = strconv.Atoi(args[1].Text)
	}
	base := t
	if t.Elem != nil {
		base = t.Elem
	}
	name, array := base.Name, strings.TrimPrefix(t.Name, base.Name)
	if mod >= 0 {
		switch base {
		case value.Varchar, value.Bpchar:
			name += fmt.Sprintf("(%d)", mod-4)
		case value.Numeric:
			name += fmt.Sprintf("(%d,%d)", (mod-4)>>16&0xFFFF, ((mod-4)&0x7FF^1024)-1024)
		case value.Time, value.Timestamp, value.Timestamptz:
			first, rest, _ := strings.Cut(name, " ")
			name = fmt.Sprintf("%s(%d) %s", first, mod, rest)
		}
	} else if base == value.Bpchar && (args[1].Null || mod < 0) {
		if name = "character"; !args[1].Null {
			name = "bpchar"
		}
	}
	return text(name + array), nil
}

// addProcedures adds what prints procedures and functions.
func (c *Catalogue) addProcedures() {
	show := func(name string, result *value.Type, own func(i int) string, builtin func(p row) *string, args ...*value.Type) {
		c.add(name, result, func(_ *query.Run, args []value.Value) (value.Value, error) {
			oid := oidOf(args[0])
			if _, ok := c.procedureOf(oid); ok {
				if own == nil {
					return result.Null(), nil
				}
				return value.Value{Type: result, Text: own(int(oid - oidProcedure))}, nil //nolint:gosec // checked
			}
			if p, ok := c.procByOID[args[0].Text]; ok && builtin != nil {
				if s := builtin(p); s != nil {
					return value.Value{Type: result, Text: *s}, nil
				}
			}
			return result.Null(), nil
		}, args...)
	}
	types := func(p row) *string {
		var names []string
		for _, o := range strings.Fields(p["proargtypes"]) {
			names = append(names, c.typeName(o))
		}
		if p["provariadic"] != "0" {
			names[len(names)-1] = "VARIADIC " + names[len(names)-1]
		}
		s := strings.Join(names, ", ")
		return &s
	}
	show("pg_get_function_arguments", tText, func(i int) string { return argumentsText(arguments(c.procedures[i]), true) }, types, tOID)
	show("pg_get_function_identity_arguments", tText, func(i int) string { return argumentsText(arguments(c.procedures[i]), false) }, types, tOID)
	show("pg_get_function_result", tText, nil, func(p row) *string {
		s := c.typeName(p["prorettype"])
		if p["proretset"] == "t" {
			s = "SETOF " + s
		}
		return &s
	}, tOID)
	show("pg_get_functiondef", tText, func(i int) string {
		p := c.procedures[i]
		return fmt.Sprintf("CREATE OR REPLACE PROCEDURE public.%s(%s)\n LANGUAGE %s\nAS $procedure$the configuration of fdt$procedure$\n",
			ident(p.Name()), argumentsText(arguments(p), true), language)
	}, nil, tOID)
	c.add("pg_get_function_arg_default", tText, func(_ *query.Run, args []value.Value) (value.Value, error) {
		p, ok := c.procedureOf(oidOf(args[0]))
		n, _ := strconv.Atoi(args[1].Text)
		if !ok || n < 1 || n > len(arguments(p)) || arguments(p)[n-1].def == nil {
			return tText.Null(), nil
		}
		return text(defaultText(arguments(p)[n-1])), nil
	}, tOID, tInt4)
	c.add("pg_get_function_sqlbody", tText, none(tText), tOID)
}

// addVisibility adds what tells whether a name is found without its schema.
func (c *Catalogue) addVisibility() {
	is := func(name string, known func(oid uint64) (visible, there bool)) {
		c.add(name, tBool, func(_ *query.Run, args []value.Value) (value.Value, error) {
			visible, there := known(oidOf(args[0]))
			if !there {
				return tBool.Null(), nil
			}
			return truth(visible), nil
		}, tOID)
	}
	is("pg_table_is_visible", func(oid uint64) (bool, bool) {
		r, ok := c.byOID[uint32(oid)] //nolint:gosec // an oid
		return ok && r.Schema == "pg_catalog", ok
	})
	is("pg_type_is_visible", func(oid uint64) (bool, bool) {
		_, ok := c.pseudo[strconv.FormatUint(oid, 10)]
		return ok, ok
	})
	is("pg_function_is_visible", func(oid uint64) (bool, bool) {
		_, ok := c.procByOID[strconv.FormatUint(oid, 10)]
		return ok, ok
	})
	is("pg_collation_is_visible", func(oid uint64) (bool, bool) {
		ok := oid == oidLibrary || oid == 950 || oid == 951
		return ok, ok
	})
	for _, name := range []string{"operator", "opclass", "opfamily", "conversion", "statistics_obj", "ts_parser", "ts_dict", "ts_template", "ts_config"} {
		is("pg_"+name+"_is_visible", func(uint64) (bool, bool) { return false, false })
	}
}

// addEmpty adds what tells of objects that fdt has not.
func (c *Catalogue) addEmpty() {
	node := value.NodeTree
	for _, f := range []struct {
		name   string
		result *value.Type
		args   []*value.Type
	}{
		{"obj_description", tText, []*value.Type{tOID}}, {"obj_description", tText, []*value.Type{tOID, tName}},
		{"col_description", tText, []*value.Type{tOID, tInt4}}, {"shobj_description", tText, []*value.Type{tOID, tName}},
		{"pg_get_expr", tText, []*value.Type{node, tOID}}, {"pg_get_expr", tText, []*value.Type{node, tOID, tBool}},
		{"pg_get_constraintdef", tText, []*value.Type{tOID}}, {"pg_get_constraintdef", tText, []*value.Type{tOID, tBool}},
		{"pg_get_indexdef", tText, []*value.Type{tOID}}, {"pg_get_indexdef", tText, []*value.Type{tOID, tInt4, tBool}},
		{"pg_get_viewdef", tText, []*value.Type{tOID}}, {"pg_get_viewdef", tText, []*value.Type{tOID, tBool}},
		{"pg_get_ruledef", tText, []*value.Type{tOID}}, {"pg_get_ruledef", tText, []*value.Type{tOID, tBool}},
		{"pg_get_triggerdef", tText, []*value.Type{tOID}}, {"pg_get_triggerdef", tText, []*value.Type{tOID, tBool}},
		{"pg_get_partkeydef", tText, []*value.Type{tOID}}, {"pg_get_statisticsobjdef_columns", tText, []*value.Type{tOID}},
		{"pg_get_serial_sequence", tText, []*value.Type{tText, tText}}, {"pg_tablespace_location", tText, []*value.Type{tOID}},
		{"pg_relation_filenode", tOID, []*value.Type{value.RegClass}}, {"pg_sequence_last_value", tInt8, []*value.Type{value.RegClass}},
		{"inet_server_addr", value.Inet, nil}, {"inet_server_port", tInt4, nil},
		{"pg_index_column_has_property", tBool, []*value.Type{value.RegClass, tInt4, tText}},
		{"acldefault", value.ACLItem.Array, []*value.Type{value.Char, tOID}}, {"pg_get_partition_constraintdef", tText, []*value.Type{tOID}},
		{"pg_last_wal_receive_lsn", value.PgLSN, nil}, {"pg_last_wal_replay_lsn", value.PgLSN, nil},
		{"pg_last_xact_replay_timestamp", value.Timestamptz, nil},
		{"pg_get_replica_identity_index", value.RegClass, []*value.Type{value.RegClass}},
	} {
		c.add(f.name, f.result, none(f.result), f.args...)
	}
	for _, name := range []string{"pg_relation_size", "pg_total_relation_size", "pg_table_size", "pg_indexes_size"} {
		c.add(name, tInt8, always(value.Value{Type: tInt8, Text: "0"}), value.RegClass)
	}
	c.add("pg_database_size", tInt8, always(value.Value{Type: tInt8, Text: "0"}), tName)
	c.add("pg_database_size", tInt8, always(value.Value{Type: tInt8, Text: "0"}), tOID)
	c.add("pg_tablespace_size", tInt8, always(value.Value{Type: tInt8, Text: "0"}), tOID)
	c.add("pg_tablespace_size", tInt8, always(value.Value{Type: tInt8, Text: "0"}), tName)
	c.add("lastval", tInt8, func(*query.Run, []value.Value) (value.Value, error) {
		return value.Value{}, errorf("55000", "lastval is not yet defined in this session")
	})
	for _, name := range []string{"pg_stat_get_numscans", "pg_stat_get_live_tuples", "pg_stat_get_dead_tuples"} {
		c.add(name, tInt8, always(value.Value{Type: tInt8, Text: "0"}), tOID)
	}
	// No row of the catalogue is of a transaction that another can be younger than.
	c.add("age", tInt4, always(value.Value{Type: tInt4, Text: "2147483647"}), value.XID)
	c.add("pg_my_temp_schema", tOID, always(value.Value{Type: tOID, Text: "0"}))
	c.add("pg_is_other_temp_schema", tBool, always(truth(false)), tOID)
	c.add("pg_relation_is_publishable", tBool, always(truth(false)), value.RegClass)
	c.add("row_security_active", tBool, always(truth(false)), tOID)
	c.add("pg_blocking_pids", tInt4.Array, func(r *query.Run, args []value.Value) (value.Value, error) {
		pid, _ := strconv.Atoi(args[0].Text) // canonical
		var list []string
		for _, n := range session(r).Waits()[pid].For {
			list = append(list, strconv.Itoa(n))
		}
		return value.Value{Type: tInt4.Array, Text: arrayOf(list)}, nil
	}, tInt4)
	nothing := func(*query.Run, []value.Value) ([][]value.Value, error) { return nil, nil }
	c.Add("pg_listening_channels", &query.Function{Result: tText, Set: nothing})
	c.Add("pg_options_to_table", &query.Function{
		Args: []*value.Type{tText.Array}, Set: nothing, Columns: []query.Column{{Name: "option_name", Type: tText}, {Name: "option_value", Type: tText}},
	})
	c.Add("aclexplode", &query.Function{Args: []*value.Type{value.ACLItem.Array}, Set: nothing, Columns: []query.Column{
		{Name: "grantor", Type: tOID}, {Name: "grantee", Type: tOID}, {Name: "privilege_type", Type: tText}, {Name: "is_grantable", Type: tBool},
	}})
	c.Add("pg_get_keywords", &query.Function{Set: nothing, Columns: []query.Column{
		{Name: "word", Type: tText}, {Name: "catcode", Type: value.Char}, {Name: "barelabel", Type: tBool}, {Name: "catdesc", Type: tText}, {Name: "baredesc", Type: tText},
	}})
	c.Add("pg_partition_ancestors", &query.Function{Args: []*value.Type{value.RegClass}, Result: value.RegClass, Set: nothing})
	c.Add("pg_partition_tree", &query.Function{Args: []*value.Type{value.RegClass}, Set: nothing, Columns: []query.Column{
		{Name: "relid", Type: value.RegClass}, {Name: "parentrelid", Type: value.RegClass}, {Name: "isleaf", Type: tBool}, {Name: "level", Type: tInt4},
	}})
	c.Add("pg_get_publication_tables", &query.Function{Args: []*value.Type{tText}, Result: tOID, Set: nothing})
}

// addSession adds what tells of the session.
func (c *Catalogue) addSession() {
	user := of(func(s Session) value.Value { return value.Value{Type: tName, Text: s.User()} })
	for _, name := range []string{"current_user", "current_role", "session_user", "user"} {
		c.add(name, tName, user)
	}
	database := of(func(s Session) value.Value { return value.Value{Type: tName, Text: s.Database()} })
	c.add("current_database", tName, database)
	c.add("current_catalog", tName, database)
	c.add("current_schema", tName, always(value.Value{Type: tName, Text: "public"}))
	c.add("current_schemas", tName.Array, func(_ *query.Run, args []value.Value) (value.Value, error) {
		list := "{public}"
		if args[0].Text == "t" {
			list = "{pg_catalog,public}"
		}
		return value.Value{Type: tName.Array, Text: list}, nil
	}, tBool)
	c.add("pg_get_userbyid", tName, func(r *query.Run, args []value.Value) (value.Value, error) {
		role := cmp.Or(roleNumbered(session(r), args[0].Text), "unknown (OID="+args[0].Text+")")
		return value.Value{Type: tName, Text: role}, nil
	}, tOID)
}
