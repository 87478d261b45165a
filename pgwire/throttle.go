package pgwire

import (
	"log/slog"
	"sync"
	"time"
)

// What strangers can bring about any number of times, as a refused login, is
// logged one by one while it is rare. Of a flood a line is logged every few
// seconds, which says how many were left out.
const (
	flood   = 60              // lines in a row
	ebbing  = 2 * time.Second // until one more is due
	leftOut = "left_out"      // attribute: lines that were not logged before this one
)

// throttle bounds the lines of one kind.
type throttle struct {
	mu   sync.Mutex
	full time.Time // when all of flood are due again
	left int
}

// due tells whether a line is to be logged now, and how many were left out before it.
func (t *throttle) due(now time.Time) (left int, ok bool) {
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

// sparing is the log for a line about the session's client of which there may be too many: it leaves those out.
func (se *session) sparing(t *throttle) *slog.Logger {
	left, ok := t.due(time.Now())
	switch {
	case !ok:
		return slog.New(slog.DiscardHandler)
	case left > 0:
		return se.log().With(leftOut, left)
	}
	return se.log()
}
