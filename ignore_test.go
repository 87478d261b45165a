package fdt_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// deaf is code that locks a row in each of two databases, and then looks at nothing until it is let go.
type deaf struct {
	*testing.T
	app  *fdt.App
	row  int
	asks bool          // a database is at a statement of it, and not the code at something of its own
	in   chan struct{} // it holds both locks
	out  chan struct{} // closed to let it go
	err  chan error    // of what it did then
	log  testwait.Output
}

// rows is a number for each test, whose rows are its own.
var rows atomic.Int64

func newDeaf(t *testing.T) *deaf {
	d := &deaf{T: t, row: 1000 + int(rows.Add(1)), in: make(chan struct{}, 1), out: make(chan struct{}), err: make(chan error, 1)}
	row := fmt.Sprintf("INSERT INTO deaf VALUES (%d, 100)", d.row)
	if err := errors.Join(pg.Exec(t.Context(), "postgres", row), my.Exec(t.Context(), "b", row)); err != nil {
		t.Fatal(err)
	}
	return d
}

// Output is where the application logs to.
func (d *deaf) Output() io.Writer { return &d.log }

// work is the code: it knows its context, and has no use for it.
func (d *deaf) work(tx *fdt.Tx) error {
	ctx := context.Background()
	sql := fmt.Sprintf("UPDATE deaf SET balance = balance - 1 WHERE id = %d", d.row)
	_, err := tx.Postgres("bank_a").Exec(ctx, sql)
	_, merr := tx.MariaDB("bank_b").ExecContext(ctx, sql)
	if err := errors.Join(err, merr); err != nil {
		d.err <- err
		return err
	}
	d.in <- struct{}{}
	if d.asks {
		_, err = tx.Postgres("bank_a").Exec(ctx, "SELECT pg_sleep(1000)")
	} else {
		<-d.out
		_, err = tx.Postgres("bank_a").Exec(ctx, "SELECT 1")
	}
	_, merr = tx.MariaDB("bank_b").ExecContext(ctx, "DO 1")
	d.err <- errors.Join(err, merr)
	return nil // as if nothing had happened
}

// free waits until others get both rows.
func (d *deaf) free() {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), testwait.Patience)
	defer cancel()
	const change = "UPDATE deaf SET balance = balance + 10 WHERE id = %d"
	if err := pg.Exec(ctx, "postgres", fmt.Sprintf(change, d.row)); err != nil {
		d.Fatal("PostgreSQL keeps the row: ", err)
	}
	if err := my.Exec(ctx, "b", "SET SESSION innodb_lock_wait_timeout = 120", fmt.Sprintf(change, d.row)); err != nil {
		d.Fatal("MariaDB keeps the row: ", err)
	}
}

// end lets the code go, and looks at what it met and what it left.
func (d *deaf) end(by, cause string) {
	d.Helper()
	close(d.out)
	if err := testwait.For(d.T, "the code's end", d.err); !errors.Is(err, txn.ErrCutOff) || !strings.Contains(err.Error(), cause) {
		d.Errorf("the code met %v", err)
	}
	for _, want := range []string{"its branches were cut off", "work=" + by, "error=", cause, "message_id="} {
		if !strings.Contains(d.log.String(), want) {
			d.Errorf("the log has no %q:\n%s", want, d.log.String())
		}
	}
	d.balance()
}

// balance tells that nothing of the code's work is there.
func (d *deaf) balance() {
	d.Helper()
	const query = "SELECT balance FROM deaf WHERE id = "
	c, err := pgx.Connect(d.Context(), pg.DSN("postgres"))
	if err != nil {
		d.Fatal(err)
	}
	defer c.Close(context.Background())
	var a, b float64
	err = c.QueryRow(d.Context(), query+fmt.Sprint(d.row)).Scan(&a)
	db, merr := sql.Open("mysql", my.DSN("fdt", "b"))
	if merr != nil {
		d.Fatal(merr)
	}
	defer db.Close()
	merr = db.QueryRowContext(d.Context(), query+fmt.Sprint(d.row)).Scan(&b)
	if err := errors.Join(err, merr); err != nil || a != 110 || b != 110 {
		d.Errorf("%v and %v, %v", a, b, err)
	}
}

