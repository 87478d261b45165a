package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestHelp: help tells about one command, and who mistypes one, or an option, is told what was probably meant.
func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"relaod", 2, `unknown command "relaod"; did you mean "reload"?`},
		{"xyzzy", 2, `unknown command "xyzzy"; see fdtctl help`},
		{"reload --wiat-drained", 2, "fdtctl reload: did you mean --wait-drained?"},
		{"reload --xyzzy", 2, "not defined: -xyzzy"},
		{"reload --timeout", 2, "needs an argument"},
		{"check --lvie", 2, "fdtctl check: did you mean --live?"},
		{"help", 0, "Usage: fdtctl [--service NAME] COMMAND"},
		{"help drain", 0, "fdtctl drain: shorten the deadline of an old generation"},
		{"help drain", 0, "-within duration"},
		{"help txn", 0, "fdtctl txn adopt [--force]"},
		{"help check-unit", 0, "for root"},
		{"help darin", 2, `did you mean "drain"?`},
		{"help drain now", 2, "2 arguments given, at most 1 wanted"},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("fdtctl %s: exit %d, want %d: %s", c.args, code, c.code, out.String())
		}
	}
}
