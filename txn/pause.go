package txn

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// gate is where new branches come by a resource. It is closed while an operator
// has the resource paused; nothing is locked on the way through it.
type gate struct {
	closed   atomic.Pointer[closure] // nil: it is open
	entering atomic.Int64            // branches that have passed and are not counted by the resource yet
	waiting  atomic.Int64
}

// closure is one time that a gate is closed.
type closure struct {
	since time.Time
	whole atomic.Bool   // for everybody; else who is to end so that nothing uses the resource any more passes
	over  chan struct{} // closed when it has ended
}

// enter waits while the gate is closed, until ctx ends. Without an error the
// caller calls left when its branch has begun, or has failed to.
func (g *gate) enter(ctx context.Context, passes func(*closure) bool) error {
	for {
		g.entering.Add(1) // before the look, so that who closes the gate sees one of the two
		c := g.closed.Load()
		if c == nil || !c.whole.Load() && passes(c) {
			return nil
		}
		g.entering.Add(-1)
		g.waiting.Add(1)
		select {
		case <-c.over:
			g.waiting.Add(-1)
		case <-ctx.Done():
			g.waiting.Add(-1)
			return fmt.Errorf("%w (%w)", ErrPaused, context.Cause(ctx))
		}
	}
}

func (g *gate) left() { g.entering.Add(-1) }

// pass has a branch wait for its turn at a resource that is paused, for as long
// as the transaction may last. Without an error the gate is to be told that the
// branch has left it.
func (s *Session) pass(ctx context.Context, resource string) error {
	g := s.m.gates[resource]
	if g.entering.Add(1); g.closed.Load() == nil { // as enter has it, without any preparation
		return nil
	}
	g.left()
	if at, ok := s.Deadline(); ok {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, at, ErrTimeout)
		defer stop()
	}
	s.places.awaits(Wait{Resource: resource, For: ForResume})
	defer s.places.awaits(Wait{})
	if err := g.enter(ctx, s.tx.awaited); err != nil {
		if late := s.late(); late != nil {
			return late
		}
		return fmt.Errorf("resource %s: %w", resource, err)
	}
	return nil
}

// awaited tells whether a pause waits for the transaction: it was there before,
// or is on a resource that is being paused, too, as where all are.
func (t *transaction) awaited(c *closure) bool {
	return !t.began.After(c.since) || slices.ContainsFunc(t.branches, func(e *enlisted) bool {
		c := t.m.gates[e.id.Resource].closed.Load()
		return c != nil && !c.whole.Load()
	})
}

// Await waits while a resource is paused that the open transaction is going to
// use. It is for who knows that beforehand: a transaction that has no branch yet
// holds no lock while it waits, and one that has waits when it comes there.
func (s *Session) Await(ctx context.Context, resource string) error {
	g := s.m.gates[resource]
	if g == nil || g.closed.Load() == nil || s.tx == nil || len(s.tx.branches) > 0 {
		return nil
	}
	err := s.pass(ctx, resource)
	if err == nil {
		g.left()
	}
	return err
}

// Pause keeps new branches off a resource until Resume: they wait, for as long
// as their transaction and their context last. Transactions that began before
// may still come, and what is open goes on. With detach nobody may, and as soon
// as nothing is open there the resource lets go of its store: whoever else needs
// that meets ErrPaused, and what is yet to be told there waits. It reports false
// for a resource that is not Pausable. It is called again until Use tells of no
// connection.
func (m *Manager) Pause(resource string, detach bool) bool {
	r, ok := m.resources[resource].(Pausable)
	if !ok {
		return false
	}
	g := m.gates[resource]
	g.closed.CompareAndSwap(nil, &closure{since: time.Now(), over: make(chan struct{})})
	if detach {
		g.closed.Load().whole.Store(true)
		if u, _ := m.Use(resource); u.Branches == 0 {
			r.Detach()
		}
	}
	return true
}

// Resume ends a Pause, if there is one. What was to be told is told at once.
func (m *Manager) Resume(ctx context.Context, resource string) {
	r, ok := m.resources[resource].(Pausable)
	if !ok {
		return
	}
	if c := m.gates[resource].closed.Swap(nil); c != nil {
		r.Attach()
		m.reach(ctx, resource, nil)
		close(c.over)
	}
}

// paused tells whether a resource is.
func (m *Manager) paused(resource string) bool { return m.gates[resource].closed.Load() != nil }

// Use is what holds a resource.
type Use struct {
	Branches    int // open, or being begun
	Untold      int // decided, and yet to be told there by this process
	Connections int // to its store, with those of recovery and those that idle
	Waiting     int // branches that wait for Resume
}

// Use tells what holds a resource, if it is Pausable. Nothing new comes after a
// Pause that has returned.
func (m *Manager) Use(resource string) (u Use, ok bool) {
	r, ok := m.resources[resource].(Pausable)
	if !ok {
		return u, false
	}
	g := m.gates[resource]
	u.Waiting = int(g.waiting.Load())
	u.Branches = int(g.entering.Load()) // first: what is being begun is counted by the resource before it has left
	inUse, _, _ := r.Pool()
	u.Branches += inUse
	u.Untold, u.Connections = m.pending.CountOn(resource), r.Connections()
	return u, true
}
