package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzLoad: nothing panics; what is faulty says where; what loads is complete.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(everything))
	cases, err := filepath.Glob("testdata/faults/*/config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(cases, "../packaging/deb/config.yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(dir)
		if err != nil {
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults) == 0 || faults.Error() == "" {
				t.Fatalf("%T %v", err, err)
			}
			for _, fault := range faults {
				if fault.File == "" || fault.What == "" || !bytes.Contains(text, []byte("%!")) && strings.Contains(fault.What, "%!") || strings.ContainsAny(fault.File, "\n") {
					t.Fatalf("%+v", fault)
				}
			}
			return
		}
		if len(cfg.Listen) == 0 || cfg.Workers.Count < 1 || cfg.Workers.Threads < 1 || cfg.Transaction.LockTimeout <= 0 {
			t.Fatalf("incomplete: %+v", cfg)
		}
		for name, l := range cfg.Listen {
			if l.Name != name || len(l.Addresses) == 0 || l.Auth == "" || l.Backlog == 0 {
				t.Fatalf("incomplete: %+v", l)
			}
		}
		for name, p := range cfg.Procedures {
			if p.Name != name || len(p.Steps) == 0 {
				t.Fatalf("incomplete: %+v", p)
			}
		}
	})
}

// FuzzSuggest: the suggestion is one of the candidates, or nothing.
func FuzzSuggest(f *testing.F) {
	f.Add("treads", "threads", "count")
	f.Fuzz(func(t *testing.T, got, a, b string) {
		if s := Suggest(got, []string{a, b}); s != "" && s != a && s != b {
			t.Errorf("%q for %q of %q, %q", s, got, a, b)
		}
		if distance(a, b) != distance(b, a) || distance(a, a) != 0 {
			t.Errorf("%q and %q are not symmetrical", a, b)
		}
	})
}

// FuzzWithUser: what was sound stays so, with that user and all others.
func FuzzWithUser(f *testing.F) {
	for _, text := range []string{"", "# x", "users:\n", "users: {bob: " + verifierA + "}\n", "# a\nusers: # b\n  # c\n  bob: " + verifierA + " # d\ndrain: {idle: 1s}\n# e\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		before, err := Parse([]Text{{"config.yaml", text}})
		with := WithUser(text, "alice", verifierA)
		if err != nil {
			return
		}
		after, err := Parse([]Text{{"config.yaml", with}})
		if err != nil {
			t.Fatalf("%v\n%q\n%q", err, text, with)
		}
		if after.Users["alice"].Verifier != verifierA {
			t.Errorf("%v\n%q\n%q", after.Users, text, with)
		}
		delete(before.Users, "alice")
		delete(after.Users, "alice")
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%+v\n%+v\n%q\n%q", before, after, text, with)
		}
	})
}
