package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/master"
)

// parse parses flags that may stand before and after the arguments, of which there must be exactly n.
// done is true if the command ends here, with the exit code.
func parse(flags *flag.FlagSet, args []string, n int, stderr io.Writer) (rest []string, code int, done bool) {
	flags.SetOutput(stderr)
	for {
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, 0, true
		case err != nil:
			return nil, 2, true
		}
		if flags.NArg() == 0 {
			break
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
	if len(rest) != n {
		fmt.Fprintf(stderr, "%s: %d arguments given, %d wanted\n", flags.Name(), len(rest), n)
		return nil, 2, true
	}
	return rest, 0, false
}

var (
	// errSilent is a master that lives and does not answer in time.
	errSilent = errors.New("the master does not answer: systemctl status fdt")
	// errMasterLost and errBusLost say that one of them went away before the answer came.
	errMasterLost = errors.New("the master died or was restarted before it answered; see fdtctl status and journalctl -u fdt")
	errBusLost    = errors.New("the system bus was restarted before the master answered; see fdtctl status")
)

// call calls the master. The error is its reason, in full, or that of the
// context's end.
func call(ctx context.Context, method string, out any, args ...any) error {
	err := ask(ctx, method, out, args...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func ask(ctx context.Context, method string, out any, args ...any) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("the system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	c := conn.Object(master.BusName, master.BusPath).CallWithContext(ctx, master.BusInterface+"."+method, dbus.FlagNoAutoStart, args...)
	if c.Err == nil && out != nil {
		return c.Store(out)
	}
	if e, ok := errors.AsType[dbus.Error](c.Err); ok {
		switch e.Name {
		case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
			return errors.New("the master does not run: systemctl status fdt")
		case "org.freedesktop.DBus.Error.NoReply", master.ErrorLeaving:
			return errMasterLost
		case "org.freedesktop.DBus.Error.AccessDenied":
			return errors.New("only root may do this; members of group fdt may ask for the status")
		}
		return errors.New(e.Error())
	}
	if errors.Is(c.Err, io.EOF) || errors.Is(c.Err, dbus.ErrClosed) {
		return errBusLost
	}
	return c.Err
}

func fail(stderr io.Writer, what string, err error) int {
	fmt.Fprintf(stderr, "fdtctl %s: %v\n", what, err)
	return 1
}

// aWhile is what drain leaves to a generation if nothing else is given.
const aWhile = 10 * time.Second

func runDrain(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl drain", flag.ContinueOnError)
	now := flags.Bool("now", false, "cut what is left at once; a commit in progress still finishes")
	within := flags.Duration("within", aWhile, "deadline for what is left")
	rest, code, done := parse(flags, args, 1, stderr)
	if done {
		return code
	}
	gen, err := strconv.ParseUint(rest[0], 10, 31)
	if err != nil {
		fmt.Fprintf(stderr, "fdtctl drain: %q is not a generation\n", rest[0])
		return 2
	}
	switch {
	case *within < 0, *now && *within != aWhile:
		fmt.Fprintln(stderr, "fdtctl drain: give --now, or --within and a time from now")
		return 2
	case *now:
		*within = time.Millisecond
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Second, errSilent)
	defer cancel()
	if err := call(ctx, "Drain", nil, uint32(gen), within.String()); err != nil {
		return fail(stderr, "drain", err)
	}
	fmt.Fprintf(stdout, "generation %d was told to end within %s\n", gen, *within)
	return 0
}

func status(ctx context.Context) (master.Status, error) {
	var s master.Status
	var text string
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errSilent)
	defer cancel()
	if err := call(ctx, "Status", &text); err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

func runStatus(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl status", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print everything as JSON")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	s, err := status(context.Background())
	if err != nil {
		return fail(stderr, "status", err)
	}
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(s); err != nil {
			return fail(stderr, "status", err)
		}
		return 0
	}
	printStatus(stdout, s)
	return 0
}

// printStatus is the table for people.
func printStatus(w io.Writer, s master.Status) {
	fmt.Fprintln(w, s.Line())
	if s.Rejected != "" {
		fmt.Fprintf(w, "\nConfiguration not applied:\n%s\n", s.Rejected)
	}
	if s.Degraded != "" {
		fmt.Fprintf(w, "\nA worker failed:\n%s\n", s.Degraded)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "\nWORKER\tGENERATION\tSTATE\tPID\tCONNECTIONS\tBUSY\tTHREADS\tACCEPTED\n")
	for _, g := range s.Generations {
		for _, k := range g.Workers {
			if k.Live == nil {
				fmt.Fprintf(t, "%d-%d\t%d\t%s\t-\t-\t-\t-\t-\n", g.Generation, k.Slot, g.Generation, k.State)
				continue
			}
			fmt.Fprintf(t, "%d-%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\n", g.Generation, k.Slot, g.Generation, k.State,
				k.Live.PID, k.Live.Open, k.Live.Busy, k.Live.Threads, k.Live.Accepted)
		}
	}
	fmt.Fprintf(t, "\nLISTENER\tSTATE\n")
	for _, l := range s.Listeners {
		state := "closed"
		if l.Open {
			state = "open"
		}
		fmt.Fprintf(t, "%s\t%s\n", l.Unit, state)
	}
	_ = t.Flush() // to the same place as the lines above
}

// runStopHook is ExecStop= of fdt-stop.service.
func runStopHook(args []string, _, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl stop-hook", flag.ContinueOnError)
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	log := slog.New(journal.New(os.Stderr, slog.LevelInfo))
	m := master.New(master.Options{Version: version, Logger: log, Status: notify.Status, Ready: notify.Status})
	if err := m.Stop(ctx); err != nil {
		log.Error("the stop is not complete", "error", err)
		return 1
	}
	return 0
}
