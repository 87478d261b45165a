package pgwire_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/testwait"
)

// outcome asks how a transaction stands.
func outcome(t *testing.T, c *pgx.Conn, id uint64) string {
	t.Helper()
	var status *string
	if err := c.QueryRow(t.Context(), "SELECT pg_xact_status($1)", id).Scan(&status); err != nil {
		t.Fatal(err)
	}
	if status == nil {
		return "unknown"
	}
	return *status
}

// TestXactStatus names transactions and asks for their outcome, in each of the protocol's modes and formats.
func TestXactStatus(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			f := newFDT(t, bank{})
			ctx, c, other := t.Context(), f.pgx(mode), f.pgx(mode)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, commit := range []bool{true, false} {
				tx, err := c.Begin(ctx)
				must(err)
				var id, again uint64
				must(tx.QueryRow(ctx, "SELECT pg_current_xact_id()").Scan(&id))
				_, err = tx.Exec(ctx, "CALL enqueue($1)", fmt.Sprint(commit))
				must(err)
				must(tx.QueryRow(ctx, "SELECT pg_current_xact_id()").Scan(&again))
				if id != again || id == 0 {
					t.Errorf("one transaction is %d and %d", id, again)
				}
				if s := outcome(t, other, id); s != "in progress" {
					t.Errorf("open: %s", s)
				}
				want := "committed"
				if commit {
					must(tx.Commit(ctx))
				} else {
					must(tx.Rollback(ctx))
					want = "aborted"
				}
				if s := outcome(t, other, id); s != want {
					t.Errorf("commit %t: %s", commit, s)
				}
			}
			// Outside of a block the request is the transaction.
			var id uint64
			must(c.QueryRow(ctx, "SELECT pg_current_xact_id()").Scan(&id))
			if s := outcome(t, other, id); s != "committed" {
				t.Errorf("by itself: %s", s)
			}
			if s := outcome(t, other, 1); s != "unknown" {
				t.Errorf("of nobody: %s", s)
			}
			f.delivered("true")
		})
	}
}

// TestXactRequest puts the functions between other statements of one request.
func TestXactRequest(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	c.want("SELECT pg_xact_status(pg_current_xact_id()), pg_current_xact_id() = '1'",
		"T pg_xact_status:25/-1/0 ?column?:16/1/0", "D in progress|f", "C SELECT 1", "Z I")
	c.want("CALL enqueue('x'); SELECT pg_xact_status(pg_current_xact_id())",
		"C CALL", "T pg_xact_status:25/-1/0", "D in progress", "C SELECT 1", "Z I")
	f.delivered("x")
	// It is one transaction with what follows, in which it is used.
	for _, line := range []string{"P _ - SELECT pg_xact_status(pg_current_xact_id())", "B _ _ t", "E _ 0", "P _ - CALL enqueue('y')", "B _ _ t", "E _ 0", "P _ - NONSENSE", "S"} {
		c.say(line)
	}
	c.answers("pipeline", c.flush(), "1", "2", "D in progress", "C SELECT 1", "1", "2", "C CALL", `E ERROR 42601 syntax error at or near "NONSENSE" @1`, "Z I")
	c.want("BEGIN; SELECT pg_xact_status(pg_current_xact_id()); SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
		"C BEGIN", "T pg_xact_status:25/-1/0", "D in progress", "C SELECT 1",
		"E ERROR 25001 SET TRANSACTION ISOLATION LEVEL must be called before any query", "Z E")
	c.want("SELECT pg_current_xact_id()", "E ERROR 25P02 current transaction is aborted, commands ignored until end of transaction block", "Z E")
	c.want("ROLLBACK", "C ROLLBACK", "Z I")
	f.delivered("x")
}

// TestXactLost is what the functions are for: a client loses the answer to COMMIT, or never sends it, and asks.
func TestXactLost(t *testing.T) {
	f := newFDT(t, bank{})
	var want []string
	for i := range 20 {
		c := f.pgx(pgx.QueryExecModeExec)
		var id uint64
		body := fmt.Sprint(i)
		if _, err := c.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		if err := c.QueryRow(t.Context(), "SELECT pg_current_xact_id()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(t.Context(), "CALL enqueue($1)", body); err != nil {
			t.Fatal(err)
		}
		raw := c.PgConn().Conn()
		if i%2 == 0 {
			b, err := (&pgproto3.Query{String: "COMMIT"}).Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		asks, said := f.pgx(pgx.QueryExecModeExec), ""
		testwait.Until(t, "known", func() bool {
			said = outcome(t, asks, id)
			return said != "in progress"
		})
		switch {
		case said == "committed" && i%2 == 0:
			want = append(want, body)
		case said != "aborted":
			t.Errorf("transaction %d: %s", i, said)
		}
	}
	t.Logf("%d of 10 commits arrived", len(want))
	f.delivered(want...)
}

// TestXactWhileDraining shows that a client which asks for an outcome is answered, however often it asked before.
func TestXactWhileDraining(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	ended := f.shutdown()
	c.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	c.want("SELECT pg_xact_status('1')", "T pg_xact_status:25/-1/0", "D NULL", "C SELECT 1", "Z I")
	c.answers("then", c.read(), goodbye, "closed")
	_ = c.conn.Close()
	<-ended
}
