package pgwire_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The matrix is every statement about transactions, in every state and sent in every way. In the lines of
// conversations, % is the statement, @ names the cell and # the state.
var (
	states = []struct{ name, lines string }{
		{"idle", ""},
		{"begun", "Q BEGIN"},
		{"read only", "Q BEGIN READ ONLY"},
		{"worked", "Q BEGIN\nQ CALL enqueue('worked @')"},
		{"behind a savepoint", "Q BEGIN\nQ CALL enqueue('worked @')\nQ SAVEPOINT a\nQ CALL enqueue('behind @')"},
		{"failed", "Q BEGIN\nQ CALL enqueue('worked @')\nQ NONSENSE"},
		{"failed behind a savepoint", "Q BEGIN\nQ CALL enqueue('worked @')\nQ SAVEPOINT a\nQ CALL enqueue('behind @')\nQ NONSENSE"},
		{"prepared", "Q BEGIN\nQ CALL enqueue('prepared @')\nQ PREPARE TRANSACTION 'g#'"},
		{"worked beside a prepared one", "Q BEGIN\nQ CALL enqueue('prepared @')\nQ PREPARE TRANSACTION 'g#'\nQ BEGIN\nQ CALL enqueue('worked @')"},
		{"failed beside a prepared one", "Q BEGIN\nQ CALL enqueue('prepared @')\nQ PREPARE TRANSACTION 'g#'\nQ BEGIN\nQ NONSENSE"},
	}
	ways = []struct{ name, lines string }{
		{"simple", "Q %"},
		{"simple behind a call", "Q CALL enqueue('before @'); %"},
		{"simple before a call", "Q %; CALL enqueue('behind @')"},
		{"extended", "P _ - %\nB _ _ t\nD P _\nE _ 0\nS"},
		{"extended behind a call", "P _ - CALL enqueue('before @')\nB _ _ t\nE _ 0\nP _ - %\nB _ _ t\nE _ 0\nS"},
		{"extended before a call", "P _ - %\nB _ _ t\nE _ 0\nP _ - CALL enqueue('behind @')\nB _ _ t\nE _ 0\nS"},
	}
	statements = []string{
		"BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT", "END", "COMMIT AND CHAIN",
		"ROLLBACK", "ABORT", "ROLLBACK AND CHAIN", "SAVEPOINT a", "SAVEPOINT b", "RELEASE a", "ROLLBACK TO a",
		"PREPARE TRANSACTION 'h#'", "PREPARE TRANSACTION 'g#'", "COMMIT PREPARED 'g#'", "ROLLBACK PREPARED 'g#'", "COMMIT PREPARED 'nobody'",
		"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY", "SET transaction_isolation = 'serializable'",
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET LOCAL application_name = 'x'",
		"SHOW transaction_isolation", "DISCARD ALL", "SELECT 1", "CALL enqueue('x @')", "",
	}
	// afterwards shows what the statement has left, and takes it away.
	afterwards = "Q SHOW transaction_isolation\nQ SHOW application_name\nQ CALL enqueue('after @')\nQ COMMIT\n" +
		"Q ROLLBACK PREPARED 'g#'\nQ ROLLBACK PREPARED 'h#'\nQ SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED"
)

// allowances are where fdt does not answer as PostgreSQL: all cells that they match, and only those.
var allowances = []struct{ cells, reason string }{
	{`^(idle|prepared) \| (simple|simple before a call|extended.*) \| PREPARE TRANSACTION`,
		"PostgreSQL answers ROLLBACK and no error where there is nothing to prepare; drivers take that for a yes vote"},
	{`^failed.* \| (simple|simple before a call|extended|extended before a call) \| PREPARE TRANSACTION`,
		"PostgreSQL answers ROLLBACK and no error; drivers take that for a yes vote. The transaction has ended in either case"},
	{`^(worked|behind).* \| .* \| SET TRANSACTION READ ONLY`,
		"not every resource can still be made read-only when it has begun to work: MariaDB answers 1568"},
	{`^(idle|begun|prepared) \| (simple|extended) behind a call \| SET TRANSACTION READ ONLY`,
		"not every resource can still be made read-only when it has begun to work: MariaDB answers 1568"},
}

