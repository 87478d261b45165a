// Package drain serves connections with a fixed concurrency and stops without losing one. It accepts
// only while one of [Server].Threads slots is free, so what it cannot serve stays in the kernel's queue
// for another process; it holds no goroutine, timer or buffer per connection beyond the handler's own.
//
// The package runs on Linux alone: it works on descriptors, with accept4(2), epoll(7) and the socket
// options of tcp(7) and unix(7).
//
// A connection is idle or busy, as its handler says. When the server drains, the handler sees
// [Conn.Draining] closed and says goodbye with its next reply; one that stays idle for [Server].Idle
// gets [ErrExpired] from Read; at the deadline all contexts are cancelled with [ErrDeadline], and a
// Grace later what is left is closed with [ErrForced].
package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults for fields of Server that are zero.
const (
	DefaultThreads = 256
	DefaultIdle    = 5 * time.Second
	DefaultGrace   = 5 * time.Second
)

// ErrServerClosed is what Serve returns once Shutdown or Close has been called.
var ErrServerClosed = errors.New("drain: server closed")

// ErrCrowded is what Read returns, inside a *net.OpError, to a stranger whose place another needs: see
// Server.Strangers.
var ErrCrowded error = &timeout{"drain: another connection needs the place"}

// Causes, see context.Cause, with which a connection's context ends before its handler returns.
// ErrDeadline and ErrTerminated are also what Read returns from then on.
var (
	ErrHangup           = errors.New("drain: the peer hung up")
	ErrDeadline   error = &timeout{"drain: the drain's deadline has passed"}
	ErrTerminated error = &timeout{"drain: the connection was told to end"} // by Conn.Terminate
	ErrForced           = errors.New("drain: connection closed by force")
)

// ErrExpired is what Read returns, inside a *net.OpError, once a connection has been idle for
// Server.Idle while draining: say goodbye now. It is returned only while nothing is there to be read,
// and does not outlive SetBusy.
var ErrExpired error = &timeout{"drain: idle while draining"}

// ErrStuck is wrapped by the error of Shutdown and Close when handlers did not return though their
// connections were closed.
var ErrStuck = errors.New("drain: handlers did not return")

// Values of the attribute message_id, which a handler for systemd's journal makes a field: see
// packaging/systemd/fdt.catalog.
const (
	idAcceptFailing   = "cb7c741c74ec5f40ab48bef7ff811da4"
	idAcceptRecovered = "193ba511193c5db5bc587fc5632fef6d"
	idConnectionCut   = "505637835fc35c26ad9e064a24527fcc"
	idHandlerStuck    = "1e01094c0b95568eaae685f5d569b3eb"
)

// timeout is an error that crypto/tls and others take for one of a deadline, and so as not final.
type timeout struct{ text string }

func (e *timeout) Error() string   { return e.text }
func (e *timeout) Timeout() bool   { return true }
func (e *timeout) Temporary() bool { return true }

