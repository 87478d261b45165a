package value

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/testdb"
)

var database struct {
	sync.Once
	pg  *testdb.Postgres
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if database.pg != nil {
		if err := database.pg.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func oracle(t *testing.T) *pgconn.PgConn {
	t.Helper()
	database.Do(func() { database.pg, database.err = testdb.StartPostgres("timezone=UTC") })
	if database.err != nil {
		t.Fatal(database.err)
	}
	c, err := pgx.Connect(t.Context(), database.pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c.PgConn()
}

// texts are what the types are fed, good and bad.
var texts = map[*Type][]string{
	Bool:    {"t", "TRUE", "tr", " yes ", "y", "on", "1", "f", "FALSE", "fal", "no", "of", "off", "0", "o", "2", "", "tru e"},
	Bytea:   {`\x`, `\xDEadbeef`, `\xde ad`, `\xd`, `\xzz`, "abc", `a\\b`, `\001\377`, `\400`, `\1`, `a\`, "ä"},
	Name:    {"x", strings.Repeat("ä", 40), ""},
	Int2:    {"0", " -32768 ", "32767", "+5", "32768", "x", "", "1.5", "0x10", "1_0"},
	Int4:    {"-2147483648", "2147483647", "2147483648", "007"},
	Int8:    {"-9223372036854775808", "9223372036854775807", "9223372036854775808", "- 5"},
	Text:    {"", "x", "ä€😀"},
	Varchar: {"x y"},
	OID:     {"0", "4294967295", "4294967296", "x"},
	XID8:    {"0", "18446744073709551615"},
	JSON:    {`{"a": [1, 2]}`, ` 1 `, `{`, ``},
	Float4:  {"0", "-0", "1", "1.5", "1e5", "1e6", "123456", "1234567", "0.0001", "0.00001", "3.4e38", "1e39", "NaN", "inf", "-Infinity", "x", "1e-50"},
	Float8: {"0", "1e14", "1e15", "123456789012345", "0.1", "1e-4", "1e-5", "1.7976931348623157e308", "1e309", "nan", "Infinity", "-inf",
		"1e-400", "0e-400", "", "1_0", " 5 "},
	Date: {"2020-02-29", "2021-02-29", "0001-01-01", "9999-12-31", "1999-12-31", "2000-01-01", "infinity", "-infinity", "epoch", "2020-1-2", "x", "2020-13-01",
		"2020-02-03 04:05:06", "1600-02-29"},
	Time: {"00:00", "23:59:59.999999", "24:00:00", "24:00:01", "12:34:56.7", "25:00", "12", "x", "12:60:00", "12:00:60", "12:00:x"},
	Timestamp: {"2020-02-29 12:34:56.789", "2020-02-29T12:34:56Z", "2020-02-29 12:34+02", "2020-02-29", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "infinity",
		"-infinity", "epoch", "x", "2020-02-30 00:00", "2020-02-29 25:00", "2020-02-29 12:34:56.1234567", " 2020-02-29 00:00:00 "},
	Timestamptz: {"2020-02-29 12:34:56.789+00", "2020-02-29T12:34:56Z", "2020-02-29 12:34:56-03:30", "2020-02-29 12:34:56 UTC", "2020-02-29 12:34+5", "2020-02-29 12:34+0530",
		"2020-02-29 12:34:56+01:02:03", "2020-02-29", "infinity", "-infinity", "epoch", "x", "2020-02-29 12:34+99", "2020-02-29 12:34+x", "2020-02-29 12:34+1:70"},
	Numeric: {"0", "-0", "0.00", "1", "-1.50", "007", ".5", "5.", "1e3", "1.5e-3", "12345678901234567890.123456789", "10000", "0.0001", "100000000", "0.00010000",
		"NaN", "Infinity", "-inf", "+inf", "1e200000", "", ".", "x", "1e", "1e5x", "--1", "+5", " 6 ", "1_0", "123e-2", "9999.9999", "0e5", "0.0000000001", strings.Repeat("9", 131073)},
	UUID: {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "a0eebc99", "", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1x", "-a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11-"},
	Int4.Array: {"{}", "{1,2,3}", " { 1 , NULL , 3 } ", "{{1,2},{3,4}}", "{{1,2},{3}}", "{1,{2}}", "{{1,2},{{3}}}", "{{1}x}", "{{1},2}", "{", "{1", "{1,}", "{,1}", "}", "1", "{1}x", "{x}", "{{{{{{1}}}}}}",
		"{{{{{{{1}}}}}}}", `{"1"}`},
	Text.Array:        {`{a,"b c","d\"e",NULL,"NULL",""}`, `{a\,b}`, `{ a b }`, `{"a}`, `{a"b}`, `{a\`, `{a\ }`, `{\n}`, `{"a\`, `{"{","}"}`, "{ä}", `{a{b}`, `{null}`, `{\null}`},
	Bool.Array:        {"{t,f,yes}"},
	Bytea.Array:       {`{"\\xff"}`},
	UUID.Array:        {"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"},
	Numeric.Array:     {"{1.50,NaN}"},
	Timestamptz.Array: {`{"2020-01-01 00:00:00+00"}`},
}

// TestOracle compares parsing and both formats with PostgreSQL's.
func TestOracle(t *testing.T) {
	pg := oracle(t)
	for typ, list := range texts {
		for _, in := range list {
			want, code := ask(t, pg, typ, in, 0)
			v, err := typ.Parse(in)
			if e, ok := errors.AsType[*Error](err); err != nil {
				if !ok || e.Code != code {
					t.Errorf("%s %q: %v, PostgreSQL %s %q", typ, in, err, code, want)
				}
				continue
			}
			if v.Text != string(want) || code != "" {
				t.Errorf("%s %q: %q, PostgreSQL %s %q", typ, in, v.Text, code, want)
				continue
			}
			wantBinary, _ := ask(t, pg, typ, in, 1)
			got := v.Append(nil, true)
			if !bytes.Equal(got, wantBinary) {
				t.Errorf("%s %q: % x, PostgreSQL % x", typ, in, got, wantBinary)
				continue
			}
			back, err := typ.Decode(got)
			if err != nil || back.Text != v.Text {
				t.Errorf("%s %q: read back %q, %v", typ, in, back.Text, err)
			}
		}
	}
}

func ask(t *testing.T, pg *pgconn.PgConn, typ *Type, in string, format int16) ([]byte, string) {
	t.Helper()
	r := pg.ExecParams(t.Context(), "SELECT $1::"+typ.Name, [][]byte{[]byte(in)}, []uint32{25}, nil, []int16{format}).Read()
	if e, ok := errors.AsType[*pgconn.PgError](r.Err); ok {
		return []byte(e.Message), e.Code
	}
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r.Rows[0][0], ""
}

// TestCatalog compares the types' numbers, names and sizes with pg_type, and
// the implicit casts with what PostgreSQL does.
func TestCatalog(t *testing.T) {
	pg := oracle(t)
	for oid, typ := range known {
		r := pg.ExecParams(t.Context(), "SELECT format_type(oid, NULL), typlen, coalesce(nullif(typelem, 0), 0) FROM pg_type WHERE oid = $1",
			[][]byte{fmt.Append(nil, oid)}, nil, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != 1 {
			t.Fatalf("%s: %v, %d rows", typ, r.Err, len(r.Rows))
		}
		if name, size := string(r.Rows[0][0]), string(r.Rows[0][1]); name != typ.Name || size != fmt.Sprint(typ.Size) {
			t.Errorf("%d: %s %d, PostgreSQL %s %s", oid, typ.Name, typ.Size, name, size)
		}
		if found, ok := ByOID(oid); !ok || found != typ {
			t.Errorf("%d is not found", oid)
		}
	}
	for name, typ := range spelled {
		if strings.Contains(name, "unknown") || strings.Contains(name, "void") {
			continue
		}
		r := pg.ExecParams(t.Context(), "SELECT (NULL::"+name+") IS NULL, pg_typeof(NULL::"+name+")", nil, nil, nil, nil).Read()
		if r.Err != nil || string(r.Rows[0][1]) != typ.Name {
			t.Errorf("%s: %v", name, r.Err)
		}
		if found, ok := Lookup(name); !ok || found != typ || found.String() != typ.Name {
			t.Errorf("%s is not found", name)
		}
	}
	scalars := []*Type{Bool, Bytea, Name, Int8, Int2, Int4, Text, JSON, Float4, Float8, Varchar, Date, Time, Timestamp, Timestamptz, Numeric, UUID, JSONB}
	for _, from := range scalars {
		for _, to := range scalars {
			r := pg.ExecParams(t.Context(), `SELECT $1::oid = $2::oid OR EXISTS (SELECT FROM pg_cast WHERE castsource = $1 AND casttarget = $2 AND castcontext = 'i')`,
				[][]byte{fmt.Append(nil, from.OID), fmt.Append(nil, to.OID)}, nil, nil, nil).Read()
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			if want := string(r.Rows[0][0]) == "t"; Implicit(from, to) != want {
				t.Errorf("%s to %s: PostgreSQL %v", from, to, want)
			}
		}
	}
	if !Implicit(Unknown, Int8) {
		t.Error("a plain constant fits nothing")
	}
}

func TestAs(t *testing.T) {
	parse := func(typ *Type, s string) Value {
		v, err := typ.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		v    Value
		to   *Type
		want string
	}{
		{Int8.Null(), Text, "null"},
		{parse(Int2, "5"), Int2, "5"},
		{parse(Int2, "5"), Numeric, "5"},
		{parse(Bool, "yes"), Int4, "1"},
		{parse(Bool, "no"), Text, "false"},
		{parse(Numeric, "2.5"), Int4, "3"},
		{parse(Numeric, "-2.5"), Int8, "-3"},
		{parse(Float8, "1e3"), Int2, "1000"},
		{parse(Float8, "NaN"), Int2, "error 22003"},
		{parse(Numeric, "1e10"), Int4, "error 22003"},
		{parse(Numeric, strings.Repeat("9", 500)), Int4, "error 22003"},
		{parse(Timestamp, "2020-02-03 04:05"), Date, "2020-02-03"},
		{parse(Date, "2020-02-03"), Timestamptz, "2020-02-03 00:00:00+00"},
		{Value{Type: Unknown, Text: "x"}, Int4, "error 22P02"},
		{Value{Type: Unknown, Text: "7"}, Int4, "7"},
		{parse(Text, "{1,2}"), Int4.Array, "{1,2}"},
		{parse(Int2Vector, "1 2"), Int4.Array, "[0:1]={1,2}"},
		{Value{Type: Numeric, Text: "x"}, Int4, "error 22003"},
	} {
		got := "null"
		v, err := c.v.As(c.to)
		switch e, ok := errors.AsType[*Error](err); {
		case ok:
			got = "error " + e.Code
		case !v.Null:
			got = v.Text
		}
		if got != c.want || err == nil && v.Type != c.to {
			t.Errorf("%s %q as %s: %s, want %s", c.v.Type, c.v.Text, c.to, got, c.want)
		}
	}
}

// TestDecodeBad is a table of bytes that are no value.
func TestDecodeBad(t *testing.T) {
	for typ, list := range map[*Type][]string{
		Int4:        {"", "\x00\x00\x00", "\x00\x00\x00\x00\x00"},
		Text:        {"a\x00", "\xff"},
		Char:        {"\xff"},
		PgLSN:       {"\x00\x00\x00\x00\x00\x00\x00\x01"},
		Inet:        {"", "\x02\x20\x00\x04\x7f\x00\x00", "\x02\x08\x00\x01\x7f", "\x02\x21\x00\x04\x7f\x00\x00\x01", "\x03\x20\x00\x04\x7f\x00\x00\x01"},
		Interval:    {"\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		JSON:        {"{"},
		JSONB:       {"", "\x02{}", "\x01{"},
		Numeric:     {"", "\x00\x01\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x12\x34\x00\x00", "\x00\x00\x00\x00\x00\x00\x40\x00", "\x00\x01\x00\x00\x00\x00\x00\x00\x27\x10", "\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		Date:        {"\x7f\xff\xff\xf0"},
		Time:        {"\x7f\xff\xff\xff\xff\xff\xff\xff"},
		Timestamp:   {"\x7f\xff\xff\xff\xff\xff\xff\xfe", "\x80\x00\x00\x00\x00\x00\x00\x01"},
		Timestamptz: {"\x7f\xff\xff\xff\xff\xff\xff\xfe"},
		Int4.Array: {"", "\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x17", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14",
			"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00", "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x7f\xff\xff\xff\x00\x00\x00\x01",
			"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00",
			"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x00",
			"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00",
			"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	} {
		for _, s := range list {
			if v, err := typ.Decode([]byte(s)); err == nil {
				t.Errorf("%s % x: %q", typ, s, v.Text)
			} else if e, ok := errors.AsType[*Error](err); !ok || len(e.Code) != 5 || e.Error() == "" {
				t.Errorf("%s % x: %v", typ, s, err)
			}
		}
	}
	if _, err := Numeric.Parse("1e-401"); err == nil {
		t.Error("a numeric far longer than its text")
	}
	if _, err := JSON.Parse("1\x00"); err == nil {
		t.Error("a NUL in json")
	}
	if v, err := JSONB.Parse("{}"); err != nil || string(v.Append(nil, true)) != "\x01{}" {
		t.Error(v, err)
	}
	if v, err := Void.Decode(make([]byte, 4)); err != nil || v.Text != "" || len(v.Append(nil, true)) != 0 {
		t.Error(v, err)
	}
	if v, err := Void.Parse("x"); err != nil || string(v.Append([]byte("a"), false)) != "a" {
		t.Error(v, err)
	}
}

// TestLongName shows that a name too long is cut as text and refused in binary, as PostgreSQL does both.
func TestLongName(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	if v, err := Name.Parse(long); err != nil || v.Text != long[:maxName] {
		t.Error(v, err)
	}
	_, err := Name.Decode([]byte(long))
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "42622" {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for typ, list := range texts {
		for _, s := range list {
			f.Add(typ.OID, s)
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, s string) {
		typ, ok := ByOID(oid)
		if !ok {
			return
		}
		v, err := typ.Parse(s)
		if err != nil {
			return
		}
		again, err := typ.Parse(v.Text)
		if err != nil || again != v {
			t.Fatalf("%s %q: %q is not canonical: %q, %v", typ, s, v.Text, again.Text, err)
		}
		if typ == Void {
			return
		}
		back, err := typ.Decode(v.Append(nil, true))
		if strings.Contains(strings.ReplaceAll(v.Text, ".", ""), strings.Repeat("0", maxPadding)) && errors.As(err, new(*Error)) {
			return // numeric's binary format leaves these zeros out, and Decode bounds how many it puts back
		}
		if err != nil || back != v {
			t.Fatalf("%s %q: %q, read back %q, %v", typ, s, v.Text, back.Text, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for typ, list := range texts {
		for _, s := range list {
			if v, err := typ.Parse(s); err == nil {
				f.Add(typ.OID, v.Append(nil, true))
			}
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, b []byte) {
		typ, ok := ByOID(oid)
		if !ok {
			return
		}
		v, err := typ.Decode(b)
		if err != nil {
			return
		}
		if again, err := typ.Parse(v.Text); err != nil || again != v {
			t.Fatalf("%s % x: %q is not canonical: %q, %v", typ, b, v.Text, again.Text, err)
		}
	})
}

// TestArrayLimit shows that few bytes cannot become gigabytes.
func TestArrayLimit(t *testing.T) {
	const n = maxArray/401 + 1
	if _, err := Numeric.Array.Parse("{1e400" + strings.Repeat(",1e400", n) + "}"); err == nil {
		t.Error("text without limit")
	}
	if _, err := Numeric.Decode([]byte("\x00\x01\xff\x00\x00\x00\x00\x00\x00\x01")); err == nil {
		t.Error("a numeric far longer than its bytes")
	}
	wide, err := Float8.Array.Parse("{1e300" + strings.Repeat(",1e300", maxArray/301) + "}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wide.As(Numeric.Array); err == nil {
		t.Error("a cast without limit")
	}
	var b []byte
	for _, v := range []uint32{1, 0, Numeric.OID, n, 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = append(b, bytes.Repeat([]byte("\x00\x00\x00\x0a\x00\x01\x00\x64\x00\x00\x00\x00\x00\x01"), n)...)
	if _, err := Numeric.Array.Decode(b); err == nil {
		t.Error("binary without limit")
	}
}
