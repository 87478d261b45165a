// Package testgolden compares what is made with files that a person has read and found right. go test -update writes them anew.
package testgolden

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// Update is whether golden files are to be written anew.
var Update = flag.Bool("update", false, "write golden files anew")

// Compare fails the test unless got is what the file holds, and says which lines differ.
func Compare(tb testing.TB, file, got string) {
	tb.Helper()
	if *Update {
		Write(tb, file, got)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	want := string(raw)
	if got == want {
		return
	}
	is, was := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(was)) {
		if is[i] != was[i] {
			tb.Errorf("%s:%d:\n got %s\nwant %s", file, i+1, is[i], was[i])
		}
	}
	tb.Errorf("%s has %d lines, wanted %d; if this is right: go test -update\n%s", file, len(is), len(was), got)
}

// Write writes a golden file anew.
func Write(tb testing.TB, file, got string) {
	tb.Helper()
	if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // it is the project's source
		tb.Fatal(err)
	}
}
