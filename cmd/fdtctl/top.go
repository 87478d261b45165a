package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/tally"
	"github.com/fdtserver/fdt/master"
)

// leastInterval keeps top from being a load of its own.
const leastInterval = 100 * time.Millisecond

// errNoScreen is standard input or output that is no terminal, or one that cannot do what a full screen needs.
var errNoScreen = errors.New("this needs a terminal; without one there is fdtctl sessions --json")

// glance is what was seen at one time.
type glance struct {
	at            time.Time
	status        master.Status
	statusFault   error // why there is no status
	sessions      []session
	sessionsFault error // why some are missing
	load          load
}

// load is what workers did since the glance before.
type load struct {
	known  bool
	rate   float64 // calls in a second
	within float64 // seconds that 99 of 100 calls took at most, as far as the histogram tells; 0: there was none
}

// runTop shows status and sessions until it is told to end, which is success.
func runTop(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl top", flag.ContinueOnError)
	interval := flags.Duration("interval", time.Second, "time from one look to the next")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	if *interval < leastInterval {
		fmt.Fprintf(stderr, "fdtctl top: --interval is %s at least\n", leastInterval)
		return 2
	}
	out, _ := screenOf(stdout)
	if out == nil || os.Getenv("TERM") == "dumb" {
		return fail(stderr, "top", errNoScreen)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	defer stop()
	l := looker{sockets: workerSockets(), counts: snapshot.Dir(own().Run()).Metrics()}
	if err := top(ctx, os.Stdin, out, *interval, l.look); err != nil {
		return fail(stderr, "top", err)
	}
	return 0
}

// top has the terminal until q is typed or the context ends.
func top(ctx context.Context, in, out *os.File, interval time.Duration, look func(context.Context) glance) error {
	signalled := ctx
	screen, err := takeScreen(in, out)
	if err != nil {
		return fmt.Errorf("%w (%w)", errNoScreen, err)
	}
	defer screen.leave()
	ctx, end := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer end(nil)
	typed, seen := make(chan string), make(chan glance)
	all.Go(func() { screen.keys(ctx, typed, end) })
	all.Go(func() {
		defer func() {
			if p := recover(); p != nil { // it would leave the terminal as it is
				end(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		lookAgain(ctx, interval, look, seen)
	})
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	var g glance
	v := view{by: "id"}
	for {
		select {
		case <-ctx.Done():
			if signalled.Err() != nil {
				return nil
			}
			return context.Cause(ctx)
		case keys := <-typed:
			if !v.typed(keys) {
				return nil
			}
		case g = <-seen:
		case <-resized:
		}
		if !g.at.IsZero() { // else nothing was seen yet
			columns, lines := screen.size()
			err = screen.draw(topScreen(g, &v, columns, lines))
		}
		if err != nil {
			return err
		}
	}
}

// lookAgain looks, and passes on what it sees, at once and then in intervals.
func lookAgain(ctx context.Context, interval time.Duration, look func(context.Context) glance, seen chan<- glance) {
	for {
		select {
		case seen <- look(ctx):
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
	}
}

// looker asks the master and the workers, and remembers their counts.
type looker struct {
	sockets, counts string // directories
	last            map[life]durations
	at              time.Time // of last; zero before the first look
}

func (l *looker) look(ctx context.Context) glance {
	var g glance
	var all sync.WaitGroup
	all.Go(func() { g.status, g.statusFault = status(ctx) })
	within, cancel := context.WithTimeoutCause(ctx, workersWithin, errWorkerSilent)
	defer cancel()
	all.Go(func() { g.sessions, g.sessionsFault = sessions(within, l.sockets) })
	counts, _ := tally.Read(within, l.counts) // who does not answer tells no sessions either, and that is said
	g.load = l.since(slices.Concat(counts.Live, counts.Left), time.Now())
	all.Wait()
	g.at = time.Now()
	return g
}

// life is one life of a worker.
type life struct {
	generation, slot int
	started          int64 // nanoseconds of Unix time
}

// durations are how many calls took up to so many seconds, and more than the bound before.
type durations map[float64]uint64

func durationsOf(w meter.Worker) durations {
	d := durations{}
	for _, calls := range w.Calls {
		for i, n := range calls.Duration.Counts {
			bound := math.Inf(1)
			if i < len(calls.Duration.Bounds) {
				bound = calls.Duration.Bounds[i]
			}
			d[bound] += n
		}
	}
	return d
}

// since is the load since the counts before, which these replace. A worker that was silent then tells of more than that time, so it is
// left out this once.
func (l *looker) since(workers []meter.Worker, now time.Time) load {
	before, from := l.last, l.at
	l.last, l.at = map[life]durations{}, now
	took := durations{}
	var calls uint64
	for _, w := range workers {
		key := life{w.Generation, w.Slot, w.Started.UnixNano()}
		is := durationsOf(w)
		l.last[key] = is
		was, known := before[key]
		if !known && w.Started.Before(from) {
			continue
		}
		for bound, n := range is {
			took[bound] += n - was[bound]
			calls += n - was[bound]
		}
	}
	if from.IsZero() || !now.After(from) {
		return load{}
	}
	return load{known: true, rate: float64(calls) / now.Sub(from).Seconds(), within: took.within(calls)}
}

// within is the least bound that 99 of 100 of these calls kept.
func (d durations) within(calls uint64) float64 {
	var bounds []float64
	for bound, n := range d {
		if n > 0 {
			bounds = append(bounds, bound)
		}
	}
	slices.Sort(bounds)
	var upTo uint64
	for _, bound := range bounds {
		if upTo += d[bound]; 100*upTo >= 99*calls {
			return bound
		}
	}
	return 0
}
