package pgwire

import (
	"context"
	"strconv"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// Effect says of a setting what fdt-worker(8) does.
type Effect struct{ Name, Initial, Effect string }

// Settings returns all settings, with what setting them does.
func Settings() []Effect {
	var list []Effect
	for _, s := range catalog {
		e := Effect{s.name, s.initial, "applied"}
		switch {
		case s.fixed:
			e.Effect = "fixed"
		case s.single:
			e.Effect = "of one value"
		case s.idle != nil:
			e.Effect = "without effect"
		}
		list = append(list, e)
	}
	return list
}

// WaitsWithin sets how long a resource may take to tell a client for whose locks sessions wait; zero: as long as ever.
func (s *Server) WaitsWithin(d time.Duration) { s.waiting.within = d }

// Asking has resources asked about waits, as far as others see, until done is called.
func (s *Server) Asking() (done func()) {
	asking := make(chan struct{})
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	s.waiting.asking = asking
	return func() {
		s.waiting.mu.Lock()
		defer s.waiting.mu.Unlock()
		s.waiting.asking = nil
		close(asking)
	}
}

// Cursor is a cursor over rows of one number each, from 1 on.
type Cursor struct{ po portal }

// NewCursor returns one that stands before the first of n rows, and can go back unless it goes forward only.
func NewCursor(n int, forward bool) *Cursor {
	c := &Cursor{portal{forward: forward}}
	for i := range n {
		c.po.result.rows = append(c.po.result.rows, []value.Value{text(strconv.Itoa(i + 1))})
	}
	return c
}

// Fetch runs a FETCH or MOVE, and returns what it fetched.
func (c *Cursor) Fetch(sql string) ([]string, error) {
	list, err := statement.Parse(sql)
	if err != nil {
		return nil, err
	}
	rows, err := c.po.move(list[0].(statement.Fetch))
	var got []string
	for _, row := range rows {
		got = append(got, row[0].Text)
	}
	return got, err
}

// HoldTurns takes the turns of all who compute for long, and of all who log in, until release.
func (s *Server) HoldTurns() (release func()) {
	s.init()
	s.computing.take(context.Background())
	s.greeting.take(context.Background())
	return func() { s.computing.rest(); s.greeting.rest() }
}

// Shared is how many bytes are taken of the memory that all sessions share.
func (s *Server) Shared() int64 { return s.memory.taken.Load() }

// Running is how many sessions run a request that can be cancelled.
func (s *Server) Running() (n int) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for _, se := range s.sessions.byID {
		se.running.Lock()
		if se.cancel != nil {
			n++
		}
		se.running.Unlock()
	}
	return n
}
