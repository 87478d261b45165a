package pgwire

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Origin names a worker within the 31 bits of a process number: five of the
// generation, ten of the slot, sixteen of the session.
type Origin struct {
	Generation int // as many live at once differ in their low five bits
	Slot       int // below 1024
}

const sessionBits = 16

func (o Origin) bits() uint32 {
	return uint32(o.Generation&0x1f)<<10 | uint32(o.Slot&0x3ff) //nolint:gosec // masked
}

// Owns tells whether a session with the process number is this worker's.
func (o Origin) Owns(pid uint32) bool { return pid>>sessionBits == o.bits() }

// Lengths in bytes of a session's secret. Protocol 3.2 made it longer: a client may be given from 4 to
// maxSecret bytes.
const (
	shortSecret = 4
	longSecret  = 32 // as PostgreSQL 18
	maxSecret   = 256
)

// registry finds sessions by process number.
type registry struct {
	mu   sync.Mutex
	next uint32
	byID map[uint32]*session
}

// add gives a session its process number, and fills its secret.
func (r *registry) add(se *session, o Origin) {
	_, _ = rand.Read(se.secret) // never fails, crypto/rand.Read
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[uint32]*session{}
	}
	if r.next == 0 { // a session that came far may have a number of this worker's: an earlier one had the same bits
		r.next = uint32(mathrand.IntN(1<<sessionBits - 1)) //nolint:gosec // it need not be hard to guess: the secret is
	}
	for {
		r.next = r.next%(1<<sessionBits-1) + 1
		pid := o.bits()<<sessionBits | r.next
		if _, taken := r.byID[pid]; !taken {
			se.pid = pid
			r.byID[pid] = se
			return
		}
	}
}

// reserve keeps a process number for a session that may come from elsewhere, if it is free.
func (r *registry) reserve(pid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[uint32]*session{}
	}
	if _, taken := r.byID[pid]; taken {
		return false
	}
	r.byID[pid] = nil
	return true
}

// settle enters a session whose process number was reserved.
func (r *registry) settle(se *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[se.pid] = se
}

// list returns the sessions, in the order of their numbers.
func (r *registry) list() []*session {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.byID))
	r.mu.Unlock()
	all = slices.DeleteFunc(all, func(se *session) bool { return se == nil }) // reserved
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.pid, b.pid) })
	return all
}

func (r *registry) remove(se *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, se.pid)
}

// Cancel cancels the statement that the session runs, if it runs one, and tells
// whether the session is here. A wrong secret does nothing, as PostgreSQL.
func (s *Server) Cancel(pid uint32, secret []byte) bool {
	s.sessions.mu.Lock()
	se := s.sessions.byID[pid]
	s.sessions.mu.Unlock()
	if se == nil {
		return false
	}
	if subtle.ConstantTimeCompare(se.secret, secret) == 1 {
		se.interrupt()
	}
	return true
}

// interrupt cancels the statement that the session runs, if it runs one.
func (se *session) interrupt() {
	se.running.Lock()
	defer se.running.Unlock()
	if se.cancel != nil {
		se.cancel(errCanceled)
	}
}

// Interrupt does for an operator what PostgreSQL's pg_cancel_backend and pg_terminate_backend do: it cancels the
// statement that the session runs, with 57014, or ends the session, with 57P01, which rolls back what is not prepared;
// a commit that has begun goes on to its end. It returns what the session was at, or false if it is not here, and does
// not wait for the effect.
func (s *Server) Interrupt(pid uint32, end bool) (Activity, bool) {
	s.sessions.mu.Lock()
	se := s.sessions.byID[pid]
	s.sessions.mu.Unlock()
	if se == nil {
		return Activity{}, false
	}
	was := se.activity.read()
	if end {
		return was, se.conn.Terminate() // else it has just moved
	}
	se.interrupt()
	return was, true
}

// request serves a CancelRequest, for a session here or elsewhere: a session
// keeps its number when it moves.
func (s *Server) request(ctx context.Context, pid uint32, secret []byte) {
	if !s.Cancel(pid, secret) && s.Relay != nil {
		s.Relay(ctx, pid, secret)
	}
}

// short is the length in bytes of a message of which it is not worth while to
// stop the reading.
const short = 16 << 10

// cancellable is run for what takes time only if the message is long.
func (se *session) cancellable(length int, f func(ctx context.Context) error) error {
	if length < short {
		return f(se.ctx)
	}
	return se.run(f)
}

// run calls f with a context that CancelRequest and statement_timeout end.
func (se *session) run(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(se.ctx)
	defer cancel(nil)
	if d := se.settings.milliseconds("statement_timeout"); d > 0 {
		// No deadline: what looks at one by itself, as net.Dialer, may fail before the context ends, and hide why.
		defer time.AfterFunc(d, func() { cancel(errTimedOut) }).Stop()
	}
	se.running.Lock()
	se.cancel = cancel
	se.running.Unlock()
	se.asked = ctx
	err := f(ctx)
	se.asked = nil
	se.running.Lock()
	se.cancel = nil
	se.running.Unlock()
	if err != nil {
		return explain(ctx, err)
	}
	return nil
}
