package fdt_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// trial runs parts as a program would by fdt.Main(parts...), with a spool
// "outbox", until end. In a test, use fdt.Test with the *testing.T.
type trial struct {
	*fdt.App
	dir  string
	ends []func()
}

func tryOut(parts ...fdt.Part) *trial {
	dir, err := os.MkdirTemp("", "fdt")
	t := &trial{dir: dir}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.App = fdt.Test(t, fmt.Sprintf("resources: {outbox: {type: spool, directory: %s}}", dir), parts...)
	return t
}

func (t *trial) Helper()           {}
func (t *trial) Cleanup(f func())  { t.ends = append(t.ends, f) }
func (t *trial) Output() io.Writer { return io.Discard }

func (t *trial) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (t *trial) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *trial) end() {
	for _, f := range t.ends {
		f()
	}
	_ = os.RemoveAll(t.dir)
}

// sent is how many messages were committed.
func (t *trial) sent() int {
	files, _ := filepath.Glob(filepath.Join(t.dir, "new", "*"))
	return len(files)
}

// query prints what a client of the PostgreSQL protocol gets.
func (t *trial) query(sql string) {
	c, err := pgx.Connect(context.Background(), t.DSN("alice"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(context.Background())
	result := c.PgConn().Exec(context.Background(), sql)
	defer result.Close()
	for result.NextResult() {
		rows := result.ResultReader()
		for rows.NextRow() {
			fmt.Println(string(bytes.Join(rows.Values(), []byte(" "))))
		}
		if tag, err := rows.Close(); err == nil {
			fmt.Println(tag)
		}
	}
	if err, ok := errors.AsType[*pgconn.PgError](result.Close()); ok {
		fmt.Println(err.Code, err.Message)
	}
}

// post prints what a client of HTTP gets.
func (t *trial) post(body string) {
	answer, err := http.Post(t.URL("web"), "text/plain", strings.NewReader(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	fmt.Println(answer.Status, strings.TrimSpace(string(text)), err)
}

type Order struct {
	Item   string
	Pieces int64 `fdt:",default=1"`
}

type Bill struct {
	Total string `fdt:",numeric"`
}

// A program that serves one procedure. See examples/shop for a whole one with its package.
func ExampleMain() {
	fdt.Main(
		fdt.Version("1.0"),
		fdt.Procedure("buy", func(ctx context.Context, tx *fdt.Tx, o Order) (Bill, error) {
			return Bill{Total: "1.50"}, tx.Put(ctx, "outbox", []byte(o.Item))
		}),
	)
}

// An order and its message are one transaction.
func ExampleProcedure() {
	buy := func(ctx context.Context, tx *fdt.Tx, o Order) (b Bill, err error) {
		if o.Pieces < 1 {
			return b, fdt.Errorf("22023", "%d pieces cannot be ordered", o.Pieces)
		}
		b.Total = fmt.Sprintf("%d.50", o.Pieces)
		return b, tx.Put(ctx, "outbox", fmt.Appendf(nil, "%d of %s", o.Pieces, o.Item))
	}
	app := tryOut(fdt.Procedure("buy", buy))
	defer app.end()
	app.query("CALL buy('pen', pieces => 3)")
	app.query("SELECT * FROM buy('pen')")
	app.query("CALL buy('pen', 0)")
	fmt.Println(app.sent(), "messages")
	// Output:
	// 3.50
	// CALL
	// 1.50
	// SELECT 1
	// 22023 0 pieces cannot be ordered
	// 2 messages
}

// What a client may do is for the configuration's kinds of users, and for a time.
func ExampleOption() {
	slow := func(ctx context.Context, _ *fdt.Tx, _ struct{}) (struct{}, error) {
		<-ctx.Done()
		return struct{}{}, ctx.Err()
	}
	app := tryOut(
		fdt.Procedure("slow", slow, fdt.Timeout(time.Millisecond)),
		fdt.Procedure("closed", slow, fdt.Allow("trust:bob")),
	)
	defer app.end()
	app.query("CALL slow()")
	app.query("CALL closed()")
	// Output:
	// 57014 canceling statement due to the timeout of procedure slow (1ms)
	// 42501 permission denied for procedure closed
}

type Until struct{ N int64 }

type Number struct{ N int64 }

// Rows are sent as they are yielded.
func ExampleRows() {
	numbers := func(_ context.Context, _ *fdt.Tx, until Until) iter.Seq2[Number, error] {
		return func(yield func(Number, error) bool) {
			for n := range until.N {
				if !yield(Number{n}, nil) {
					return
				}
			}
		}
	}
	app := tryOut(fdt.Rows("numbers", numbers))
	defer app.end()
	app.query("SELECT * FROM numbers(2)")
	// Output:
	// 0
	// 1
	// SELECT 2
}

// A request has a transaction, which is committed before it is answered.
func ExampleHTTP() {
	app := tryOut(fdt.HTTP("web", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		tx := fdt.TxFrom(r.Context())
		if err == nil {
			err = tx.Put(r.Context(), "outbox", body)
		}
		if err == nil {
			err = tx.Commit(r.Context())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})))
	defer app.end()
	app.post("hello")
	fmt.Println(app.sent(), "message")
	// Output:
	// 200 OK  <nil>
	// 1 message
}

// A transaction of its own commits or not, whatever becomes of the request's.
func ExampleDo() {
	app := tryOut(fdt.HTTP("web", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fdt.Do(r.Context(), func(ctx context.Context, tx *fdt.Tx) error {
			if err := tx.Put(ctx, "outbox", []byte("is taken back")); err != nil {
				return err
			}
			return fdt.Errorf("", "not today")
		})
		http.Error(w, err.Error(), http.StatusConflict)
	})))
	defer app.end()
	app.post("hello")
	fmt.Println(app.sent(), "messages")
	// Output:
	// 409 Conflict not today <nil>
	// 0 messages
}

// A connection has a transaction at a time: here each line is one.
func ExampleStream() {
	app := tryOut(fdt.Stream("line", func(ctx context.Context, c *fdt.Conn) error {
		for {
			if err := c.Next(); err != nil {
				return err
			}
			line, err := c.ReadString('\n')
			if err != nil {
				return err
			}
			tx := fdt.TxFrom(ctx)
			if err := tx.Put(ctx, "outbox", []byte(line)); err != nil {
				return err
			}
			if err := tx.Commit(ctx); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c, "ok"); err != nil {
				return err
			}
		}
	}))
	defer app.end()
	c, err := net.Dial("tcp", app.Address("line"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Fprintln(c, "one")
	answer, err := bufio.NewReader(c).ReadString('\n')
	fmt.Printf("%q %v, %d message\n", answer, err, app.sent())
	// Output: "ok\n" <nil>, 1 message
}

// A method of a resource's own, beside those of Tx.
func ExampleBranch() {
	app := tryOut(fdt.Procedure("send", func(ctx context.Context, tx *fdt.Tx, o Order) (struct{}, error) {
		b, err := fdt.Branch[*spool.Branch](ctx, tx, "outbox")
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, b.Put(ctx, []byte(o.Item))
	}))
	defer app.end()
	app.query("CALL send('pen')")
	fmt.Println(app.sent(), "message")
	// Output:
	// CALL
	// 1 message
}

// Shelf are the settings of a type of resource of the program's own.
type Shelf struct {
	Directory string `fdt:"directory,required" doc:"Absolute path of a directory that the workers may write."`
}

// A configuration may then have resources: {shelf: {type: documents, directory:
// /srv/documents}}. A resource manager that this could be is in examples/documents.
func ExampleResource() {
	fdt.Main(fdt.Resource("documents", func(name string, s Shelf) (txn.Resource, error) {
		return spool.Open(name, s.Directory)
	}))
}

// A reload brings the program in only if the table is there.
func ExampleRehearse() {
	fdt.Main(fdt.Rehearse(func(ctx context.Context, tx *fdt.Tx) error {
		_, err := tx.Postgres("bank_a").Exec(ctx, "SELECT id, balance FROM account LIMIT 0")
		return err
	}))
}

// In a test, t is its *testing.T.
func ExampleTest() {
	t := new(trial)
	app := fdt.Test(t, "workers: {threads: 2}", fdt.HTTP("web", http.NotFoundHandler()))
	defer t.end()
	answer, err := http.Get(app.URL("web"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	fmt.Println(answer.Status)
	// Output: 404 Not Found
}
