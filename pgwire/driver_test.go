package pgwire_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
)

func (f *fdt) pgx(mode pgx.QueryExecMode, more ...string) *pgx.Conn {
	f.t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=7432 user=alice dbname=db sslmode=disable %s", f.dir, strings.Join(more, " ")))
	if err != nil {
		f.t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Minute}
	}
	conn, err := pgx.ConnectConfig(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(f.t.Context())) })
	return conn
}

// TestPGX drives a session with pgx in each of its modes.
func TestPGX(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			f := newFDT(t, bank{})
			ctx, c := t.Context(), f.pgx(mode)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(c.Ping(ctx))
			_, err := c.Exec(ctx, "CALL enqueue($1)", "one")
			must(err)
			for range 6 { // past any threshold of caches
				var a int64
				var b float64
				var s string
				must(c.QueryRow(ctx, "CALL echo($1, $2, $3)", 7, 2.5, "x").Scan(&a, &b, &s))
				if a != 7 || b != 2.5 || s != "x" {
					t.Fatal(a, b, s)
				}
			}
			tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadWrite})
			must(err)
			_, err = tx.Exec(ctx, "CALL enqueue($1)", "outer")
			must(err)
			inner, err := tx.Begin(ctx) // a savepoint
			must(err)
			_, err = inner.Exec(ctx, "CALL enqueue($1)", "inner")
			must(err)
			must(inner.Rollback(ctx))
			must(tx.Commit(ctx))

			batch := &pgx.Batch{}
			for i := range 3 {
				batch.Queue("CALL enqueue($1)", fmt.Sprint("batch ", i))
			}
			must(c.SendBatch(ctx, batch).Close())
			batch = &pgx.Batch{}
			batch.Queue("CALL enqueue($1)", "lost")
			batch.Queue("CALL enqueue($1, $2)", "a", "b")
			err = c.SendBatch(ctx, batch).Close()
			if pe, ok := errors.AsType[*pgconn.PgError](err); !ok || pe.Code != "42883" {
				t.Errorf("batch: %v", err)
			}

			for _, text := range []string{"BEGIN", "CALL enqueue('two-phase')", "PREPARE TRANSACTION 'gid'"} {
				_, err = c.Exec(ctx, text)
				must(err)
			}
			var gid, owner, database string
			var prepared time.Time
			must(c.QueryRow(ctx, "SELECT gid, prepared, owner, database FROM pg_prepared_xacts").Scan(&gid, &prepared, &owner, &database))
			if gid != "gid" || owner != "alice" || database != "db" || time.Since(prepared) > time.Hour {
				t.Errorf("%s %s %s %s", gid, owner, database, prepared)
			}
			_, err = c.Exec(ctx, "COMMIT PREPARED 'gid'")
			must(err)
			must(c.DeallocateAll(ctx))
			must(c.Ping(ctx))
			echo := "7 2.5 x"
			f.delivered("one", echo, echo, echo, echo, echo, echo, "outer", "batch 0", "batch 1", "batch 2", "two-phase")
		})
	}
}

// TestContext shows that a driver's cancelled context cancels the statement in
// the database, too: one that waits for a row there lets go of what it has, in
// each version of the protocol that the driver speaks.
func TestContext(t *testing.T) {
	f := newFDT(t, withBank(t))
	pg := postgresql(t)
	holder := f.connect("a")
	holder.want("BEGIN; CALL deposit(7, 1)", "C BEGIN", "C CALL", "Z T")
	for _, version := range []string{"3.0", "3.2"} {
		before := complaints(t, pg, "57014")
		f.cancelWaiting(version, func() int { return waiting(t) })
		if n := complaints(t, pg, "57014"); n != before+1 {
			t.Errorf("version %s: PostgreSQL cancelled %d statements", version, n-before)
		}
	}
	holder.want("COMMIT", "C COMMIT", "Z I")
	holder.want("CALL balance(7)", "T balance:1700/-1/0", "D 1", "C CALL", "Z I")
	holder.want("CALL balance(8)", "T balance:1700/-1/0", "D 2", "C CALL", "Z I")
}

// TestContextMariaDB is TestContext where the protocol of the database has no
// way to cancel a statement.
func TestContextMariaDB(t *testing.T) {
	my, err := testdb.StartMariaDB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := my.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(my.Database(t.Context(), "bank"), my.Exec(t.Context(), "bank",
		"CREATE TABLE account (id bigint PRIMARY KEY, balance decimal(20,0) NOT NULL)", "INSERT INTO account VALUES (7, 0), (8, 0)")); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", my.DSN("root", "bank"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	number := func(query string) (n int) {
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	f := newFDT(t, bank{"mariadb", my.DSN("fdt", "bank"), `
  deposit:
    parameters: {id: bigint, amount: numeric}
    steps: [{on: bank, sql: "UPDATE account SET balance = balance + CAST(:amount AS DECIMAL(20)) WHERE id = :id", rows: 1}]
`})
	holder := f.connect("a")
	holder.want("BEGIN; CALL deposit(7, 1)", "C BEGIN", "C CALL", "Z T")
	for _, version := range []string{"3.0", "3.2"} {
		f.cancelWaiting(version, func() int {
			return number("SELECT count(*) FROM information_schema.processlist WHERE command <> 'Sleep' AND info LIKE 'UPDATE account %'")
		})
		testwait.Until(t, "its transaction ended: the holder's is left", func() bool {
			time.Sleep(120 * time.Millisecond) // who reads INNODB_TRX again within 100 ms is shown the same again, for ever
			return number("SELECT count(*) FROM information_schema.innodb_trx") == 1
		})
	}
	holder.want("COMMIT", "C COMMIT", "Z I")
	if a, b := number("SELECT balance FROM account WHERE id = 7"), number("SELECT balance FROM account WHERE id = 8"); a != 1 || b != 2 {
		t.Errorf("balances %d and %d", a, b)
	}
}

// cancelWaiting has the driver cancel a call that waits for row 7, in a
// transaction that has row 8, and takes row 8 for another.
func (f *fdt) cancelWaiting(version string, waiting func() int) {
	t := f.t
	t.Helper()
	c := f.pgx(pgx.QueryExecModeExec, "max_protocol_version="+version)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "CALL deposit(8, 1)"); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := tx.Exec(ctx, "CALL deposit(7, 1)")
		done <- err
	}()
	testwait.Until(t, "waiting for the row", func() bool { return waiting() == 1 })
	cancel()
	err = <-done
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
		t.Errorf("version %s: %v", version, err)
	}
	testwait.Until(t, "no longer waiting", func() bool { return waiting() == 0 })
	// What it had locked is free, while its transaction waits for its end.
	other := f.connect("a")
	other.want("CALL deposit(8, 1)", "C CALL", "Z I")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}

// waiting counts the statements that wait for a lock in PostgreSQL.
func waiting(t *testing.T) int {
	t.Helper()
	return count(t, "wait_event_type = 'Lock'")
}

// complaints counts the errors with an SQLSTATE in PostgreSQL's log.
func complaints(t *testing.T, pg *testdb.Postgres, code string) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(pg.Dir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(log, []byte("\n"+code+" ERROR:"))
}
