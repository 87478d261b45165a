package value

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestModify compares casts to types with lengths, precisions and scales with PostgreSQL's.
func TestModify(t *testing.T) {
	pg := oracle(t)
	r := rand.New(rand.NewPCG(*seed, 0))
	for range *literals {
		p := 1 + r.IntN(8)
		mods := [][]int{{p}, {p, r.IntN(8)}, {p, -r.IntN(6)}, {1 + r.IntN(30), r.IntN(20)}}[r.IntN(4)]
		text := fmt.Sprintf("%d.%d", r.IntN(1000000), r.IntN(1000000))
		for range r.IntN(4) {
			at := r.IntN(len(text))
			text = text[:at] + []string{"9", "0", "5", "9999", "49"}[r.IntN(5)] + text[at:]
		}
		modified(t, pg, Numeric, []string{"", "-"}[r.IntN(2)]+text, mods)
	}
	for _, c := range []struct {
		typ  *Type
		text []string
		mods [][]int
	}{
		{Numeric, []string{"0", "-0.04", "NaN", "Infinity", "-Infinity", "999.5", "0.0009", "1e20", "55.5", "5"},
			[][]int{{1}, {3}, {3, 1}, {2, 4}, {2, -1}, {1000}, {1000, 1000}, {1000, -1000}, {0}, {1001}, {1, 1001}, {1, -1001}, {1, 2, 3}}},
		{Varchar, []string{"", "abc", "äöü", "a😀c"}, [][]int{{1}, {2}, {3}, {10485760}, {0}, {10485761}, {-1}}},
		{Bpchar, []string{"", "abc", "äöü", "a😀c"}, [][]int{{1}, {2}, {5}, {0}, {10485761}}},
		{Time, []string{"00:00:00.5", "23:59:59.999999", "12:34:56.1234565"}, [][]int{{0}, {1}, {3}, {6}, {3, 1}}},
		{Timestamp, []string{"2026-01-01 00:00:00.5", "1999-12-31 23:59:59.5", "1999-12-31 23:59:59.499999", "infinity"}, [][]int{{0}, {1}, {3}, {6}}},
		{Timestamptz, []string{"2026-01-01 00:00:00.5", "1999-12-31 23:59:59.5", "-infinity", "1970-01-01 00:00:00.0000005"}, [][]int{{0}, {5}, {6}}},
		{Numeric.Array, []string{"{}", "{1.25,NULL}", "[0:1]={1.25,3}", "{{1.25},{99}}"}, [][]int{{3, 1}, {0}}},
		{Varchar.Array, []string{`{"a b","",NULL}`}, [][]int{{1}, {2}}},
	} {
		for _, text := range c.text {
			for _, mods := range c.mods {
				modified(t, pg, c.typ, text, mods)
			}
		}
	}
	for _, typ := range []*Type{Text, Int4, JSON, Bool.Array} {
		if _, err := typ.Modify([]int{3}); err == nil {
			t.Errorf("%s(3)", typ)
		}
	}
	if _, err := Varchar.Modify([]int{1, 2}); err == nil {
		t.Error("varchar(1,2)")
	}
	f, err := Timestamp.Modify([]int{0})
	must(t, err)
	if _, err := f(Value{Type: Timestamp, Text: "294276-12-31 23:59:59.7"}); err == nil { // PostgreSQL prints what it does not read
		t.Error("a timestamp beyond the last one")
	}
	for _, typ := range []*Type{Numeric, Numeric.Array} {
		f, err := typ.Modify([]int{3})
		must(t, err)
		if v, err := f(typ.Null()); err != nil || !v.Null {
			t.Errorf("null of %s: %v, %v", typ, v, err)
		}
	}
}

func modified(t *testing.T, pg *pgconn.PgConn, typ *Type, text string, mods []int) {
	t.Helper()
	name := map[*Type]string{Numeric: "numeric", Varchar: "varchar", Bpchar: "char", Time: "time", Timestamp: "timestamp", Timestamptz: "timestamptz"}[typ]
	if typ.Elem != nil {
		name = typ.Elem.Name
	}
	name += "("
	for i, n := range mods {
		name += []string{"", ","}[min(i, 1)] + fmt.Sprint(n)
	}
	name += ")"
	if typ.Elem != nil {
		name += "[]"
	}
	r := pg.ExecParams(t.Context(), "SELECT $1::"+name, [][]byte{[]byte(text)}, []uint32{typ.OID}, nil, nil).Read()
	want, code := "", ""
	if e, ok := errors.AsType[*pgconn.PgError](r.Err); ok {
		code = e.Code
	} else {
		must(t, r.Err)
		want = string(r.Rows[0][0])
	}
	v, err := typ.Parse(text)
	must(t, err)
	f, err := typ.Modify(mods)
	if err == nil {
		v, err = f(v)
	}
	got := ""
	if e, ok := errors.AsType[*Error](err); ok {
		got = e.Code
	}
	if got != code || err == nil && v.Text != want {
		t.Errorf("%q::%s: %q %v, PostgreSQL %q %s", text, name, v.Text, err, want, code)
	}
}
