// Package pgwire serves PostgreSQL's frontend/backend protocol, version 3, on
// the connections of a drain.Server: every session is one distributed
// transaction after another. No SQL of a client reaches a database, and a
// request that was read is answered before the session says goodbye.
//
// The rules are those of chapter "Frontend/Backend Protocol" of the PostgreSQL
// manual; what a client is told in each state follows PostgreSQL 15 itself.
//
// One connection's flow reads top to bottom in this file.
package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/lane"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/throttle"
	"github.com/fdtserver/fdt/internal/trace"
	tables "github.com/fdtserver/fdt/pgwire/catalog"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// Defaults of Server's limits.
const (
	DefaultStartupTimeout = 30 * time.Second
	DefaultReserveTimeout = 10 * time.Second
	DefaultStallTimeout   = time.Minute
	DefaultMaxStatements  = 4096
	DefaultMaxMemory      = 64 << 20
	DefaultMaxTotal       = 256 << 20
)

// lingering is how long a session may take to read the last message.
const lingering = 5 * time.Second

// rollbackTimeout bounds the rolling back of a transaction whose client has
// gone; what a resource still holds then is its fencing's.
const rollbackTimeout = 30 * time.Second

// Server serves sessions. Its fields must not change once it serves; its
// zero value but for Manager and Procedures is usable, and lets nobody in.
type Server struct {
	Manager    *txn.Manager
	Procedures *procedure.Set

	// Listeners says how clients come in by each listener, by its name as
	// drain.Conn tells it. Connections of others are refused.
	Listeners map[string]Listener

	// IdleTimeout is how long a session may be silent in a transaction;
	// zero is for ever. A client's idle_in_transaction_session_timeout can
	// only make it shorter.
	IdleTimeout time.Duration

	// StartupTimeout bounds startup and authentication. While no slot is free, a
	// client that is silent before it is known goes sooner, with 53300.
	StartupTimeout time.Duration

	// ReserveTimeout is how long a session that has no slot yet may be
	// silent: then it takes one if there is one, or goes, as others may
	// need its place to settle a prepared transaction.
	ReserveTimeout time.Duration

	// StallTimeout is how long a message may take from its first byte to its
	// last, and how long a client may leave a reply unread.
	StallTimeout time.Duration

	// MaxMessage is the longest message in bytes that is taken.
	MaxMessage int

	// MaxStatements is how many prepared statements and portals a session
	// may hold.
	MaxStatements int

	// MaxMemory is how many bytes a session may hold in statements, portals,
	// settings and savepoints, together with what its request makes: texts,
	// what is parsed of them, and values.
	MaxMemory int

	// MaxTotal is how many bytes all sessions together may hold and make, but
	// for the first 256 KiB of each. What they take of the process's memory is
	// about four times that at most, as there are copies and garbage.
	MaxTotal int

	// Lane, if set, is what long requests of all workers share, so that they leave a processor to those who ask for little. The server
	// is the one who uses it in this process.
	Lane *lane.Lane

	// Origin makes the process numbers of this worker's sessions tell
	// where they are; Relay passes on a CancelRequest that belongs to
	// another worker, and may be nil.
	Origin Origin
	Relay  func(ctx context.Context, pid uint32, secret []byte)

	// Elsewhere lists the sessions of the host's other workers, as far as
	// they answer soon, and may be nil.
	Elsewhere func(ctx context.Context) []Activity

	// SlowCall is how long a call takes, or a statement that ends a transaction,
	// that Logger gets a line of, which tells whose it was and what became of
	// it; zero: of none. CallRate is of how many others a second it gets one.
	SlowCall time.Duration
	CallRate int

	// Tracer gets the spans of calls and of ends of transactions; nil: none is
	// made.
	Tracer *trace.Exporter

	// Logger gets what an operator should know: refused clients, cut
	// sessions. slog.Default if nil.
	Logger *slog.Logger

	computing *turns // of sessions with long requests
	greeting  *turns // of clients that log in
	memory    pool

	sessions  registry
	waiting   waiting
	catalogue *tables.Catalogue
	calls     map[*procedure.Procedure]*calls
	fatal     meter.Counts // by class of SQLSTATE

	failing, refusing, ending throttle.Throttle // of lines in the log
	lines                     *throttle.Calls   // of calls
	once                      sync.Once
}

