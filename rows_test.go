package fdt_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/internal/testwait"
)

type count struct{ N int64 }

// upTo yields numbers, and tells when it has ended.
func upTo(ended chan<- int64) func(context.Context, *fdt.Tx, count) iter.Seq2[count, error] {
	return func(_ context.Context, _ *fdt.Tx, to count) iter.Seq2[count, error] {
		return func(yield func(count, error) bool) {
			n := int64(0)
			defer func() { ended <- n }()
			for ; n < to.N; n++ {
				if n == 1000 && to.N == 1001 {
					yield(count{}, fdt.Errorf("P0003", "a thousand is enough"))
					return
				}
				if !yield(count{n}, nil) {
					return
				}
			}
		}
	}
}

// TestRows: any number of rows come as they are yielded, by each way in which a
// client may ask for them.
func TestRows(t *testing.T) {
	ended := make(chan int64, 1)
	app := fdt.Test(t, "session: {memory: 1MiB, message: 1MiB}", fdt.Rows("up_to", upTo(ended)))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for name, mode := range map[string]pgx.QueryExecMode{"simple": pgx.QueryExecModeSimpleProtocol, "extended": pgx.QueryExecModeCacheStatement} {
		for _, n := range []int64{0, 1, 5000} {
			r, err := c.Query(t.Context(), "SELECT * FROM up_to($1)", mode, n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(r, pgx.RowTo[int64])
			if err != nil || int64(len(got)) != n || r.CommandTag().String() != fmt.Sprint("SELECT ", n) || n > 0 && got[n-1] != n-1 {
				t.Errorf("%s, %d: %d rows, %s, %v", name, n, len(got), r.CommandTag(), err)
			}
			<-ended
		}
		r, _ := c.Query(t.Context(), "SELECT * FROM up_to(1001)", mode) // the rows have the error, too
		got, err := pgx.CollectRows(r, pgx.RowTo[int64])
		if !strings.HasPrefix(told(err), "P0003 a thousand") {
			t.Errorf("%s: %d rows, %v", name, len(got), err)
		}
		<-ended
	}
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "DECLARE few CURSOR FOR SELECT * FROM up_to(100)"); err != nil {
		t.Fatal(err)
	}
	r, _ := tx.Query(t.Context(), "FETCH 7 FROM few") // likewise
	if got, err := pgx.CollectRows(r, pgx.RowTo[int64]); err != nil || len(got) != 7 {
		t.Error(got, err)
	}
	<-ended
	if _, err := tx.Exec(t.Context(), "DECLARE many CURSOR FOR SELECT * FROM up_to(10000000)"); err == nil {
		_, err = tx.Exec(t.Context(), "FETCH 1 FROM many")
		if !strings.HasPrefix(told(err), "53200 out of memory") {
			t.Error(err)
		}
	} else if !strings.HasPrefix(told(err), "53200 out of memory") {
		t.Error(err)
	}
	<-ended
}

// TestRowsBounded: rows that nobody reads are not made, and cost
// nothing; when their client goes, they end.
func TestRowsBounded(t *testing.T) {
	ended := make(chan int64, 1)
	app := fdt.Test(t, "", fdt.Rows("up_to", upTo(ended)))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	const all = 1 << 40
	bounded(t, c, fmt.Sprintf("SELECT * FROM up_to(%d)", int64(all)))
	if n := testwait.For(t, "the rows end", ended); n < 100000 || n >= all {
		t.Errorf("%d rows", n)
	}
}

// bounded reads the first 100,000 rows of a result that has far more, and claims
// that they have taken no memory. Then it ends the connection.
func bounded(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Query(ctx, sql)
	if err != nil || !r.Next() {
		t.Fatal(err, r.Err())
	}
	for range 100000 {
		if !r.Next() {
			t.Fatal(r.Err())
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&now)
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%s: %d bytes more", sql, grown)
	}
	cancel()
	r.Close()
	_ = c.Close(context.Background()) // it was cut off
}

