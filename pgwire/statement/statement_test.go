package statement

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// dump prints statements so that a reader of the golden file sees all of them.
func dump(list []Statement, err error) string {
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return "not an *Error: " + err.Error()
		}
		return fmt.Sprintf("error %s at %d: %s", e.Code, e.Position, e.Message)
	}
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString("\n   ")
		}
		text, err := json.Marshal(named(reflect.ValueOf(s)))
		if err != nil {
			return err.Error()
		}
		b.Write(text)
	}
	if len(list) == 0 {
		return "nothing"
	}
	return b.String()
}

// named adds the names of types to a value of this package, and leaves out
// zero fields.
func named(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return named(v.Elem())
	case reflect.Struct:
		m := map[string]any{"": v.Type().Name()}
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				m[v.Type().Field(i).Name] = named(v.Field(i))
			}
		}
		return m
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, named(v.Index(i)))
		}
		return list
	}
	return v.Interface()
}

// TestParse compares every statement of the golden file. Each case is a line
// of quoted Go, then what it means.
func TestParse(t *testing.T) {
	const name = "testdata/statements.golden"
	cases, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(cases)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			b.WriteString(line + "\n")
			continue
		}
		text := strings.NewReplacer(`\n`, "\n", `\z`, "\x00", `\y`, "\xff").Replace(line)
		fmt.Fprintf(&b, "%s\n   %s\n", line, dump(Parse(text)))
	}
	testgolden.Compare(t, name, b.String())
}

// TestDepth shows that foreign text cannot grow the stack.
func TestDepth(t *testing.T) {
	for _, text := range []string{
		"CALL f(" + strings.Repeat("(", 1e6),
		"CALL f(1" + strings.Repeat("::int", 1e5) + ")",
		"SELECT " + strings.Repeat("CAST(", 1e5),
		"SELECT " + strings.Repeat("f(", 1e5),
		"SELECT " + strings.Repeat("NOT ", 1e5) + "true",
		"SELECT " + strings.Repeat("- ", 1e5) + "1",
		"SELECT " + strings.Repeat("OPERATOR(-) ", 1e5) + "1",
		"SELECT * FROM " + strings.Repeat("(", 1e5),
		"(SELECT * FROM " + strings.Repeat("(a JOIN ", 1e5), // the table, not its parenthesis, is too deep
		"SELECT * FROM " + strings.Repeat("a JOIN ", 1e5),
		"SELECT * FROM a" + strings.Repeat(" CROSS JOIN a", 1e5),
	} {
		_, err := Parse(text)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != codeTooComplex {
			t.Errorf("%.20s…: %.100v", text, err)
		}
	}
}

// TestColumns shows that a list of names is bounded as a query's columns are.
func TestColumns(t *testing.T) {
	names := func(n int) string { return "WITH a(b" + strings.Repeat(",b", n-1) + ") AS (SELECT 1) SELECT 1" }
	if _, err := Parse(names(MaxColumns)); err != nil {
		t.Error(err)
	}
	_, err := Parse(names(MaxColumns + 1))
	if e, ok := errors.AsType[*Error](err); !ok || *e != (Error{Code: "54011", Message: "target lists can have at most 1664 entries", at: -1}) {
		t.Errorf("%#v", err)
	}
}

// TestOffset compares where expressions stand with what PostgreSQL points at, as it does in ORDER BY of a UNION.
func TestOffset(t *testing.T) {
	for text, want := range map[string]int{
		"1": 0, "'a'": 0, "$1": 0, "a": 0, "ARRAY[a]": 0, "f(a)": 0, "CASE WHEN a THEN b END": 0, "ROW(a, b)": 0, "EXISTS (SELECT 1)": 0,
		"a::text": 0, "(a)::text": 1, `a COLLATE "C"`: 0, "(a) + b": 1, "- a": 0, "a AND b": 0, "(a) OR b": 1, "NOT a": 0, "(a) IS NULL": 1,
		"(a) IS DISTINCT FROM b": 1, "(a) BETWEEN b AND c": 1, "(a) IN (b, c)": 1, "(a) = ANY (b)": 1, "(a)[1]": 1, "((a)).b": 2,
	} {
		list, err := Parse("SELECT " + text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := Offset(list[0].(*Select).Items[0].Expr) - len("SELECT "); got != want {
			t.Errorf("%s: %d instead of %d", text, got, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := Parse("BEGIN BEGIN")
	if got, want := err.Error(), `syntax error at or near "BEGIN" (SQLSTATE 42601)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestMembers keeps the closed sets of types closed.
func TestMembers(t *testing.T) {
	for _, s := range []Statement{
		Begin{}, Commit{}, Rollback{}, Savepoint{}, Release{}, RollbackTo{}, Prepare{}, CommitPrepared{}, RollbackPrepared{}, Call{},
		&Select{}, Set{}, SetTransaction{}, Show{}, Reset{}, Discard{}, Deallocate{}, Nothing{}, Unsupported{},
		Declare{}, Fetch{}, Close{},
	} {
		s.statement()
	}
	for _, e := range []Expr{
		Const{}, Param{}, Cast{}, Array{}, Func{}, Column{}, Collate{}, Op{}, Logic{}, Not{}, Is{}, DistinctFrom{}, Between{}, In{}, Any{}, Sub{}, Case{}, Row{},
		Index{}, Field{},
	} {
		e.expr()
	}
	var err error = &unsupported{"x"} // thrown, and caught, as an error
	if err.Error() != "x" {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	cases, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(cases)) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if e, ok := errors.AsType[*Error](err); ok {
			if len(e.Code) != 5 || e.Message == "" || e.Position < 1 || e.Position > utf8.RuneCountInString(text)+1 {
				t.Errorf("%q: %+v", text, *e)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v is no *Error", text, err)
		}
		// A comment in front, or an empty statement, changes nothing but
		// positions.
		again, err := Parse("/* ; */ -- ;\n;" + text)
		if err != nil || len(again) != len(list) {
			t.Errorf("%q: %v, %d statements instead of %d", text, err, len(again), len(list))
		}
	})
}

// A long constant is a part of the text, and no copy of it, let alone one that grows byte by byte.
func TestLongConstants(t *testing.T) {
	const size = 16 << 20
	long := strings.Repeat("x", size)
	for _, text := range []string{"SELECT '" + long + "'", `SELECT 1 AS "` + long + `"`, "CALL f(a => E'" + long + "')"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		list, err := Parse(text)
		runtime.ReadMemStats(&after)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > size/4 {
			t.Errorf("%.20s…: %d bytes were allocated", text, n)
		}
	}
}
