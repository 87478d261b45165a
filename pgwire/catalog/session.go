package catalog

import (
	"slices"
	"strconv"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
)

// ofSession are the relations that each session sees in its own way.
var ofSession map[string]func(c *Catalogue, r *query.Run) ([]row, error)

func init() { //nolint:gochecknoinits // they read what describes them
	ofSession = map[string]func(c *Catalogue, r *query.Run) ([]row, error){
		"pg_catalog.pg_database":                             plain(databases),
		"pg_catalog.pg_roles":                                plain(roleRows),
		"pg_catalog.pg_user":                                 plain(userRows),
		"pg_catalog.pg_settings":                             plain(settings),
		"pg_catalog.pg_stat_activity":                        plain(activity),
		"pg_catalog.pg_prepared_xacts":                       func(_ *Catalogue, r *query.Run) ([]row, error) { return prepared(r) },
		"pg_catalog.pg_prepared_statements":                  plain(statements),
		"pg_catalog.pg_stat_database":                        plain(databaseCounts),
		"information_schema.information_schema_catalog_name": plain(catalogName),
		"information_schema.schemata":                        c3(schemata),
		"information_schema.tables":                          c3(tableRows),
		"information_schema.columns":                         c3(columnRows),
		"information_schema.routines":                        c3(routines),
		"information_schema.parameters":                      c3(parameters),
		"information_schema.enabled_roles":                   plain(enabledRoles),
		"information_schema.character_sets":                  plain(characterSets),
	}
	for _, name := range []string{"pg_authid", "pg_shadow", "pg_hba_file_rules", "pg_file_settings", "pg_statistic", "pg_user_mapping", "pg_largeobject"} {
		ofSession["pg_catalog."+name] = func(*Catalogue, *query.Run) ([]row, error) {
			kind := "table"
			if name == "pg_shadow" || name == "pg_hba_file_rules" || name == "pg_file_settings" {
				kind = "view"
			}
			return nil, errorf("42501", "permission denied for %s %s", kind, name)
		}
	}
}

func plain(make func(s Session) []row) func(*Catalogue, *query.Run) ([]row, error) {
	return func(_ *Catalogue, r *query.Run) ([]row, error) { return make(session(r)), nil }
}

func c3(make func(c *Catalogue, s Session) []row) func(*Catalogue, *query.Run) ([]row, error) {
	return func(c *Catalogue, r *query.Run) ([]row, error) { return make(c, session(r)), nil }
}

// databases is the one that the session named when it connected: to fdt they
// are all the same.
func databases(s Session) []row {
	return []row{{
		"oid": number(oidDatabase), "datname": s.Database(), "datdba": number(oidOwner), "encoding": "6", "datlocprovider": "c",
		"datistemplate": "f", "datallowconn": "t", "datconnlimit": "-1", "dattablespace": number(oidDefault), "datcollate": "C", "datctype": "C",
	}}
}

// roles are the names that a session sees: its own, and those of others that
// are connected.
func roles(s Session) []string {
	list := []string{"pg_database_owner", s.User()}
	for _, a := range s.Activity() {
		list = append(list, a.User)
	}
	slices.Sort(list[1:])
	return slices.Compact(list)
}

// roleNumbered is the role of an OID, empty if there is none. It asks for the
// sessions of others only where it must.
func roleNumbered(s Session, oid string) string {
	list := []string{"pg_database_owner", s.User()}
	if oid != userOID(list[0]) && oid != userOID(list[1]) {
		list = roles(s)
	}
	for _, role := range list {
		if userOID(role) == oid {
			return role
		}
	}
	return ""
}

func roleRows(s Session) []row {
	var list []row
	for _, name := range roles(s) {
		list = append(list, row{
			"rolname": name, "rolsuper": "f", "rolinherit": "t", "rolcreaterole": "f", "rolcreatedb": "f", "rolreplication": "f", "rolbypassrls": "f",
			"rolcanlogin": boolean(name != "pg_database_owner"), "rolconnlimit": "-1", "rolpassword": "********", "oid": userOID(name),
		})
	}
	return list
}

func userRows(s Session) []row {
	var list []row
	for _, name := range roles(s)[1:] {
		list = append(list, row{
			"usename": name, "usesysid": userOID(name), "usecreatedb": "f", "usesuper": "f", "userepl": "f", "usebypassrls": "f", "passwd": "********",
		})
	}
	return list
}

func enabledRoles(s Session) []row { return []row{{"role_name": s.User()}} }

func settings(s Session) []row {
	var list []row
	for _, set := range s.Settings() {
		r := row{
			"name": set.Name, "setting": set.Value, "category": "fdt", "short_desc": set.About, "context": "user", "vartype": "string",
			"source": "default", "boot_val": set.Initial, "reset_val": set.Reset, "pending_restart": "f",
		}
		if set.Fixed {
			r["context"] = "internal"
		}
		if set.Value != set.Initial {
			r["source"] = "session"
		}
		list = append(list, r)
	}
	return list
}