// Listener is how clients come in.
type Listener struct {
	Auth Authenticator
	Name string // as operators know it; empty: as drain.Conn tells it
	// TLS, if set, must be used, by SSLRequest or directly, unless it is
	// Optional. A CancelRequest may come without, as libpq sends it.
	TLS      *tls.Config
	Optional bool
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.StartupTimeout == 0 {
			s.StartupTimeout = DefaultStartupTimeout
		}
		if s.ReserveTimeout == 0 {
			s.ReserveTimeout = DefaultReserveTimeout
		}
		if s.StallTimeout == 0 {
			s.StallTimeout = DefaultStallTimeout
		}
		if s.MaxMessage == 0 {
			s.MaxMessage = DefaultMaxMessage
		}
		if s.MaxStatements == 0 {
			s.MaxStatements = DefaultMaxStatements
		}
		if s.MaxMemory == 0 {
			s.MaxMemory = DefaultMaxMemory
		}
		s.lines = throttle.NewCalls(s.SlowCall, s.CallRate)
		s.catalogue = tables.New(s.Procedures)
		for name, f := range builtins {
			s.catalogue.Add(name, &f)
		}
		if s.MaxTotal == 0 {
			s.MaxTotal = DefaultMaxTotal
		}
		s.memory.most = int64(max(s.MaxTotal, s.MaxMemory))
		s.computing, s.greeting = newTurns(s.Lane), newTurns(nil)
		s.calls = map[*procedure.Procedure]*calls{}
		for _, name := range s.Procedures.Names() {
			p, _ := s.Procedures.Lookup(name)
			s.calls[p] = new(calls)
		}
	})
}

// Handle serves one connection and returns when it has ended; it is the
// Handler of a drain.Server.
func (s *Server) Handle(ctx context.Context, c *drain.Conn) {
	s.init()
	se := s.session(ctx, c)
	if !se.start() {
		return
	}
	se.converse()
}

func (s *Server) session(ctx context.Context, c *drain.Conn) *session {
	se := &session{server: s, conn: c, ctx: ctx, wire: wire{max: s.MaxMessage, stall: s.StallTimeout}, share: share{of: &s.memory}, turn: turn{of: s.greeting}}
	se.wire.conn = &polite{c, ctx, &se.turn}
	return se
}

// converse serves a session that has begun, to its end.
func (se *session) converse() {
	se.turn.of = se.server.computing
	se.wire.long = se.long
	defer se.share.cover(0)
	defer se.server.sessions.remove(se)
	se.conn.Watch(true)
	se.conn.Movable(se.tls == nil)
	err := se.serve()
	se.finish(err)
}

// serve answers messages until the client leaves, with nil, or something ends
// the session.
func (se *session) serve() error {
	defer se.turn.rest()
	for {
		err := se.wait()
		if err != nil {
			return err
		}
		se.text = 0
		kind, body, err := se.wire.message()
		_ = se.conn.SetReadDeadline(time.Time{}) // of the message; a closed connection fails in Read
		unread := errors.Is(err, errLong)
		if err != nil && !unread {
			return err
		}
		leave, err := se.dispatch(kind, body, unread)
		giveBuffer(body)
		if leave || err != nil {
			return err
		}
	}
}

