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
		"`:no` :a":                   "a",
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
	} {
		found, err := Placeholders(text)
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
		"x `":      "the ` at byte 3 is never closed",
	} {
		if _, err := Placeholders(text); fmt.Sprint(err) != want {
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
		if err := checkStatement(text); (err == nil) != ok {
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
		found, semicolon, err := scan(text)
		if err == nil && (semicolon < 0 || semicolon > len(text)) {
			t.Errorf("a semicolon at %d of %q", semicolon, text)
		}
		for _, list := range [][]Placeholder{found, PutPlaceholders(text)} {
			end := 0
			for _, p := range list {
				if p.Start < end || p.End <= p.Start+1 || p.End > len(text) || text[p.Start:p.End] != ":"+p.Name {
					t.Fatalf("%q: %+v", text, list)
				}
				end = p.End
			}
		}
		if checkStatement(text) == nil && err != nil {
			t.Errorf("%q is a statement, and yet %v", text, err)
		}
	})
}
