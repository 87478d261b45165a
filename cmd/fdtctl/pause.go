package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/internal/snapshot"
)

const pauseUsage = `Usage: fdtctl pause [--timeout D] [--json] RESOURCE
       fdtctl pause [--timeout D] [--json] --all

New transactions that need the RESOURCE, a database, wait until fdtctl resume, for as
long as their own limits let them. Those that use it already may end. Returns when
nothing uses it any more and fdt has no connection to it: it can be restarted then. If
it takes longer than the timeout, is interrupted, or cannot tell its outcome, all goes on
as before. Of several commands for one resource each takes back only its own part; fdtctl
resume ends them all.
`

const resumeUsage = `Usage: fdtctl resume [--json] RESOURCE
       fdtctl resume [--json] --all

Ends fdtctl pause: who waits for the RESOURCE goes on. It warns of what a transaction
that is tried there then fails by.
`

// pauseLook is between two looks at what still uses a resource.
const pauseLook = 100 * time.Millisecond

// errPauseLate is the cause of what --timeout ends.
var errPauseLate = errors.New("not within the timeout")

// pausing is an operator's command at work.
type pausing struct {
	dir   snapshot.Dir
	by    string
	id    string       // of what this command asks for
	shown string       // the last that was told of what is waited for
	heard func() error // nil while somebody may read what is told
}

func newPausing(dir snapshot.Dir, by string) *pausing {
	return &pausing{dir: dir, by: by, id: rand.Text(), heard: func() error { return hangup(os.Stdout, os.Stderr) }}
}

// hangup is an error when a pipe, connection or terminal that is written to has nobody at its other end, as when ssh has ended.
func hangup(outputs ...*os.File) error {
	for _, f := range outputs {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}} //nolint:gosec // a descriptor
		if _, err := unix.Poll(fds, 0); err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 && !journal.Attached(f) {
			return errors.New("nobody reads the output any more")
		}
	}
	return nil
}

// runPause pauses resources for maintenance. It exits 0 when nothing uses them any more, 1 if they are not paused.
func runPause(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	signal.Ignore(unix.SIGPIPE) // whose output is gone takes back what it has asked for
	return newPausing(snapshot.Dir(own().Run()), settle.OperatorName()).pause(ctx, args, stdout, stderr)
}

// runResume ends that.
func runResume(args []string, stdout, stderr io.Writer) int {
	return newPausing(snapshot.Dir(own().Run()), settle.OperatorName()).resume(context.Background(), args, stdout, stderr)
}

// chosen reads a command line: one resource, or all.
func chosen(flags *flag.FlagSet, usage string, args []string, stderr io.Writer) (name string, code int, done bool) {
	all := flags.Bool("all", false, "all resources that can be paused")
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	rest, code, done := parse(flags, args, anyNumber, stderr)
	if done {
		return "", code, true
	}
	if *all && len(rest) == 0 {
		return "", 0, false
	}
	if *all || len(rest) != 1 {
		flags.Usage()
		return "", 2, true
	}
	return rest[0], 0, false
}

func (p *pausing) pause(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl pause", flag.ContinueOnError)
	within := flags.Duration("timeout", 0, "how long to wait for what uses the resource; 0: without an end")
	asJSON := flags.Bool("json", false, "print the outcome as JSON")
	name, code, done := chosen(flags, pauseUsage, args, stderr)
	if done {
		return code
	}
	if *within > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, *within, errPauseLate)
		defer stop()
	}
	names, err := p.reach(ctx, name, func(line string) error {
		_, err := fmt.Fprintln(stderr, line)
		return err
	})
	if err != nil {
		return fail(stderr, "pause", err)
	}
	if err := p.report(names, *asJSON, stdout); err != nil { // nobody knows of the pause, so nobody would end it
		return fail(stderr, "pause", errors.Join(fmt.Errorf("the output is lost: %w", err), p.takeBack(names)))
	}
	return 0
}

// report prints that resources are paused.
func (p *pausing) report(names []string, asJSON bool, stdout io.Writer) error {
	if asJSON {
		paused, err := p.dir.Pauses()
		if err != nil {
			return err
		}
		return encode(stdout, paused)
	}
	for _, name := range names {
		if _, err := fmt.Fprintf(stdout, "%s is paused: nothing uses it, and fdt has no connection to it. fdtctl resume %s ends that.\n", name, name); err != nil {
			return err
		}
	}
	return nil
}

// reach pauses a resource, or all, and returns their names when nothing uses them. After an error nothing is paused that no other
// command has asked for.
func (p *pausing) reach(ctx context.Context, name string, tell func(string) error) (names []string, err error) {
	uses, err := p.uses(ctx)
	if err != nil { // also if what is paused cannot be read
		return nil, err
	}
	names = slices.Sorted(maps.Keys(uses))
	switch {
	case len(uses) == 0:
		return nil, errors.New("no worker has a resource that can be paused: a postgres or mariadb")
	case name != "" && !slices.Contains(names, name):
		return nil, fmt.Errorf("there is no postgres or mariadb %q that a worker uses: there is %s", name, strings.Join(names, ", "))
	case name != "":
		names = []string{name}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.takeBack(names))
			names = nil
		}
	}()
	asker := snapshot.Asker{ID: p.id, By: p.by, Since: time.Now().UTC()}
	for _, name := range names {
		if err := p.dir.Ask(name, asker); err != nil {
			return names, err
		}
	}
	if err := p.await(ctx, names, tell, func(u control.Use) int { return u.Branches + u.Untold }); err != nil {
		return names, err
	}
	for _, name := range names {
		if err := p.dir.Detach(name, p.id); err != nil {
			return names, err
		}
	}
	return names, p.await(ctx, names, tell, func(u control.Use) int { return u.Connections })
}

