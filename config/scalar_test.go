package config

import (
	"errors"
	"testing"
)

func TestCheckValue(t *testing.T) {
	for typ, texts := range map[string]struct{ good, bad []string }{
		"text":             {[]string{"", "a"}, nil},
		"smallint":         {[]string{"-32768", "32767"}, []string{"32768", "", "1.0"}},
		"integer":          {[]string{"2147483647"}, []string{"2147483648", "x"}},
		"bigint":           {[]string{"9223372036854775807"}, []string{"9223372036854775808"}},
		"real":             {[]string{"1e3", "-0.5", "NaN"}, []string{"1,5"}},
		"double precision": {[]string{"1e300"}, []string{"one"}},
		"numeric":          {[]string{"1", "-1.50", ".5", "1e-5", "NaN"}, []string{".", "1e", "0x1", ""}},
		"bigint[]":         {[]string{"{}", "{1,NULL}"}, []string{"1", "[1]", "{1"}},
		"boolean":          {[]string{"true", "false"}, []string{"1", "yes", "TRUE"}},
		"uuid":             {[]string{"123e4567-e89b-12d3-a456-426614174000"}, []string{"123e4567e89b12d3a456426614174000"}},
		"json":             {[]string{"{}", `"a"`}, []string{"{", ""}},
		"jsonb":            {[]string{"[1]"}, []string{"a"}},
		"date":             {[]string{"2026-02-28"}, []string{"2026-02-30", "today"}},
		"bytea":            {[]string{`\x`, `\x00fF`}, []string{"00", `\x0`, ""}},
		"timestamp":        {[]string{"2026-02-28 12:00:00", "2026-02-28 12:00:00.5"}, []string{"2026-02-28", "now"}},
		"timestamptz":      {[]string{"2026-02-28 12:00:00Z", "2026-02-28 12:00:00+01:00"}, []string{"2026-02-28 12:00:00"}},
	} {
		for _, text := range texts.good {
			if err := checkValue(text, typ); err != nil {
				t.Error(err)
			}
		}
		for _, text := range texts.bad {
			if checkValue(text, typ) == nil {
				t.Errorf("%q is a %s", text, typ)
			}
		}
	}
	if len(Types()) != 15 {
		t.Errorf("types are %v", Types())
	}
}

func TestAMistakeInTheTablePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it does not")
		}
	}()
	certain(0, errors.New("mistake"))
}

// FuzzParseDuration: what is accepted is not negative.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1d", "1d1h", "1.5h", "-1s", "1d-1h", "1d1d", "99999d", "65535d2000000h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseDuration(s); err == nil && d < 0 {
			t.Errorf("%q is %s", s, d)
		}
	})
}
