package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
)

// fixed are the relations that are the same for all sessions.
var fixed map[string]func(c *Catalogue) []row

func init() { //nolint:gochecknoinits // they read what describes them
	fixed = map[string]func(c *Catalogue) []row{
		"pg_catalog.pg_namespace":  (*Catalogue).namespaces,
		"pg_catalog.pg_type":       func(c *Catalogue) []row { return c.types },
		"pg_catalog.pg_proc":       func(c *Catalogue) []row { return c.procRows },
		"pg_catalog.pg_class":      (*Catalogue).classes,
		"pg_catalog.pg_attribute":  (*Catalogue).attributes,
		"pg_catalog.pg_language":   languages,
		"pg_catalog.pg_am":         func(*Catalogue) []row { return []row{{"oid": "2", "amname": "heap", "amtype": "t"}} },
		"pg_catalog.pg_collation":  collations,
		"pg_catalog.pg_tablespace": tablespaces,
		"pg_catalog.pg_tables":     (*Catalogue).tables,
		"pg_catalog.pg_views":      (*Catalogue).views,
	}
}

func (c *Catalogue) namespaces() []row {
	owner := number(oidOwner)
	return []row{
		{"oid": number(oidCatalog), "nspname": "pg_catalog", "nspowner": owner},
		{"oid": number(oidPublic), "nspname": "public", "nspowner": owner},
		{"oid": number(oidSchema), "nspname": "information_schema", "nspowner": owner},
	}
}

func languages(*Catalogue) []row {
	owner := number(oidOwner)
	return []row{
		{"oid": "12", "lanname": "internal", "lanowner": owner},
		{"oid": number(oidLanguage), "lanname": language, "lanowner": owner},
	}
}

func collations(*Catalogue) []row {
	list := []row{}
	for _, c := range [][3]string{{"100", "default", "d"}, {"950", "C", "c"}, {"951", "POSIX", "c"}} {
		r := row{
			"oid": c[0], "collname": c[1], "collnamespace": number(oidCatalog), "collowner": number(oidOwner), "collprovider": c[2],
			"collisdeterministic": "t", "collencoding": "-1",
		}
		if c[2] == "c" {
			r["collcollate"], r["collctype"] = c[1], c[1]
		}
		list = append(list, r)
	}
	return list
}

func tablespaces(*Catalogue) []row {
	owner := number(oidOwner)
	return []row{
		{"oid": number(oidDefault), "spcname": "pg_default", "spcowner": owner},
		{"oid": number(oidGlobal), "spcname": "pg_global", "spcowner": owner},
	}
}

func schemaOID(name string) string {
	switch name {
	case "pg_catalog":
		return number(oidCatalog)
	case "information_schema":
		return number(oidSchema)
	}
	return number(oidPublic)
}

// tableKind is pg_class.relkind: what PostgreSQL keeps in tables is a table
// here too.
func (c *Catalogue) tableKind(oid uint32) string {
	if oid < 10000 {
		return "r"
	}
	return "v"
}

func (c *Catalogue) classes() []row {
	var list []row
	for _, r := range c.relations {
		kind := c.tableKind(r.OID)
		cl := row{
			"oid": number(r.OID), "relname": r.Name, "relnamespace": schemaOID(r.Schema), "relowner": number(oidOwner), "relkind": kind,
			"relnatts": strconv.Itoa(len(r.Columns)), "relpersistence": "p", "relreplident": "n", "relispopulated": "t", "reltuples": "-1",
			"relacl": "{=r/pg_database_owner}",
		}
		if kind == "r" {
			cl["relam"] = number(oidHeap)
		}
		list = append(list, cl)
	}
	return list
}

func (c *Catalogue) attributes() []row {
	by := map[string]row{}
	for _, t := range c.types {
		by[t["oid"]] = t
	}
	var list []row
	for _, r := range c.relations {
		for i, col := range r.Columns {
			t := by[number(col.Type.OID)]
			a := row{
				"attrelid": number(r.OID), "attname": col.Name, "atttypid": number(col.Type.OID), "attlen": t["typlen"], "attnum": strconv.Itoa(i + 1),
				"attcacheoff": "-1", "atttypmod": "-1", "attbyval": t["typbyval"], "attalign": t["typalign"], "attstorage": t["typstorage"],
				"attnotnull": boolean(col.NotNull), "attislocal": "t", "attcollation": t["typcollation"], "attstattarget": "-1",
			}
			if col.Type.Elem != nil {
				a["attndims"] = "1"
			}
			list = append(list, a)
		}
	}
	return list
}

func boolean(b bool) string {
	if b {
		return "t"
	}
	return "f"
}