// Server serves connections. Its fields must not change after the first call of a method. A zero field
// has the default that its comment names; only Handler is required.
type Server struct {
	// Handler serves one connection in its own goroutine. When it returns, c is closed and its slot
	// free. ctx is cancelled then, or earlier with one of the causes above. A panic ends the process.
	Handler func(ctx context.Context, c *Conn)

	// Threads is the number of connections served at once, over all listeners: DefaultThreads.
	Threads int

	// Reserve is how many more are accepted, once they have waited in a listener's queue for
	// about 50 ms while no slot was free. Their handler serves what cannot wait, and calls
	// Conn.Acquire before anything else.
	Reserve int

	// Strangers, if not zero, says that the handler calls Conn.Heard and Conn.Welcome, and that what has not
	// been welcomed yet must not keep others out. So many strangers are accepted beyond the slots, instead
	// of on the reserve, which is then for those who are welcome. A stranger's slot is free for who is
	// welcome. When a connection waits for a place, the oldest stranger must go: Read returns ErrCrowded.
	// Nobody has to who was accepted less than 20 ms ago, or, if his first request was heard, less than a
	// second ago.
	Strangers int

	// Idle is how long a connection may stay idle while the server drains: DefaultIdle.
	Idle time.Duration

	// Spread is how much sooner than after Idle the first of them is told, and the others one after another, so that those who
	// come back do not all come at once; at most Idle.
	Spread time.Duration

	// Timeout is how long a drain may last before contexts are cancelled; zero sets no limit but
	// Shutdown's context.
	Timeout time.Duration

	// Grace is how long handlers may go on after that before connections are closed, and again
	// how long they then have to return: DefaultGrace.
	Grace time.Duration

	// Logger gets accept errors and cut connections: slog.Default().
	Logger *slog.Logger

	// Successors names the unix-domain sockets of other processes at which Conn.Move may offer connections, those to be asked first in
	// the first group. It is asked at every offer while the server drains, and may be called concurrently. If one process of a group
	// refuses a connection, and none takes it, those of further groups are not asked. Nil: no connection moves.
	Successors func() [][]string

	// Adopt decides, of a connection that another process offers to Receive, whether and how it goes on here, from the state that its
	// handler has written there. It must neither read nor write, and keep to what Conn tells of the peer. The server then calls serve
	// once: with ours true as it calls Handler, or with false, from when on the connection must not be used, as the other process has kept
	// it. An error refuses it. Nil: all are refused.
	Adopt func(c *Conn, state []byte) (serve func(ctx context.Context, ours bool), err error)

	// AllowHalfClose makes Conn.Watch take only a complete hang-up for one. A TCP peer that closes
	// looks the same as one that shuts down its sending side, so over TCP a close is then noticed
	// only by writing.
	AllowHalfClose bool

	// KeepAlive is for TCP connections; the zero value means a first probe after 60 s, then every
	// 15 s, and death after 4.
	KeepAlive net.KeepAliveConfig

	// UserTimeout is TCP_USER_TIMEOUT, for how long sent data may stay unacknowledged; zero means
	// two minutes, negative the kernel's default.
	UserTimeout time.Duration

	once     sync.Once
	draining chan struct{} // closed when the drain begins
	done     chan struct{} // closed when the drain has ended
	quiet    chan struct{} // has a token when the last connection or accept loop went while draining
	hurried  chan struct{} // has a token when a limit came nearer
	watch    watcher
	drained  atomic.Uint64
	cut      atomic.Uint64
	moved    atomic.Uint64
	moveFor  time.Duration // but for tests, the constant
	movers   chan struct{} // has a token for each Move under way

	mu      sync.Mutex
	tallies map[string]*tally // by listener; none is ever dropped
	conns   map[uint64]*Conn
	nextID  uint64
	loops   map[*loop]struct{}
	slots   slots
	stage   stage
	final   map[string]bool // listeners given to Final; "" stands for all
	began   time.Time       // of the drain
	limit   time.Time       // of the drain; zero is none
	force   time.Time       // when connections are closed; zero is limit + Grace
	outcome error           // of the drain, once done is closed
	silent  map[string]bool // successors that did not answer, or leave themselves
}

// stage is how far a drain has gone; it only ever rises.
type stage uint8

const (
	serving    stage = iota // accepting
	dismissing              // no new ones; idle ones are told to go
	cutting                 // past the limit: contexts cancelled
	forcing                 // descriptors closed
)

// Counts are a Server's numbers at one moment.
type Counts struct {
	Threads   int    // the budget
	Open      int    // connections accepted and not yet closed: Busy + Idle
	Busy      int    // by their handler's word
	Idle      int    // the others
	Reserve   int    // of Open, those without a slot
	Accepted  uint64 // since the start
	Drained   uint64 // connections that ended while the server drained, before its limit
	Cut       uint64 // connections whose time was up then
	Moved     uint64 // connections that went on in another process
	Draining  bool
	Began     time.Time                 // of the drain; zero without one
	Listeners map[string]ListenerCounts // by name, those that are no longer served too
}

