package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/pgwire"
)

const sessionUsage = `Usage: fdtctl session cancel [--json] ID
       fdtctl session kill [--json] ID

ID is the session's number, as fdtctl sessions lists it. cancel ends the statement
that the session runs, with SQLSTATE 57014. kill ends the session, with 57P01, and
rolls back what it has not prepared; a commit that has begun goes on to its end.
`

// errNoSession is a number that no worker knows.
var errNoSession = errors.New("there is no such session: see fdtctl sessions")

// runSession cancels a session's statement, or ends the session. It exits 0 if the session was told so, 1 if there is none or it runs
// nothing, 2 if called wrongly.
func runSession(args []string, stdout, stderr io.Writer) int {
	return sessionIn(workerSockets(), args, stdout, stderr)
}

func sessionIn(dir string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl session", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stderr, sessionUsage) }
	asJSON := flags.Bool("json", false, "print the outcome as JSON")
	rest, code, done := parse(flags, args, anyNumber, stderr)
	if done {
		return code
	}
	if len(rest) != 2 || rest[0] != "cancel" && rest[0] != "kill" {
		flags.Usage()
		return 2
	}
	id, err := strconv.ParseUint(rest[1], 10, 32)
	if err != nil {
		fmt.Fprintf(stderr, "fdtctl session: %q is not the number of a session\n", rest[1])
		return 2
	}
	end := rest[0] == "kill"
	ctx, cancel := context.WithTimeoutCause(context.Background(), workersWithin, errWorkerSilent)
	defer cancel()
	was, err := interrupt(ctx, dir, control.Interrupt{PID: uint32(id), End: end, By: settle.OperatorName()})
	if err == nil && !end && was.State != "active" {
		err = fmt.Errorf("the session is %s: there is no statement to cancel", was.State)
	}
	switch {
	case err != nil:
		return fail(stderr, "session "+rest[0], err)
	case *asJSON:
		return printJSON("session", was, stdout, stderr)
	case end:
		fmt.Fprintf(stdout, "session %d of %s was told to end; what it has not prepared is rolled back\n", id, plain(was.User))
	default:
		fmt.Fprintf(stdout, "session %d of %s was told to cancel its statement\n", id, plain(was.User))
	}
	return 0
}

// interrupt has the worker that a session is at do what is asked, and returns what the session was at.
func interrupt(ctx context.Context, dir string, asked control.Interrupt) (session, error) {
	var was *session
	var mu sync.Mutex
	err := eachWorker(dir, func(worker, socket string) error { // it may have moved to any of them
		var told *pgwire.Activity
		err := control.Call(ctx, socket, control.OpInterrupt, asked, &told)
		gen, slot, _ := service.ParseInstance(worker) // as eachWorker has seen
		if errors.Is(err, control.ErrUnknownOp) && !(pgwire.Origin{Generation: gen, Slot: slot}).Owns(asked.PID) {
			return nil // another program's worker has no sessions
		}
		if told != nil {
			mu.Lock()
			defer mu.Unlock()
			of := sessionOf(worker, told)
			was = &of
		}
		return err
	})
	if was != nil {
		return *was, nil
	}
	if err == nil {
		err = errNoSession
	}
	return session{}, err
}
