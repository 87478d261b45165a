package pgwire_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// oracleProcedures are like fdt's by name and parameters.
var oracleProcedures = []string{
	"CREATE TABLE message (body text)",
	"CREATE PROCEDURE enqueue(body text) LANGUAGE sql AS 'INSERT INTO message VALUES (body)'",
	`CREATE PROCEDURE echo(INOUT a bigint, INOUT b numeric, INOUT c text DEFAULT 'none') LANGUAGE plpgsql AS 'BEGIN END'`,
	`CREATE PROCEDURE withdraw(id bigint, amount numeric) LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''insufficient funds''; END'`,
	`CREATE PROCEDURE orphan(id bigint) LANGUAGE sql AS 'INSERT INTO child VALUES (id)'`,
	`CREATE PROCEDURE impatient() LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''57014'', MESSAGE = ''late''; END'`,
}

// TestDifferential holds the same conversations with PostgreSQL and with fdt.
// The golden file has both answers; where they differ, PostgreSQL's is marked
// pg and fdt's is marked fdt. conversations.txt has the reason for every such
// difference, and for no other.
func TestDifferential(t *testing.T) {
	pg := postgresql(t)
	anew(t, pg, "oracle", oracleProcedures...)
	f := newFDT(t, withBank(t))
	text, err := os.ReadFile("testdata/conversations.txt")
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := pgx.ParseConfig(pg.DSN("oracle"))
	if err != nil {
		t.Fatal(err)
	}
	oracle := func() *client { return connect(t, "unix", socket(dsn), "fdt", "database", "oracle") }
	ours := func() *client { return connect(t, "unix", f.sock, "fdt", "database", "oracle") }

	var out bytes.Buffer
	theirs, mine := oracle(), ours()
	version, reason, number := theirs.param("server_version"), "", 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		out.WriteString(line + "\n")
		number++
		switch {
		case line == "":
			theirs, mine = oracle(), ours()
			continue
		case strings.HasPrefix(line, "~ "):
			reason = line[2:]
			continue
		case strings.HasPrefix(line, "#"):
			continue
		}
		wire := strings.NewReplacer(`\n`, "\n").Replace(line)
		if answered := theirs.say(wire); mine.say(wire) != answered || !answered {
			continue
		}
		same := compare(&out, theirs.flush(), mine.flush())
		if same != (reason == "") && strings.HasPrefix(version, oracleVersion) {
			t.Errorf("conversations.txt:%d: %s: same answer: %t, reason for another: %q", number, line, same, reason)
		}
		reason = ""
	}
	golden(t, "testdata/conversations.golden", out.Bytes(), version)
	settle(t, pg, "oracle") // what a conversation leaves
}

// oracleVersion is PostgreSQL's, of which the golden file has the answers. With
// another only fdt's own are compared.
const oracleVersion = "15."

// mineOnly leaves PostgreSQL's answers out.
func mineOnly(b []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		if line, ok := bytes.CutPrefix(line, []byte(" fdt ")); ok {
			out.WriteString("     " + string(line))
		} else if !bytes.HasPrefix(line, []byte("  pg ")) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// compare writes equal messages once, and different ones with whose they are.
func compare(out *bytes.Buffer, theirs, mine []string) (same bool) {
	if slices.Equal(theirs, mine) {
		for _, m := range mine {
			out.WriteString("     " + m + "\n")
		}
		return true
	}
	for _, m := range theirs {
		out.WriteString("  pg " + m + "\n")
	}
	for _, m := range mine {
		out.WriteString(" fdt " + m + "\n")
	}
	return false
}

func golden(t *testing.T, name string, got []byte, version string) {
	t.Helper()
	if *testgolden.Update {
		testgolden.Write(t, name, string(got))
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version, oracleVersion) {
		got, want = mineOnly(got), mineOnly(want)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Errorf("%s:%d: missing %s", name, i+1, w[i])
		case i >= len(w):
			t.Errorf("%s:%d: more %s", name, i+1, g[i])
		case g[i] != w[i]:
			t.Errorf("%s:%d:\n got %s\nwant %s", name, i+1, g[i], w[i])
		default:
			continue
		}
		return
	}
}

// TestOwn holds conversations that only fdt can hold.
func TestOwn(t *testing.T) {
	f := newFDT(t, withBank(t))
	text, err := os.ReadFile("testdata/own.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := f.connect("fdt")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		out.WriteString(line + "\n")
		switch user, as := strings.CutPrefix(line, "as "); {
		case as:
			c = f.connect(user)
		case line == "", strings.HasPrefix(line, "#"):
		case c.say(line):
			answer := c.flush()
			compare(&out, answer, answer)
		}
	}
	golden(t, "testdata/own.golden", out.Bytes(), oracleVersion)
}
