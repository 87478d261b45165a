package pgwire_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
)

// journal is a log that a test reads while it is written.
type journal struct{ testwait.Output }

func (j *journal) has(text string) bool {
	return strings.Contains(j.String(), text)
}

func (j *journal) tune(f *fdt, _ *config.Config) {
	f.wire.Logger = slog.New(slog.NewTextHandler(j, nil))
}

// TestLostClaims takes the directory of the claims away under a session: what needs it fails, the rest goes on, and the
// log has what was left.
func TestLostClaims(t *testing.T) {
	log := new(journal)
	f := newFDT(t, bank{}, log.tune)
	c := f.connect("a")
	c.want("BEGIN; CALL enqueue('p'); PREPARE TRANSACTION 'p'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	c.want("COMMIT PREPARED 'p'", "C COMMIT PREPARED", "Z I")
	if err := os.Rename(f.claims, f.claims+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.claims, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.want("SELECT gid FROM pg_prepared_xacts", "E ERROR XX000 cannot list the prepared transactions", "Z I")
	if !log.has("open " + f.claims + ": not a directory") {
		t.Error("why they cannot be listed is not in the log")
	}
	c.want("CALL enqueue('x')", "C CALL", "Z I")
	f.delivered("p", "x")
	if !log.has("cannot forget the outcome of a prepared transaction") {
		t.Error("the outcome that cannot be forgotten is not in the log")
	}
	barred := []string{"E ERROR 58030 the server cannot read or write what it knows of prepared transactions", "Z I"}
	c.want("COMMIT PREPARED 'q'", barred...)
	if err := os.Remove(f.claims); err != nil {
		t.Fatal(err)
	}
	c.want("COMMIT PREPARED 'q'", barred...)
	c.want("ROLLBACK PREPARED 'q'", barred...)
	c.want("BEGIN; CALL enqueue('q'); PREPARE TRANSACTION 'q'", append([]string{"C BEGIN", "C CALL"}, barred...)...)
	if err := os.Rename(f.claims+".gone", f.claims); err != nil {
		t.Fatal(err)
	}
}

// TestLostDatabase cuts the way to PostgreSQL: after the decision, which then is only late there, and in the middle of
// transactions, which PostgreSQL then rolls back by itself.
func TestLostDatabase(t *testing.T) {
	pg := postgresql(t)
	proxy, err := testdb.NewProxy(filepath.Join(pg.Dir(), ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	log := new(journal)
	behind := withBank(t)
	behind.dsn = proxy.Through(behind.dsn)
	f := newFDT(t, behind, log.tune)

	c := f.connect("a")
	c.want("BEGIN; CALL enqueue('decided'); CALL deposit(9001, 1)", "C BEGIN", "C CALL", "C CALL", "Z T")
	proxy.Rule(func(request []byte) testdb.Fate {
		if bytes.Contains(request, []byte("COMMIT PREPARED")) {
			return testdb.LoseRequest
		}
		return testdb.Pass
	})
	got := c.query("COMMIT")
	if len(got) != 3 || !strings.HasPrefix(got[0], "N WARNING ") || !strings.Contains(got[0], "bank") || got[1] != "C COMMIT" || got[2] != "Z I" {
		t.Errorf("a commit of which a resource hears later: %q", got)
	}
	f.delivered("decided")
	proxy.Rule(nil)
	settle(t, pg, "bank")

	open, pipelined := f.connect("a"), f.connect("a")
	open.want("BEGIN; CALL deposit(9002, 1)", "C BEGIN", "C CALL", "Z T")
	for _, line := range []string{"P _ - CALL deposit(9003, 1)", "B _ _ t", "E _ 0", "H"} {
		pipelined.say(line)
	}
	if err := pipelined.front.Flush(); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "both are answered", func() bool { return readable(t, pipelined.conn) })
	if err := proxy.Close(); err != nil {
		t.Fatal(err)
	}
	pipelined.say("P _ - NONSENSE")
	pipelined.say("S")
	pipelined.answers("pipeline", pipelined.flush(), "1", "2", "C CALL", `E ERROR 42601 syntax error at or near "NONSENSE" @1`, "Z I")
	if !log.has("rollback failed") {
		t.Error("the rollback that failed is not in the log")
	}
	_ = open.conn.Close()
	testwait.Until(t, "the log has the failure at the end", func() bool { return log.has("rolling back a session's transaction failed") })
	testwait.Until(t, "rolled back", func() bool { return count(t, "state = 'idle in transaction' AND datname = 'bank'") == 0 })
}

// settle commits what is prepared in a database, as recovery would.
func settle(t *testing.T, pg *testdb.Postgres, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, _ := conn.Query(t.Context(), "SELECT gid FROM pg_prepared_xacts WHERE database = $1", database)
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(gids) != 1 {
		t.Fatalf("prepared: %q, %v", gids, err)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT PREPARED '"+gids[0]+"'"); err != nil {
		t.Fatal(err)
	}
}
