package xa

import (
	"strings"
	"testing"
)

func gidOf(incarnation, sequence uint64, role Role) GID {
	return GID{Log: LogID{1}, Incarnation: incarnation, Sequence: sequence, Role: role}
}

func TestGID(t *testing.T) {
	longest := GID{LogID{255}, MaxIncarnation, MaxSequence, RoleExternal}
	if s := longest.String(); len(s) > MaxGIDLen {
		t.Errorf("%s has %d bytes", s, len(s))
	}
	for _, g := range []GID{longest, gidOf(1, 1, RoleLocal)} {
		back, err := ParseGID(g.String())
		if err != nil || back != g || g.IsZero() {
			t.Errorf("%s: %s, %v", g, back, err)
		}
	}
	good := gidOf(7, 12, RoleLocal).String()
	for _, bad := range []string{
		"", "fdt1-", good + "L", good + "-", strings.Replace(good, "-7-", "-07-", 1), strings.Replace(good, "-7-", "-0-", 1),
		strings.Replace(good, "-7-", "-+7-", 1), strings.Replace(good, "-12-", "-x-", 1), strings.Replace(good, "-L", "-l", 1),
		strings.Replace(good, "-L", "-", 1), strings.Replace(good, "fdt1", "fdt2", 1), strings.ToUpper(good),
		strings.Replace(good, "-7-", "-10000000000-", 1), "fdt1-" + strings.Repeat("g", 32) + "-1-1-L", "fdt1-01-1-1-L",
		good + strings.Repeat("0", 64),
	} {
		if g, err := ParseGID(bad); err == nil || !g.IsZero() {
			t.Errorf("%q is read as %s", bad, g)
		}
	}
}

func FuzzGID(f *testing.F) {
	f.Add(gidOf(1, 1, RoleLocal).String())
	f.Add("fdt1-00000000000000000000000000000000-1-1-X")
	f.Add("fdt1-0-1-1-X")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGID(text)
		if err == nil && (g.String() != text || len(text) > MaxGIDLen) {
			t.Errorf("%q is read as %s", text, g)
		}
	})
}

func TestHazards(t *testing.T) {
	if got := JoinHazards("a", "b"); got != "a; b" {
		t.Error(got)
	}
}
