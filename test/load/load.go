// Package load drives fdt with steady client traffic and keeps the books of it.
// Every call that a client sends ends in exactly one column of the books (acknowledged, told goodbye, or lost with its
// error), and each call carries a body of its own, so that the outbox can be held against the books afterwards.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// codeAdminShutdown is SQLSTATE admin_shutdown (PostgreSQL documentation, appendix A): the server says goodbye.
const codeAdminShutdown = "57P01"

// Target says where the server is and as whom to log in.
type Target struct {
	// Network and Address are as in net.Dial. A unix address is the socket's full path.
	Network, Address string
	// User is the PostgreSQL user of the startup message.
	User string
	// Password answers SCRAM-SHA-256; empty where none is asked for.
	Password string
	// TLS encrypts the sessions; nil means plaintext.
	TLS *tls.Config
	// Dial makes the connections; nil means net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Connect opens one session. The caller closes it.
func (t Target) Connect(ctx context.Context) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig("host=127.0.0.1 port=7432 sslmode=disable database=fdt user=" + t.User)
	if err != nil {
		return nil, err
	}
	cfg.Password, cfg.TLSConfig = t.Password, t.TLS
	dial := t.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, t.Network, t.Address)
	}
	return pgconn.ConnectConfig(ctx, cfg)
}

// Call is one call as its client saw it.
type Call struct {
	// Body is the message enqueued, unique over all loads of a process.
	Body string
	// Start and End bound the call: for a Connecting load from before the dial until after the close.
	Start, End time.Time
	// Err is nil when the server acknowledged the call.
	Err error
}

// Goodbye reports whether the call was answered by 57P01, which promises that it was not run.
func (c Call) Goodbye() bool { return isGoodbye(c.Err) }

func isGoodbye(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == codeAdminShutdown
}

// Books are what a load saw.
type Books struct {
	// Calls are all calls sent, in no particular order.
	Calls []Call
	// Goodbyes counts sessions that the server ended between two calls, as 57P01 read before the next call was sent.
	Goodbyes int
	// Sessions counts the sessions opened.
	Sessions int
}

// Lost returns the calls that were neither acknowledged nor answered by a goodbye.
func (b *Books) Lost() []Call {
	return slices.DeleteFunc(slices.Clone(b.Calls), func(c Call) bool { return c.Err == nil || c.Goodbye() })
}

// Overrun returns the calls that were sent and answered by a goodbye instead of a result.
func (b *Books) Overrun() []Call {
	return slices.DeleteFunc(slices.Clone(b.Calls), func(c Call) bool { return !c.Goodbye() })
}

// Acknowledged returns the bodies of the calls that the server acknowledged.
func (b *Books) Acknowledged() []string {
	var bodies []string
	for _, c := range b.Calls {
		if c.Err == nil {
			bodies = append(bodies, c.Body)
		}
	}
	return bodies
}

// Summary counts the calls by outcome, the lost ones by kind of error.
func (b *Books) Summary() string {
	kinds := map[string]int{}
	for _, c := range b.Lost() {
		kinds[Kind(c.Err)]++
	}
	var lost []string
	for kind, n := range kinds {
		lost = append(lost, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(lost)
	s := fmt.Sprintf("%d sessions, %d calls, %d acknowledged, %d goodbyes between calls, %d calls answered by a goodbye, %d lost",
		b.Sessions, len(b.Calls), len(b.Acknowledged()), b.Goodbyes, len(b.Overrun()), len(b.Lost()))
	if len(lost) > 0 {
		s += " (" + strings.Join(lost, ", ") + ")"
	}
	return s
}

// Kind names the sort of failure: refused, reset, eof, timeout, an SQLSTATE, or the text itself.
func Kind(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "SQLSTATE " + pgErr.Code
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

// Load is traffic under way. Stop ends it.
type Load struct {
	target Target
	pace   time.Duration
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	books Books
}

// callTimeout bounds one call, its connect included: a server that hangs must show up as a failure, not as silence.
const callTimeout = time.Minute

// serial makes the bodies unique.
var serial atomic.Int64

// Connecting starts n clients, each of which again and again connects, calls and disconnects, with pace between two
// rounds. It ends with ctx or Stop.
func Connecting(ctx context.Context, target Target, n int, pace time.Duration) *Load {
	return start(ctx, target, n, pace, (*Load).connecting)
}

// Sessions starts n clients, each of which keeps its session and calls again and again, with pace between two calls.
// Between two calls it listens, as a pool that checks on borrow does, and opens a new session when the server has said
// goodbye. It ends with ctx or Stop.
func Sessions(ctx context.Context, target Target, n int, pace time.Duration) *Load {
	return start(ctx, target, n, pace, (*Load).session)
}

func start(ctx context.Context, target Target, n int, pace time.Duration, client func(*Load, context.Context)) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{target: target, pace: pace, cancel: cancel}
	for range n {
		l.wg.Go(func() { client(l, ctx) })
	}
	return l
}

// Stop lets every client finish the call it is in, and returns the books.
func (l *Load) Stop() *Books {
	l.cancel()
	l.wg.Wait()
	return &l.books
}

// Progress returns how many calls have ended so far.
func (l *Load) Progress() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.books.Calls)
}

