package main

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/printable"
)

// TestPainted: states are coloured where they are cells of a table, and nothing else is.
func TestPainted(t *testing.T) {
	const plain = "ready: a resource is unreachable\n\nWORKER  STATE     PID\nready   ready     1\n7-2     failed    2\n\nNAME  STATE\na     unknown\n"
	const want = "ready: a resource is unreachable\n\nWORKER  STATE     PID\nready   \x1b[32mready\x1b[m     1\n7-2     \x1b[31mfailed\x1b[m    2\n\nNAME  STATE\na     \x1b[33munknown\x1b[m\n"
	if got := painted(plain); got != want {
		t.Errorf("%q", got)
	}
}

// TestShow: colours are for terminals that have them, and nobody else.
func TestShow(t *testing.T) {
	for about, c := range map[string]struct {
		noColor, term string
		coloured      bool
	}{
		"a terminal":         {"", "xterm", true},
		"NO_COLOR":           {"1", "xterm", false},
		"one without any":    {"", "dumb", false},
		"one without a name": {"", "", true},
	} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		master, slave := terminal(t)
		show(printable.NewWriter(slave), "a  ready  \x1b\n")
		got := make([]byte, 100)
		n, err := 0, error(nil)
		for err == nil && !strings.HasSuffix(string(got[:n]), "\n") { // it may come in parts
			var more int
			more, err = master.Read(got[n:])
			n += more
		}
		if err != nil || strings.Contains(string(got[:n]), "\x1b[32mready\x1b[m") != c.coloured || !strings.HasSuffix(string(got[:n]), "\\u001b\r\n") {
			t.Errorf("%s: %v, %q", about, err, got[:n])
		}
	}
	var out strings.Builder
	if show(&out, "a  ready\n"); out.String() != "a  ready\n" {
		t.Errorf("%q", out.String())
	}
}
