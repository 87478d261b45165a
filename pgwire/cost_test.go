package pgwire_test

import (
	"bytes"
	endian "encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/internal/value"
)

// nested is an array of an array, and so on, each of them a text for the next.
func nested(depth int) string {
	return "SELECT " + strings.Repeat("ARRAY[", depth) + "'x'" + strings.Repeat("]::text", depth)
}

// numbered is one text for each of n numbers.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// outOfMemory is the answer to what does not fit in a session.
const outOfMemory = "E ERROR 53200 out of memory"

// hostile are statements that cost much more than they are long, or did once, and what is answered. Where it took
// minutes, or gigabytes, this test does not end.
var hostile = map[string]struct{ text, want string }{
	"nested arrays":       {nested(20), "C SELECT 1"},
	"arrays that explode": {nested(31), outOfMemory},
	"columns":             {"SELECT " + strings.Repeat("1,", 1<<20) + "1", "E ERROR 54011 target lists can have at most 1664 entries"},
	"wide columns":        {"SELECT " + strings.Repeat("*,", 1000) + "* FROM pg_prepared_xacts", "E ERROR 54011 target lists can have at most 1664 entries"},
	"arguments":           {"CALL f(" + strings.Repeat("1,", 1<<20) + "1)", "E ERROR 54023 cannot pass more than 100 arguments to a function @6"},
	"parts of a name":     {"CALL " + strings.Repeat("a.", 1<<14) + "a()", "E ERROR 42601 improper qualified name (too many dotted names): a.a.a"},
	"a very long name":    {"CALL " + strings.Repeat("a.", 1<<20) + "a()", outOfMemory},
	"elements":            {"SELECT ARRAY[" + strings.Repeat("1,", 1<<20) + "1]", outOfMemory},
	"statements":          {strings.Repeat("BEGIN;", 1<<20), outOfMemory},
	"settings":            {numbered("SET a.b%d=1;", 1<<19), outOfMemory},
	"settings in parts":   {numbered("SET a.b%d=1;", 8000), "C SET"},
	"a long setting":      {"BEGIN;" + strings.Repeat("SET a.b TO '"+strings.Repeat("x", 1<<20)+"'; SAVEPOINT s;", 15), "C BEGIN"},
	"order":               {"SELECT gid FROM pg_prepared_xacts ORDER BY gid" + strings.Repeat(",gid", 1<<15), "C SELECT 0"},
	"conditions":          {"SELECT gid FROM pg_prepared_xacts WHERE gid='a'" + strings.Repeat(" AND gid='a'", 1<<15), "C SELECT 0"},
	"rows":                {"SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c", "E ERROR 53400 the query does more than is allowed here: 3000000 steps"},
	"rows that are kept":  {"SELECT a.*, b.* FROM pg_attribute a, pg_attribute b", outOfMemory},
	"a series":            {"SELECT * FROM generate_series(1, 1000000000)", outOfMemory},
	"a series of groups":  {"SELECT n FROM generate_series(1, 1000000) n GROUP BY n", outOfMemory},
	"endless recursion":   {"WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t) SELECT count(*) FROM t", outOfMemory},
	"a correlated query":  {"SELECT (SELECT count(*) FROM pg_attribute b, pg_type t WHERE a.attname <> b.attname AND t.typname <> b.attname) FROM pg_attribute a", "E ERROR 53400"},
	"a long text made":    {"SELECT length(repeat('x', 1000000000))", outOfMemory},
	"texts that explode":  {"SELECT replace(replace(replace(repeat('x', 1000), 'x', repeat('x', 1000)), 'x', repeat('x', 1000)), 'x', 'y')", outOfMemory},
	"aggregated texts":    {"SELECT string_agg(repeat('x', 10000), '') FROM pg_attribute", outOfMemory},
	"a costly expression": {"SELECT repeat('a', 5000) ~ '" + strings.Repeat("(a?){30}", 60) + "b' FROM pg_attribute", "E ERROR 54001 a regular expression costs too much for a text of 5000 bytes"},
	"searches that go on": {"SELECT regexp_replace(repeat('a', 20000), 'a.*b|a', '', 'g')", "E ERROR 53400"},
	"parts of a text":     {"SELECT string_to_array(repeat(',', 30000000), ',')", outOfMemory},
	"parts by a pattern":  {"SELECT regexp_split_to_table(repeat(',', 2000000), ',')", "E ERROR 53"}, // of work or memory, whichever ends first
	"powers":              {"SELECT count((10.0::numeric^g)^1000) FROM generate_series(1,999) g, generate_series(1,999) h", "E ERROR"},
	"array of one text":   {"SELECT cardinality(('{' || repeat('1,', 3000000) || '1}')::int[])", outOfMemory},
	"array of a constant": {"SELECT '{" + strings.Repeat("1,", 7<<20) + "1}'::int[]", outOfMemory},
	"sums":                {"SELECT 1" + strings.Repeat("+1", 1<<18), "E ERROR 54001 more than 500 operators in a row"},
	"conjunctions":        {"SELECT true" + strings.Repeat(" AND true", 1<<14), "C SELECT 1"},
	"cases":               {"SELECT CASE" + strings.Repeat(" WHEN false THEN 1", 1<<13) + " END", "C SELECT 1"},
	"a long list":         {"SELECT 1 IN (2" + strings.Repeat(",2", 1<<14) + ")", "C SELECT 1"},
	"many tables":         {"SELECT 1 FROM pg_am a0" + numbered(", pg_am b%d", 400), "C SELECT 1"},
	"many unions":         {"SELECT 1" + strings.Repeat(" UNION SELECT 1", 1<<11), "C SELECT 1"},
	"nested queries":      {"SELECT " + strings.Repeat("(SELECT ", 60) + "1" + strings.Repeat(")", 60), "E ERROR 54001"},
	"nested nullif":       {"SELECT " + strings.Repeat("nullif(", 60) + "1" + strings.Repeat(",2)", 60), "C SELECT 1"},
	"nested between":      {"SELECT " + strings.Repeat("(", 30) + "true" + strings.Repeat(" BETWEEN false AND true)", 30), "C SELECT 1"},
	"nested case":         {"SELECT " + strings.Repeat("CASE ", 40) + "1" + strings.Repeat(" WHEN 1 THEN 1 ELSE 2 END", 40), "C SELECT 1"},
	"depth":               {"SELECT " + strings.Repeat("version(", 1<<20), "E ERROR 54001 expressions nest deeper than 64 @512"},
	"comments":            {"SELECT 1" + strings.Repeat("/*", 1<<20) + strings.Repeat("*/", 1<<20), "C SELECT 1"},
	"a long text":         {"SELECT '" + strings.Repeat("x", 15<<20) + "'::varchar::text::varchar", "C SELECT 1"}, // casts that change nothing make nothing
}