func (l *Load) record(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books.Calls = append(l.books.Calls, c)
}

func (l *Load) count(field *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*field++
}

// wait pauses between two calls and reports whether to go on.
func (l *Load) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(l.pace):
		return true
	}
}

func (l *Load) connecting(ctx context.Context) {
	for {
		l.record(l.oneConnection(context.WithoutCancel(ctx)))
		if !l.wait(ctx) {
			return
		}
	}
}

func (l *Load) oneConnection(ctx context.Context) (c Call) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c = newCall()
	defer func() { c.End = time.Now() }()
	conn, err := l.target.Connect(ctx)
	if err != nil {
		c.Err = fmt.Errorf("connect: %w", err)
		return c
	}
	l.count(&l.books.Sessions)
	c.Err = enqueue(ctx, conn, c.Body)
	if err := conn.Close(ctx); err != nil && c.Err == nil {
		c.Err = fmt.Errorf("close: %w", err)
	}
	return c
}

func (l *Load) session(ctx context.Context) {
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil {
		conn = l.oneCall(context.WithoutCancel(ctx), conn)
		if conn == nil {
			l.wait(ctx)
			continue
		}
		conn = l.listen(ctx, conn)
	}
}

// listen waits for the pace of the load and hears whether the server has said goodbye; nil if it has.
func (l *Load) listen(ctx context.Context, conn *pgconn.PgConn) *pgconn.PgConn {
	l.wait(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	for {
		unread, err := pending(conn)
		if err == nil {
			if !unread {
				return conn
			}
			_, err = conn.ReceiveMessage(ctx)
		}
		switch {
		case err == nil:
			continue
		case isGoodbye(err):
			l.count(&l.books.Goodbyes)
		default:
			l.record(Call{Start: time.Now(), End: time.Now(), Err: fmt.Errorf("session ended without a goodbye: %w", err)})
		}
		_ = conn.Close(ctx)
		return nil
	}
}

// pending reports whether the server has sent something that was not read yet. A short deadline on a read would not
// tell: on a busy machine it passes before the read is tried.
func pending(conn *pgconn.PgConn) (bool, error) {
	if conn.Frontend().ReadBufferLen() > 0 {
		return true, nil
	}
	sc, ok := conn.Conn().(syscall.Conn)
	if !ok {
		return false, fmt.Errorf("%T has no descriptor", conn.Conn())
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, err
	}
	readable := false
	var failed error
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		readable, failed = n > 0, err
	})
	if errors.Is(failed, unix.EINTR) {
		failed = nil // nothing yet; the next look will tell
	}
	return readable, errors.Join(err, failed)
}

// oneCall calls once on conn, or on a new session where conn is nil, and returns the session to go on with, nil if it
// has ended.
func (l *Load) oneCall(ctx context.Context, conn *pgconn.PgConn) *pgconn.PgConn {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := newCall()
	defer func() { c.End = time.Now(); l.record(c) }()
	if conn == nil {
		var err error
		conn, err = l.target.Connect(ctx)
		if err != nil {
			c.Err = fmt.Errorf("connect: %w", err)
			return nil
		}
		l.count(&l.books.Sessions)
	}
	c.Err = enqueue(ctx, conn, c.Body)
	if c.Err != nil {
		_ = conn.Close(ctx)
		return nil
	}
	return conn
}

func newCall() Call {
	return Call{Body: fmt.Sprintf("load-%d", serial.Add(1)), Start: time.Now()}
}

func enqueue(ctx context.Context, conn *pgconn.PgConn, body string) error {
	if err := conn.Exec(ctx, "CALL enqueue('"+body+"')").Close(); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	return nil
}
