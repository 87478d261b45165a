package fdt_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/spool"
)

type none = struct{}

// inside runs f in a procedure, and returns what its client is told.
func inside(t *testing.T, f func(context.Context, *fdt.Tx) error, opts ...fdt.Option) error {
	t.Helper()
	text, _ := configuration(t)
	app := fdt.Test(t, text, fdt.Procedure("run", func(ctx context.Context, tx *fdt.Tx, _ none) (none, error) { return none{}, f(ctx, tx) }, opts...))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	_, err = c.Exec(t.Context(), "CALL run()")
	return err
}

func told(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code + " " + e.Message + "; " + e.Detail + "; " + e.Hint
	}
	return "nothing"
}

// TestStatements runs statements by all methods.
func TestStatements(t *testing.T) {
	if err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		a, b := tx.Postgres("bank_a"), tx.MariaDB("bank_b")
		if tag, err := a.Exec(ctx, "UPDATE account SET balance = balance + $1", 1); err != nil || tag.RowsAffected() != 1 {
			t.Error(tag, err)
		}
		r, err := a.Query(ctx, "SELECT id FROM account WHERE id = $1", 1)
		if ids, err := pgx.CollectRows(r, pgx.RowTo[int]); err != nil || len(ids) != 1 {
			t.Error(ids, err)
		}
		if err != nil {
			t.Error(err)
		}
		rows, err := b.QueryContext(ctx, "SELECT id FROM account")
		if err != nil || !rows.Next() || rows.Close() != nil {
			t.Error(err)
		}
		for _, show := range []string{"SHOW TABLES", "SHOW ENGINES"} { // which cannot be prepared everywhere
			if rows, err := b.QueryContext(ctx, show); err != nil || rows.Close() != nil {
				t.Error(show, err)
			}
		}
		const unpreparable = "PREPARE s FROM 'SELECT 1'" // itself
		_, e1 := b.ExecContext(ctx, unpreparable)
		rows, e2 := b.QueryContext(ctx, unpreparable)
		if err := errors.Join(e1, e2); err != nil || rows.Close() != nil {
			t.Error(err)
		}
		if err := b.QueryRowContext(ctx, unpreparable).Scan(new(int)); !errors.Is(err, sql.ErrNoRows) {
			t.Error(err)
		}
		st, err := b.PrepareContext(ctx, "SELECT id FROM account WHERE id = ?")
		if err != nil {
			t.Error(err)
		}
		var id int
		if err := errors.Join(st.QueryRow(2).Scan(&id), st.Close()); err != nil || id != 2 {
			t.Error(id, err)
		}
		if err := b.QueryRowContext(ctx, "SELECT id FROM account WHERE id = ?", 3).Scan(&id); !errors.Is(err, sql.ErrNoRows) {
			t.Error(err)
		}
		if tx.User() != "trust:alice" || tx.Session().State() != txn.Active {
			t.Error(tx.User())
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestBatch sends statements in one request.
func TestBatch(t *testing.T) {
	if err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		a := tx.Postgres("bank_a")
		var all pgx.Batch
		all.Queue("UPDATE account SET balance = 7 WHERE id = $1", 1)
		all.Queue("SELECT id FROM account WHERE id = $1", 1)
		all.Queue("SELECT balance::int FROM account WHERE id = $1", 1)
		all.Queue("SELECT 1/(id-1) FROM account")
		r := a.SendBatch(ctx, &all)
		if tag, err := r.Exec(); err != nil || tag.RowsAffected() != 1 {
			t.Error(tag, err)
		}
		list, err := r.Query()
		if ids, cerr := pgx.CollectRows(list, pgx.RowTo[int]); err != nil || cerr != nil || len(ids) != 1 {
			t.Error(ids, err, cerr)
		}
		var balance int
		if err := r.QueryRow().Scan(&balance); err != nil || balance != 7 {
			t.Error(balance, err)
		}
		return r.Close()
	}); !strings.HasPrefix(told(err), "22012 division by zero") {
		t.Error(err)
	}
	if err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		if err := tx.Postgres("bank_a").SendBatch(ctx, new(pgx.Batch)).Close(); err != nil { // of nothing
			t.Error(err)
		}
		r := tx.Postgres("nothing").SendBatch(ctx, new(pgx.Batch))
		_, e1 := r.Exec()
		_, e2 := r.Query()
		for _, err := range []error{e1, e2, r.QueryRow().Scan(), r.Close()} {
			if err == nil {
				t.Error("a batch for a resource that there is not")
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestFirst is a table of what may come first in a transaction.
func TestFirst(t *testing.T) {
	const look = "SELECT balance::int FROM account WHERE id = $1"
	var now int
	for name, f := range map[string]func(context.Context, *fdt.Postgres) error{
		"one row": func(ctx context.Context, a *fdt.Postgres) error { return a.QueryRow(ctx, look, 1).Scan(&now) },
		"rows to their end": func(ctx context.Context, a *fdt.Postgres) error {
			r, err := a.Query(ctx, look, 1)
			if err != nil {
				return err
			}
			now, err = pgx.CollectOneRow(r, pgx.RowTo[int])
			return err
		},
		"rows left": func(ctx context.Context, a *fdt.Postgres) error {
			r, err := a.Query(ctx, "SELECT 1 FROM generate_series(1, 3)")
			if err == nil && !r.Next() {
				err = errors.New("no row")
			}
			r.Close()
			return err
		},
		"a mode": func(ctx context.Context, a *fdt.Postgres) error {
			return a.QueryRow(ctx, look, pgx.QueryExecModeExec, 1).Scan(&now)
		},
		"what may change the session": func(ctx context.Context, a *fdt.Postgres) error {
			_, err := a.Exec(ctx, "SET LOCAL work_mem = '1MB'")
			return err
		},
		"42601": func(ctx context.Context, a *fdt.Postgres) error {
			_, first := a.Exec(ctx, "UPDATE")
			if _, err := a.Exec(ctx, "UPDATE account SET balance = 99 WHERE id = 1"); err == nil {
				t.Error("a statement was run outside of the transaction")
			}
			return first
		},
		"42P01": func(ctx context.Context, a *fdt.Postgres) error {
			_, err := a.Query(ctx, "SELECT 1 FROM nothing")
			return err
		},
		"22012": func(ctx context.Context, a *fdt.Postgres) error {
			r, err := a.Query(ctx, "SELECT 1/(id-1) FROM account")
			if err != nil {
				return err
			}
			for r.Next() {
			}
			return r.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
				a := tx.Postgres("bank_a")
				if err := f(ctx, a); err != nil {
					return err
				}
				_, err := a.Exec(ctx, "UPDATE account SET balance = $1 WHERE id = 1", now)
				return err
			})
			if code, _, _ := strings.Cut(told(err), " "); (err != nil || len(name) == 5) && code != name {
				t.Error(err)
			}
		})
	}
	if err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		if err := tx.Postgres("bank_a").QueryRow(ctx, look, 1).Scan(&now); err != nil || now == 99 {
			t.Error(now, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestTold is a table of what a client is told of a procedure's errors: what
// the code or a database said to it, and nothing of the rest.
func TestTold(t *testing.T) {
	for want, f := range map[string]func(context.Context, *fdt.Tx) error{
		"P0001 no; because; do":    func(context.Context, *fdt.Tx) error { return &fdt.Error{Message: "no", Detail: "because", Hint: "do"} },
		"XX000 internal error; ; ": func(context.Context, *fdt.Tx) error { return errors.New("the password is 1234") },
		"XX000 internal error":     func(context.Context, *fdt.Tx) error { panic("oops") },
		"42P01 relation \"nothing\" does not exist": func(ctx context.Context, tx *fdt.Tx) error {
			_, err := tx.Postgres("bank_a").Exec(ctx, "DELETE FROM nothing")
			return err
		},
		"22012 division by zero": func(ctx context.Context, tx *fdt.Tx) error {
			r, err := tx.Postgres("bank_a").Query(ctx, "SELECT 1/(id-1) FROM account")
			if err != nil {
				return err
			}
			r.Next()
			r.Close()
			return r.Err()
		},
		"P0002 query returned no rows; ; ": func(ctx context.Context, tx *fdt.Tx) error {
			return fmt.Errorf("whose: %w", tx.Postgres("bank_a").QueryRow(ctx, "SELECT id FROM account WHERE id = 99").Scan(new(int)))
		},
		"P0002 query returned no rows": func(ctx context.Context, tx *fdt.Tx) error {
			return tx.MariaDB("bank_b").QueryRowContext(ctx, "SELECT id FROM account WHERE id = 99").Scan(new(int))
		},
		"42P01 Table 'b.nothing' doesn't exist; MariaDB error 1146.": func(ctx context.Context, tx *fdt.Tx) error {
			_, err := tx.MariaDB("bank_b").ExecContext(ctx, "DELETE FROM nothing")
			return err
		},
		"42704 procedure run: no such resource": func(ctx context.Context, tx *fdt.Tx) error { return tx.Put(ctx, "x", nil) },
	} {
		if got := told(inside(t, f)); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := fdt.Errorf("P0002", "no %s", "row"); err.Error() != "no row" {
		t.Error(err)
	}
	late := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		_, err := tx.Postgres("bank_a").Exec(ctx, "SELECT pg_sleep(60)")
		return err
	}, fdt.Timeout(10*time.Millisecond))
	if got := told(late); !strings.HasPrefix(got, "57014 canceling statement due to the timeout of procedure run (10ms)") {
		t.Error(got)
	}
}

// TestWrongUse is what code that asks for the wrong thing is told.
func TestWrongUse(t *testing.T) {
	if err := inside(t, func(ctx context.Context, tx *fdt.Tx) error {
		for what, err := range map[string]error{
			"commit": tx.Commit(ctx), "rollback": tx.Rollback(ctx),
		} {
			if !errors.Is(err, fdt.ErrNotYours) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := tx.Begin(ctx, txn.TxOptions{}); !errors.Is(err, txn.ErrActiveTransaction) {
			t.Error(err)
		}
		if _, err := fdt.Branch[*mariadb.Branch](ctx, tx, "outbox"); err == nil || err.Error() != "resource outbox: it is a *spool.Branch, and *mariadb.Branch was asked for" {
			t.Error(err)
		}
		var n int
		for what, err := range map[string]error{
			"QueryRow": tx.Postgres("outbox").QueryRow(ctx, "SELECT 1").Scan(&n), "QueryRowContext": tx.MariaDB("outbox").QueryRowContext(ctx, "SELECT 1").Scan(&n),
		} {
			if err == nil || !strings.Contains(err.Error(), "it is a *spool.Branch") {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, e1 := tx.Postgres("outbox").Exec(ctx, "SELECT 1")
		_, e2 := tx.Postgres("outbox").Query(ctx, "SELECT 1")
		_, e3 := tx.MariaDB("outbox").ExecContext(ctx, "SELECT 1")
		_, e4 := tx.MariaDB("outbox").QueryContext(ctx, "SELECT 1")
		_, e5 := tx.MariaDB("outbox").PrepareContext(ctx, "SELECT 1")
		for i, err := range []error{e1, e2, e3, e4, e5} {
			if err == nil {
				t.Error(i)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a context of nowhere")
		}
	}()
	fdt.TxFrom(context.Background())
}

// TestRehearsal: what the program tries before its generation takes over is in a transaction, and what fails is told with its line.
func TestRehearsal(t *testing.T) {
	text, outbox := configuration(t)
	app := fdt.Test(t, text, fdt.Rehearse(func(ctx context.Context, tx *fdt.Tx) error {
		return errors.Join(tx.Put(ctx, "outbox", []byte("x")), tx.Commit(ctx), errors.New("no such table"))
	}))
	var found control.Check
	err := control.Call(t.Context(), socket(t, app), control.OpCheck, nil, &found)
	if err != nil || len(found.Program) != 1 || !strings.HasPrefix(found.Program[0], "tx_test.go:") || !strings.Contains(found.Program[0], "no such table") ||
		!strings.Contains(found.Program[0], fdt.ErrNotYours.Error()) {
		t.Errorf("%+v, %v", found, err)
	}
	if n := delivered(t, outbox); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestDo is a transaction beside the request's own.
func TestDo(t *testing.T) {
	text, outbox := configuration(t)
	app := fdt.Test(t, text, fdt.HTTP("web", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		tx := fdt.TxFrom(ctx)
		if err := errors.Join(tx.Commit(ctx), tx.Rollback(ctx), tx.Begin(ctx, txn.TxOptions{}), tx.Rollback(ctx)); err != nil {
			t.Error(err)
		}
		put := func(ctx context.Context, tx *fdt.Tx) error { return tx.Put(ctx, "outbox", []byte("x")) }
		if err := errors.Join(put(ctx, tx), fdt.Do(ctx, put)); err != nil {
			t.Error(err)
		}
		no := errors.New("no")
		if err := fdt.Do(ctx, func(ctx context.Context, tx *fdt.Tx) error { return errors.Join(put(ctx, tx), no) }); !errors.Is(err, no) {
			t.Error(err)
		}
		if err := fdt.Do(ctx, func(ctx context.Context, tx *fdt.Tx) error {
			_, err := fdt.Branch[*spool.Branch](ctx, tx, "nothing")
			return err
		}); !errors.Is(err, txn.ErrNoResource) {
			t.Error(err)
		}
	})))
	resp, err := http.Get(app.URL("web"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := delivered(t, outbox); got != 1 {
		t.Errorf("%d messages", got)
	}
}

// refused is a test whose application does not start.
type refused struct {
	*testing.T
	why string
}

func (r *refused) Fatalf(format string, args ...any) {
	r.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// start returns why an application does not start.
func start(t *testing.T, configuration string, parts ...fdt.Part) string {
	r := &refused{T: t}
	var all sync.WaitGroup
	all.Go(func() { fdt.Test(r, configuration, parts...) })
	all.Wait()
	return r.why
}

// TestFaults is a table of programs that do not start.
func TestFaults(t *testing.T) {
	yes := func(context.Context, *fdt.Tx, none) (none, error) { return none{}, nil }
	for want, parts := range map[string][]fdt.Part{
		`tx_test.go:%d: procedure pg_x: "pg_x": `:                                                    {fdt.Procedure("pg_x", yes)},
		`tx_test.go:%d: procedure a: field A of struct { A chan int }: `:                             {fdt.Procedure("a", func(context.Context, *fdt.Tx, struct{ A chan int }) (none, error) { return none{}, nil })},
		`tx_test.go:%d: procedure b: the function is nil`:                                            {fdt.Procedure[none, none]("b", nil)},
		`tx_test.go:%d: there is another procedure c`:                                                {fdt.Procedure("c", yes), fdt.Procedure("c", yes)},
		`tx_test.go:%d: there is a handler "d" already, from tx_test.go:`:                            {fdt.HTTP("d", http.NewServeMux()), fdt.Stream("d", lines)},
		`tx_test.go:%d: handler "e" is nil`:                                                          {fdt.Stream("e", nil)},
		`tx_test.go:%d: handler "E": a name begins with a small letter`:                              {fdt.Stream("E", lines)},
		`tx_test.go:%d: part 2 is nil`:                                                               {fdt.Version("1"), nil},
		`tx_test.go:%d: fdt.Rehearse: the function is nil`:                                           {fdt.Rehearse(nil)},
		`tx_test.go:%d: procedure f: fdt.Allow names nobody: leave it out to let every user call it`: {fdt.Procedure("f", yes, fdt.Allow())},
		`tx_test.go:%d: procedure g: fdt.Allow: "": write a user's name, or method:name with peer`:   {fdt.Procedure("g", yes, fdt.Allow("alice", ""))},
		`tx_test.go:%d: procedure h: fdt.Timeout: -1s is negative`:                                   {fdt.Procedure("h", yes, fdt.Timeout(-time.Second))},
	} {
		prefix, rest, _ := strings.Cut(want, "%d")
		if err := start(t, "", parts...); !strings.Contains(err, prefix) || !strings.Contains(err, rest) {
			t.Errorf("%s, want %s", err, want)
		}
	}
}

// TestConfigurations is a table of configurations that do not fit the program.
func TestConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"procedures: 7": "config.yaml:4:13: procedures must be a mapping",
		"resources: {a: {type: postgres, dsn: \"connect_timeout=x\"}}":                                "resource a: dsn: ",
		"resources: {a: {type: spool, directory: /tmp}}\nprocedures: {c: {steps: [{on: a, put: x}]}}": ": the configuration has a procedure c, too: rename or remove",
	} {
		c := fdt.Procedure("c", func(context.Context, *fdt.Tx, none) (none, error) { return none{}, nil })
		if err := start(t, text, fdt.HTTP("web", http.NewServeMux()), c); !strings.Contains(err, want) {
			t.Errorf("%s, want %s", err, want)
		}
	}
}

// TestNoPlace: a test's directory cannot be made, or is too deep for a socket.
func TestNoPlace(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"/nonexistent": "no such file or directory", deep: "invalid argument"} {
		t.Setenv("TMPDIR", dir)
		if err := start(t, ""); !strings.Contains(err, want) {
			t.Errorf("%s: %s", dir, err)
		}
	}
}

// TestSQLState: an SQLSTATE that is none is a fault of the program, which the journal tells.
func TestSQLState(t *testing.T) {
	app := fdt.Test(t, "", fdt.Procedure("fail", func(_ context.Context, _ *fdt.Tx, p struct{ State string }) (none, error) {
		return none{}, fdt.Errorf(p.State, "said")
	}))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for state, want := range map[string]string{"": "P0001 said", "AB123": "AB123 said", "bad": "XX000 internal error"} {
		if _, err := c.Exec(t.Context(), "CALL fail($1)", state); !strings.HasPrefix(told(err), want+";") {
			t.Errorf("%q: %v", state, err)
		}
	}
}

// TestUnfit is a table of arguments that fields cannot hold.
func TestUnfit(t *testing.T) {
	app := fdt.Test(t, "", fdt.Procedure("at", func(context.Context, *fdt.Tx, struct{ At time.Time }) (none, error) { return none{}, nil }))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for arg, want := range map[string]string{"'infinity'": "22000 an argument cannot be taken: at: ", "NULL": "22004 at must not be null"} {
		if _, err := c.Exec(t.Context(), "CALL at("+arg+")"); !strings.HasPrefix(told(err), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
