package application

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/txn"
)

const (
	// askEvery is how often a resource is asked how it fares, beside what transactions ask of it.
	askEvery = 5 * time.Second
	// askWithin is how long its answer may take.
	askWithin = 5 * time.Second
)

// health is what a worker knows of its resources without a transaction: whether each answers, since when, how fast, and what of
// it does not suit transactions. Each has a goroutine that asks, in run.
type health struct {
	list          []txn.Resource
	every, within time.Duration
	heard         func(ctx context.Context, resource string, err error)
	log           *slog.Logger
	look          func(ctx context.Context) error // has resources paused as an operator wants them

	mu    sync.Mutex
	of    map[string]control.Resource
	first sync.WaitGroup // until each was asked once
}

// watching returns the health of a configuration's resources, of none of which anything is known yet.
func watching(cfg *config.Config, list []txn.Resource, m *txn.Manager, log *slog.Logger) *health {
	h := &health{list: list, every: askEvery, within: askWithin, heard: m.Heard, log: log, of: map[string]control.Resource{}}
	for _, r := range list {
		h.of[r.Name()] = control.Resource{Name: r.Name(), Type: cfg.Resources[r.Name()].Type, State: control.ResourceUnknown}
	}
	h.first.Add(len(list))
	return h
}

// run asks each resource again and again until ctx ends.
func (h *health) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, r := range h.list {
		all.Go(func() {
			done := sync.OnceFunc(h.first.Done)
			defer done()
			for ctx.Err() == nil {
				_ = h.look(ctx) // it logs; here it finds what nobody has told this worker of
				h.ask(ctx, r)
				done()
				select {
				case <-ctx.Done():
				case <-time.After(h.every/2 + rand.N(h.every)): // not all workers at once
				}
			}
		})
	}
}

// asked returns when every resource was asked once, or ctx ends.
func (h *health) asked(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends with run at the latest
		h.first.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// known is what was found last.
func (h *health) known() map[string]control.Resource {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.of)
}

// ask asks one resource, and takes its answer in.
func (h *health) ask(ctx context.Context, r txn.Resource) {
	within, cancel := context.WithTimeoutCause(ctx, h.within, fmt.Errorf("no answer within %s", h.within))
	defer cancel()
	began := time.Now()
	warnings, err := resources.CheckOne(within, r)
	state, took := control.ResourceReachable, time.Since(began)
	if err != nil {
		state = control.ResourceUnreachable
		if _, silent := r.Identity(within); silent == nil { // it is there; but was it, a moment ago?
			state = control.ResourceUnfit
			if warnings, err = resources.CheckOne(within, r); err == nil {
				state = control.ResourceReachable
			}
		}
	}
	if err != nil && within.Err() != nil {
		state, err = control.ResourceUnreachable, context.Cause(within)
	}
	if ctx.Err() != nil || errors.Is(err, txn.ErrExhausted) || errors.Is(err, txn.ErrPaused) {
		return // nothing is known by that
	}
	if state == control.ResourceUnreachable {
		h.heard(ctx, r.Name(), err)
	} else {
		h.heard(ctx, r.Name(), nil)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.of[r.Name()]
	is := control.Resource{Name: was.Name, Type: was.Type, State: state, Since: was.Since, Warnings: warnings}
	if was.State != is.State {
		is.Since = time.Now()
	}
	if err == nil {
		is.Latency = took.Seconds()
	} else {
		is.Fault = err.Error()
		for _, about := range []string{"resource " + r.Name() + ": ", "resource " + r.Name() + " is not available: "} {
			is.Fault = strings.TrimPrefix(is.Fault, about)
		}
		is.Warnings = was.Warnings // as it was last seen
	}
	h.of[r.Name()] = is
	h.tell(ctx, was, is)
}

// tell has the journal say what is new about a resource's settings. (That it went away or came back the Manager says.)
func (h *health) tell(ctx context.Context, was, is control.Resource) {
	for _, text := range is.Warnings {
		if !slices.Contains(was.Warnings, text) {
			h.log.WarnContext(ctx, "a database does not suit transactions", "warning", text, "message_id", journal.ResourceUnsuited)
		}
	}
	if is.State == control.ResourceUnfit && is.Fault != was.Fault {
		h.log.WarnContext(ctx, "a database does not suit transactions", "warning", "resource "+is.Name+": "+is.Fault, "message_id", journal.ResourceUnsuited)
	}
}
