package fdt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

var (
	pg *testdb.Postgres
	my *testdb.MariaDB
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if pg, err = testdb.StartPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = pg.Close() }()
	if my, err = testdb.StartMariaDB(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = my.Close() }()
	ctx := context.Background()
	if err := errors.Join(my.Database(ctx, "b"),
		pg.Exec(ctx, "postgres", "CREATE TABLE account (id int PRIMARY KEY, balance numeric CHECK (balance >= 0))", "INSERT INTO account VALUES (1, 100)",
			"CREATE TABLE deaf (id int PRIMARY KEY, balance numeric)"),
		my.Exec(ctx, "b", "CREATE TABLE account (id int PRIMARY KEY, balance decimal(20,2)) ENGINE=InnoDB", "INSERT INTO account VALUES (2, 0)",
			"CREATE TABLE deaf (id int PRIMARY KEY, balance decimal(20,2)) ENGINE=InnoDB"),
	); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

type transfer struct {
	Src, Dst int
	Amount   string `fdt:",numeric"`
}

type receipt struct {
	Left string `fdt:",numeric"`
}

func move(ctx context.Context, tx *fdt.Tx, t transfer) (r receipt, err error) {
	row := tx.Postgres("bank_a").QueryRow(ctx, "UPDATE account SET balance = balance - $1 WHERE id = $2 RETURNING balance::text", t.Amount, t.Src)
	if err := row.Scan(&r.Left); errors.Is(err, pgx.ErrNoRows) {
		return r, fdt.Errorf("P0002", "there is no account %d", t.Src)
	} else if err != nil {
		return r, err
	}
	if _, err := tx.MariaDB("bank_b").ExecContext(ctx, "UPDATE account SET balance = balance + ? WHERE id = ?", t.Amount, t.Dst); err != nil {
		return r, err
	}
	return r, tx.Put(ctx, "outbox", fmt.Appendf(nil, "%s to %d", t.Amount, t.Dst))
}

func configuration(t *testing.T) (text, outbox string) {
	t.Helper()
	outbox = t.TempDir()
	return fmt.Sprintf(`
resources:
  bank_a: {type: postgres, dsn: %q}
  bank_b: {type: mariadb, dsn: %q}
  outbox: {type: spool, directory: %s}
`, pg.DSN("postgres"), my.DSN("fdt", "b"), outbox), outbox
}

func delivered(t *testing.T, outbox string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(outbox, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestProcedure(t *testing.T) {
	text, outbox := configuration(t)
	app := fdt.Test(t, text, fdt.Procedure("transfer", move, fdt.Allow("trust:alice")))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var left string
	if err := c.QueryRow(t.Context(), "SELECT * FROM transfer(1, 2, amount => $1)", "10.50").Scan(&left); err != nil || left != "89.50" {
		t.Fatal(left, err)
	}
	for call, want := range map[string]string{
		"CALL transfer(1, 2, 1000)": "23514 new row for relation", // PostgreSQL's own answer
		"CALL transfer(7, 2, 1)":    "P0002 there is no account 7",
		"CALL transfer(1, NULL, 1)": "22004 dst must not be null",
		"CALL transfer(1, 2)":       "42883 ",
	} {
		_, err := c.Exec(t.Context(), call)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.HasPrefix(e.Code+" "+e.Message, want) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if got := delivered(t, outbox); got != 1 {
		t.Errorf("%d messages", got)
	}
	bob, err := pgx.Connect(t.Context(), app.DSN("bob"))
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close(context.Background())
	if _, err := bob.Exec(t.Context(), "CALL transfer(1, 2, 1)"); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	text, outbox := configuration(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /note", func(w http.ResponseWriter, r *http.Request) {
		tx := fdt.TxFrom(r.Context())
		if err := tx.Put(r.Context(), "outbox", []byte("x")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if r.FormValue("commit") == "yes" {
			if err := tx.Commit(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		_, _ = io.WriteString(w, tx.User())
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("oops") })
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	var late *fdt.Tx
	mux.HandleFunc("/keep", func(_ http.ResponseWriter, r *http.Request) { late = fdt.TxFrom(r.Context()) })
	app := fdt.Test(t, text, fdt.HTTP("web", mux))
	for commit, want := range map[string]int{"no": 0, "yes": 1} {
		before := delivered(t, outbox)
		resp, err := http.Post(app.URL("web")+"/note?commit="+commit, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(body) != "web" {
			t.Fatalf("%d %s %v", resp.StatusCode, body, err)
		}
		if got := delivered(t, outbox) - before; got != want {
			t.Errorf("%s: %d messages", commit, got)
		}
	}
	for _, path := range []string{"/panic", "/abort"} {
		if _, err := http.Get(app.URL("web") + path); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
	resp, err := http.Get(app.URL("web") + "/keep")
	if err != nil {
		t.Fatal(err) // the others go on
	}
	resp.Body.Close()
	if err := late.Put(t.Context(), "outbox", nil); !errors.Is(err, txn.ErrClosed) {
		t.Error(err)
	}
}

// lines is a protocol of a line each: words are put into the outbox, "commit"
// commits, and any other transaction is undone with its connection.
func lines(ctx context.Context, c *fdt.Conn) error {
	for {
		if err := c.Next(); err != nil {
			if errors.Is(err, fdt.ErrDraining) {
				_, _ = io.WriteString(c, "goodbye "+c.Peer()+"\n")
			}
			return err
		}
		line, err := c.ReadString('\n')
		if err != nil {
			return err
		}
		switch tx := fdt.TxFrom(ctx); strings.TrimSpace(line) {
		case "commit":
			err = tx.Commit(ctx)
		case "panic":
			panic("oops, " + c.Peer())
		default:
			err = tx.Put(ctx, "outbox", []byte(line))
		}
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("ok\n")); err != nil {
			return err
		}
	}
}

func TestStream(t *testing.T) {
	text, outbox := configuration(t)
	app := fdt.Test(t, text, fdt.Stream("line", lines))
	talk := func(say ...string) {
		c, err := net.Dial("tcp", app.Address("line"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for _, line := range say {
			if _, err := io.WriteString(c, line+"\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := in.ReadString('\n'); answer != "ok\n" && line != "panic" {
				t.Fatal(answer, err)
			}
		}
	}
	talk("a", "b")
	talk("a", "panic")
	talk("c", "commit", "d")
	if got := delivered(t, outbox); got != 1 {
		t.Errorf("%d messages", got)
	}
}
