package config

import (
	"fmt"
	"strings"
	"testing"
)

// names joins what was found.
func names(found []Placeholder) string {
	var all []string
	for _, f := range found {
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

func TestPlaceholders(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		":a":                         "a",
		"x = :a AND y=:b_2":          "a b_2",
		":a:b":                       "a b",
		":1 : a :":                   "",
		"x[1:2] y[:n]":               "n",
		"a::text :b::int":            "b",
		"a := :b":                    "b",
		"':no' :a ' '' :no'":         "a",
		`E'\' :no' :a`:               "a",
		`e'\\' :a`:                   "a",
		`SOME'\' :a`:                 "a",
		`e2'\' :a`:                   "a",
		`":no" :a "x"":no"`:          "a",
		"-- :no\n:a -- :no":          "a",
		"/* :no /* :no */ :no */ :a": "a",
		"/**/:a":                     "a",
		"$$ :no $$ :a":               "a",
		"$tag$ :no $$ :no $tag$ :a":  "a",
		"$":                          "", "a $tag": "", "$1 :a $2": "a",
		"x$y$ :a":     "a",
		"$ :a":        "a",
		"$a b$ :a":    "a",
		":ä":          "ä",
		"a - :b / :c": "b c",
		"1;:a":        "a",
		"-- :no\r:a":  "a",
		"`:a`":        "a",
	} {
		found, err := Placeholders(text, DialectPostgres)
		if got := names(found); err != nil || got != want {
			t.Errorf("%q has %q (%v), want %q", text, got, err, want)
		}
		for _, p := range found {
			if text[p.Start:p.End] != ":"+p.Name {
				t.Errorf("%q: %+v", text, p)
			}
		}
	}
	for text, want := range map[string]string{
		"a 'b":     "the ' at byte 3 is never closed",
		`E'\'`:     "the ' at byte 2 is never closed",
		`"b`:       `the " at byte 1 is never closed`,
		"/* /* */": "the comment at byte 1 is never closed",
		"/*":       "the comment at byte 1 is never closed",
		"$a$ $b$":  "the $a$ at byte 1 is never closed",
	} {
		if _, err := Placeholders(text, DialectPostgres); fmt.Sprint(err) != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestPutPlaceholders(t *testing.T) {
	for text, want := range map[string]string{
		"":            "",
		":a":          "a",
		"it's :a":     "a",
		`{"x": ":a"}`: "a",
		"::a :b":      "b",
		":::a":        "a",
		"12:30 :1":    "",
		"urn:a:b":     "a b",
		"-- :a /* :b": "a b",
	} {
		if got := names(PutPlaceholders(text)); got != want {
			t.Errorf("%q has %q, want %q", text, got, want)
		}
	}
}

func TestCheckStatement(t *testing.T) {
	for text, ok := range map[string]bool{
		"SELECT 1": true, " -- x\n/* y */ UPDATE t SET a = 1;": true, "SELECT 1; -- done\n": true,
		"WITH a AS (SELECT ';') SELECT * FROM a": true, "(SELECT 1)": true, "COMMITMENTS": true, "-- nothing": false,
		"": false, ";": false, ";;": false, "SELECT 1;;": false, "SELECT 1; SELECT 2": false, "'": false,
		"COMMIT": false, "rollback to x": false, "XA START 'a'": false, "prepare transaction 'x'": false,
	} {
		if err := checkStatement(text, DialectPostgres); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMariaDBPlaceholders(t *testing.T) {
	for text, want := range map[string]string{
		":a":                                "a",
		`'don\'t :no' :a`:                   "a",
		`'a'' :no' :a`:                      "a",
		`"say \":no\" x" :a`:                "a",
		"# it's :no\n:a":                    "a",
		"-- it's :no\n:a":                   "a",
		"1 --:a":                            "a",
		"--":                                "",
		"`:no \\` :a":                       "a",
		"`a``:no` :a":                       "a",
		"/* :no /* :no */ :a":               "a",
		"/*!50000 :a */ :b /*M! :c */":      "a b c",
		"$$ :a $$":                          "a",
		"x$y$ :a":                           "a",
		"@x := :a":                          "a",
		"E'\\' :no' :a":                     "a",
		"DATE_FORMAT(:a, '%H:%i') = \":x\"": "a",
	} {
		found, err := Placeholders(text, DialectMariaDB)
		if got := names(found); err != nil || got != want {
			t.Errorf("%q has %q (%v), want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`'\'`:    "the ' at byte 1 is never closed",
		"a `b":   "the ` at byte 3 is never closed",
		"x /* y": "the comment at byte 3 is never closed",
	} {
		if _, err := Placeholders(text, DialectMariaDB); fmt.Sprint(err) != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, ok := range map[string]bool{
		"SELECT 1": true, "# x\n-- y\n/* z */ SELECT 1; # w": true, "/*!50000 SELECT 1; */": true, "--1": true,
		"/*!50000 COMMIT */": false, "# COMMIT": false, "/*M! ROLLBACK*/": false, "SELECT 1; --1": false, "'": false, "XA END 'x'": false,
	} {
		if err := checkStatement(text, DialectMariaDB); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzPlaceholders: each one found is where it is said to be, in order; what stands between does not matter to
// one that is replaced by a number.
func FuzzPlaceholders(f *testing.F) {
	for _, s := range []string{"x = :a", "':no' :a", `E'\' :no'`, "$t$ :no $t$ :a", "/* /* */ */ :b -- :c", "a::b", "`"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lists := [][]Placeholder{PutPlaceholders(text)}
		for _, resource := range []Dialect{DialectPostgres, DialectMariaDB} {
			found, semicolon, err := scan(text, resource)
			if err == nil && (semicolon < 0 || semicolon > len(text)) {
				t.Errorf("%v: a semicolon at %d of %q", resource, semicolon, text)
			}
			if checkStatement(text, resource) == nil && err != nil {
				t.Errorf("%q is a statement of %v, and yet %v", text, resource, err)
			}
			lists = append(lists, found)
		}
		for _, list := range lists {
			end := 0
			for _, p := range list {
				if p.Start < end || p.End <= p.Start+1 || p.End > len(text) || text[p.Start:p.End] != ":"+p.Name {
					t.Fatalf("%q: %+v", text, list)
				}
				end = p.End
			}
		}
	})
}