// await returns when all workers have the resources paused, and left is none for each. It is an error that somebody has resumed one.
func (p *pausing) await(ctx context.Context, names []string, tell func(string) error, left func(control.Use) int) error {
	for {
		uses, err := p.uses(ctx)
		for _, name := range names { // after the look, so that they were paused when it was taken
			if over := p.dir.Asks(name, p.id); over != nil {
				return over
			}
		}
		var holds []string
		for _, name := range names {
			u := uses[name]
			if left(u) > 0 {
				holds = append(holds, fmt.Sprintf("%s (transactions there: %d, decisions untold: %d, connections: %d; waiting: %d)",
					name, u.Branches, u.Untold, u.Connections, u.Waiting))
			}
		}
		line := "waiting for " + strings.Join(holds, ", ")
		switch {
		case err != nil:
			line = "waiting for workers: " + err.Error()
		case len(holds) == 0:
			return nil
		}
		if line != p.shown {
			p.shown = line
			if err := tell(line); err != nil {
				return fmt.Errorf("the output is lost: %w", err)
			}
		}
		if err := p.heard(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", context.Cause(ctx), line)
		case <-time.After(pauseLook):
		}
	}
}

// takeBack ends the pause of resources, as far as this command has asked for it.
func (p *pausing) takeBack(names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, p.dir.Drop(name, p.id))
	}
	_, err := p.uses(context.Background())
	return errors.Join(append(errs, err)...)
}

// uses has every worker look at what is paused, and returns what uses each resource, of all workers together.
func (p *pausing) uses(ctx context.Context) (map[string]control.Use, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, workersWithin, errWorkerSilent)
	defer cancel()
	all := map[string]control.Use{}
	var mu sync.Mutex
	err := eachWorker(filepath.Join(string(p.dir), "worker"), func(_, socket string) error {
		var told map[string]control.Use
		err := control.Call(ctx, socket, control.OpUses, nil, &told)
		if errors.Is(err, control.ErrUnknownOp) {
			return nil // another program, which has none
		}
		mu.Lock()
		defer mu.Unlock()
		for name, u := range told {
			sum := all[name]
			sum.Branches += u.Branches
			sum.Untold += u.Untold
			sum.Connections += u.Connections
			sum.Waiting += u.Waiting
			all[name] = sum
		}
		return err
	})
	return all, err
}

func (p *pausing) resume(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl resume", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print the outcome as JSON")
	name, code, done := chosen(flags, resumeUsage, args, stderr)
	if done {
		return code
	}
	paused, err := p.dir.Pauses()
	if _, is := paused[name]; name != "" && !is && err == nil {
		err = fmt.Errorf("%s is not paused", name)
	}
	names := slices.Sorted(maps.Keys(paused))
	if name != "" {
		names = []string{name}
	}
	if len(names) == 0 && err == nil {
		err = errors.New("nothing is paused")
	}
	for _, name := range names {
		if err == nil {
			err = p.dir.Resume(name, p.by)
		}
	}
	if err == nil {
		_, err = p.uses(ctx)
	}
	switch {
	case err != nil:
		return fail(stderr, "resume", err)
	case *asJSON:
		code = printJSON("resume", names, stdout, stderr)
	default:
		for _, name := range names {
			fmt.Fprintf(stdout, "%s is used again: who waited goes on.\n", name)
		}
	}
	for _, w := range p.rehearse(ctx, names) {
		fmt.Fprintf(stderr, "warning: %s\n", w)
	}
	return code
}

// rehearse has a worker of each generation try its resources, as no reload does while they are paused, and returns what is wrong with these.
func (p *pausing) rehearse(ctx context.Context, names []string) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, control.CheckTimeout, fmt.Errorf("no answer within %s", control.CheckTimeout))
	defer cancel()
	tried, found := map[int]bool{}, map[string]bool{}
	var mu sync.Mutex
	err := eachWorker(filepath.Join(string(p.dir), "worker"), func(worker, socket string) error {
		gen, _, _ := service.ParseInstance(worker)
		mu.Lock()
		first := !tried[gen]
		tried[gen] = true
		mu.Unlock()
		if !first {
			return nil
		}
		var answer control.Check
		err := control.Call(ctx, socket, control.OpCheck, nil, &answer)
		if errors.Is(err, control.ErrUnknownOp) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			if fault := answer.Faults[name]; fault != "" {
				found[fmt.Sprintf("%s: transactions of generation %d fail there: %s", name, gen, fault)] = true
			}
		}
		return err
	})
	if err != nil {
		found["not rehearsed: "+err.Error()] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// unrehearsed tells which of the applied resources a reload has not tried, as they are paused.
func unrehearsed(dir snapshot.Dir, applied []control.Resource) (lines []string) {
	paused, err := dir.Pauses()
	for _, r := range applied {
		if _, is := paused[r.Name]; is {
			lines = append(lines, fmt.Sprintf("%s is paused: it was not rehearsed; fdtctl resume %s does that", r.Name, r.Name))
		}
	}
	if err != nil {
		lines = append(lines, "what is paused cannot be read: "+err.Error())
	}
	return append(lines, stranded(paused, applied)...)
}

// stranded tells what is paused that is none of the applied resources, if these are known.
func stranded(paused map[string]snapshot.Pause, applied []control.Resource) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(paused)) {
		if len(applied) > 0 && !slices.ContainsFunc(applied, func(r control.Resource) bool { return r.Name == name }) {
			lines = append(lines, fmt.Sprintf("%s is paused, and no resource any more: should one have the name again, it is paused until fdtctl resume %s", name, name))
		}
	}
	return lines
}
