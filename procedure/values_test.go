package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// carried is a type of parameters, with the column that holds it in MariaDB.
type carried struct {
	name, column string
	values       []string // canonical, and of a form that both databases give back
	beyond       []string // what MariaDB has nothing for
	code         string   // with which it is refused
}

var allBytes = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return fmt.Sprintf(`\x%x`, b)
}()

// everyType has each type that a parameter can have, with extremes.
var everyType = []carried{
	{"bigint", "BIGINT", []string{"0", "-9223372036854775808", "9223372036854775807"}, nil, ""},
	{"boolean", "BOOLEAN", []string{"t", "f"}, nil, ""},
	{"bytea", "LONGBLOB", []string{`\x`, `\x00`, `\x5c783131`, `\xdeadbeef`, `\x27225c3f3a`, allBytes}, nil, ""},
	{"date", "DATE", []string{"2026-02-28", "0001-01-01", "9999-12-31"}, []string{"infinity", "-infinity"}, "22008"},
	{"double precision", "DOUBLE", []string{"0", "0.1", "-1.5", "1.7976931348623157e+308", "5e-324", "3.9999999999999997e+23"}, []string{"Infinity", "-Infinity", "NaN"}, "22003"},
	{"integer", "INT", []string{"0", "-2147483648", "2147483647"}, nil, ""},
	{"json", "JSON", []string{`{"a": [1, "\\ü:b?\"'"]}`, `null`, `"x"`}, nil, ""},
	{"jsonb", "JSON", []string{`{"a": [1, "\\ü:b?\"'"]}`, `null`, `"x"`}, nil, ""},
	{"numeric", "DECIMAL(65,10)", []string{"0.0000000000", "-1.5000000000", "1234567890123456789012345678901234567890123456789012345.0123456789"}, []string{"NaN", "Infinity", "-Infinity"}, "22003"},
	{"real", "FLOAT", []string{"0", "0.1", "1.6777216e+07", "3.4028235e+38", "1.1754944e-38", "1e-45"}, []string{"Infinity", "-Infinity", "NaN"}, "22003"},
	{"smallint", "SMALLINT", []string{"0", "-32768", "32767"}, nil, ""},
	{"text", "LONGTEXT CHARACTER SET utf8mb4", []string{"", "x", `it's \ "q" :v ? $1 ` + "`#--\n\x01\x7fä€😀", "Infinity", "NaN", "t", "NULL", "null"}, nil, ""},
	{"timestamp", "DATETIME(6)", []string{"2026-02-28 12:34:56.789012", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"}, []string{"infinity", "-infinity"}, "22008"},
	{"timestamptz", "TIMESTAMP(6) NULL", []string{"2026-07-28 12:34:56.789012+00", "1970-01-01 00:00:01+00", "2038-01-19 03:14:07.999999+00"}, []string{"infinity", "-infinity"}, "22008"},
	{"timestamptz", "DATETIME(6)", []string{"0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"}, nil, ""},
	{"uuid", "UUID", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}, nil, ""},
	{"bigint[]", "LONGTEXT", []string{"{}", "{-9223372036854775808,NULL,9223372036854775807}", "{{1,2},{3,4}}"}, nil, ""},
	{"text[]", "LONGTEXT", []string{`{"",NULL,"NULL","a,b","\"\\","x y"}`}, nil, ""},
	{"bytea[]", "LONGTEXT", []string{`{"\\x00ff"}`}, nil, ""},
	{"timestamptz[]", "LONGTEXT", []string{`{"2026-02-28 12:34:56.789012+00"}`}, nil, ""},
}

// carrier has a procedure for each of everyType, which passes a value on every way that there is.
type carrier struct {
	*bench
	my *testdb.MariaDB
}

// everyWay is one procedure's steps. The numbers are those of the type.
const everyWay = `
  t%[1]d:
    parameters: {v: "%[2]s"}
    steps:
      - {on: pg, sql: "UPDATE t%[1]d SET c = :v RETURNING c", as: pg}
      - {on: my, sql: "UPDATE t%[1]d SET c = :v"}
      - {on: my, sql: "SELECT c FROM t%[1]d # it's the row", as: my}
      - {on: my, sql: "UPDATE t%[1]d SET c = :pg"}
      - {on: my, sql: "SELECT c FROM t%[1]d", as: pg_my}
      - {on: my, sql: "UPDATE t%[1]d SET c = :my"}
      - {on: my, sql: "SELECT c FROM t%[1]d", as: my_my}
      - {on: pg, sql: "UPDATE t%[1]d SET c = :my RETURNING c", as: my_pg}
      - {on: pg, sql: "UPDATE t%[1]d SET c = :pg"}
      - {on: pg, sql: "SELECT c FROM t%[1]d", as: pg_pg}
      - {on: outbox, put: "v:v"}
      - {on: outbox, put: "v:pg"}
      - {on: outbox, put: "v:my"}
    returns: {v: "%[2]s", pg: "%[2]s", my: "%[2]s", pg_my: "%[2]s", my_my: "%[2]s", my_pg: "%[2]s", pg_pg: "%[2]s"}
  p%[1]d:
    parameters: {v: "%[2]s"}
    steps:
      - {on: pg, sql: "UPDATE t%[1]d SET c = :v RETURNING c", as: pg}
      - {on: my, sql: "SELECT 1 FROM t%[1]d WHERE c = :pg"}
`

func newCarrier(t *testing.T) *carrier {
	t.Helper()
	pg, err := testdb.StartPostgres("timezone=Asia/Kathmandu", "datestyle=SQL,DMY", "intervalstyle=iso_8601", "bytea_output=escape", "extra_float_digits=-5")
	if err != nil {
		t.Fatal(err)
	}
	my, err := testdb.StartMariaDB("default-time-zone=+05:45", "character-set-server=latin1")
	if err != nil {
		t.Fatal(errors.Join(err, pg.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(pg.Close(), my.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := my.Database(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &bench{outbox: filepath.Join(dir, "outbox")}
	var text strings.Builder
	fmt.Fprintf(&text, "listen: {local: {address: /run/fdt/s, auth: peer}}\nresources:\n  outbox: {type: spool, directory: %s}\n"+
		"  pg: {type: postgres, dsn: %q}\n  my: {type: mariadb, dsn: %q}\nprocedures:\n", b.outbox, pg.DSN("postgres"), my.DSN("fdt", "d"))
	for i, c := range everyType {
		fmt.Fprintf(&text, everyWay, i, c.name)
		if err := errors.Join(pg.Exec(t.Context(), "postgres", fmt.Sprintf("CREATE TABLE t%d (c %s)", i, c.name), fmt.Sprintf("INSERT INTO t%d VALUES (NULL)", i)),
			my.Exec(t.Context(), "d", fmt.Sprintf("CREATE TABLE t%d (c %s)", i, c.column), fmt.Sprintf("INSERT INTO t%d VALUES (NULL)", i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"outbox", "log", "claims", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "config.yaml"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "etc"))
	if err != nil {
		t.Fatal(err)
	}
	if b.set, err = procedure.Compile(cfg); err != nil {
		t.Fatal(err)
	}
	var list [3]txn.Resource
	list[0], err = spool.Open("outbox", b.outbox)
	if err == nil {
		list[1], err = postgres.New(postgres.Options{Name: "pg", DSN: pg.DSN("postgres")})
	}
	if err == nil {
		list[2], err = mariadb.New(mariadb.Options{Name: "my", DSN: my.DSN("fdt", "d")})
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := txn.Open(t.Context(), txn.Options{LogDir: filepath.Join(dir, "log"), ClaimDir: filepath.Join(dir, "claims"),
		MachineID: "0123456789abcdef0123456789abcdef", Resources: list[:]})
	if err != nil {
		t.Fatal(err)
	}
	b.session = m.NewSession(txn.Principal{User: "alice"})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(b.session.Close(ctx), m.Close(ctx), list[1].Close(), list[2].Close()); err != nil {
			t.Error(err)
		}
	})
	return &carrier{b, my}
}

// Every type of a parameter, from a client's text and binary format and from the result of each database, arrives as it is at a client, in
// each database and in a message; what a database has nothing for is refused, and never becomes another value or a piece of SQL.
func TestEveryWay(t *testing.T) {
	b := newCarrier(t)
	for i, c := range everyType {
		typ, _ := value.Lookup(c.name)
		for _, text := range slices.Concat(c.values, c.beyond) {
			parsed, err := typ.Parse(text)
			if err != nil || parsed.Text != text {
				t.Fatalf("%s %q: %q, %v", c.name, text, parsed.Text, err)
			}
			decoded, err := typ.Decode(parsed.Append(nil, true))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []value.Value{parsed, decoded} {
				if slices.Contains(c.beyond, text) {
					b.refused(t, i, c, v)
				} else {
					b.arrives(t, i, c, v)
				}
			}
		}
		row, err := b.call(t, fmt.Sprintf("p%d", i), procedure.Arg{Value: typ.Null()})
		if err != nil || len(row) != 0 {
			t.Errorf("%s null: %v, %v", c.name, row, err)
		}
	}
}

func (b *carrier) arrives(t *testing.T, i int, c carried, v value.Value) {
	t.Helper()
	row, err := b.call(t, fmt.Sprintf("t%d", i), procedure.Arg{Value: v})
	if err != nil {
		e, _ := errors.AsType[*procedure.Error](err)
		t.Errorf("%s in %s, %s: %v %+v", c.name, c.column, v.Text, err, e)
		return
	}
	p, _ := b.set.Lookup(fmt.Sprintf("t%d", i))
	for n, got := range row {
		if p.Columns()[n].Name == "my_pg" && c.column == "DATETIME(6)" && c.name == "timestamptz" {
			continue // a DATETIME has no zone: PostgreSQL takes it for a time in its own
		}
		if got != v || string(got.Append(nil, true)) != string(v.Append(nil, true)) {
			t.Errorf("%s in %s, %q: %s is %s %q", c.name, c.column, v.Text, p.Columns()[n].Name, got.Type, got.Text)
		}
	}
	want := "v" + string(v.Append(nil, v.Type == value.Bytea))
	bodies := b.take(t)
	for _, body := range bodies {
		if body != want && !(v.Type == value.Bool && (body == "v1" || body == "v0")) && body+"+00" != want {
			t.Errorf("%s, %q: a message %q", c.name, v.Text, body)
		}
	}
	if len(bodies) != 3 {
		t.Errorf("%s, %q: %d messages", c.name, v.Text, len(bodies))
	}
}

func (b *carrier) refused(t *testing.T, i int, c carried, v value.Value) {
	t.Helper()
	for _, way := range []string{"t", "p"} {
		_, err := b.call(t, fmt.Sprintf("%s%d", way, i), procedure.Arg{Value: v})
		e, ok := errors.AsType[*procedure.Error](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Message, v.Text+", which MariaDB has no "+v.Type.Name+" for") {
			t.Errorf("%s %q: %v", c.name, v.Text, err)
		}
	}
	b.take(t)
}

// take returns the messages that were delivered, and takes them away.
func (b *carrier) take(t *testing.T) (bodies []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.outbox, "new", "*"))
	for _, file := range files {
		body, rerr := os.ReadFile(file)
		bodies = append(bodies, string(body))
		err = errors.Join(err, rerr, os.Remove(file))
	}
	if err != nil {
		t.Fatal(err)
	}
	return bodies
}
