package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/master"
)

func runReload(args []string, stdout, stderr io.Writer) int {
	return rollout("reload", "Reload", args, stdout, stderr)
}

func runRollback(args []string, stdout, stderr io.Writer) int {
	return rollout("rollback", "Rollback", args, stdout, stderr)
}

// rollout asks for a new generation and waits for the answer, however long the queue before it is.
func rollout(name, method string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl "+name, flag.ContinueOnError)
	wait := flags.Bool("wait-drained", false, "return only when every old generation is gone")
	asJSON := flags.Bool("json", false, "print the outcome as JSON, and no progress")
	timeout := flags.Duration("timeout", 0, "give up waiting after this time; the rollout itself goes on (0: never)")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	if *timeout < 0 {
		fmt.Fprintf(stderr, "fdtctl %s: --timeout is a time from now\n", name)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("no answer within %s; the rollout goes on, see fdtctl status", *timeout))
		defer cancel()
	}
	before, berr := status(ctx)
	progress := stdout
	if *asJSON {
		progress = io.Discard
	}
	var gen uint32
	err := watched(ctx, progress, func() error {
		err := call(ctx, method, &gen)
		if berr == nil && (errors.Is(err, errMasterLost) || errors.Is(err, errBusLost)) {
			gen, err = outcome(ctx, before, err)
		}
		return err
	})
	if err != nil {
		return fail(stderr, name, err)
	}
	done := rolledOut{Generation: gen}
	if s, err := status(ctx); err == nil { // else it is told by who asks for the status
		done.Warnings = append(cautions(s), unrehearsed(snapshot.Dir(own().Run()), s.Resources)...)
	}
	if !*asJSON {
		_, columns := screenOf(stdout)
		fmt.Fprint(stdout, done.text(columns))
	}
	if *wait {
		if err := watched(ctx, progress, func() error { return drained(ctx) }); err != nil {
			return fail(stderr, name, err)
		}
		done.Drained = true
		if !*asJSON {
			fmt.Fprintln(stdout, "older generations are gone")
		}
	}
	if *asJSON {
		return printJSON(name, done, stdout, stderr)
	}
	return 0
}

// rolledOut is the outcome of a rollout that went well, as JSON.
type rolledOut struct {
	Generation uint32   `json:"generation"`
	Drained    bool     `json:"drained"`            // older generations are gone; only if that was waited for
	Warnings   []string `json:"warnings,omitempty"` // as cautions has them
}

// text is that for people, on a screen of a width; 0: lines are as long as they are.
func (r rolledOut) text(width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation %d serves\n", r.Generation)
	for _, w := range r.Warnings {
		b.WriteString(wrapped("warning: "+w, width, "  "))
	}
	return b.String()
}

// printJSON prints the outcome of a command for programs, in the words in which it is told to people.
func printJSON(name string, v any, stdout, stderr io.Writer) int {
	if err := encode(stdout, v); err != nil {
		return fail(stderr, name, err)
	}
	return 0
}

// encode writes JSON as all commands do.
func encode(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// cautions is what an operator who has just rolled something out should know: resources that transactions cannot use, settings of
// databases, and what the configuration leaves open.
func cautions(s master.Status) []string {
	var all []string
	for _, line := range faults(s.Resources) {
		all = append(all, "resource "+line)
	}
	return slices.Concat(all, unsuited(s.Resources), s.Warnings)
}

const (
	// lookEvery is how often the status is asked for while something is waited for.
	lookEvery = 200 * time.Millisecond
	// returnPatience is how long a master or bus that went away may take to come back.
	returnPatience = 30 * time.Second
)

// outcome finds out what became of a rollout whose answer was lost: the next master finishes it, or takes it back and says why the
// configuration does not serve, or knows nothing of it.
func outcome(ctx context.Context, before master.Status, lost error) (uint32, error) {
	s, err := await(ctx, func(s master.Status) bool { return s.Pending == 0 && s.Step == master.Idle.String() })
	switch {
	case err != nil:
		return 0, err
	case s.Generation > before.Generation:
		return uint32(s.Generation), nil
	}
	return 0, errors.New(cmp.Or(s.Rejected, lost.Error()))
}

// drained returns when only one generation has workers.
func drained(ctx context.Context) error {
	_, err := await(ctx, func(s master.Status) bool { return len(s.Generations) <= 1 })
	return err
}

// await returns the first status that is enough. A master or bus that is away may take its time to come back.
func await(ctx context.Context, enough func(master.Status) bool) (master.Status, error) {
	for reached := time.Now(); ; {
		s, err := status(ctx)
		switch {
		case err == nil && enough(s), errors.Is(err, errSilent), err != nil && time.Since(reached) > returnPatience:
			return s, err
		case err == nil:
			reached = time.Now()
		}
		if err := again(ctx); err != nil {
			return s, err
		}
	}
}

// again returns when it is time for another look, or to give up.
func again(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(lookEvery):
		return nil
	}
}

// watched runs f and shows the progress meanwhile: the master's status line on a terminal, plain lines elsewhere.
func watched(ctx context.Context, stdout io.Writer, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }() // both ways wait for it
	if file, columns := screenOf(stdout); file != nil {
		return onTerminal(ctx, file, columns, done)
	}
	return asLines(ctx, stdout, done)
}

func onTerminal(ctx context.Context, terminal io.Writer, columns int, done <-chan error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer fmt.Fprint(terminal, "\r\x1b[K")
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if s, err := status(ctx); err == nil {
				fmt.Fprint(terminal, "\r\x1b[K", oneLine(s, columns))
			}
		}
	}
}

// oneLine is the status in one line of a terminal: the next does not replace a longer one.
func oneLine(s master.Status, columns int) string {
	return cut(printable.Line(s.Line()), max(1, columns-1))
}

// asLines prints a line for each change that the master tells of on the bus. Without a bus there is no progress to
// show, and f says why.
func asLines(ctx context.Context, out io.Writer, done <-chan error) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return <-done
	}
	defer func() { _ = conn.Close() }()
	changes := make(chan *dbus.Signal, 64)
	conn.Signal(changes)
	match := []dbus.MatchOption{dbus.WithMatchSender(own().BusName()), dbus.WithMatchObjectPath(master.BusPath), dbus.WithMatchInterface("org.freedesktop.DBus.Properties")}
	_ = conn.AddMatchSignal(match...) // without it nothing is heard until the answer
	last := ""
	for {
		select {
		case err := <-done:
			return err
		case s := <-changes:
			if s == nil { // the bus is gone
				return <-done
			}
			if line := progress(changedStatus(s)); line != "" && line != last {
				last = line
				fmt.Fprintln(out, line)
			}
		}
	}
}

// changedStatus is the status line in a PropertiesChanged signal, if that has it.
func changedStatus(s *dbus.Signal) string {
	if len(s.Body) < 2 {
		return ""
	}
	changed, _ := s.Body[1].(map[string]dbus.Variant)
	text, _ := changed["StatusText"].Value().(string)
	return text
}

// progress is the part of a status line about generations that come or go.
func progress(line string) string {
	var parts []string
	for part := range strings.SplitSeq(line, "; ") {
		if strings.HasPrefix(part, "generation ") && !strings.Contains(part, " listener") {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}
