// Command fdtctl is the operator's hand on fdt.
// It holds no state: each subcommand asks the master, the workers, systemd or the files, prints, and exits
// with 0 for done, 1 for refused or failed, 2 for a wrong command line.
package main

import (
	"fmt"
	"io"
	"os"
)

// version is set by the build.
var version = "devel"

// A command is one subcommand. run gets the arguments after the name and returns the exit code.
type command struct {
	name, usage, about string
	hidden             bool // called by units, not by people
	run                func(args []string, stdout, stderr io.Writer) int
}

// commands is the table of subcommands, in the order that the help shows.
func commands() []command {
	return []command{
		{name: "status", usage: "[--json]", about: "generations, workers, listeners, connections, transactions in doubt", run: runStatus},
		{name: "reload", usage: "[--wait-drained] [--timeout D]", about: "roll out the configuration and the program; wait for the answer", run: runReload},
		{name: "rollback", usage: "[--wait-drained] [--timeout D]", about: "roll out the previous generation's configuration", run: runRollback},
		{name: "drain", usage: "GENERATION [--now | --within D]", about: "shorten the deadline of an old generation", run: runDrain},
		{name: "txn", usage: "list|show|commit|rollback|forget|resolve", about: "transactions in doubt: list, show, settle", run: runTxn},
		{name: "password", usage: "USER", about: "make a line for users: from a password", run: runPassword},
		{name: "check", usage: "[-quiet | -schema] [DIR]", about: "report every fault of the configuration", run: runCheck},
		{name: "stop-hook", about: "what fdt-stop.service runs at its stop", hidden: true, run: runStopHook},
		{name: "version", about: "print the version", run: runVersion},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return 0
	case "-V", "--version":
		return runVersion(nil, stdout, stderr)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "fdtctl: unknown command %q; see fdtctl help\n", args[0])
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: fdtctl COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  %-44s %s\n", c.name+" "+c.usage, c.about)
		}
	}
	fmt.Fprintf(w, "\nSee fdtctl(8).\n")
}

func runVersion(_ []string, stdout, _ io.Writer) int {
	fmt.Fprintf(stdout, "fdtctl %s\n", version)
	return 0
}