// activity has in wait_event, where PostgreSQL names the kind of a lock, whose lock a session waits for, or what else.
func activity(s Session) []row {
	waits := s.Waits()
	var list []row
	for _, a := range s.Activity() {
		r := row{
			"datid": number(oidDatabase), "datname": a.Database, "pid": strconv.Itoa(a.PID), "usesysid": userOID(a.User), "usename": a.User,
			"application_name": a.Application,
		}
		if a.Hidden {
			r["query"] = "<insufficient privilege>"
			list = append(list, r)
			continue
		}
		if a.Address != "" {
			r["client_addr"] = a.Address
		}
		if r["client_port"] = "-1"; a.Port != "" {
			r["client_port"] = a.Port
		}
		for column, v := range map[string]value.Value{
			"backend_start": a.Started, "xact_start": a.Transaction, "query_start": a.Query, "state_change": a.Changed,
		} {
			if !v.Null {
				r[column] = v.Text
			}
		}
		if a.State != "active" { // it waits for its client
			r["wait_event_type"], r["wait_event"] = "Client", "ClientRead"
		} else if w, ok := waits[a.PID]; ok {
			r["wait_event_type"], r["wait_event"] = map[bool]string{true: "Lock", false: "Extension"}[w.Known], w.Text
		}
		r["state"], r["query"], r["backend_type"] = a.State, a.Text, "client backend"
		list = append(list, r)
	}
	return list
}

func prepared(r *query.Run) ([]row, error) {
	found, err := session(r).Prepared(r)
	if err != nil {
		return nil, err
	}
	var list []row
	for _, p := range found {
		list = append(list, row{
			"transaction": strconv.Itoa(p.Number), "gid": p.GID, "prepared": p.Since.Text, "owner": p.User, "database": p.Database,
		})
	}
	return list, nil
}

func statements(s Session) []row {
	var list []row
	for _, st := range s.Statements() {
		oids := make([]string, len(st.Params))
		for i, t := range st.Params {
			oids[i] = number(t.OID)
		}
		list = append(list, row{"name": st.Name, "parameter_types": arrayOf(oids), "from_sql": "f"})
	}
	return list
}

func databaseCounts(s Session) []row {
	return []row{{"datid": number(oidDatabase), "datname": s.Database(), "numbackends": strconv.Itoa(len(s.Activity()))}}
}

func catalogName(s Session) []row { return []row{{"catalog_name": s.Database()}} }

func characterSets(s Session) []row {
	return []row{{
		"character_set_name": "UTF8", "character_repertoire": "UCS", "form_of_use": "UTF8", "default_collate_catalog": s.Database(),
		"default_collate_schema": "pg_catalog", "default_collate_name": "default",
	}}
}

func schemata(c *Catalogue, s Session) []row {
	var list []row
	for _, n := range c.namespaces() {
		list = append(list, row{"catalog_name": s.Database(), "schema_name": n["nspname"], "schema_owner": "pg_database_owner"})
	}
	return list
}

func tableRows(c *Catalogue, s Session) []row {
	var list []row
	for _, r := range c.relations {
		kind := "BASE TABLE"
		if c.tableKind(r.OID) == "v" {
			kind = "VIEW"
		}
		list = append(list, row{
			"table_catalog": s.Database(), "table_schema": r.Schema, "table_name": r.Name, "table_type": kind, "is_insertable_into": "NO", "is_typed": "NO",
		})
	}
	return list
}

func columnRows(c *Catalogue, s Session) []row {
	var list []row
	for _, r := range c.relations {
		for i, col := range r.Columns {
			list = append(list, row{
				"table_catalog": s.Database(), "table_schema": r.Schema, "table_name": r.Name, "column_name": col.Name,
				"ordinal_position": strconv.Itoa(i + 1), "is_nullable": map[bool]string{true: "NO", false: "YES"}[col.NotNull],
				"data_type": dataType(col.Type), "udt_catalog": s.Database(), "udt_schema": "pg_catalog", "udt_name": udtName(col.Type),
				"dtd_identifier": strconv.Itoa(i + 1), "is_self_referencing": "NO", "is_identity": "NO", "is_generated": "NEVER", "is_updatable": "NO",
			})
		}
	}
	return list
}

// dataType is a type's name in information_schema.
func dataType(t *value.Type) string {
	if t.Elem != nil {
		return "ARRAY"
	}
	return t.Name
}

func udtName(t *value.Type) string {
	if t.Elem != nil {
		return "_" + t.Internal()
	}
	return t.Internal()
}

// specific is the name of a procedure that is its own.
func specific(name string, i int) string { return name + "_" + number(procedureOID(i)) }

func routines(c *Catalogue, s Session) []row {
	var list []row
	for i, p := range c.procedures {
		list = append(list, row{
			"specific_catalog": s.Database(), "specific_schema": "public", "specific_name": specific(p.Name(), i),
			"routine_catalog": s.Database(), "routine_schema": "public", "routine_name": p.Name(), "routine_type": "PROCEDURE",
			"routine_body": "EXTERNAL", "external_language": "FDT", "parameter_style": "GENERAL", "is_deterministic": "NO", "sql_data_access": "MODIFIES",
			"schema_level_routine": "YES", "max_dynamic_result_sets": "0", "security_type": "DEFINER", "as_locator": "NO", "is_udt_dependent": "NO",
		})
	}
	return list
}

func parameters(c *Catalogue, s Session) []row {
	var list []row
	for i, p := range c.procedures {
		for n, a := range arguments(p) {
			r := row{
				"specific_catalog": s.Database(), "specific_schema": "public", "specific_name": specific(p.Name(), i),
				"ordinal_position": strconv.Itoa(n + 1), "parameter_mode": map[string]string{"i": "IN", "o": "OUT", "b": "INOUT"}[a.mode],
				"is_result": "NO", "as_locator": "NO", "parameter_name": a.name, "data_type": dataType(a.typ), "udt_catalog": s.Database(),
				"udt_schema": "pg_catalog", "udt_name": udtName(a.typ), "dtd_identifier": strconv.Itoa(n + 1),
			}
			if a.def != nil {
				r["parameter_default"] = defaultText(a)
			}
			list = append(list, r)
		}
	}
	return list
}