// TestHostile shows that no statement takes more than its share, and that the session lives on.
func TestHostile(t *testing.T) {
	f := newFDT(t, bank{})
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			cl := connect(t, "unix", f.sock, "a")
			before := memory()
			got := cl.query(c.text)
			found := strings.Join(got, "\n")
			if n := len(got); n < 2 || !strings.Contains(found, c.want) || !strings.HasPrefix(got[n-1], "Z ") {
				t.Errorf("got %.200q … %.200q, want %s", got[0], got[max(0, n-2):], c.want)
			}
			cl.query("ROLLBACK")
			cl.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
			if grown := memory() - before; grown > 80<<20 {
				t.Errorf("%d bytes more", grown)
			}
		})
	}
}

// TestHostileArrays shows that an array is not read whose elements take more than the session's share, however short they are, in both
// formats; the session lives on.
func TestHostileArrays(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	const n = 3 << 20
	binary := make([]byte, 20, 20+4*n)
	for i, word := range []uint32{1, 1, value.Int4.OID, n, 1} { // dimensions, nulls, of what; length and bound
		endian.BigEndian.PutUint32(binary[4*i:], word)
	}
	null := []byte{0xff, 0xff, 0xff, 0xff}
	for name, bind := range map[string]*pgproto3.Bind{
		"text":   {Parameters: [][]byte{[]byte("{" + strings.Repeat("1,", n) + "1}")}},
		"binary": {Parameters: [][]byte{append(binary, bytes.Repeat(null, n)...)}, ParameterFormatCodes: []int16{1}},
	} {
		for _, m := range []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELECT cardinality($1::int[])"}, bind, &pgproto3.Sync{}} {
			c.front.Send(m)
		}
		c.answers(name, c.flush(), "1", outOfMemory, "Z I")
	}
	few := append(append([]byte{}, binary...), null...)
	endian.BigEndian.PutUint32(few[12:], 1)
	for _, p := range []*pgproto3.Bind{
		{Parameters: [][]byte{few}, ParameterFormatCodes: []int16{1}},
		{Parameters: [][]byte{few[:12]}, ParameterFormatCodes: []int16{1}},
	} {
		for _, m := range []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELECT $1::int[]"}, p, &pgproto3.Execute{}, &pgproto3.Sync{}} {
			c.front.Send(m)
		}
		if got := c.flush(); got[len(got)-1] != "Z I" {
			t.Errorf("%q", got)
		}
	}
}

