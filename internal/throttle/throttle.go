// Package throttle bounds the lines of a log that strangers can bring about any number of times, as by a refused login. They are
// logged one by one while they are rare. Of a flood a line is logged every few seconds, which says how many were left out.
package throttle

import (
	"log/slog"
	"sync"
	"time"
)

const (
	flood  = 60              // lines in a row
	ebbing = 2 * time.Second // until one more is due
)

// LeftOut is an attribute: how many lines were not logged before this one.
const LeftOut = "left_out"

// Throttle bounds the lines of one kind. The zero value is ready for use; methods may be called concurrently.
type Throttle struct {
	// Rate is how many lines a second are logged, and how many in a row; zero: as package throttle says. It must not change.
	Rate int

	mu   sync.Mutex
	full time.Time // when all lines in a row are due again
	left int
}

// Due tells whether a line is to be logged now, and how many were left out before it.
func (t *Throttle) Due(now time.Time) (left int, ok bool) {
	row, each := flood, ebbing
	if t.Rate > 0 {
		row, each = t.Rate, time.Second/time.Duration(t.Rate)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full.Before(now) {
		t.full = now
	}
	if t.full.Sub(now) > time.Duration(row-1)*each {
		t.left++
		return 0, false
	}
	t.full = t.full.Add(each)
	left, t.left = t.left, 0
	return left, true
}

// Sparing returns log for one line: with the number of those that were left out before it, or one that discards the line.
func (t *Throttle) Sparing(log *slog.Logger) *slog.Logger {
	left, ok := t.Due(time.Now())
	switch {
	case !ok:
		return slog.New(slog.DiscardHandler)
	case left > 0:
		return log.With(LeftOut, left)
	}
	return log
}

// Calls chooses the lines of calls: each that is slow, within the bounds of package throttle, and so many of the others. Methods may be
// called concurrently.
type Calls struct {
	// Slow is how long a slow call takes; zero: none is slow.
	Slow time.Duration

	slow, others Throttle
}

// NewCalls returns one that takes rate of the others a second; zero: none.
func NewCalls(slow time.Duration, rate int) *Calls {
	return &Calls{Slow: slow, others: Throttle{Rate: rate}}
}

// Any tells whether any call can have a line.
func (c *Calls) Any() bool { return c.Slow > 0 || c.others.Rate > 0 }

// Due tells whether a call that took that long is to be logged now, whether it was slow, and how many were left out before it.
func (c *Calls) Due(took time.Duration) (slow bool, left int, ok bool) {
	lines := &c.others
	if slow = c.Slow > 0 && took >= c.Slow; slow {
		lines = &c.slow
	} else if c.others.Rate == 0 {
		return false, 0, false
	}
	left, ok = lines.Due(time.Now())
	return slow, left, ok
}
