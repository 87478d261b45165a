package pgwire_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// answer is what a server says to a query: columns with types, and rows, in one format, or an error.
func answer(t *testing.T, c *pgconn.PgConn, text string, format int16) string {
	t.Helper()
	r := c.ExecParams(t.Context(), text, nil, nil, nil, []int16{format})
	var b strings.Builder
	for _, f := range r.FieldDescriptions() {
		fmt.Fprintf(&b, "%s:%d/%d ", f.Name, f.DataTypeOID, f.DataTypeSize)
	}
	for r.NextRow() {
		b.WriteString("\n")
		for i, v := range r.Values() {
			if i > 0 {
				b.WriteString("|")
			}
			switch {
			case v == nil:
				b.WriteString("∅")
			case format == 1:
				fmt.Fprintf(&b, "%x", v)
			default:
				b.Write(v)
			}
		}
	}
	if _, err := r.Close(); err != nil {
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok {
			t.Fatalf("%s: %v", text, err)
		}
		return fmt.Sprintf("%s %s @%d", e.Code, e.Message, e.Position)
	}
	return b.String()
}

// TestQueries compares queries and expressions over what both have with PostgreSQL.
func TestQueries(t *testing.T) {
	pg := postgresql(t)
	anew(t, pg, "queries")
	f := newFDT(t, withBank(t))
	dial := func(dsn string) *pgconn.PgConn {
		c, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(t.Context()) })
		return c
	}
	theirs := dial(pg.DSN("queries"))
	mine := dial(fmt.Sprintf("host=%s port=7432 user=fdt dbname=queries sslmode=disable", strings.TrimSuffix(f.sock, "/.s.PGSQL.7432")))
	if !strings.HasPrefix(theirs.ParameterStatus("server_version"), oracleVersion) {
		t.Skipf("the answers are those of PostgreSQL %s", oracleVersion)
	}
	text, err := os.ReadFile("testdata/queries.txt")
	if err != nil {
		t.Fatal(err)
	}
	reason, number := "", 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		number++
		if r, ok := strings.CutPrefix(line, "~ "); ok {
			reason = r
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		differ := ""
		for _, format := range []int16{0, 1} {
			want, got := answer(t, theirs, line, format), answer(t, mine, line, format)
			if want != got && differ == "" {
				differ = fmt.Sprintf("\n got %s\nwant %s", got, want)
			}
		}
		if (differ != "") != (reason != "") {
			t.Errorf("queries.txt:%d: %s: reason for another answer: %q%s", number, line, reason, differ)
		}
		reason = ""
	}
}
