// Package throttle bounds the lines of a log that strangers can bring about any number of times, as by a refused login. They are
// logged one by one while they are rare. Of a flood a line is logged every few seconds, which says how many were left out.
package throttle

import (
	"log/slog"
	"sync"
	"time"
)

const (
	flood   = 60              // lines in a row
	ebbing  = 2 * time.Second // until one more is due
	leftOut = "left_out"      // attribute: lines that were not logged before this one
)

// Throttle bounds the lines of one kind. The zero value is ready for use; methods may be called concurrently.
type Throttle struct {
	mu   sync.Mutex
	full time.Time // when all of flood are due again
	left int
}

// due tells whether a line is to be logged now, and how many were left out before it.
func (t *Throttle) due(now time.Time) (left int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full.Before(now) {
		t.full = now
	}
	if t.full.Sub(now) > (flood-1)*ebbing {
		t.left++
		return 0, false
	}
	t.full = t.full.Add(ebbing)
	left, t.left = t.left, 0
	return left, true
}

// Sparing returns log for one line: with the number of those that were left out before it, or one that discards the line.
func (t *Throttle) Sparing(log *slog.Logger) *slog.Logger {
	left, ok := t.due(time.Now())
	switch {
	case !ok:
		return slog.New(slog.DiscardHandler)
	case left > 0:
		return log.With(leftOut, left)
	}
	return log
}
