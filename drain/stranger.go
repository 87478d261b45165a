package drain

import (
	"container/list"
	"time"
)

// A stranger is a connection whose handler does not know yet who the peer is. Strangers cost their peers
// nothing, so that there may be any number of them; they must not keep out those who are known, nor each
// other for longer than it takes to get to know one. None is turned out while nobody waits for his place.
const (
	// mute is how long a stranger keeps his place of whom nothing was heard. One that means to speak
	// sends his first request with the last of TCP's handshake, and has waited in the queue since.
	mute = 20 * time.Millisecond
	// known is how long others may take to be known: some round trips.
	known = time.Second
	// unneeded is when a place is looked for again where nobody has one to give: a change comes first.
	unneeded = time.Hour
)

// arrive makes a connection that was accepted a stranger. s.mu is held.
func (s *Server) arrive(c *Conn) {
	if s.slots.porch > 0 {
		c.among, c.element = &s.slots.silent, s.slots.silent.PushBack(c)
	}
}

// depart takes a connection from the strangers, if it is one of them. s.mu is held.
func (*Server) depart(c *Conn) {
	if c.among != nil {
		c.among.Remove(c.element)
		c.among, c.element = nil, nil
	}
}

// Heard says that a stranger has sent a first request, whole; see Server.Strangers.
func (c *Conn) Heard() {
	s := c.loop.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.among == &s.slots.silent {
		s.depart(c)
		c.among, c.element = &s.slots.heard, s.slots.heard.PushBack(c)
	}
}

// Welcome says that the connection is no stranger any more; see Server.Strangers. It has a slot now if one
// is free, and else is on the reserve.
func (c *Conn) Welcome() {
	c.mu.Lock()
	c.welcome = true
	if c.phase == crowded { // he was about to go, at the same moment
		c.phase = open
		_ = c.file.SetReadDeadline(c.deadline)
	}
	c.mu.Unlock()
	s := c.loop.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.depart(c)
	if c.place != onPorch {
		return
	}
	s.slots.reserved++
	c.place = onReserve
	s.release(onPorch)
	s.seat(c)
}

// seat gives a slot to a connection on the reserve: a free one, or a stranger's, who then has none. s.mu is held.
func (s *Server) seat(c *Conn) bool {
	switch st := s.seated(); {
	case s.slots.free > 0:
		s.slots.free--
	case st != nil:
		st.place = onPorch
		s.slots.outside++
	default:
		return false
	}
	c.place = onSlot
	s.release(onReserve)
	return true
}

// seated returns a stranger who has a slot, if there is one.
func (s *Server) seated() *Conn {
	for _, l := range []*list.List{&s.slots.silent, &s.slots.heard} {
		for e := l.Front(); e != nil; e = e.Next() {
			if c, _ := e.Value.(*Conn); c.place == onSlot { // there is nothing else in it
				return c
			}
		}
	}
	return nil
}

// turnOut makes the oldest stranger go that may have to, so that an accept loop can go on. It returns when
// to look again, and whether one goes.
func (s *Server) turnOut() (next time.Time, goes bool) {
	c, next := s.oldest(time.Now())
	if c != nil {
		c.turnOut()
	}
	return next, c != nil
}

func (s *Server) oldest(now time.Time) (*Conn, time.Time) {
	next := now.Add(unneeded)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots.reserved >= s.slots.reserve // then only a slot helps
	for _, l := range []struct {
		of   *list.List
		stay time.Duration
	}{{&s.slots.silent, mute}, {&s.slots.heard, known}} {
		for e := l.of.Front(); e != nil; e = e.Next() {
			c, _ := e.Value.(*Conn) // there is nothing else in it
			if slot && c.place != onSlot {
				continue
			}
			if due := c.since.Add(l.stay); now.Before(due) {
				next = earlier(next, due)
				break
			}
			s.depart(c)
			return c, now.Add(mute) // if its handler is slow to return
		}
	}
	return nil, next
}

// turnOut makes Read fail, also one that Linger waits in.
func (c *Conn) turnOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.welcome:
	case c.phase.reads():
		c.leave(crowded)
	case c.phase == lingering:
		_ = c.file.SetReadDeadline(past)
	}
}