// wait blocks until the client sends something. Before it blocks, the reply
// is out, and the connection is idle unless a transaction is open.
func (se *session) wait() error {
	if se.wire.buffered() {
		return nil
	}
	se.turn.rest()
	se.work = 0
	se.share.cover(se.keeps())
	if se.move() {
		return errMoved
	}
	limit, reason := se.patience()
	_ = se.conn.SetReadDeadline(limit) // a closed connection fails in Read
	listen := se.wire.await
	if se.leaving {
		listen = se.farewell
	}
	err := listen()
	if err == nil {
		se.conn.SetBusy()
		_ = se.conn.SetReadDeadline(time.Now().Add(se.server.StallTimeout)) // for the rest of the message
		return nil
	}
	if errors.Is(err, drain.ErrMove) {
		return se.wait()
	}
	if errors.Is(err, drain.ErrExpired) || errors.Is(err, drain.ErrDeadline) {
		if se.move() { // what stood in its way may be over
			return errMoved
		}
		return errGoodbye
	}
	if errors.Is(err, drain.ErrTerminated) {
		return errTerminated
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if errors.Is(reason, errNoSlot) && se.slot() {
			return se.wait()
		}
		return reason
	}
	return err
}

// slot takes a slot if one is free.
func (se *session) slot() bool {
	ctx, cancel := context.WithCancel(se.ctx)
	cancel() // do not wait
	se.reserved = se.conn.Acquire(ctx) != nil
	return !se.reserved
}

// patience returns until when the session may be silent, and why not longer.
func (se *session) patience() (limit time.Time, reason error) {
	switch {
	case se.reserved:
		return time.Now().Add(se.server.ReserveTimeout), errNoSlot
	case se.txn.State() == txn.Idle:
		if d := se.settings.milliseconds("idle_session_timeout"); d > 0 {
			limit = time.Now().Add(d)
		}
		return limit, errIdleSession
	}
	limit, reason = time.Time{}, errIdleTooLong
	idle := se.server.IdleTimeout
	if d := se.settings.milliseconds("idle_in_transaction_session_timeout"); d > 0 && (idle == 0 || d < idle) {
		idle = d
	}
	if idle > 0 {
		limit = time.Now().Add(idle)
	}
	if end, ok := se.txn.Deadline(); ok && (limit.IsZero() || end.Before(limit)) {
		limit, reason = end, errTooLong
	}
	return limit, reason
}

// finish ends the session: what is not prepared is rolled back, and the client
// is told why if it can still hear it.
func (se *session) finish(err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(se.ctx), rollbackTimeout)
	defer cancel()
	if cerr := se.txn.Close(ctx); cerr != nil {
		se.log().Warn("rolling back a session's transaction failed", "error", cerr)
	}
	se.activity.ends()
	if errors.Is(err, errMoved) {
		return // nothing is here any more to be read or written
	}
	f, told := errors.AsType[*Failure](err)
	if told {
		se.tellHeld(f.Code, 0)
		se.report(f)
	}
	se.tellHeld(errParted.Code, 0)
	se.wire.flush() // with replies that were held back, as more input was there
	if se.tls != nil {
		_ = se.tls.CloseWrite() // a client that has gone misses nothing
	}
	switch {
	case told:
		se.server.fatal.Add(classOf(f))
		se.linger()
		if f != errParted && f.Code != errGoodbye.Code {
			se.server.ending.Sparing(se.log()).Info("session ended by the server", "sqlstate", f.Code, "reason", f.Message)
		}
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, drain.ErrHangup):
	default:
		se.log().Debug("connection lost", "error", err)
	}
	_ = se.conn.Close() // the server closes it too
}

// linger lets the client read the last message: it may be in the middle of a long message, or of many, and see nothing before it has sent
// them. What it sends is read in turns, as that takes time.
func (se *session) linger() {
	se.conn.Part(lingering)
	ctx := context.WithoutCancel(se.ctx)
	in := polite{se.conn, ctx, &se.turn}
	b := make([]byte, piece)
	var err error
	for err == nil {
		se.turn.goOn(ctx)
		_, err = in.Read(b)
	}
	se.turn.rest()
}

func (se *session) log() *slog.Logger {
	return se.server.logger().With("user", se.user, "listener", se.conn.Listener(), "remote", se.conn.Peer())
}