func (c *Catalogue) tables() []row {
	var list []row
	for _, r := range c.relations {
		if c.tableKind(r.OID) == "r" {
			list = append(list, row{
				"schemaname": r.Schema, "tablename": r.Name, "tableowner": "pg_database_owner", "hasindexes": "f", "hasrules": "f",
				"hastriggers": "f", "rowsecurity": "f",
			})
		}
	}
	return list
}

func (c *Catalogue) views() []row {
	var list []row
	for _, r := range c.relations {
		if c.tableKind(r.OID) == "v" {
			list = append(list, row{"schemaname": r.Schema, "viewname": r.Name, "viewowner": "pg_database_owner"})
		}
	}
	return list
}

// argument is one argument of a procedure: what goes in, what comes out, or
// both under one name.
type argument struct {
	name string
	typ  *value.Type
	mode string // i, o or b
	def  *value.Value
}

func (a argument) in() bool { return a.mode != "o" }

// arguments are a procedure's as PostgreSQL would have them: a result of a
// parameter's name and type is that parameter's, INOUT.
func arguments(p *procedure.Procedure) []argument {
	var list []argument
	at := map[string]int{}
	for _, pa := range p.Params() {
		at[pa.Name] = len(list)
		list = append(list, argument{pa.Name, pa.Type, "i", pa.Default})
	}
	for _, col := range p.Columns() {
		if i, ok := at[col.Name]; ok && list[i].typ == col.Type {
			list[i].mode = "b"
			continue
		}
		list = append(list, argument{col.Name, col.Type, "o", nil})
	}
	return list
}

func (c *Catalogue) procs() []row {
	var list []row
	for _, f := range c.functions {
		p := row{
			"pronamespace": number(oidCatalog), "proowner": number(oidOwner), "prolang": "12", "procost": "1", "prosrc": f["proname"], "proparallel": "s",
			"pronargs": strconv.Itoa(len(strings.Fields(f["proargtypes"]))),
		}
		for k, v := range f {
			p[k] = v
		}
		if p["proretset"] == "t" {
			p["prorows"] = "1000"
		}
		list = append(list, p)
	}
	for i, p := range c.procedures {
		list = append(list, procedureRow(i, p))
	}
	return list
}

func procedureRow(i int, p *procedure.Procedure) row {
	r := row{
		"oid": number(procedureOID(i)), "proname": p.Name(), "pronamespace": number(oidPublic), "proowner": number(oidOwner),
		"prolang": number(oidLanguage), "procost": "100", "prokind": "p", "provolatile": "v", "proparallel": "u", "prorettype": "2278",
		"prosrc": "",
	}
	var types, all, modes, names []string
	defaults, out := 0, false
	for _, a := range arguments(p) {
		oid := number(a.typ.OID)
		all, modes, names = append(all, oid), append(modes, a.mode), append(names, a.name)
		if a.in() {
			types = append(types, oid)
		}
		out = out || a.mode != "i"
		if a.def != nil {
			defaults++
		}
	}
	r["proargtypes"], r["pronargs"], r["pronargdefaults"] = strings.Join(types, " "), strconv.Itoa(len(types)), strconv.Itoa(defaults)
	if len(names) > 0 {
		r["proargnames"] = arrayOf(names)
	}
	if out {
		r["proallargtypes"], r["proargmodes"], r["prorettype"] = arrayOf(all), arrayOf(modes), "2249"
	}
	return r
}

func arrayOf(list []string) string {
	values := make([]value.Value, len(list))
	for i, s := range list {
		values[i] = value.Value{Type: value.Text, Text: s}
	}
	v, _ := value.Text.Array.MakeArray(nil, values) // of texts there is no error
	return v.Text
}

// argumentsText prints arguments as pg_get_function_arguments does for a
// procedure.
func argumentsText(list []argument, defaults bool) string {
	parts := make([]string, len(list))
	for i, a := range list {
		mode := map[string]string{"i": "IN", "o": "OUT", "b": "INOUT"}[a.mode]
		parts[i] = fmt.Sprintf("%s %s %s", mode, ident(a.name), a.typ.Name)
		if defaults && a.def != nil {
			parts[i] += " DEFAULT " + defaultText(a)
		}
	}
	return strings.Join(parts, ", ")
}

// defaultText is the default of a parameter as SQL.
func defaultText(a argument) string {
	switch {
	case a.def.Null:
		return "NULL::" + a.typ.Name
	case a.typ == value.Bool:
		return map[string]string{"t": "true", "f": "false"}[a.def.Text]
	case a.typ == value.Int2, a.typ == value.Int4, a.typ == value.Int8, a.typ == value.Numeric:
		return a.def.Text
	}
	return "'" + strings.ReplaceAll(a.def.Text, "'", "''") + "'::" + a.typ.Name
}
