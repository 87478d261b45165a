package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func (f *fdt) pgx(mode pgx.QueryExecMode) *pgx.Conn {
	f.t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=7432 user=alice dbname=db sslmode=disable", f.dir))
	if err != nil {
		f.t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
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
			f := newFDT(t, "")
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
// the database, too.
func TestContext(t *testing.T) {
	f := newFDT(t, withBank(t))
	c := f.pgx(pgx.QueryExecModeExec)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := c.Exec(ctx, "CALL sleep(60::float8)")
		done <- err
	}()
	eventually(t, "asleep", func() bool { return sleepers(t) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "awake", func() bool { return sleepers(t) == 0 })
}