// TestMatrix holds the matrix's conversations with PostgreSQL and with fdt, and compares every answer and what was
// committed. The golden file has the cells in which they differ.
func TestMatrix(t *testing.T) {
	pg := postgresql(t)
	anew(t, pg, "matrix", oracleProcedures...)
	dsn, err := pgx.ParseConfig(pg.DSN("matrix"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFDT(t, bank{})
	version := connect(t, "unix", socket(dsn), "fdt", "database", "matrix").param("server_version")
	differences := make([]bytes.Buffer, len(states))
	t.Run("State", func(t *testing.T) {
		for i, state := range states {
			t.Run(state.name, func(t *testing.T) {
				t.Parallel()
				cells := play(t, f, dsn, i)
				for _, c := range cells {
					c.judge(t, &differences[i])
				}
			})
		}
	})
	var all [][]byte
	for i := range differences {
		all = append(all, differences[i].Bytes())
	}
	golden(t, "testdata/matrix.golden", bytes.Join(all, nil), version)
}

func socket(dsn *pgx.ConnConfig) string { return fmt.Sprintf("%s/.s.PGSQL.%d", dsn.Host, dsn.Port) }

// cell is one conversation, and what both servers answered.
type cell struct {
	name         string
	theirs, mine []string
}

// play holds the conversations of one state.
func play(t *testing.T, f *fdt, dsn *pgx.ConnConfig, state int) []*cell {
	var cells []*cell
	byID := map[string]*cell{}
	for _, way := range ways {
		theirs := connect(t, "unix", socket(dsn), "fdt", "database", "matrix", "synchronous_commit", "off")
		mine := connect(t, "unix", f.sock, "fdt", "database", "matrix")
		for _, statement := range statements {
			id := fmt.Sprintf("%d.%d", state, len(cells))
			fill := strings.NewReplacer("%", statement, "@", id, "#", fmt.Sprint(state))
			c := &cell{name: states[state].name + " | " + way.name + " | " + strings.NewReplacer("#", "", "@", "").Replace(statement)}
			for line := range strings.SplitSeq(states[state].lines+"\n"+way.lines+"\n"+afterwards, "\n") {
				line = fill.Replace(fill.Replace(line)) // the statement is filled in too
				if line == "" {
					continue
				}
				if answered := theirs.say(line); mine.say(line) == answered && answered {
					c.theirs = append(c.theirs, theirs.flush()...)
					c.mine = append(c.mine, mine.flush()...)
				}
			}
			cells = append(cells, c)
			byID[id] = c
		}
	}
	// What was committed ends in the name of its cell.
	for _, body := range committed(t, dsn) {
		what, id, _ := strings.Cut(body, " ")
		if c := byID[id]; c != nil {
			c.theirs = append(c.theirs, "committed: "+what)
		}
	}
	list := f.messages()
	slices.Sort(list)
	for _, body := range list {
		what, id, _ := strings.Cut(body, " ")
		if c := byID[id]; c != nil {
			c.mine = append(c.mine, "committed: "+what)
		}
	}
	return cells
}

// committed is what the oracle's procedure has put into its table.
func committed(t *testing.T, dsn *pgx.ConnConfig) []string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, _ := conn.Query(t.Context(), `SELECT body FROM message ORDER BY body COLLATE "C"`)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// judge compares the answers; a difference has to be allowed, and an allowance to be used.
func (c *cell) judge(t *testing.T, out *bytes.Buffer) {
	t.Helper()
	// What may not be written in a read-only transaction is named by whoever refuses it.
	for _, list := range [][]string{c.theirs, c.mine} {
		for i, m := range list {
			if strings.HasPrefix(m, "E ERROR 25006 ") {
				list[i] = "E ERROR 25006"
			}
		}
	}
	reason := ""
	for _, a := range allowances {
		if regexp.MustCompile(a.cells).MatchString(c.name) {
			reason = a.reason
		}
	}
	same := slices.Equal(c.theirs, c.mine)
	if same {
		if reason != "" {
			t.Errorf("%s: no difference any more, as was allowed because %s", c.name, reason)
		}
		return
	}
	a, b := c.theirs, c.mine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if reason == "" {
		t.Errorf("%s:\nPostgreSQL %s\nfdt        %s", c.name, strings.Join(a, ", "), strings.Join(b, ", "))
	}
	fmt.Fprintf(out, "%s\n# %s\n", c.name, reason)
	compare(out, first(a), first(b))
}

// first is the first answer that differs, without what follows from it, and what was committed.
func first(answers []string) []string {
	end := slices.IndexFunc(answers, func(m string) bool { return strings.HasPrefix(m, "Z ") }) + 1
	list := slices.Clone(answers[:end])
	for _, m := range answers[end:] {
		if strings.HasPrefix(m, "committed") {
			list = append(list, m)
		}
	}
	return list
}
