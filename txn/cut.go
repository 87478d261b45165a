package txn

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Cuttable is a Branch that can be taken from the code that works on it.
type Cuttable interface {
	// Cut closes the branch's connection to its store, whatever is being done
	// there, so that the store undoes the branch; it does not wait for that. The
	// code's calls fail from then on, and the connection is used for nothing else.
	// Others call it than all other methods, at any time before one of Prepare,
	// Commit and Rollback is called. By the proof Resolve ends what the store has
	// of the branch. It is false if the branch has no connection any more.
	Cut() (Proof, bool)
}

// leash is by what an open transaction is taken from code that goes on with it.
// The session lets go of it before it ends the transaction, so that nothing is
// cut that votes or commits.
type leash struct {
	mu     sync.Mutex
	tx     *transaction // that has branches; nil without one
	held   []held       // they
	cut    error        // why it was cut off; nil: it was not
	until  time.Time    // when its time is up; zero: never
	timer  *time.Timer  // of that; nil before the first
	guards []*guard     // the innermost is the last
}

// held is a branch, and how it is known to others than its session.
type held struct {
	branch Branch
	id     BranchID // its proof is of when it was cut off
	cut    bool
}

// guard is a call of code that may not look at its context.
type guard struct {
	by    string
	ended error // why its context has ended, if it still goes on Limits.Grace after that; nil otherwise
	timer *time.Timer
	over  bool
}

// over is why the open transaction is not to be used any more; nil if it may be.
func (l *leash) over() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overLocked()
}

func (l *leash) overLocked() error {
	cause := l.cut
	for _, g := range l.guards {
		cause = cmp.Or(cause, g.ended)
	}
	return cutOff(cause)
}

// cutOff is what code is told of a transaction that was cut off; nil without a cause.
func cutOff(cause error) error {
	if cause == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrCutOff, cause)
}

// hold takes a branch that has just begun on the leash. The error says that the
// transaction was cut off meanwhile.
func (s *Session) hold(e *enlisted) error {
	l := &s.leash
	until, _ := s.Deadline()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tx = s.tx
	l.held = append(l.held, held{branch: e.branch, id: e.id})
	if err := l.overLocked(); err != nil {
		s.cutLocked("", err)
		return err
	}
	s.awaitLocked(until)
	return nil
}

// awaitLocked has the transaction cut off Limits.Grace after its time is up.
func (s *Session) awaitLocked(until time.Time) {
	l := &s.leash
	if until.Equal(l.until) {
		return
	}
	l.until = until
	switch wait := time.Until(until) + s.m.opt.Limits.Grace; {
	case until.IsZero():
		l.timer.Stop()
	case l.timer == nil:
		l.timer = time.AfterFunc(wait, s.tooLong)
	default:
		l.timer.Reset(wait)
	}
}

// Limit sets limits of the session's own beside those of Manager: the stricter hold, and zero is none. That of a
// transaction holds for the open one, too; that of waiting for a lock for resources that are enlisted from now on.
func (s *Session) Limit(transaction, lock time.Duration) {
	s.transaction, s.lock = transaction, lock
	until, _ := s.Deadline()
	s.leash.mu.Lock()
	defer s.leash.mu.Unlock()
	if s.leash.tx != nil {
		s.awaitLocked(until)
	}
}

// tooLong cuts the transaction off if its time is up.
func (s *Session) tooLong() {
	l := &s.leash
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until.IsZero() || time.Since(l.until) < s.m.opt.Limits.Grace {
		return // it was the end of another
	}
	by := ""
	if n := len(l.guards); n > 0 {
		by = l.guards[n-1].by
	}
	s.cutLocked(by, ErrTimeout)
}

// letGo takes the transaction off the leash: it can be cut off no more. It
// returns why it was, if it was.
func (l *leash) letGo() (cut error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cut = cutOff(l.cut)
	l.tx, l.held, l.cut = nil, nil, nil
	if !l.until.IsZero() {
		l.until = time.Time{}
		l.timer.Stop()
	}
	return cut
}

// Guard has the open transaction be taken from code that the caller is about to
// run, if that goes on for longer than Limits.Grace after ctx has ended: its
// branches are cut off, so that what they have locked is free, and all that the
// code still does with the session fails with ErrCutOff. The same becomes of
// every transaction that runs into its time limit, with no guard. by names the
// code for the journal. The caller calls release when the code has returned, and
// then ends the transaction as any other.
func (s *Session) Guard(ctx context.Context, by string) (release func()) {
	l := &s.leash
	g := &guard{by: by}
	l.mu.Lock()
	l.guards = append(l.guards, g)
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !g.over {
			g.timer = time.AfterFunc(s.m.opt.Limits.Grace, func() { s.ignored(g, context.Cause(ctx)) })
		}
	})
	return func() {
		stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		g.over = true
		l.guards = slices.DeleteFunc(l.guards, func(of *guard) bool { return of == g })
		if g.timer != nil {
			g.timer.Stop()
		}
	}
}

// ignored cuts the transaction off from code that goes on.
func (s *Session) ignored(g *guard, cause error) {
	s.leash.mu.Lock()
	defer s.leash.mu.Unlock()
	if !g.over {
		g.ended = cause
		s.cutLocked(g.by, cause)
	}
}

// cutLocked cuts all branches off, of which the resources are told like of those
// that could not be rolled back: what a store is at ends only by that.
func (s *Session) cutLocked(by string, cause error) {
	l := &s.leash
	if l.tx == nil {
		return
	}
	first := l.cut == nil
	l.cut = cmp.Or(l.cut, cause)
	var untold []BranchID // with those of an earlier time, whose place they take
	for i := range l.held {
		h := &l.held[i]
		if b, ok := h.branch.(Cuttable); ok && !h.cut {
			h.id.Proof, h.cut = b.Cut()
		}
		if h.cut {
			untold = append(untold, h.id)
			s.places.cut(h.id.Resource)
		}
	}
	if !l.tx.taken.Load() { // else nothing is resolved by its name
		s.m.abortLater(l.tx.gid, untold)
	}
	if first {
		s.m.log.Warn("code goes on after the end of its transaction: its branches were cut off", slog.String("work", by),
			slog.String("gid", l.tx.gid.String()), slog.String("owner", s.who.User), slog.String("remote", s.who.Addr),
			slog.Any("error", cause), event(eventCutOff))
	}
}