// ListenerCounts are the numbers of one listener's connections.
type ListenerCounts struct {
	Open     int
	Busy     int
	Accepted uint64
}

// tally counts one listener's connections.
type tally struct {
	open, busy atomic.Int64
	accepted   atomic.Uint64
}

func (s *Server) init() {
	s.once.Do(func() {
		s.draining = make(chan struct{})
		s.done = make(chan struct{})
		s.quiet = make(chan struct{}, 1)
		s.hurried = make(chan struct{}, 1)
		s.conns = make(map[uint64]*Conn)
		s.loops = make(map[*loop]struct{})
		s.final = make(map[string]bool)
		s.silent = make(map[string]bool)
		s.movers = make(chan struct{}, moving)
		s.tallies = make(map[string]*tally)
		s.slots = slots{total: orDefault(s.Threads, DefaultThreads), reserve: s.Reserve, porch: s.Strangers}
		s.slots.free = s.slots.total
	})
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.Default()
	}
	return s.Logger
}

// Draining is closed when Shutdown, Close or Drain is first called.
func (s *Server) Draining() <-chan struct{} {
	s.init()
	return s.draining
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Descriptors is how many file descriptors the server holds at most: one for each connection, and the watcher's; where connections move,
// one for each talk about one, too.
func (s *Server) Descriptors() int {
	n := orDefault(s.Threads, DefaultThreads) + s.Reserve + s.Strangers + 1
	if s.Successors != nil || s.Adopt != nil {
		n += talks
	}
	return n
}

// Counts returns the server's numbers.
func (s *Server) Counts() Counts {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := Counts{
		Threads:   s.slots.total,
		Open:      len(s.conns),
		Reserve:   s.slots.reserved + s.slots.outside,
		Drained:   s.drained.Load(),
		Cut:       s.cut.Load(),
		Moved:     s.moved.Load(),
		Draining:  s.stage != serving,
		Began:     s.began,
		Listeners: make(map[string]ListenerCounts, len(s.tallies)),
	}
	for name, t := range s.tallies {
		l := ListenerCounts{Open: int(t.open.Load()), Accepted: t.accepted.Load()}
		l.Busy = min(int(t.busy.Load()), l.Open)
		n.Busy += l.Busy
		n.Accepted += l.Accepted
		n.Listeners[name] = l
	}
	n.Busy = min(n.Busy, n.Open)
	n.Idle = n.Open - n.Busy
	return n
}

// Oldest returns since when the connection is busy that is so for the longest time; zero if none is.
func (s *Server) Oldest() time.Time {
	s.init()
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock()
	var oldest time.Time
	for _, c := range all {
		c.mu.Lock()
		if c.busy && (oldest.IsZero() || c.busySince.Before(oldest)) {
			oldest = c.busySince
		}
		c.mu.Unlock()
	}
	return oldest
}

// Shutdown drains: it makes every Serve leave its listener and return, and returns when all handlers
// have. The end of ctx, like Server.Timeout, is a limit: contexts are cancelled then, and Shutdown
// returns at most two Graces later, with ErrStuck if handlers still run. A further call joins the drain
// that is under way, and its ctx can only make the limit nearer.
func (s *Server) Shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.Hurry(0) })()
	return s.drain()
}

// Close drains without patience: connections are closed at once. It returns when all handlers have, or
// with ErrStuck after a Grace.
func (s *Server) Close() error {
	s.hurry(0, 0)
	return s.drain()
}

// Final promises, before Shutdown, that no other process will accept from the named listeners, without names
// from any, any more: systemd has closed its copies, and all workers stop. Then Serve closes them to newcomers, who are refused
// and not reset, and serves everything in their queues before it leaves. It does so for all processes that
// have the socket. Without Final, a queue is left to others for 20 ms, and what it then still holds is
// served; a connection that comes between that and the last process's close is reset.
func (s *Server) Final(names ...string) {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		s.final[name] = true
	}
}

