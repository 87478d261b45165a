package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

var (
	// errFinal keeps the driver from asking the server to cancel what must not be cancelled.
	errFinal = errors.New("what ends a transaction is not cancelled")
	// errUnreplicated is not definite: the server has done what it was told, but a standby that is promoted may not have it.
	errUnreplicated = errors.New("the server gave up its wait for synchronous replication, so the outcome may be lost with it")
)

// watch is what one connection does when a context ends. As a rule it sends a cancel request, as the driver would. A final statement is
// one whose effect is durable: COMMIT, and those of two-phase commit. A request to cancel one that waits for a synchronous standby ends
// the wait, not the statement, and the answer is a success (PostgreSQL documentation, 27.2.8.3): so for a final one the connection is cut,
// the server goes on, and its outcome is unknown.
type watch struct {
	cancel       pgconn.CancelRequestContextWatcherHandler
	final        atomic.Bool // stays set on a connection that was cut, whose driver sends a cancel request of its own with the goodbye
	cut          bool        // the last HandleCancel was of a final statement
	unreplicated atomic.Bool // the server said that a wait was given up, whoever made it
}

// install makes config's connection, of which there must be one only, w's own.
func (w *watch) install(config *pgconn.Config) {
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		w.cancel = pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelGrace}
		return w
	}
	config.OnNotice = w.notice
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.final.Load() {
			return nil, errFinal
		}
		return dial(ctx, network, address)
	}
}

// HandleCancel is called when the context of what runs has ended.
func (w *watch) HandleCancel(ctx context.Context) {
	if w.cut = w.final.Load(); w.cut {
		_ = w.cancel.Conn.Conn().SetDeadline(time.Unix(1, 0)) // a connection without deadlines has no end to be hastened
		return
	}
	w.cancel.HandleCancel(ctx)
}

// HandleUnwatchAfterCancel is called after HandleCancel when what ran is over.
func (w *watch) HandleUnwatchAfterCancel() {
	if w.cut {
		_ = w.cancel.Conn.Conn().SetDeadline(time.Time{}) // it answered in the last moment, or is closed
		return
	}
	w.cancel.HandleUnwatchAfterCancel()
}

// notice hears the server's notices. The message is in the server's language, its origin is not.
func (w *watch) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code == "01000" && n.Routine == "SyncRepWaitForLSN" {
		w.unreplicated.Store(true)
	}
}

// finish is command for a final statement: it is not called off when ctx ends, and an answer is one only if it was replicated as the
// server is told to.
func (c *conn) finish(ctx context.Context, text, want string) error {
	return c.finally(func() error { return c.command(ctx, text, want) })
}

// finally runs f, which sends a final statement.
func (c *conn) finally(f func() error) error {
	c.watch.unreplicated.Store(false)
	c.watch.final.Store(true)
	err := f()
	if !c.pg.IsClosed() {
		c.watch.final.Store(false)
	}
	if err == nil && c.watch.unreplicated.Load() {
		err = errUnreplicated
	}
	return err
}

// replicated returns when all that the server has committed is durable, there and on the standbys for which it is told to wait.
func (c *conn) replicated(ctx context.Context) error {
	return c.finish(ctx, "SELECT pg_logical_emit_message(true, 'fdt', '')", "SELECT 1")
}
