package config

import (
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:7432":                  "tcp4-127.0.0.1-7432",
		"0.0.0.0:1":                       "tcp4-0.0.0.0-1",
		"[::1]:7432":                      "tcp6-::1-7432",
		"[0:0::0:1]:07432":                "tcp6-::1-7432",
		"[2001:DB8::1]:65535":             "tcp6-2001:db8::1-65535",
		"/run/fdt/.s.PGSQL.7432":          "unix-s.PGSQL.7432-5cc4efee815e",
		"/run/other/s":                    "unix-s-4cbe86c1a1e6",
		"/run/my app/ä 100%":              "unix-__100_-8d1f8d8a3b3d",
		"/run/" + strings.Repeat("x", 60): "unix-" + strings.Repeat("x", 40) + "-3a7e0a63c2c7",
	} {
		a, err := ParseAddress(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := a.Canonical()
		if a.Network == "unix" { // the hash is only compared in length and difference
			if i := strings.LastIndexByte(want, '-'); !strings.HasPrefix(got, want[:i+1]) || len(got) != len(want) {
				t.Errorf("%s is %s", text, got)
			}
		} else if got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if a, b := (Address{"unix", "/run/a/s"}), (Address{"unix", "/run/b/s"}); a.Canonical() == b.Canonical() {
		t.Errorf("%s and %s have one name", a, b)
	}
	if got := (Address{"tcp4", "localhost:1"}).Canonical(); !strings.HasPrefix(got, "tcp4-") || strings.Contains(got, "localhost") {
		t.Errorf("what is no address is %s", got)
	}
}

// FuzzParseAddress: what is accepted reads back as itself, and its name is a unit's.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7432", "[::1]:7432", "/run/fdt/.s.PGSQL.7432", "[fe80::1%lo]:1", "*:1", "/run/ä b/%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a.String()); err != nil || a != b || a.Canonical() != b.Canonical() {
			t.Errorf("%q is %v, which is %v, %v", s, a, b, err)
		}
		name := a.Canonical()
		if len(name) > 100 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.") != "" {
			t.Errorf("%q has the name %q", s, name)
		}
		if !a.Covers(a) {
			t.Errorf("%q may be listened at twice", s)
		}
	})
}

func TestRootIsNoSocket(t *testing.T) {
	if a, err := ParseAddress("/"); err == nil {
		t.Errorf("/ is %v", a)
	}
}