// TestBudget shows that what a session keeps is bounded as a sum, and that what it lets go of makes room.
func TestBudget(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxMemory = 1 << 20 })
	long := strings.Repeat("x", 300<<10)
	c := f.connect("a")
	say := func(want string, lines ...string) {
		t.Helper()
		var got []string
		for _, line := range append(lines, "S") {
			if c.say(line) {
				got = append(got, c.flush()...)
			}
		}
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("%.60q: got %.200s, want %s", lines, g, want)
		}
	}
	const full = "E ERROR 53200 out of memory, Z I"
	text := "SELECT '" + long + "'"
	say("1, Z I", "P a - "+text)
	say(full, "P b - "+text) // its text counts, and what is parsed of it, as does what is there
	say("3, Z I", "C S a")
	say("1, Z I", "P b - "+text)
	c.want("DEALLOCATE ALL", "C DEALLOCATE ALL", "Z I")
	// Portals, in a transaction, as they would end with it.
	c.want("BEGIN", "C BEGIN", "Z T")
	const fullInside = "E ERROR 53200 out of memory, Z E"
	say("1, 2, 2, 2, Z T", "P p - SELECT $1::text", "B a p t "+long, "B b p t "+long, "B c p t "+long)
	say(fullInside, "B d p t "+long)
	c.want("ROLLBACK", "C ROLLBACK", "Z I")
	// Settings, older values of settings, and savepoints.
	set := "SET a.b = '" + long + "'"
	c.want(set, "C SET", "Z I")
	c.want("SET a.c = '"+long+"'", outOfMemory, "Z I")
	c.want("RESET ALL", "C RESET", "Z I")
	c.want("BEGIN; "+set+"; SET a.b = 'x'; SET a.b = 'y'; SAVEPOINT s; SET a.b = 'z'; SAVEPOINT s; RESET a.b",
		"C BEGIN", "C SET", "C SET", "C SET", "C SAVEPOINT", "C SET", "C SAVEPOINT", "C RESET", "Z T")
	c.want("ROLLBACK TO s; SHOW a.b; RELEASE s; ROLLBACK TO s; SHOW a.b",
		"C ROLLBACK", "T a.b:25/-1/0", "D z", "C SHOW", "C RELEASE", "C ROLLBACK", "T a.b:25/-1/0", "D y", "C SHOW", "Z T")
	c.want("ROLLBACK; SHOW a.b", "C ROLLBACK", `E ERROR 42704 unrecognized configuration parameter "a.b"`, "Z I")
	c.want("BEGIN", "C BEGIN", "Z T")
	for range 2 {
		if got := c.query(strings.Repeat("SAVEPOINT s;", 500)); got[len(got)-1] != "Z T" {
			t.Fatalf("%.200q", got)
		}
	}
	got := c.query(strings.Repeat("SAVEPOINT s;", 500))
	if g := strings.Join(got[len(got)-2:], ", "); g != fullInside {
		t.Error(g)
	}
	c.want("ROLLBACK", "C ROLLBACK", "Z I")
	say("1, 2, D 1, C SELECT 1, Z I", "P _ - SELECT 1", "B _ _ t", "E _ 0")
	// Another session has its own.
	f.connect("a").want(set, "C SET", "Z I")
}

