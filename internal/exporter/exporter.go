// Package exporter tells Prometheus how fdt fares. It asks and reads, and changes nothing: a scrape starts no unit but
// the exporter's own. It answers within [Patience], whatever state fdt and its workers are in; who does not answer in
// time is told as such, beside the others.
//
// Every worker's counters are series of their own, by generation and slot, as Prometheus wants them: rate() and
// increase() know the restart of one from a fall of their sum, which every reload would bring. What all workers tell
// alike is told once.
package exporter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// Patience bounds the asking of systemd and workers; a scrape has ten seconds by Prometheus' default.
const Patience = 2 * time.Second

// facts are what was found for one scrape.
type facts struct {
	units  []fleet.Unit    // nil: systemd did not answer
	state  snapshot.Counts // of the master; zero before the first start
	live   []meter.Worker  // who answered
	silent []place         // who did not
	left   []meter.Worker  // who has ended
}

// place names a worker.
type place struct{ generation, slot int }

// gather finds the facts. The error tells what could not be found out; the rest was.
func gather(ctx context.Context, run snapshot.Dir) (facts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, fmt.Errorf("no answer within %s", Patience))
	defer cancel()
	var f facts
	var mu sync.Mutex
	var errs []error
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		units, err := fleet.List(ctx)
		note(err)
		f.units = units
	})
	dir := run.Metrics()
	sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is sound
	for _, path := range sockets {
		gen, slot, ok := unit.ParseInstance(strings.TrimSuffix(filepath.Base(path), ".sock"))
		if !ok {
			continue
		}
		all.Go(func() {
			var w meter.Worker
			err := control.Call(ctx, path, control.OpMetrics, nil, &w)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, syscall.ECONNREFUSED) {
				return // left by one that was killed
			}
			if err != nil {
				f.silent = append(f.silent, place{gen, slot})
				errs = append(errs, err)
				return
			}
			w.Generation, w.Slot = gen, slot // it does not speak for another
			f.live = append(f.live, w)
		})
	}
	all.Wait()

	state, err := run.ReadCounts()
	if !errors.Is(err, fs.ErrNotExist) {
		note(err)
	}
	f.state = state
	// After the asking: who ended meanwhile has left its counts.
	left, err := meter.Left(dir)
	note(err)
	f.left = f.ended(left)
	return f, errors.Join(errs...)
}

// ended drops those who live again, or told their counts a moment before they ended.
func (f *facts) ended(left []meter.Worker) []meter.Worker {
	live := map[place]bool{}
	for _, w := range f.live {
		live[place{w.Generation, w.Slot}] = true
	}
	var out []meter.Worker
	for _, w := range left {
		if !live[place{w.Generation, w.Slot}] {
			out = append(out, w)
		}
	}
	return out
}