// TestRowsOfSteps: the rows of a step with rows: many are those of the
// procedure, from both kinds of databases.
func TestRowsOfSteps(t *testing.T) {
	text, _ := configuration(t)
	app := fdt.Test(t, text+`
session: {memory: 4MiB, message: 1MiB} # soon full
transaction: {timeout: 1h}
procedures:
  pg:
    parameters: {n: bigint, on: {type: boolean, default: true}}
    steps:
      - {on: bank_a, sql: "SELECT :n::bigint - 1", as: less}
      - {on: bank_a, sql: "SELECT i, 'row ' || i, CASE WHEN i % 2 = 0 THEN i END FROM generate_series(1, :less::bigint) i", rows: many, when: on}
    returns: {i: integer, words: text, even: numeric}
  my:
    parameters: {n: bigint}
    steps: [{on: bank_b, sql: "SELECT seq, concat('row ', seq), if(seq % 2 = 0, seq, NULL) FROM seq_1_to_1000000 WHERE seq < :n", rows: many}]
    returns: {i: integer, words: text, even: numeric}
  plain:
    steps: [{on: bank_b, sql: "SHOW TABLES LIKE 'account'", rows: many}]
    returns: {name: text}
  wide: {steps: [{on: bank_a, sql: "SELECT 1, 2", rows: many}], returns: {one: integer}}
  wide_my: {steps: [{on: bank_b, sql: "SELECT 1, 2", rows: many}], returns: {one: integer}}
  unfit: {steps: [{on: bank_a, sql: "SELECT 'x'", rows: many}], returns: {one: integer}}
  divides: {steps: [{on: bank_a, sql: "SELECT 1 / (3 - i) FROM generate_series(1, 5) i", rows: many}], returns: {one: integer}}
  locked: {steps: [{on: bank_b, sql: "SELECT nothing", rows: many}], returns: {one: integer}}
  long: {steps: [{on: bank_a, sql: "SELECT pg_sleep(60)::text", rows: many}], returns: {one: text}, timeout: 10ms}
  infinite: {parameters: {f: double precision}, steps: [{on: bank_b, sql: "SELECT :f", rows: many}], returns: {one: double precision}}
  endless: {steps: [{on: bank_a, sql: "SELECT generate_series(1, 100000000)", rows: many}], returns: {i: bigint}}
  endless_my: {steps: [{on: bank_b, sql: "SELECT seq FROM seq_1_to_100000000", rows: many}], returns: {i: bigint}}
`)
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(t.Context(), app.DSN("alice"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	c := connect()
	type row struct {
		I     int32
		Words string
		Even  *string
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
		for _, name := range []string{"pg", "my"} {
			for _, n := range []int{1, 2, 4, 5001} {
				r, _ := c.Query(t.Context(), fmt.Sprintf("SELECT * FROM %s(%d)", name, n), mode) // the rows have the error, too
				got, err := pgx.CollectRows(r, pgx.RowToStructByPos[row])
				if err != nil || len(got) != n-1 {
					t.Fatalf("%s(%d), %v: %d rows, %v", name, n, mode, len(got), err)
				}
				for i, g := range got {
					if odd := i%2 == 0; int(g.I) != i+1 || g.Words != fmt.Sprint("row ", i+1) || (g.Even == nil) != odd || !odd && *g.Even != fmt.Sprint(i+1) {
						t.Fatalf("%s(%d): row %d is %+v", name, n, i, g)
					}
				}
			}
		}
	}
	for call, want := range map[string]int{"SELECT * FROM pg(3, false)": 0, "CALL pg(3)": 2, "SELECT * FROM plain()": 1} {
		r, _ := c.Query(t.Context(), call, pgx.QueryExecModeSimpleProtocol) // likewise
		n := 0
		for r.Next() {
			n++
		}
		if r.Err() != nil || n != want {
			t.Errorf("%s: %d rows, %v", call, n, r.Err())
		}
	}
	for call, want := range map[string]string{
		"wide()":               "42804 the statement has 2 columns, and returns names 1",
		"wide_my()":            "42804 the statement has 2 columns, and returns names 1",
		"unfit()":              "22P02 invalid input syntax for type integer",
		"divides()":            "22012 division by zero",
		"locked()":             "42703 Unknown column 'nothing'",
		"long()":               "57014 canceling statement due to the timeout of procedure long (10ms)",
		"infinite('Infinity')": "22003 f is Infinity",
	} {
		if _, err := c.Exec(t.Context(), "SELECT * FROM "+call, pgx.QueryExecModeSimpleProtocol); !strings.HasPrefix(told(err), want) {
			t.Errorf("%s: %v", call, told(err))
		}
	}
	few := connect() // of the client's memory
	if _, err := few.Exec(t.Context(), "BEGIN; DECLARE c CURSOR FOR SELECT * FROM endless()", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if _, err := few.Exec(t.Context(), "FETCH 1 FROM c", pgx.QueryExecModeSimpleProtocol); !strings.HasPrefix(told(err), "53200 out of memory") {
		t.Error(err)
	}
	if _, err := few.Exec(t.Context(), "ROLLBACK; CALL pg(2)", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Error(err)
	}
	bounded(t, connect(), "SELECT * FROM endless()")
	bounded(t, connect(), "SELECT * FROM endless_my()")
}

// TestRowsFail is a table of iterators that fail in their own ways.
func TestRowsFail(t *testing.T) {
	app := fdt.Test(t, "",
		fdt.Rows("panics", func(context.Context, *fdt.Tx, none) iter.Seq2[count, error] {
			return func(yield func(count, error) bool) {
				yield(count{1}, nil)
				panic("oops")
			}
		}),
		fdt.Rows("unfit", func(context.Context, *fdt.Tx, none) iter.Seq2[struct{ A string }, error] {
			return func(yield func(struct{ A string }, error) bool) { yield(struct{ A string }{"\x00"}, nil) }
		}),
	)
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for name, want := range map[string]string{"panics": "XX000 internal error", "unfit": "22021 invalid byte sequence"} {
		if _, err := c.Exec(t.Context(), "SELECT * FROM "+name+"()"); !strings.HasPrefix(told(err), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); errors.Is(err, context.Canceled) || err != nil {
		t.Error(err)
	}
}
