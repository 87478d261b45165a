package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/catalog"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// alice is a session that has prepared a statement, and may not call secret.
type alice struct{}

func (alice) User() string                                    { return "alice" }
func (alice) Database() string                                { return "shop" }
func (alice) Allowed(p *procedure.Procedure) bool             { return p.Name() != "secret" }
func (alice) Settings() []catalog.Setting                     { return nil }
func (alice) Waits() map[int]catalog.Waiting                  { return nil }
func (alice) Activity() []catalog.Activity                    { return []catalog.Activity{{User: "alice"}, {User: "bob"}} }
func (alice) Prepared(*query.Run) ([]catalog.Prepared, error) { return nil, nil }

func (alice) Statements() []catalog.Statement {
	return []catalog.Statement{{Name: "s", Params: []*value.Type{value.Int4, value.Text}}, {Name: "t"}}
}

// procedures are what PostgreSQL would have by
//
//	CREATE PROCEDURE given(i integer DEFAULT 5, yes boolean DEFAULT true, no boolean DEFAULT false,
//		"none" text DEFAULT NULL, it text DEFAULT 'it''s')
//	CREATE PROCEDURE made(INOUT a bigint, OUT b text)
//	CREATE PROCEDURE secret()
func procedures(t *testing.T) *procedure.Set {
	t.Helper()
	param := func(name string, typ *value.Type, text string) procedure.Param {
		return procedure.Param{Name: name, Type: typ, Default: &value.Value{Type: typ, Text: text}}
	}
	none := value.Text.Null()
	code := func(context.Context, *txn.Session, []value.Value, procedure.Emit) error { return nil }
	set, err := procedure.Compile(&config.Config{},
		procedure.New(procedure.Spec{Name: "given", Params: []procedure.Param{
			param("i", value.Int4, "5"), param("yes", value.Bool, "t"), param("no", value.Bool, "f"),
			{Name: "none", Type: value.Text, Default: &none}, param("it", value.Text, "it's"),
		}}, code),
		procedure.New(procedure.Spec{
			Name: "made", Params: []procedure.Param{{Name: "a", Type: value.Int8}},
			Columns: []procedure.Column{{Name: "a", Type: value.Int8}, {Name: "b", Type: value.Text}},
		}, code),
		procedure.New(procedure.Spec{Name: "secret"}, code))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestCatalogue compares what the catalogue says of procedures and of its session with what PostgreSQL says of the same.
func TestCatalogue(t *testing.T) {
	c := catalog.New(procedures(t))
	for text, want := range map[string]string{
		"SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'given'": "IN i integer DEFAULT 5, IN yes boolean DEFAULT true, " +
			"IN no boolean DEFAULT false, IN \"none\" text DEFAULT NULL::text, IN it text DEFAULT 'it''s'::text",
		"SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'made'": "INOUT a bigint, OUT b text",
		"SELECT pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname IN ('given', 'made', 'secret') ORDER BY proname": "IN i integer, IN yes boolean, " +
			"IN no boolean, IN \"none\" text, IN it text; INOUT a bigint, OUT b text; ",
		"SELECT pg_get_function_result(oid), pg_get_function_sqlbody(oid) FROM pg_proc WHERE proname = 'secret'": "∅|∅",
		"SELECT pg_get_function_arg_default(oid, 1), pg_get_function_arg_default(oid, 4), pg_get_function_arg_default(oid, 6) " +
			"FROM pg_proc WHERE proname = 'given'": "5|NULL::text|∅",
		"SELECT ordinal_position, parameter_mode, parameter_name, data_type, udt_name, parameter_default FROM information_schema.parameters " +
			"WHERE specific_schema = 'public' ORDER BY specific_name, 1": "1|IN|i|integer|int4|5; 2|IN|yes|boolean|bool|true; 3|IN|no|boolean|bool|false; " +
			"4|IN|none|text|text|NULL::text; 5|IN|it|text|text|'it''s'::text; 1|INOUT|a|bigint|int8|∅; 2|OUT|b|text|text|∅",
		"SELECT has_function_privilege(oid, 'execute') FROM pg_proc WHERE proname IN ('made', 'secret') ORDER BY proname": "t; f",
		"SELECT has_function_privilege('secret()', 'execute')":                                                            "f",
		"SELECT has_function_privilege('nosuch()', 'execute')":                                                            `42883 function "nosuch()" does not exist`,
		"SELECT pg_has_role(oid, 'usage') FROM pg_roles WHERE rolname IN ('alice', 'bob') ORDER BY rolname":               "t; f",
		"SELECT 'bob'::regrole":                 "bob",
		"SELECT 'lower(integer)'::regprocedure": `42883 function "lower(integer)" does not exist`,
		"SELECT * FROM pg_authid":               "42501 permission denied for table pg_authid",
		"SELECT * FROM pg_shadow":               "42501 permission denied for view pg_shadow",
		"SELECT name, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name": "s|{integer,text}|f; t|{}|f",
		"SELECT datname, numbackends FROM pg_stat_database WHERE datname = 'shop'":         "shop|2",
	} {
		if got := ask(c, text); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

// ask is the answer to a query: its rows, or its error.
func ask(c *catalog.Catalogue, text string) string {
	rows, err := answer(c, text)
	if e, ok := errors.AsType[*query.Error](err); ok {
		return e.Code + " " + e.Message
	}
	if err != nil {
		return err.Error()
	}
	var lines []string
	for row := range slices.Values(rows) {
		var parts []string
		for _, v := range row {
			if v.Null {
				v.Text = "∅"
			}
			parts = append(parts, v.Text)
		}
		lines = append(lines, strings.Join(parts, "|"))
	}
	return strings.Join(lines, "; ")
}

func answer(c *catalog.Catalogue, text string) ([][]value.Value, error) {
	list, err := statement.Parse(text)
	if err != nil {
		return nil, err
	}
	s, ok := list[0].(*statement.Select)
	if !ok {
		return nil, fmt.Errorf("not a query: %s", text)
	}
	free := func(int) error { return nil }
	p, err := (&query.Planner{Catalogue: c, Meter: free, NoParams: true}).Query(s)
	if err != nil {
		return nil, err
	}
	r := &query.Run{Ctx: context.Background(), Now: time.Unix(0, 0), Catalogue: c, Host: alice{}, Took: free}
	rows, err := p.Run(r)
	for _, row := range rows {
		for i := range row {
			if row[i], err = r.Printed(row[i]); err != nil {
				return nil, err
			}
		}
	}
	return rows, err
}
