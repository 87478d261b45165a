package pgwire

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/lane"
)

// What computes for long, or for strangers, takes turns, so that it stands in
// nobody's way who asks for little: one session's long request computes at a
// time, and one client that logs in. The runtime's scheduler alone would have a
// short request wait behind all of them, for up to 10 ms each; and as long as
// none of its processors is idle it looks only every 10 ms for what came from
// the network. Nobody holds a turn who waits for anything.
const (
	// light is how many bytes of statements and values a request may make before
	// it is a long one: what an ordinary one does takes some ten microseconds.
	light = 16 << 10
	// slice is how long a turn is while others wait for theirs.
	slice = time.Millisecond
)

// Turns is how many goroutines compute for long at the same time.
const Turns = 2

// turns is a queue for turns: who comes first is first.
type turns struct {
	one  chan struct{} // has a token while somebody has the turn
	lane *lane.Lane    // of all workers, to whose turns it belongs, too; nil: none
}

func newTurns(l *lane.Lane) *turns { return &turns{make(chan struct{}, 1), l} }

// take waits for the turn, and returns false if ctx ends before.
func (t *turns) take(ctx context.Context) bool {
	select {
	case t.one <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if t.lane != nil && !t.lane.Take(ctx) {
		<-t.one
		return false
	}
	return true
}

func (t *turns) rest() {
	if t.lane != nil {
		t.lane.Rest()
	}
	<-t.one
}

// turn is one goroutine's place in a queue. The zero value never waits.
type turn struct {
	of   *turns
	held bool
	till time.Time
}

// take waits for a turn, unless it is held. Where ctx ends before, there is none, and who asks for what ctx is for will be told.
func (t *turn) take(ctx context.Context) {
	if t.of == nil || t.held {
		return
	}
	if t.of.take(ctx) {
		t.held, t.till = true, time.Now().Add(slice)
	}
}

// rest gives the turn up, if it is held.
func (t *turn) rest() {
	if t.held {
		t.held = false
		t.of.rest()
	}
}

// goOn is take for one who may hold the turn for longer than a slice: the others come first then.
func (t *turn) goOn(ctx context.Context) {
	if t.held && time.Now().After(t.till) {
		t.rest()
	}
	t.take(ctx)
}

// polite is a client's connection, on which nobody waits with a turn. What is there already is read with it, as that takes time, too.
type polite struct {
	*drain.Conn
	ctx  context.Context //nolint:containedctx // the connection's own
	turn *turn
}

func (p *polite) Read(b []byte) (int, error) {
	if !p.turn.held || p.Pending() {
		return p.Conn.Read(b)
	}
	p.turn.rest()
	n, err := p.Conn.Read(b)
	p.turn.take(p.ctx)
	return n, err
}

// Write writes with the turn what goes at once, a piece at a time.
func (p *polite) Write(b []byte) (n int, err error) {
	for p.turn.held && n < len(b) && err == nil {
		next := b[n:min(len(b), n+piece)]
		m := p.TryWrite(next)
		if m == 0 {
			p.turn.rest()
			m, err = p.Conn.Write(next)
		}
		n += m
		p.turn.goOn(p.ctx)
	}
	if n < len(b) && err == nil {
		m, werr := p.Conn.Write(b[n:])
		n, err = n+m, werr
	}
	return n, err
}
