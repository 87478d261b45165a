package statement

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden file anew")

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
	if *update {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		got, want := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("line %d:\n got %s\nwant %s", i+1, got[i], want[i])
			}
		}
		t.Error("if this is right: go test -update")
	}
}

// TestDepth shows that foreign text cannot grow the stack.
func TestDepth(t *testing.T) {
	for _, text := range []string{
		"CALL f(" + strings.Repeat("(", 1e6),
		"CALL f(1" + strings.Repeat("::int", 1e5) + ")",
		"SELECT " + strings.Repeat("CAST(", 1e5),
		"SELECT " + strings.Repeat("f(", 1e5),
	} {
		_, err := Parse(text)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != codeTooComplex {
			t.Errorf("%.20s…: %.100v", text, err)
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
		Select{}, Set{}, SetTransaction{}, Show{}, Reset{}, Discard{}, Deallocate{}, Nothing{}, Unsupported{},
	} {
		s.statement()
	}
	for _, e := range []Expr{Const{}, Param{}, Cast{}, Array{}, Func{}, Column{}} {
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
