package fdt

import (
	"bufio"
	"context"
	"net/http"

	"github.com/fdtserver/fdt/internal/application"
)

// HTTP has h serve the listeners with serve: name, by HTTP/1.1, and with tls: by
// HTTP/2, too. Each connection is one of the workers' threads. [TxFrom] is the
// request's transaction; its answer should be written after [Tx.Commit]. From a
// handler that goes on after its context has ended, or its transaction's time is
// up, the transaction is taken as from a [Procedure].
//
// When the worker drains, requests that were read are answered. A panic is
// logged with its stack, and ends the connection.
func HTTP(name string, h http.Handler) Part {
	where := caller()
	return part(func(app *application.Application) { app.Handle(name, where, application.Handler{HTTP: h}) })
}

// Stream has f serve the connections of the listeners with serve: name, in any
// protocol, one call for each. Its context ends when the client hangs up, or the
// drain's time is up, while a request is in hand; [TxFrom] is the connection's
// transaction, and is taken from f as from a [Procedure] if it goes on then. What
// is not committed is rolled back when f returns, and the connection is closed
// when the client has read what was written last.
//
// An error of f is logged, but for those of [Conn.Next] that are no failure; a
// panic is, with its stack.
func Stream(name string, f func(ctx context.Context, c *Conn) error) Part {
	where := caller()
	return part(func(app *application.Application) {
		var h application.Handler
		if f != nil {
			h.Stream = func(ctx context.Context, c *application.Conn) error { return f(ctx, &Conn{c.Reader, c}) }
		}
		app.Handle(name, where, h)
	})
}

// Errors of [Conn.Next].
var (
	// ErrDraining means that the worker is being replaced or stopped: say goodbye,
	// if the protocol has one, and return.
	ErrDraining = application.ErrDraining
	// ErrIdle means that the client was silent for too long in an open transaction:
	// transaction.idle_timeout, or transaction.timeout.
	ErrIdle = application.ErrIdle
	// ErrFull means that all of the worker's threads were taken for ten seconds.
	ErrFull = application.ErrFull
)

// Conn is a client's connection. It is for one goroutine at a time.
type Conn struct {
	*bufio.Reader // what the client sends
	conn          *application.Conn
}

// Next waits until the client sends a request, the first byte of which can then
// be read. Call it before each: in between a request is in hand, which a drain
// lets end. The error is io.EOF when the client has closed, one of those above,
// or why the connection failed.
func (c *Conn) Next() error { return c.conn.Next() }

// Write sends to the client; it is not buffered.
func (c *Conn) Write(b []byte) (int, error) { return c.conn.Write(b) }

// Peer says in a word who is at the other end: the address and port, or of a
// unix-domain socket the user and process.
func (c *Conn) Peer() string { return c.conn.Peer() }
