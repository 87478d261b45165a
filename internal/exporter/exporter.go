// Package exporter tells Prometheus how fdt fares. It asks and reads, and changes nothing: a scrape starts no unit but
// the exporter's own. It answers within [Patience], whatever state fdt and its workers are in; who does not answer in
// time is told as such, beside the others.
//
// What workers count is told as one sum, in which the counts of those that have ended stay: so it falls at no worker's
// end, and the number of series does not grow with that of workers. What all workers tell alike is told once.
package exporter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/tally"
)

// Patience bounds the asking of systemd and workers; a scrape has ten seconds by Prometheus' default.
const Patience = 2 * time.Second

// facts are what was found for one scrape.
type facts struct {
	svc    service.Service
	units  []fleet.Unit    // nil: systemd did not answer
	state  snapshot.Counts // of the master; zero before the first start
	live   []meter.Worker  // who answered
	silent []place         // who did not
	left   []meter.Worker  // who has ended, in any life of its place
}

// place names a worker.
type place = tally.Place

// gather finds the facts. The error tells what could not be found out; the rest was.
func gather(ctx context.Context, svc service.Service, run snapshot.Dir) (facts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, fmt.Errorf("no answer within %s", Patience))
	defer cancel()
	f := facts{svc: svc}
	var uerr error
	var asked sync.WaitGroup
	asked.Go(func() { f.units, uerr = fleet.List(ctx, svc) })
	counts, cerr := tally.Read(ctx, run.Metrics())
	asked.Wait()
	f.live, f.silent, f.left = counts.Live, counts.Silent, counts.Left
	state, err := run.ReadCounts()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	f.state = state
	return f, errors.Join(uerr, cerr, err)
}
