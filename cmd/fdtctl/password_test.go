package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/internal/testwait"
)

// withStdin runs f with text as the standard input.
func withStdin(t *testing.T, text string, f func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	old := os.Stdin
	os.Stdin = r
	defer func() {
		os.Stdin = old
		_ = r.Close()
	}()
	f()
}

func TestPassword(t *testing.T) {
	for _, c := range []struct {
		args      []string
		in        string
		code      int
		out, said string // beginnings
	}{
		{[]string{"password", "alice"}, "secret\n", 0, "alice: SCRAM-SHA-256$4096:", ""},
		{[]string{"password", "alice"}, "secret", 0, "alice: SCRAM-SHA-256$4096:", ""},
		{[]string{"password", `a"b`}, "secret\r\n", 0, `"a\"b": SCRAM-SHA-256$4096:`, ""},
		{[]string{"password", "yes"}, "secret\n", 0, `"yes": SCRAM-SHA-256$4096:`, ""},
		{[]string{"password", "alice"}, "", 1, "", "fdtctl: read the password: EOF"},
		{[]string{"password", "alice"}, "\n", 1, "", "fdtctl: the password is empty"},
		{[]string{"password", "alice"}, "pässword\n", 1, "", "fdtctl: the password has characters other than printable ASCII"},
		{[]string{"password", "alice"}, "a\tb\n", 1, "", "fdtctl: the password has characters other than printable ASCII"},
		{[]string{"password"}, "", 2, "", "usage: fdtctl password [--json] USER"},
		{[]string{"password", "-x"}, "", 2, "", "flag provided but not defined: -x"},
		{[]string{"password", "-h"}, "", 0, "", "usage: fdtctl password [--json] USER"},
	} {
		withStdin(t, c.in, func() {
			var out, said bytes.Buffer
			if code := run(c.args, &out, &said); code != c.code || !strings.HasPrefix(out.String(), c.out) || !strings.HasPrefix(said.String(), c.said) {
				t.Errorf("%q: %d %q %q", c.args, code, out.String(), said.String())
			}
			if c.code == 0 && c.out != "" {
				_, text, _ := strings.Cut(strings.TrimSpace(out.String()), ": ")
				if _, err := scram.Parse(text); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
		})
	}
}

func TestPasswordJSON(t *testing.T) {
	withStdin(t, "secret\n", func() {
		var out bytes.Buffer
		var got struct{ User, Verifier string }
		code := run([]string{"password", "alice", "--json"}, &out, &out)
		if err := json.Unmarshal(out.Bytes(), &got); code != 0 || err != nil || got.User != "alice" {
			t.Errorf("exit %d, %v: %s", code, err, out.String())
		}
		if _, err := scram.Parse(got.Verifier); err != nil {
			t.Error(err)
		}
	})
}

// TestPasswordTerminal asks on a terminal.
func TestPasswordTerminal(t *testing.T) {
	for name, c := range map[string]struct{ in, want, err string }{
		"alike":     {"secret\nsecret\n", "secret", ""},
		"different": {"secret\nsocret\n", "", "the passwords differ"},
		"empty":     {"\n\n", "", "the password is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			var prompt bytes.Buffer
			type answer struct {
				password string
				err      error
			}
			done := make(chan answer, 1)
			go func() {
				p, err := askPassword(slave, &prompt, "alice")
				done <- answer{p, err}
			}()
			// Input that comes before the echo is off is thrown away with it.
			testwait.Until(t, "the echo is off", func() bool {
				tio, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
				if err != nil {
					t.Fatal(err)
				}
				return tio.Lflag&unix.ECHO == 0
			})
			if _, err := io.WriteString(master, c.in); err != nil {
				t.Fatal(err)
			}
			got := testwait.For(t, "the answer", done)
			if got.password != c.want || c.err == "" && got.err != nil || c.err != "" && (got.err == nil || got.err.Error() != c.err) {
				t.Errorf("%q, %v", got.password, got.err)
			}
			if tio, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || tio.Lflag&unix.ECHO == 0 {
				t.Errorf("the echo stays off: %v", err)
			}
			if !strings.HasPrefix(prompt.String(), "Password for alice: \n") {
				t.Errorf("%q", prompt.String())
			}
		})
	}
	if _, err := readPassword(bufio.NewReader(strings.NewReader("\xff\n"))); err == nil {
		t.Error("not UTF-8")
	}
}

// terminal opens a pair of pseudo-terminals, pts(4).
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}
