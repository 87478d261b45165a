package value

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestCasts casts values of every type to every other, in a zone, and compares those that PostgreSQL has casts for.
func TestCasts(t *testing.T) {
	pg := oracle(t)
	const name = "America/New_York"
	loc, _, err := Zone(name)
	must(t, err)
	must(t, pg.Exec(t.Context(), "SET TimeZone = '"+name+"'").Close())
	from := map[*Type][]string{
		Bool: {"t", "f"}, Int2: {"0", "-7"}, Int4: {"0", "1", "40000"}, Int8: {"5", "9223372036854775807"}, Numeric: {"1.5", "-2.5", "0.4", "NaN", "1e10", "Infinity", "99999999999999999999", "-9.99", "0.999e-5"},
		Float4: {"1.5", "2.5", "0.1", "16777216", "1e10", "Infinity", "NaN"}, Float8: {"0.1", "1e300", "-0", "-2.5", "3.5", "1e-300", "0.12345678901234567", "1e15", "-Infinity", "NaN", "9.3e18"}, Text: {"x", "5", "t", "2026-07-01 12:00"}, Varchar: {"7"}, Bpchar: {"a  ", "12 "}, Name: {"n"},
		Date: {"2026-07-01", "infinity", "0044-03-15 BC"}, Timestamp: {"2026-07-01 02:00:00", "-infinity", "0044-03-15 23:00:00 BC"},
		Timestamptz: {"2026-07-01 02:00:00+00", "infinity", "0044-03-15 02:00:00+00 BC"}, UUID: {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, JSON: {`{"a":1,"a":2}`}, JSONB: {`{"a": 2}`, `[1]`, `"x"`, `null`, `true`, `2.5`},
		Int4.Array: {"{}", "{1,NULL}", "[0:0]={5}", "{70000}"}, Timestamptz.Array: {`{"2026-07-01 02:00:00+00",NULL}`}, Text.Array: {"{1,2}", "{x}"},
	}
	to := []*Type{Bool, Int2, Int4, Int8, Numeric, Float4, Float8, Text, Varchar, Date, Time, Timestamp, Timestamptz, JSON, JSONB, Int2.Array, Text.Array, Timestamp.Array}
	for src, list := range from {
		for _, text := range list {
			for _, dst := range to {
				if src == Text && dst == Time {
					continue // fdt takes no date in front of a time
				}
				v, err := src.Parse(text)
				must(t, err)
				r := pg.ExecParams(t.Context(), "SELECT $1::"+strings.Replace(src.Name, "character", "bpchar", btoi(src == Bpchar))+"::"+dst.Name, [][]byte{[]byte(v.Text)}, []uint32{src.OID}, nil, nil).Read()
				e, failed := errors.AsType[*pgconn.PgError](r.Err)
				if failed && (e.Code == "42846" || src == Text && dst.Elem != nil) {
					continue // there is no such cast, and none is planned
				}
				got, err := v.AsIn(loc, dst)
				mine, refused := errors.AsType[*Error](err)
				if failed != refused || refused && mine.Code != e.Code && !alike(mine.Code, e.Code, true) {
					t.Errorf("%s %q as %s: %q, %v; PostgreSQL %v", src, text, dst, got.Text, err, r.Err)
				} else if !failed && got.Null != (r.Rows[0][0] == nil) {
					t.Errorf("%s %q as %s: null or not", src, text, dst)
				} else if !failed && !got.Null && string(got.AppendIn(loc, nil, false)) != string(r.Rows[0][0]) {
					t.Errorf("%s %q as %s: %q; PostgreSQL %q", src, text, dst, got.Text, r.Rows[0][0])
				}
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestMakeArray(t *testing.T) {
	parse := func(typ *Type, s string) Value {
		v, err := typ.Parse(s)
		must(t, err)
		return v
	}
	loc, _, err := Zone("Asia/Kathmandu")
	must(t, err)
	for _, c := range []struct {
		typ  *Type
		list []Value
		want string
	}{
		{Int4.Array, nil, "{}"},
		{Int4.Array, []Value{parse(Int2, "1"), Int4.Null()}, "{1,NULL}"},
		{Text.Array, []Value{parse(Text, `a"b,c`), parse(Int4, "7")}, `{"a\"b,c",7}`},
		{Int8.Array, []Value{parse(Int4.Array, "{1,2}"), parse(Int4.Array, "{3,4}")}, "{{1,2},{3,4}}"},
		{Int8.Array, []Value{parse(Int4.Array, "{1,2}"), parse(Int4.Array, "{3}")}, "2202E"},
		{Int2.Array, []Value{parse(Int4, "70000")}, "22003"},
		{Timestamptz.Array, []Value{parse(Timestamp, "2026-01-01 05:45:00")}, `{"2026-01-01 00:00:00+00"}`},
	} {
		v, err := c.typ.MakeArray(loc, c.list)
		got := v.Text
		if e, ok := errors.AsType[*Error](err); ok {
			got = e.Code
		}
		if got != c.want {
			t.Errorf("%s of %v: %s (%v), want %s", c.typ, c.list, got, err, c.want)
		}
	}
}

// What takes more room or depth than is given is refused, and says so.
func TestBounds(t *testing.T) {
	deep := func(n int, open, inner, closing string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
	}
	many := strings.Repeat("1e400,", maxArray/400)
	for _, c := range []struct {
		typ        *Type
		text, code string
	}{
		{JSONB, deep(maxNesting, "[", "1", "]"), ""},
		{JSONB, deep(maxNesting+1, "[", "1", "]"), "54001"},
		{JSONB, deep(maxNesting+1, `{"a":`, "1", "}"), "54001"},
		{JSONB, "[" + many + many + "1]", "54000"},
		{JSONB, `{"a":1e401}`, "22003"},
		{JSONB, `{"\ud800":1}`, "22P02"},
		{JSON, deep(maxNesting+1, "[", "1", "]"), ""},
		{Int4.Array, "[1:1][1:1][1:1][1:1][1:1][1:1][1:1]={}", "54000"},
		{Float8, "+NaN", ""},
		{Float8.Array, "{-nan}", ""},
	} {
		_, err := c.typ.Parse(c.text)
		e, _ := errors.AsType[*Error](err)
		if code := ""; err != nil && e.Code != c.code || err == nil && c.code != code {
			t.Errorf("%s %.40s…: %v, want %q", c.typ, c.text, err, c.code)
		}
	}
	f, err := Numeric.Array.Modify([]int{2})
	must(t, err)
	if _, err := f(Value{Type: Numeric.Array, Text: "{100}"}); err == nil {
		t.Error("an element that overflows")
	}
	if !Implicit(Int4.Array, Int8.Array) || Implicit(Int8.Array, Int4.Array) {
		t.Error("casts of arrays")
	}
	if _, _, err := Zone("zone.tab"); err == nil || !slices.Contains([]string{"zone.tab", ""}, zoneNames()["zone.tab"]) {
		t.Errorf("a table for a zone: %v", err)
	}
}

// TestExplicit compares which casts there are with PostgreSQL, for every pair of types.
func TestExplicit(t *testing.T) {
	pg := oracle(t)
	for _, a := range sortedOIDs() {
		for _, b := range sortedOIDs() {
			from, to := known[a], known[b]
			if from == Unknown || to == Unknown || from == Void || to == Void || from == AnyArray || to == AnyArray { // pseudo-types
				continue
			}
			r := pg.ExecParams(t.Context(), "SELECT NULL::"+from.Name+"::"+to.Name, nil, nil, nil, nil).Read()
			e, failed := errors.AsType[*pgconn.PgError](r.Err)
			if Explicit(from, to) == failed || failed && e.Code != "42846" {
				t.Errorf("%s to %s: PostgreSQL %v", from, to, r.Err)
			}
		}
	}
}
