package main

import (
	"fmt"
	"io"

	"github.com/fdtserver/fdt/config"
)

// runHelp tells what there is, or what one command does.
func runHelp(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stdout)
		return 0
	}
	if len(args) > 1 {
		fmt.Fprintf(stderr, "fdtctl help: %d arguments given, at most 1 wanted\n", len(args))
		return 2
	}
	c, ok := named(args[0], stderr)
	if !ok {
		return 2
	}
	fmt.Fprintf(stdout, "fdtctl %s: %s\n\n", c.name, c.about)
	if c.hidden {
		return 0 // nobody is to call it
	}
	return c.run([]string{"--help"}, stdout, stdout)
}

// named is the command of that name; if there is none, it says so, and which was probably meant.
func named(name string, stderr io.Writer) (command, bool) {
	var names []string
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
		if !c.hidden {
			names = append(names, c.name)
		}
	}
	hint := "see fdtctl help"
	if s := config.Suggest(name, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	fmt.Fprintf(stderr, "fdtctl: unknown command %q; %s\n", name, hint)
	return command{}, false
}