// TestIgnored: code that ignores its context's end keeps no row from others.
func TestIgnored(t *testing.T) {
	const slow, quick = "transaction: {timeout: 1h}\n", "transaction: {timeout: 1s}\n"
	call := func(d *deaf) (c *pgx.Conn, called chan error) {
		c, err := pgx.Connect(d.Context(), d.app.DSN("alice"))
		if err != nil {
			d.Fatal(err)
		}
		called = make(chan error, 1)
		go func() {
			defer close(called)
			_, err := c.Exec(context.Background(), "CALL run()")
			called <- err
		}()
		d.Cleanup(func() {
			testwait.For(d.T, "the call's end", called)
			_ = c.Close(context.Background())
		})
		testwait.For(d.T, "the procedure has its locks", d.in)
		return c, called
	}
	hangUp := func(d *deaf, c *pgx.Conn, called chan error) {
		if err := c.PgConn().Conn().Close(); err != nil {
			d.Fatal(err)
		}
		testwait.For(d.T, "the client's end", called)
	}
	procedure := func(d *deaf, opts ...fdt.Option) fdt.Part {
		return fdt.Procedure("run", func(_ context.Context, tx *fdt.Tx, _ none) (none, error) { return none{}, d.work(tx) }, opts...)
	}
	for name, of := range map[string]struct {
		text      string // of the configuration
		asks      bool
		part      func(d *deaf) fdt.Part
		run       func(d *deaf) // until others should have the row
		by, cause string
	}{
		"the client hangs up": {slow, false, func(d *deaf) fdt.Part { return procedure(d) }, func(d *deaf) {
			c, called := call(d)
			hangUp(d, c, called)
			d.free()
		}, `"procedure run"`, ""},
		"the client hangs up in a statement": {slow, true, func(d *deaf) fdt.Part { return procedure(d) }, func(d *deaf) {
			c, called := call(d)
			hangUp(d, c, called)
			d.free()
		}, `"procedure run"`, ""},
		"an operator ends the session": {slow, false, func(d *deaf) fdt.Part { return procedure(d) }, func(d *deaf) {
			c, _ := call(d)
			if err := control.Call(d.Context(), socket(d.T, d.app), control.OpInterrupt, control.Interrupt{PID: c.PgConn().PID(), End: true}, nil); err != nil {
				d.Fatal(err)
			}
			d.free()
		}, `"procedure run"`, "told to end"},
		"transaction.timeout": {quick, false, func(d *deaf) fdt.Part { return procedure(d) }, func(d *deaf) {
			_, called := call(d)
			d.free()
			d.end(`"procedure run"`, "transaction timeout")
			if err := testwait.For(d.T, "the answer", called); !strings.HasPrefix(told(err), "25P04 ") {
				d.Errorf("the client is told %s", told(err))
			}
		}, "", ""},
		"the procedure's timeout": {slow, false, func(d *deaf) fdt.Part { return procedure(d, fdt.Timeout(time.Second)) }, func(d *deaf) {
			c, called := call(d)
			d.free()
			d.end(`"procedure run"`, "timeout of procedure run")
			if err := testwait.For(d.T, "the answer", called); !strings.HasPrefix(told(err), "57014 ") {
				d.Errorf("the client is told %s", told(err))
			}
			if _, err := c.Exec(d.Context(), "SELECT 1"); err != nil {
				d.Error(err) // the session goes on
			}
		}, "", ""},
		"a hook before completion": {slow, false, func(d *deaf) fdt.Part {
			return fdt.Procedure("run", func(_ context.Context, tx *fdt.Tx, _ none) (none, error) {
				return none{}, tx.Session().BeforeCompletion(func(context.Context) error { return d.work(tx) })
			})
		}, func(d *deaf) {
			c, called := call(d)
			hangUp(d, c, called)
			d.free()
		}, `"a hook before completion"`, ""},
		"a request": {slow, false, func(d *deaf) fdt.Part {
			return fdt.HTTP("web", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if err := d.work(fdt.TxFrom(r.Context())); err == nil {
					_ = fdt.TxFrom(r.Context()).Commit(context.Background())
				}
			}))
		}, func(d *deaf) {
			c := dialled(d, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "web")
			c.Close()
			d.free()
		}, `"handler web"`, ""},
		"a request too long": {quick, false, func(d *deaf) fdt.Part {
			return fdt.HTTP("web", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_ = d.work(fdt.TxFrom(r.Context()))
				if err := fdt.TxFrom(r.Context()).Commit(r.Context()); !errors.Is(err, txn.ErrTimeout) {
					d.Errorf("commit: %v", err)
				}
			}))
		}, func(d *deaf) {
			c := dialled(d, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "web")
			defer c.Close()
			d.free()
		}, `"handler web"`, "transaction timeout"},
		"a request's other transaction": {slow, false, func(d *deaf) fdt.Part {
			return fdt.HTTP("web", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_ = fdt.Do(r.Context(), func(_ context.Context, tx *fdt.Tx) error { return d.work(tx) })
			}))
		}, func(d *deaf) {
			c := dialled(d, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "web")
			c.Close()
			d.free()
		}, `"handler web"`, ""},
		"a stream": {slow, false, func(d *deaf) fdt.Part {
			return fdt.Stream("line", func(ctx context.Context, c *fdt.Conn) error {
				if err := c.Next(); err != nil {
					return err
				}
				return d.work(fdt.TxFrom(ctx))
			})
		}, func(d *deaf) {
			c := dialled(d, "x\n", "line")
			c.Close()
			d.free()
		}, `"handler line"`, "hung up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeaf(t)
			d.asks = of.asks
			text, _ := configuration(t)
			d.app = fdt.Test(d, of.text+text, of.part(d))
			of.run(d)
			if of.by != "" {
				d.end(of.by, of.cause)
			}
		})
	}
}

// socket is the control socket of an application's worker.
func socket(t *testing.T, app *fdt.App) string {
	t.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(app.DSN("alice"), "host="), " ")
	found, err := filepath.Glob(filepath.Join(host, "run", "worker", "*.sock"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

// dialled is a client of a handler, which has its locks then.
func dialled(d *deaf, words, handler string) net.Conn {
	c, err := net.Dial("tcp", d.app.Address(handler))
	if err == nil {
		_, err = io.WriteString(c, words)
	}
	if err != nil {
		d.Fatal(err)
	}
	testwait.For(d.T, "the handler has its locks", d.in)
	return c
}