// TestBudgetOfPortals shows that a portal counts for the statement that it holds when that has no name any more, and a cursor for the
// text in which it was declared.
func TestBudgetOfPortals(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxMemory = 8 << 20 })
	c := f.connect("a")
	text := "SELECT 1 /*" + strings.Repeat("x", 1<<20) + "*/"
	const most = 12
	for name, ask := range map[string]func(n int) []string{
		"unnamed": func(n int) []string {
			c.say("P _ - " + text)
			c.say(fmt.Sprintf("B p%d _ t", n))
			c.say(fmt.Sprintf("E p%d 0", n))
			c.say("S")
			return c.flush()
		},
		"closed": func(n int) []string {
			c.say("P s - " + text)
			c.say(fmt.Sprintf("B p%d s t", n))
			c.say("C S s")
			c.say("S")
			return c.flush()
		},
		"deallocated": func(n int) []string {
			c.say("P s - " + text)
			c.say(fmt.Sprintf("B p%d s t", n))
			c.say("S")
			if got := c.flush(); got[len(got)-1] != "Z T" {
				return got
			}
			return c.query([]string{"DEALLOCATE s", "DEALLOCATE ALL"}[n%2])
		},
		"two portals": func(n int) []string {
			c.say("P _ - " + text)
			c.say(fmt.Sprintf("B p%d _ t", n))
			c.say(fmt.Sprintf("B q%d _ t", n))
			c.say("P _ - ")
			c.say(fmt.Sprintf("C P %s%d", []string{"p", "q"}[n%2], n))
			c.say("S")
			return c.flush()
		},
		"cursor": func(n int) []string { return c.query(fmt.Sprintf("DECLARE c%d CURSOR FOR %s; FETCH c%[1]d", n, text)) },
	} {
		c.want("BEGIN", "C BEGIN", "Z T")
		n := 0
		last := ""
		for ; n < most && last != "Z E"; n++ {
			got := ask(n)
			last = got[len(got)-1]
			if last == "Z E" && got[len(got)-2] != outOfMemory {
				t.Errorf("%s: %.80q", name, got)
			}
		}
		if n < 3 || n == most {
			t.Errorf("%s: %d portals", name, n)
		}
		c.want("ROLLBACK", "C ROLLBACK", "Z I")
		c.want(text, "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	}
}

// TestCancelWhileParsing shows that a statement's time ends, and a cancel request reaches it, also before it runs.
func TestCancelWhileParsing(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	const late = "E ERROR 57014 canceling statement due to statement timeout"
	text := strings.Repeat("SET a.b=1;", 30000)
	c.want("SET statement_timeout = '1ms'", "C SET", "Z I")
	if got := c.query(text); got[len(got)-2] != late {
		t.Errorf("%.80q", got[len(got)-2:])
	}
	for _, line := range []string{"P _ - SELECT ARRAY[1" + strings.Repeat(",1", 110000) + "]", "S"} {
		if c.say(line) {
			if got := c.flush(); got[0] != late {
				t.Errorf("Parse: %.80q", got)
			}
		}
	}
	c.want("SET statement_timeout = 0", "C SET", "Z I")
	defer f.wire.HoldTurns()()
	c.send(text[:len(text)/10])
	testwait.Until(t, "parsed as far as a turn is needed", func() bool { return f.wire.Running() == 1 })
	cancelRequest(t, "unix", f.sock, c.key)
	if got := c.read(); got[len(got)-2] != "E ERROR 57014 canceling statement due to user request" {
		t.Errorf("%.80q", got[len(got)-2:])
	}
}

// TestBudgetOfRows shows that the rows count that a portal keeps, as FETCH may go back to those that were fetched.
func TestBudgetOfRows(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxMemory = 40 << 10 })
	c := f.connect("a")
	for _, gid := range []string{"a", "b", "c"} {
		c.want("BEGIN; CALL enqueue('x'); PREPARE TRANSACTION '"+gid+"'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	}
	const most = 30
	for limit := range 2 {
		c.want("BEGIN", "C BEGIN", "Z T")
		c.say("P _ - SELECT * FROM pg_prepared_xacts")
		c.say("S")
		c.flush()
		n := 0
		for last := ""; last != "Z E"; n++ {
			c.say(fmt.Sprintf("B p%d _ t", n))
			c.say(fmt.Sprintf("E p%d %d", n, limit))
			c.say("S")
			got := c.flush()
			if last = got[len(got)-1]; last == "Z E" && got[len(got)-2] != outOfMemory {
				t.Fatal(got)
			}
		}
		c.want("ROLLBACK", "C ROLLBACK", "Z I")
		if n > most || n < most/2 {
			t.Errorf("limit %d: %d portals", limit, n)
		}
	}
}
