package testgolden

import (
	"path/filepath"
	"strings"
	"testing"
)

// told is a test that only keeps what it is told.
type told struct {
	testing.TB
	said []string
}

func (t *told) Helper()                           {}
func (t *told) Errorf(format string, args ...any) { t.said = append(t.said, format) }

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "golden")
	Write(t, file, "a\nb\n")
	for got, faults := range map[string]int{"a\nb\n": 0, "a\nx\n": 2, "a\nb\nc\n": 2, "": 2, strings.Repeat("x\n", 2): 3} {
		fake := &told{TB: t}
		if Compare(fake, file, got); len(fake.said) != faults {
			t.Errorf("%q: %q", got, fake.said)
		}
	}
	*Update = true
	defer func() { *Update = false }()
	Compare(t, file, "new\n")
	*Update = false
	Compare(t, file, "new\n")
}
