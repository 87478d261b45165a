package value

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestCompare orders all pairs of values as PostgreSQL does; the keys of equal ones are equal.
func TestCompare(t *testing.T) {
	pg := oracle(t)
	for typ, list := range map[*Type][]string{
		Float4:      {"NaN", "-0", "0", "1.5", "Infinity", "-1"},
		Float8:      {"NaN", "-Infinity", "-0", "0", "1e300"},
		Numeric:     {"NaN", "Infinity", "-Infinity", "0", "1.50", "1.5", "2.00", "2", "-1.5", "-1.25", "-12", "12", "99", "100", "0.05"},
		Bpchar:      {"a ", "a", "b"},
		Interval:    {"30 days", "1 mon", "1 day", "24:00:00", "-1 day", "00:00:00.000001"},
		Int2Vector:  {"1 2", "1 3", "", "1", "2"},
		OIDVector:   {"1 2", "1 3", "4294967295 0"},
		Int4.Array:  {"{}", "{1}", "{1,NULL}", "{NULL,1}", "{NULL,2}", "{1,2}", "{2}", "{NULL}", "[0:0]={1}", "{1,2,3,4}", "{{1,2},{3,4}}", "{{1},{2},{3},{4}}"},
		Timestamptz: {"2026-01-01 00:00:00+00", "infinity", "-infinity"},
	} {
		name := strings.Replace(typ.Name, "character", "bpchar", btoi(typ == Bpchar))
		for _, x := range list {
			for _, y := range list {
				a, err := typ.Parse(x)
				must(t, err)
				b, err := typ.Parse(y)
				must(t, err)
				r := pg.ExecParams(t.Context(), "SELECT CASE WHEN a < b THEN -1 WHEN a > b THEN 1 WHEN a = b THEN 0 END FROM (SELECT $1::"+name+" a, $2::"+name+" b) s",
					[][]byte{[]byte(x), []byte(y)}, []uint32{25, 25}, nil, nil).Read()
				must(t, r.Err)
				got := Compare(a, b)
				if fmt.Sprint(got) != string(r.Rows[0][0]) {
					t.Errorf("%s %q and %q: %d, PostgreSQL %s", typ, x, y, got, r.Rows[0][0])
				}
				if same := a.Key() == b.Key(); same != (got == 0) {
					t.Errorf("%s %q and %q: the keys %q and %q", typ, x, y, a.Key(), b.Key())
				}
			}
		}
	}
}

// TestElements is a table of what values are made of: those that are no array, or null, of nothing.
func TestElements(t *testing.T) {
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Value{Type: Int2Vector, Text: "5 7"}, "[{smallint false 5} {smallint false 7}] [2] [0]"},
		{Value{Type: OIDVector}, "[] [] []"},
		{OIDVector.Null(), "[] [] []"},
		{Int4.Null(), "[] [] []"},
		{Value{Type: Text, Text: "x"}, "[] [] []"},
		{Value{Type: Text.Array, Text: "[2:3]={x,NULL}"}, "[{text false x} {text true }] [2] [2]"},
		{Value{Type: Text.Array, Text: "{{x}}"}, "[{text false x}] [1 1] [1 1]"},
	} {
		lengths, lower := c.v.Dimensions()
		list := []string{}
		for _, e := range c.v.Elements() {
			list = append(list, fmt.Sprintf("{%s %t %s}", e.Type, e.Null, e.Text))
		}
		if got := fmt.Sprint(list, lengths, lower); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.v.Type, c.v.Text, got, c.want)
		}
	}
}

// systemTexts are what those types of the catalogue that have rules of their own are fed, good and bad.
var systemTexts = map[*Type][]string{
	Char: {"", "a", "ab"},
	Inet: {"10.0.0.1", "10.0.0.0/8", "10.0.0.1/32", "::1", "fe80::/10", "x", "10.0.0.1/33", "::ffff:10.0.0.1"},
	Interval: {"1", "1.5", "1:02", "-1:02:03.5", "1 day", "1day 2hours", "-1 mons +1 day", "-1 day 1:00", "@ 1 year ago", "1-2", "-1-2", "1 2:03", "1.5 weeks", "1.5 mons", "0.01 years", "P1Y2M3W4DT5H6M7.5S", "PT1H",
		"-1 year 1 mon", "-00:00:01", "", "ago", "x", "1 foo", "1:2:3:4", "1:60", "1:02:x", "1:02:61", "1-12", "1-x", "1_0", "99999999999999999 years", "2147483647 years", "2147483647:00 2147483647:00",
		"P", "P1X", "P1.2.3Y", "P99999999999Y"},
}

// TestSystem compares them with PostgreSQL, as TestOracle does; of what both refuse fdt has fewer kinds.
func TestSystem(t *testing.T) {
	pg := oracle(t)
	for typ, list := range systemTexts {
		for _, in := range list {
			want, code := ask(t, pg, typ, in, 0)
			v, err := typ.Parse(in)
			if e, ok := errors.AsType[*Error](err); ok != (code != "") || ok && e.Code[:2] != code[:2] {
				t.Errorf("%s %q: %q, %v; PostgreSQL %s %q", typ, in, v.Text, err, code, want)
			}
			if err != nil || code != "" {
				continue
			}
			wantBinary, _ := ask(t, pg, typ, in, 1)
			got := v.Append(nil, true)
			if v.Text != string(want) || !bytes.Equal(got, wantBinary) {
				t.Errorf("%s %q: %q % x; PostgreSQL %q % x", typ, in, v.Text, got, want, wantBinary)
			}
			if back, err := typ.Decode(got); err != nil || back != v {
				t.Errorf("%s %q: read back %q, %v", typ, in, back.Text, err)
			}
		}
	}
}

// TestShift compares sums of timestamps and intervals with PostgreSQL.
func TestShift(t *testing.T) {
	pg := oracle(t)
	const name = "America/New_York"
	loc, _, err := Zone(name)
	must(t, err)
	must(t, pg.Exec(t.Context(), "SET TimeZone = '"+name+"'").Close())
	for _, typ := range []*Type{Timestamp, Timestamptz} {
		for _, at := range []string{"2026-01-31 12:00:00", "2026-03-07 02:30:00", "294276-12-31 00:00:00", "4714-12-01 00:00:00 BC", "infinity", "-infinity"} {
			for _, by := range []string{"1 mon", "1 day", "-1 mon", "24:00:00", "-00:00:00.000001", "1 year -1 day", "300000 years", "-10000 years", "40000000 days", "-40000000 days", "2000000000:00:00", "-2000000000:00:00"} {
				r := pg.ExecParams(t.Context(), "SELECT $1::"+typ.Name+" + $2::interval", [][]byte{[]byte(at), []byte(by)}, []uint32{25, 25}, nil, nil).Read()
				e, _ := errors.AsType[*pgconn.PgError](r.Err)
				v, err := typ.ParseIn(loc, at)
				must(t, err)
				span, err := Interval.Parse(by)
				must(t, err)
				switch sum, err := v.Shift(loc, SpanOf(span)); {
				case e != nil:
					if mine, ok := errors.AsType[*Error](err); !ok || mine.Code != e.Code {
						t.Errorf("%s %s + %s: %q, %v; PostgreSQL %v", typ, at, by, sum.Text, err, e)
					}
				case err != nil || string(sum.AppendIn(loc, nil, false)) != string(r.Rows[0][0]):
					t.Errorf("%s %s + %s: %q, %v; PostgreSQL %s", typ, at, by, sum.AppendIn(loc, nil, false), err, r.Rows[0][0])
				}
			}
		}
	}
}
