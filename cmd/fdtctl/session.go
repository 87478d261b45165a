package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

const sessionUsage = `Usage: fdtctl session cancel [--json] ID
       fdtctl session kill [--json] ID

ID is the session's number, as fdtctl sessions lists it. cancel ends the statement
that the session runs, with SQLSTATE 57014. kill ends the session, with 57P01, and
rolls back what it has not prepared; a commit that has begun goes on to its end.
kill waits until that is so, for 8 seconds at most.
`

// killWithin is how long kill waits: longer than code may go on with a transaction whose end it does not see.
const killWithin = 8 * time.Second

// errNoSession is a number that no worker knows.
var errNoSession = errors.New("there is no such session: see fdtctl sessions")

// killed is a session that was told to end, as it was last seen.
type killed struct {
	session
	Ended bool `json:"ended"` // what it had not prepared is rolled back
}

// runSession cancels a session's statement, or ends the session. It exits 0 if that is done, 1 if there is none, it runs nothing or does
// not end, 2 if called wrongly.
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
	case end:
		return tellEnd(ctx, dir, killed{session: was}, *asJSON, stdout, stderr)
	case *asJSON:
		return printJSON("session", was, stdout, stderr)
	}
	fmt.Fprintf(stdout, "session %d of %s was told to cancel its statement\n", id, plain(was.User))
	return 0
}

// tellEnd waits for the end of a session that was told so, and says what has come of it.
func tellEnd(ctx context.Context, dir string, k killed, asJSON bool, stdout, stderr io.Writer) int {
	err := k.await(ctx, dir)
	if err != nil {
		return fail(stderr, "session kill", fmt.Errorf("session %d of %s was told to end, and whether it has nobody says: %w", k.ID, plain(k.User), err))
	}
	code := 0
	if !k.Ended && !k.cut() {
		code = 1
	}
	switch {
	case asJSON:
		return max(code, printJSON("session", k, stdout, stderr))
	case k.Ended:
		fmt.Fprintf(stdout, "session %d of %s was told to end; what it has not prepared is rolled back\n", k.ID, plain(k.User))
	case k.cut():
		fmt.Fprintf(stdout, "session %d of %s was told to end; the code of %s goes on, but without %s, which rolls back what it did there\n",
			k.ID, plain(k.User), k.work(), strings.Join(k.resources(), ", "))
	default:
		return fail(stderr, "session kill", fmt.Errorf("session %d of %s was told to end, and has not within %s: %s goes on, as a commit does; see fdtctl sessions",
			k.ID, plain(k.User), killWithin, k.work()))
	}
	return 0
}

// await looks at a session until it has no transaction any more, or is gone, or its code goes on without its resources.
func (k *killed) await(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, killWithin)
	defer cancel()
	socket := filepath.Join(dir, k.Worker+".sock")
	for {
		var all []pgwire.Activity
		err := control.Call(ctx, socket, control.OpSessions, control.Sessions{}, &all)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) { // it is gone, with all its sessions
			return err
		}
		i := slices.IndexFunc(all, func(a pgwire.Activity) bool { return a.PID == k.ID })
		if k.Ended = i < 0 || all[i].Transaction.IsZero(); i >= 0 {
			k.session = sessionOf(k.Worker, &all[i])
		}
		if k.Ended || k.cut() {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// cut tells whether the session's code goes on without the resources that it has used.
func (k *killed) cut() bool {
	return len(k.Places) > 0 && !slices.ContainsFunc(k.Places, func(p txn.Place) bool { return p.Cut.IsZero() })
}

// resources are those that the transaction is on.
func (k *killed) resources() (names []string) {
	for _, p := range k.Places {
		names = append(names, p.Resource)
	}
	return names
}

// work is what the session is at.
func (k *killed) work() string {
	if k.Procedure != "" {
		return "procedure " + plain(k.Procedure)
	}
	return "its last statement"
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