func (s *Server) isFinal(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final[""] || s.final[name]
}

// Hurry sets the limit of the drain, one under way or a later one, to no later than within from now.
func (s *Server) Hurry(within time.Duration) {
	s.hurry(within, within+orDefault(s.Grace, DefaultGrace))
}

func (s *Server) hurry(limit, force time.Duration) {
	s.init()
	now := time.Now()
	s.mu.Lock()
	s.limit = earlier(s.limit, now.Add(limit))
	s.force = earlier(s.force, now.Add(force))
	s.mu.Unlock()
	notify(s.hurried)
}

// earlier treats zero as never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// notify leaves a token in a channel of capacity one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain is one whole drain, from the accept loops' end to the last handler's. The first caller goes
// through it, others wait for the outcome.
func (s *Server) drain() error {
	s.init()
	if !s.begin() {
		<-s.done
		return s.outcome
	}
	var giveUp time.Time
	stage := dismissing
	s.each(stage, func(c *Conn) { c.invite() })
	for {
		now := time.Now()
		limit, force, gone := s.limits()
		if gone {
			break
		}
		var next time.Time
		switch {
		case stage == forcing && !now.Before(giveUp):
			s.each(stage, func(c *Conn) { c.accuse() })
			s.outcome = fmt.Errorf("%w: %d", ErrStuck, s.Counts().Open)
			close(s.done) // the watcher is left to those that still run
			return s.outcome
		case stage == forcing:
			next = giveUp
		case !force.IsZero() && !now.Before(force):
			stage = forcing
			giveUp = now.Add(orDefault(s.Grace, DefaultGrace))
			s.each(stage, func(c *Conn) { c.force() })
			next = giveUp
		case !limit.IsZero() && !now.Before(limit):
			stage = cutting // or was: no connection is cut twice
			s.each(stage, func(c *Conn) { c.cut() })
			next = force
		default:
			next = s.dismiss(now)
			if !limit.IsZero() {
				next = earlier(next, limit)
			}
		}
		s.await(time.Until(next))
	}
	s.watch.stop()
	close(s.done)
	return nil
}

// begin starts the drain, unless it has begun.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != serving {
		return false
	}
	s.stage = dismissing
	s.began = time.Now()
	if s.Timeout > 0 {
		s.limit = earlier(s.limit, s.began.Add(s.Timeout))
		s.force = earlier(s.force, s.began.Add(s.Timeout+orDefault(s.Grace, DefaultGrace)))
	}
	close(s.draining)
	for l := range s.loops {
		l.interrupt()
	}
	return true
}

// limits also tells whether nothing is left to wait for.
func (s *Server) limits() (limit, force time.Time, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.force, len(s.conns) == 0 && len(s.loops) == 0
}

// each raises the stage and applies f to every connection; none joins after it.
func (s *Server) each(to stage, f func(*Conn)) {
	s.mu.Lock()
	s.stage = to
	all := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// dismiss expires the connections whose time has come and returns when to look again. Looks are at least a
// twentieth of Idle, or of Spread, apart, so that ten thousand connections cost twenty looks, not ten thousand.
func (s *Server) dismiss(now time.Time) (next time.Time) {
	idle := orDefault(s.Idle, DefaultIdle)
	next = now.Add(idle)
	s.each(dismissing, func(c *Conn) {
		if due := c.expire(now, s.began, idle); !due.IsZero() {
			next = earlier(next, due)
		}
	})
	apart := idle
	if s.Spread > 0 {
		apart = min(idle, s.Spread)
	}
	if soonest := now.Add(max(apart/20, time.Millisecond)); next.Before(soonest) {
		next = soonest
	}
	return next
}

// await returns after d, or when the last connection has gone or a limit come nearer.
func (s *Server) await(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.quiet:
	case <-s.hurried:
	}
}
