package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// retry does once what is due, each resource by itself. With a wait group it
// does not wait for the end of that, and leaves what is under way alone.
func (m *Manager) retry(ctx context.Context, background *sync.WaitGroup) {
	wg := background
	if wg == nil {
		wg = new(sync.WaitGroup)
		defer wg.Wait()
	}
	for _, name := range m.pending.Begin(time.Now()) {
		wg.Go(func() { m.execute(ctx, name) })
	}
}

// execute tells a resource what is due, one after the other.
func (m *Manager) execute(ctx context.Context, resource string) {
	defer m.pending.End(resource)
	step := strings.TrimSpace("tell decisions to " + resource)
	var failed error // the first
	for ctx.Err() == nil && m.Err() == nil {
		o := m.pending.Take(resource, time.Now())
		if o == nil {
			break
		}
		if err := m.oblige(ctx, o); err != nil && !errors.Is(err, ledger.ErrHeld) && failed == nil {
			failed = fmt.Errorf("%s %s: %w", o.Of.Decision, o.Of.GID, err)
		}
	}
	if failed != nil || !m.pending.Struggles(resource) {
		m.warn(ctx, step, failed)
	}
}

// oblige meets an obligation, and those of its transaction with it if it is the
// last.
func (m *Manager) oblige(ctx context.Context, o *pending.Obligation) error {
	of := o.Of
	if o.Branch.Resource == "" {
		err := m.settleClaim(ctx, of)
		m.pending.Back(o, time.Now(), Busy, err)
		return err
	}
	if of.Asking != nil {
		return m.askAgain(ctx, o)
	}
	if ours, err := m.stillOurs(ctx, of); !ours {
		m.pending.Back(o, time.Now(), Busy, err)
		return err
	}
	within, cancel := m.within(ctx)
	defer cancel()
	hazard, err := m.tellOne(within, of.GID, of.Decision, o.Branch, of.Claim != "" || of.Unnamed != nil)
	class := m.fared(ctx, o.Branch.Resource, err)
	m.pending.Hazard(of, hazard)
	switch open := m.pending.Back(o, time.Now(), class, err); {
	case open == 0:
		m.pending.SettleClaim(of) // soon, if not now
		return m.settleClaim(ctx, of)
	case err == nil && hazard == "":
		return m.noteTold(within, of, o.Branch.Resource)
	}
	return err
}

// fared takes note of how a call to a resource went, and returns what an error
// of it means. One that does not say so itself is put to the question whether
// the resource answers at all.
func (m *Manager) fared(ctx context.Context, resource string, err error) Class {
	class := ClassOf(err)
	switch {
	case err == nil || class != "":
	case errors.Is(err, ErrExhausted): // its connections are busy, with branches that hang perhaps
		class = Busy
	default:
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), identifyWithin)
		defer cancel()
		_, silent := m.resources[resource].Identity(ask)
		class = classOfSilence(silent)
	}
	if class == Unreachable {
		m.reach(ctx, resource, err)
	} else {
		m.reach(ctx, resource, nil)
	}
	return class
}

// classOfSilence is what it means that a resource did not tell its identity, if
// it did not.
func classOfSilence(err error) Class {
	switch {
	case err == nil:
		return Refused
	case errors.Is(err, ErrExhausted):
		return Busy
	}
	return Unreachable
}
