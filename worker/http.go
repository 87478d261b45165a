package worker

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// unhurried is an *http.Server that ends without dropping a request that it has accepted. Once
// http.Server.Shutdown was called, the server closes connections whose request it reads after that,
// unanswered: the ones just accepted, and kept ones with a request on its way. So here the listeners are
// closed first, from then on each answer says "Connection: close" (RFC 9112, 9.6), and Shutdown comes when
// every connection is doing nothing or has long been at its request.
//
// What is left to lose is the request that a client sends on a kept connection, on which it has sent
// nothing for a second, at the very moment of its close. HTTP/1.1 has no goodbye that could prevent that.
type unhurried struct {
	*http.Server
	handler  http.Handler
	patience patience
	draining atomic.Bool

	mu        sync.Mutex
	listeners []net.Listener
	accepting int // loops that may still bring a connection, though its listener be closed
	conns     map[net.Conn]condition
}

// condition is what a connection is doing, and since when.
type condition struct {
	state http.ConnState
	since time.Time
}

// patience says for how long Shutdown waits for a connection in a state, from the change to that state or
// from the drain's beginning, whichever was later. A state that is not there is not waited for.
type patience map[http.ConnState]time.Duration

// ordinary: a client may take its time to send the first request, after which net/http's own Shutdown gives it up,
// too; a request that is in hand stays so, and need not end here; an idle connection may have a request on its way.
func ordinary() patience {
	return patience{http.StateNew: 5 * time.Second, http.StateActive: time.Second, http.StateIdle: time.Second}
}

// look is how often Shutdown looks at the connections.
const look = 20 * time.Millisecond

// unhurry takes the server over: its Handler and ConnState are called from then on by those put in their place.
func unhurry(s *http.Server, p patience) *unhurried {
	u := &unhurried{Server: s, handler: s.Handler, patience: p, conns: make(map[net.Conn]condition)}
	if u.handler == nil {
		u.handler = http.DefaultServeMux
	}
	s.Handler = http.HandlerFunc(u.answer)
	s.ConnState = u.note(s.ConnState)
	return u
}

func (u *unhurried) answer(w http.ResponseWriter, r *http.Request) {
	if u.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	u.handler.ServeHTTP(w, r)
}

// note returns a ConnState that keeps the books and calls next.
func (u *unhurried) note(next func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		u.mu.Lock()
		if state == http.StateClosed || state == http.StateHijacked {
			delete(u.conns, c)
		} else {
			u.conns[c] = condition{state, time.Now()}
		}
		u.mu.Unlock()
		if next != nil {
			next(c, state)
		}
	}
}

// Serve returns an error after Shutdown, and accepts nothing any more.
func (u *unhurried) Serve(l net.Listener) error {
	u.mu.Lock()
	u.listeners = append(u.listeners, l)
	over := u.draining.Load()
	if !over {
		u.accepting++
	}
	u.mu.Unlock()
	if over {
		_ = l.Close() // nothing was accepted
		return http.ErrServerClosed
	}
	err := u.Server.Serve(l)
	u.mu.Lock()
	u.accepting--
	u.mu.Unlock()
	return err
}

// Shutdown waits, as patience says, and then is http.Server's.
func (u *unhurried) Shutdown(ctx context.Context) error {
	begun := time.Now()
	u.mu.Lock()
	u.draining.Store(true)
	for _, l := range u.listeners {
		_ = l.Close() // http.Server closes them again, and reports it
	}
	u.mu.Unlock()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for u.unsettled(begun) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return u.Server.Shutdown(ctx)
		}
	}
	return u.Server.Shutdown(ctx)
}

// unsettled tells whether there is a connection to wait for, or may be one of which nothing is noted yet.
func (u *unhurried) unsettled(begun time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.accepting > 0 {
		return true
	}
	for _, c := range u.conns {
		since := c.since
		if since.Before(begun) {
			since = begun
		}
		if time.Since(since) < u.patience[c.state] {
			return true
		}
	}
	return false
}
