package application

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/txn"
)

const (
	// headers is how long a client may take to send the head of a request.
	headers = 10 * time.Second
	// keeping is how long a connection is kept on which nothing is asked.
	keeping = time.Minute
)

// web serves HTTP on connections that drain.Server accepts, within its number
// of connections, and drains as the others do: a request that was read is
// answered, each answer then says "Connection: close" (RFC 9112, 9.6), and a
// connection on which nothing is asked is closed after drain.idle.
type web struct {
	net.Listener // as such the server has it; only the methods below are asked for

	name    string
	handler http.Handler
	manager *txn.Manager
	log     *slog.Logger
	calls   *requests // nil: none is logged
	seating time.Duration
	tls     map[string]*tls.Config // by listener
	server  *http.Server
	conns   chan net.Conn
	ended   chan struct{}
	once    sync.Once
}

// newWeb returns a web that serve is to run.
func newWeb(name string, h http.Handler, ways map[string]*tls.Config, m *txn.Manager, log *slog.Logger, seating time.Duration) *web {
	w := &web{name: name, handler: h, manager: m, log: log, seating: seating, tls: ways, conns: make(chan net.Conn), ended: make(chan struct{})}
	w.server = &http.Server{
		Handler: http.HandlerFunc(w.answer), ReadHeaderTimeout: headers, IdleTimeout: keeping,
		ConnState: state, ConnContext: within, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return w
}

// serve runs the server until stop. That it ends before would need an Accept
// that fails, and ours does not.
func (w *web) serve() { _ = w.server.Serve(w) }

// stop ends the server. Its connections have ended, or are cut.
func (w *web) stop() { _ = w.server.Close() } // it closes us, and cannot fail for more

// Accept is the server's.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.ended:
		return nil, net.ErrClosed
	}
}

// Close is the server's.
func (w *web) Close() error {
	w.once.Do(func() { close(w.ended) })
	return nil
}

// handle has the server serve a connection, until it has closed it.
func (w *web) handle(ctx context.Context, c *drain.Conn) {
	lent := &lent{Conn: c, ctx: ctx, closed: make(chan struct{})}
	var conn net.Conn = lent
	if cfg := w.tls[c.Listener()]; cfg != nil {
		conn = tls.Server(lent, cfg)
	}
	w.conns <- conn // stop comes after the last one
	<-lent.closed
}

// lent is a connection that is the server's until it closes it.
type lent struct {
	*drain.Conn
	ctx    context.Context
	seated sync.Mutex // requests of one connection may come at once, by HTTP/2
	known  bool
	once   sync.Once
	closed chan struct{}
}

// Close gives the connection back, closed.
func (l *lent) Close() error {
	err := l.Conn.Close()
	l.once.Do(func() { close(l.closed) })
	return err
}

// borrowed is the connection beneath what the server knows.
func borrowed(c net.Conn) *lent {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	l, _ := c.(*lent) // the server has no others
	return l
}

// state tells drain.Server whether a connection has work in hand.
func state(c net.Conn, is http.ConnState) {
	switch is {
	case http.StateActive:
		borrowed(c).SetBusy()
	case http.StateIdle:
		borrowed(c).SetIdle()
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

type lentKey struct{}

// within gives a connection's requests its context, which a drain's deadline
// ends.
func within(_ context.Context, c net.Conn) context.Context {
	l := borrowed(c)
	return context.WithValue(l.ctx, lentKey{}, l)
}

// seat has the connection wait for a slot, with its first request.
func (l *lent) seat(ctx context.Context, seating time.Duration) error {
	l.seated.Lock()
	defer l.seated.Unlock()
	if l.known {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, seating, ErrFull)
	defer cancel()
	l.Welcome()
	err := l.Acquire(ctx)
	l.known = err == nil
	return err
}

// answer serves one request: on a slot, and in a scope of its own.
func (w *web) answer(rw http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	l, _ := ctx.Value(lentKey{}).(*lent) // there is nothing else in it
	select {
	case <-l.Draining():
		rw.Header().Set("Connection", "close")
	default:
	}
	if err := l.seat(ctx, w.seating); err != nil {
		rw.Header().Set("Connection", "close")
		http.Error(rw, ErrFull.Error(), http.StatusServiceUnavailable)
		return
	}
	work := drain.Work{Face: w.name, Kind: r.Method, Name: r.URL.Path}
	l.Begin(&work)
	defer l.End(&work)
	scope := NewScope(ctx, w.manager, txn.Principal{User: w.name, Addr: l.Peer()}, "handler "+w.name)
	defer func() {
		if err := scope.Close(ctx); err != nil {
			w.log.WarnContext(ctx, "rolling back a request's transaction failed", "listener", l.Listener(), "remote", l.Peer(), "error", err)
		}
	}()
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // it is a value to panic with
			panicked(ctx, w.log.With("listener", l.Listener(), "remote", l.Peer()), w.name, p)
			panic(http.ErrAbortHandler) // it was told; the connection ends with it
		} else if p != nil {
			panic(p)
		}
	}()
	r = r.WithContext(scope.In(ctx))
	if w.calls == nil {
		w.handler.ServeHTTP(rw, r)
		return
	}
	a := &answered{ResponseWriter: rw, status: http.StatusOK}
	request, done := w.calls.begin(l.Peer(), r.Header.Get("Traceparent")), false
	scope.observe(request.span)
	defer func() {
		if !done && !a.sent {
			a.status = http.StatusInternalServerError // it has panicked; the client sees its connection end
		}
		request.answered(r, a.status)
		request.ended("method", method(r), "route", route(r), "status", a.status, "listener", l.Listener(), "remote", l.Peer())
	}()
	w.handler.ServeHTTP(a.as(), r)
	done = true
}
