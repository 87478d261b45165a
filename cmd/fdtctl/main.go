// Command fdtctl is the operator's hand on fdt.
// It holds no state: each subcommand asks the master, the workers, systemd or the files, prints, and exits
// with 0 for done, 1 for refused or failed, 2 for a wrong command line.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/internal/undumpable"
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
		{name: "ready", usage: "[--json]", about: "whether a balancer should send clients here; exit status 0 if so", run: runReady},
		{name: "reload", usage: "[--wait-drained] [--timeout D] [--json]", about: "roll out the configuration and the program; wait for the answer", run: runReload},
		{name: "rollback", usage: "[--wait-drained] [--timeout D] [--json]", about: "roll out the previous generation's configuration", run: runRollback},
		{name: "drain", usage: "GENERATION [--now | --within D] [--json]", about: "shorten the deadline of an old generation", run: runDrain},
		{name: "top", usage: "[--interval D]", about: "status and sessions on the whole screen, again each second", run: runTop},
		{name: "sessions", usage: "[--sort COLUMN] [--json]", about: "who is connected, from where, and what each does", run: runSessions},
		{name: "session", usage: "cancel|kill ID [--json]", about: "cancel a session's statement, or end the session", run: runSession},
		{name: "pause", usage: "RESOURCE | --all [--timeout D] [--json]", about: "have nothing use a database, to restart it; transactions wait", run: runPause},
		{name: "resume", usage: "RESOURCE | --all [--json]", about: "end a pause: who waits goes on", run: runResume},
		{name: "txn", usage: "list|show|commit|rollback|forget|resolve", about: "transactions in doubt: list, show, settle", run: settle.Txn},
		{name: "decider", usage: "init [--print] RESOURCE", about: "prepare a database for the decisions of transactions", run: settle.Decider},
		{name: "cluster", usage: "init [--print] RESOURCE | status [--json]", about: "prepare a database for several hosts; list their processes", run: settle.Cluster},
		{name: "user", usage: "add|passwd|remove|list", about: "users who log in with a password: change config.d/users.yaml", run: runUser},
		{name: "password", usage: "USER", about: "make a line for users: from a password", run: runPassword},
		{name: "check", usage: "[--live] [--json] [--quiet | --schema] [DIR]", about: "report every fault of the configuration", run: runCheck},
		{name: "config", usage: "show [--json] [DIR]", about: "the configuration with its defaults, each line with its origin", run: runConfig},
		{name: "procedures", usage: "[--json]", about: "what clients may call, who may, and how calls fared", run: runProcedures},
		{name: "complete", about: "what shells ask when they complete a command line", hidden: true, run: runComplete},
		{name: "txn-unit", about: "what fdtctl txn runs in a unit, for root", hidden: true, run: runTxnUnit},
		{name: "check-unit", about: "what fdtctl check runs in a unit, for root", hidden: true, run: runCheckUnit},
		{name: "start-hook", about: "what fdt-refresh.service runs before listeners open", hidden: true, run: runStartHook},
		{name: "stop-hook", about: "what fdt-stop.service runs at its stop", hidden: true, run: runStopHook},
		{name: "sweep-hook", about: "what fdt-sweep.service runs when fdt.service has come to rest", hidden: true, run: runSweepHook},
		{name: "version", usage: "[--json]", about: "print the version", run: runVersion},
	}
}

func main() { os.Exit(program()) }

// program is fdtctl, less its end.
func program() int {
	undumpable.Set()
	if journal.Attached(os.Stderr) {
		signal.Ignore(unix.SIGPIPE) // run by a unit: a journald that restarts must not end a reload or a stop
	}
	// Much of what is shown was chosen by clients: nothing of that moves a cursor.
	stdout, stderr := printable.NewWriter(os.Stdout), printable.NewWriter(os.Stderr)
	return written(run(os.Args[1:], stdout, stderr), stdout.Err(), stderr)
}

// written is the exit code of a command whose output could not all be written: nobody may take half of it for the whole.
func written(code int, err error, stderr io.Writer) int {
	if err == nil || code != 0 {
		return code
	}
	fmt.Fprintf(stderr, "fdtctl: the output is lost: %v\n", err)
	return 1
}

func run(args []string, stdout, stderr io.Writer) int {
	args, err := forService(args)
	if err != nil {
		fmt.Fprintf(stderr, "fdtctl: %v\n", err)
		return 2
	}
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		return runHelp(args[1:], stdout, stderr)
	case "-V", "--version":
		return runVersion(args[1:], stdout, stderr)
	}
	c, ok := named(args[0], stderr)
	if !ok {
		return 2
	}
	return c.run(args[1:], stdout, stderr)
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: fdtctl [--service NAME] COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  %-50s %s\n", c.name+" "+c.usage, c.about)
		}
	}
	fmt.Fprintf(w, "\nfdtctl help COMMAND tells more, and fdtctl(8) all.\n")
}

func runTxnUnit(_ []string, stdout, stderr io.Writer) int {
	return settle.Unit(settle.Own{}, stdout, stderr)
}

func runVersion(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl version", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print it as JSON")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	if *asJSON {
		return printJSON("version", map[string]string{"version": version}, stdout, stderr)
	}
	fmt.Fprintf(stdout, "fdtctl %s\n", version)
	return 0
}
