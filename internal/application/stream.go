package application

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/txn"
)

// Stream is a handler of connections, one request after another.
type Stream func(ctx context.Context, c *Conn) error

// Ends of a connection that Next tells.
var (
	// ErrDraining means that the worker is leaving, and the connection with it.
	ErrDraining = errors.New("the server is being reloaded or stopped; connect again")
	// ErrIdle means that the client was silent for transaction.idle_timeout in an open transaction.
	ErrIdle = errors.New("the client was silent in an open transaction for too long")
	// ErrFull means that no slot got free.
	ErrFull = errors.New("all slots are taken")
)

const (
	// lingering is how long a client may take to read the last message.
	lingering = 5 * time.Second
	// seating is how long a client that is known may wait for a slot, on the
	// reserve, which others need to settle what is prepared.
	seating = 10 * time.Second
)

// stream serves connections by a Stream.
type stream struct {
	name    string
	handler Stream
	idle    time.Duration          // in a transaction; 0: for ever
	tls     map[string]*tls.Config // by listener
	manager *txn.Manager
	log     *slog.Logger
	calls   *requests // nil: none is logged
	seating time.Duration
}

// Conn is a connection at a Stream.
type Conn struct {
	Scope  *Scope
	Reader *bufio.Reader

	drained *drain.Conn
	peer    net.Conn // with encryption, if there is any
	stream  *stream
	ctx     context.Context
	known   bool
	work    drain.Work
	asked   *asked // the request in hand; nil: none is, or nobody is told
}

// handle serves one connection.
func (s *stream) handle(ctx context.Context, c *drain.Conn) {
	conn := &Conn{drained: c, peer: c, stream: s, ctx: ctx, work: drain.Work{Face: s.name, Kind: "a request of a stream"}}
	if cfg := s.tls[c.Listener()]; cfg != nil {
		conn.peer = tls.Server(c, cfg)
	}
	conn.Reader = bufio.NewReader(conn.peer)
	conn.Scope = NewScope(ctx, s.manager, txn.Principal{User: s.name, Addr: c.Peer()}, "handler "+s.name)
	log := s.log.With("listener", c.Listener(), "remote", c.Peer())
	c.Begin(&conn.work)
	err := s.run(conn.Scope.In(ctx), conn, log)
	conn.done()
	if cerr := conn.Scope.Close(ctx); cerr != nil {
		log.WarnContext(ctx, "rolling back a connection's transaction failed", "error", cerr)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrDraining) && ctx.Err() == nil {
		log.InfoContext(ctx, "a connection's handler has failed", "handler", s.name, "error", err)
	}
	if t, ok := conn.peer.(*tls.Conn); ok {
		_ = t.CloseWrite() // a client that has gone misses nothing
	}
	c.Linger(lingering)
}

// run calls the handler. Its panic costs this connection alone.
func (s *stream) run(ctx context.Context, c *Conn, log *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked(ctx, log, s.name, p)
			err = io.EOF // it was told
		}
	}()
	return s.handler(ctx, c)
}

// panicked logs a handler's panic with its stack.
func panicked(ctx context.Context, log *slog.Logger, name string, p any) {
	log.ErrorContext(ctx, "a handler has panicked", slog.String("handler", name), slog.String("panic", fmt.Sprint(p)),
		slog.String("stack", string(debug.Stack())), journal.ID(journal.HandlerPanicked))
}

// Next waits for the next request's first byte, which Reader then has. Until
// it is called, the connection has work in hand, which a drain lets end; while
// it waits, it has not, unless a transaction is open. The error is io.EOF when
// the client has closed, one of those above, or why the connection failed.
func (c *Conn) Next() error {
	c.done()
	c.drained.End(&c.work)
	defer c.drained.Begin(&c.work)
	err := c.next()
	if err == nil && c.stream.calls != nil {
		c.asked = c.stream.calls.begin(c.Peer(), "")
		c.Scope.observe(c.asked.span)
	}
	return err
}

// done notes the end of the request in hand.
func (c *Conn) done() {
	if c.asked != nil {
		c.Scope.observe(nil)
		c.asked.ended("listener", c.drained.Listener(), "remote", c.Peer())
		c.asked = nil
	}
}

// next waits for the next request.
func (c *Conn) next() error {
	if c.Reader.Buffered() > 0 {
		return nil
	}
	c.drained.Watch(false)
	err := c.await()
	switch {
	case errors.Is(err, drain.ErrExpired), errors.Is(err, drain.ErrDeadline):
		return ErrDraining
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrIdle
	case err != nil:
		return err
	}
	c.drained.SetBusy()
	_ = c.drained.SetReadDeadline(time.Time{}) // a closed connection fails in Read
	c.drained.Watch(true)
	return c.seat()
}

// await waits for input.
func (c *Conn) await() error {
	if c.Scope.Open() {
		_ = c.drained.SetReadDeadline(c.patience()) // a closed connection fails in Read
	} else {
		c.drained.SetIdle()
		select {
		case <-c.drained.Draining():
			if c.known && !c.drained.Pending() {
				return drain.ErrExpired
			}
		default:
		}
	}
	_, err := c.Reader.Peek(1)
	return err
}

// patience is until when the client may be silent in the open transaction.
func (c *Conn) patience() (limit time.Time) {
	if c.stream.idle > 0 {
		limit = time.Now().Add(c.stream.idle)
	}
	if end, ok := c.Scope.Session().Deadline(); ok && (limit.IsZero() || end.Before(limit)) {
		limit = end
	}
	return limit
}

// seat has the connection wait for a slot, with its first request.
func (c *Conn) seat() error {
	if c.known {
		return nil
	}
	c.known = true
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.stream.seating, ErrFull)
	defer cancel()
	c.drained.Welcome()
	return c.drained.Acquire(ctx)
}

// Write writes to the client.
func (c *Conn) Write(b []byte) (int, error) { return c.peer.Write(b) }

// Peer says in a word who is at the other end.
func (c *Conn) Peer() string { return c.drained.Peer() }
