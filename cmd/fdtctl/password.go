package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/scram"
)

// runPassword asks for a password and prints the line for users: in the
// configuration, which proves the password and does not hold it.
func runPassword(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl password", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "")
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: fdtctl password [--json] USER\n\nReads a password, twice from a terminal and once from anything else, and prints\nthe line for users: in the configuration.\n")
	}
	rest, code, done := parse(flags, args, anyNumber, stderr)
	if done {
		return code
	}
	if len(rest) != 1 || rest[0] == "" {
		flags.Usage()
		return 2
	}
	name := rest[0]
	password, err := askPassword(os.Stdin, stderr, name)
	if err != nil {
		fmt.Fprintf(stderr, "fdtctl: %v\n", err)
		return 1
	}
	verifier := scram.New(password)
	if *asJSON {
		return printJSON("password", map[string]string{"user": name, "verifier": verifier.String()}, stdout, stderr)
	}
	fmt.Fprintf(stdout, "%s: %s\n", yamlKey(name), verifier)
	return 0
}

// yamlKey quotes a name that YAML might read as something else.
func yamlKey(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") == "" && !strings.Contains(" y n yes no on off true false null ", " "+name+" ") {
		return name
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// askPassword reads a password. On a terminal it is not shown, and asked for
// again.
func askPassword(in *os.File, prompt io.Writer, user string) (string, error) {
	r := bufio.NewReader(in)
	old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil { // no terminal
		return readPassword(r)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	err = os.NewSyscallError("turn off the terminal's echo: tcsetattr", unix.IoctlSetTermios(int(in.Fd()), unix.TCSETSF, &quiet))
	defer func() { _ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETSF, old) }() // there is no other remedy
	var given [2]string
	for i, question := range []string{"Password for " + user + ": ", "Again: "} {
		if err == nil {
			fmt.Fprint(prompt, question)
			given[i], err = readPassword(r)
			fmt.Fprintln(prompt)
		}
	}
	if err == nil && given[0] != given[1] {
		err = errors.New("the passwords differ")
	}
	if err != nil {
		return "", err
	}
	return given[0], nil
}

// readPassword reads a line. Clients prepare a password by RFC 4013 before they
// use it; of what that changes, only printable ASCII is surely left alone.
func readPassword(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", fmt.Errorf("read the password: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case !utf8.ValidString(password) || strings.ContainsFunc(password, func(c rune) bool { return c > unicode.MaxASCII || c < ' ' || c == 0x7f }):
		return "", errors.New("the password has characters other than printable ASCII, which clients encode differently")
	}
	return password, nil
}
