package pgwire_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire"
)

// TestCursorMoves makes the same moves with cursors of PostgreSQL and of fdt.
func TestCursorMoves(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), postgresql(t).DSN("postgres")+" default_query_exec_mode=simple_protocol")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	random := rand.New(rand.NewPCG(1, 2)) // the same moves each time
	for n := range 5 {
		for _, scroll := range []string{"SCROLL", "NO SCROLL"} {
			for range 4 {
				mine := pgwire.NewCursor(n, scroll == "NO SCROLL")
				begun := fmt.Sprintf("BEGIN; DECLARE c %s CURSOR FOR SELECT g::text FROM generate_series(1, %d) g", scroll, n)
				if _, err := conn.Exec(t.Context(), begun); err != nil {
					t.Fatal(err)
				}
				moves := []string{begun}
				for range 12 {
					move := aMove(random)
					moves = append(moves, move)
					want, theirs := fetch(t, conn, move)
					got, err := mine.Fetch(move)
					if fault := fmt.Sprint(err); (err == nil) != (theirs == nil) || err != nil && !strings.Contains(theirs.Error(), fault) || err == nil && !slices.Equal(got, want) {
						t.Fatalf("%s: got %q, %v; PostgreSQL has %q, %v", strings.Join(moves, "; "), got, err, want, theirs)
					}
					if err != nil {
						break
					}
				}
				if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func aMove(random *rand.Rand) string {
	n := random.IntN(9) - 4
	return []string{
		"FETCH c", "FETCH PRIOR FROM c", "FETCH FIRST c", "FETCH LAST c", "FETCH ALL c", "FETCH BACKWARD ALL c", "FETCH 0 c",
		fmt.Sprintf("FETCH %d FROM c", n), fmt.Sprintf("FETCH BACKWARD %d FROM c", n), fmt.Sprintf("FETCH ABSOLUTE %d FROM c", n),
		fmt.Sprintf("FETCH RELATIVE %d FROM c", n), fmt.Sprintf("FETCH FORWARD %d FROM c", max(n, 1)),
	}[random.IntN(12)]
}

// fetch returns the first column of what PostgreSQL answers.
func fetch(t *testing.T, conn *pgx.Conn, sql string) ([]string, error) {
	t.Helper()
	rows, _ := conn.Query(t.Context(), sql) // the rows have the error, too
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// TestCursorsAreCounted shows that a session's cursors are bounded like its portals.
func TestCursorsAreCounted(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxStatements = 2 })
	c := f.connect("a")
	c.want("BEGIN; DECLARE a CURSOR FOR SELECT 1; DECLARE b CURSOR FOR SELECT 1", "C BEGIN", "C DECLARE CURSOR", "C DECLARE CURSOR", "Z T")
	c.want("DECLARE c CURSOR FOR SELECT 1", "E ERROR 53400 more than 2 prepared statements and portals in one session", "Z E")
	c.want("ROLLBACK", "C ROLLBACK", "Z I")
}

// TestInstead shows what a client is told that asks for what fdt does not have.
func TestInstead(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	for query, want := range map[string]string{
		"LISTEN x":               "spool",
		"NOTIFY x":               "spool",
		"COPY a FROM STDIN":      "Call a procedure",
		"SELECT lo_open(1, 2)":   "pass a bytea",
		"DELETE FROM a":          "CALL name(",
		"CREATE TABLE a (b int)": "CALL name(",
	} {
		c.front.Send(&pgproto3.Query{String: query})
		if e := c.refusal(); e.Code != "0A000" || !strings.Contains(e.Hint, want) {
			t.Errorf("%s: %s, hint %q", query, e.Code, e.Hint)
		}
	}
	c.front.Send(&pgproto3.FunctionCall{Function: 957})
	if e := c.refusal(); e.Code != "0A000" || !strings.Contains(e.Hint, "pass a bytea") {
		t.Errorf("a function call: %s, hint %q", e.Code, e.Hint)
	}
}

// refusal reads the answer to a request, which has to be an error.
func (c *client) refusal() *pgproto3.ErrorResponse {
	c.t.Helper()
	if err := c.front.Flush(); err != nil {
		c.t.Fatal(err)
	}
	var e *pgproto3.ErrorResponse
	for {
		m, err := c.front.Receive()
		if err != nil {
			c.t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			copied := *m
			e = &copied
		case *pgproto3.ReadyForQuery:
			if e == nil {
				c.t.Fatal("no error")
			}
			return e
		}
	}
}
