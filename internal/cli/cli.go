// Package cli is what fdt's commands for people have in common: how a command
// line is read, and how a failure and a time are told. Nothing of it ends the
// process.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
)

// AnyNumber of arguments is the caller's to judge.
const AnyNumber = -1

// Parse parses flags that may stand before and after the arguments, of which there must be exactly n, or AnyNumber.
// done is true if the command ends here, with the exit code.
func Parse(flags *flag.FlagSet, args []string, n int, stderr io.Writer) (rest []string, code int, done bool) {
	flags.SetOutput(stderr)
	for {
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, 0, true
		case err != nil:
			meant(flags, err, stderr)
			return nil, 2, true
		}
		if flags.NArg() == 0 {
			break
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
	if n != AnyNumber && len(rest) != n {
		fmt.Fprintf(stderr, "%s: %d arguments given, %d wanted\n", flags.Name(), len(rest), n)
		return nil, 2, true
	}
	return rest, 0, false
}

// meant says which option was probably meant by one that is not known.
func meant(flags *flag.FlagSet, err error, stderr io.Writer) {
	given, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return
	}
	var names []string
	flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if s := config.Suggest(given, names); s != "" {
		fmt.Fprintf(stderr, "%s: did you mean --%s?\n", flags.Name(), s)
	}
}

// Fail prints why a command of fdtctl has failed, and returns its exit code.
func Fail(stderr io.Writer, what string, err error) int {
	fmt.Fprintf(stderr, "fdtctl %s: %s\n", what, config.Detail(err))
	return 1
}

// Span is a duration to the second, or minute, or hour.
func Span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return d.Truncate(time.Second).String()
	case d < 2*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return strings.TrimSuffix(d.Truncate(time.Hour).String(), "0m0s")
}

// Dash is a cell of a table, which is not empty.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Plain quotes what a client chose if it could disturb a terminal or a column.
func Plain(s string) string {
	if q := strconv.Quote(s); strings.ContainsAny(s, " \t") || q[1:len(q)-1] != s {
		return q
	}
	return s
}
