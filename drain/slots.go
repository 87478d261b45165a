package drain

import (
	"container/list"
	"context"
	"slices"
)

// slots is the budget of connections. Server.mu guards it.
type slots struct {
	total    int
	free     int       // of total
	reserve  int       // how many may be in the reserve when accepted
	reserved int       // connections that have no slot
	porch    int       // how many strangers may be there without a slot; 0: nobody is a stranger
	outside  int       // strangers without a slot
	silent   list.List // of *Conn: strangers of whom nothing was heard yet, the oldest first
	heard    list.List // of *Conn: the others
	waiting  []*waiter // first come first served
}

// waiter is a connection in Acquire.
type waiter struct {
	c     *Conn
	ready chan struct{} // closed when the slot is c's
}

// place is what a connection holds of the budget.
type place uint8

const (
	onSlot    place = iota // one of Threads
	onReserve              // none: accepted on the reserve, or from a queue that was about to go
	onPorch                // none, as a stranger
)

// admission is what an accept loop may take.
type admission uint8

const (
	slotOnly  admission = iota
	orReserve           // what has waited long enough
	unlimited           // what would be reset otherwise
)

// take takes a place for a connection that is about to be accepted. If it may not, l is woken at the
// next change.
func (s *Server) take(l *loop, a admission) (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.slots.free > 0:
		s.slots.free--
		return onSlot, true
	case a == slotOnly, a == orReserve && s.slots.full():
	case s.slots.porch > 0:
		s.slots.outside++
		return onPorch, true
	default:
		s.slots.reserved++
		return onReserve, true
	}
	l.hungry = true
	return 0, false
}

// full tells whether nobody may be accepted without a slot.
func (s *slots) full() bool {
	return s.reserved >= s.reserve || s.porch > 0 && s.outside >= s.porch
}

// give gives a place back.
func (s *Server) give(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(p)
}

// release is give with s.mu held. A slot goes to who waits for one; a place that is free wakes the
// accept loops that found none.
func (s *Server) release(p place) {
	switch {
	case p == onReserve:
		s.slots.reserved--
	case p == onPorch:
		s.slots.outside--
	case len(s.slots.waiting) > 0:
		w := s.slots.waiting[0]
		s.slots.waiting = slices.Delete(s.slots.waiting, 0, 1)
		w.c.place = onSlot
		s.slots.reserved--
		close(w.ready)
	default:
		s.slots.free++
	}
	for l := range s.loops {
		if l.hungry {
			l.hungry = false
			notify(l.wake)
		}
	}
}

// Acquire waits until the connection has a slot; one that was not accepted on the reserve has. It
// returns the cause of ctx's end if that comes first.
func (c *Conn) Acquire(ctx context.Context) (err error) {
	s := c.loop.server
	s.mu.Lock()
	if c.place == onSlot {
		s.mu.Unlock()
		return nil
	}
	if c.place == onPorch {
		s.mu.Unlock()
		c.Welcome()
		return c.Acquire(ctx)
	}
	if s.seat(c) {
		s.mu.Unlock()
		return nil
	}
	w := &waiter{c: c, ready: make(chan struct{})}
	s.slots.waiting = append(s.slots.waiting, w)
	s.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots.waiting = slices.DeleteFunc(s.slots.waiting, func(o *waiter) bool { return o == w })
	if c.place != onSlot { // else it came at the same moment, and the connection keeps it
		err = context.Cause(ctx)
	}
	return err
}

// Reserved reports that the connection has no slot yet: see Acquire.
func (c *Conn) Reserved() bool {
	s := c.loop.server
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.place == onReserve
}
