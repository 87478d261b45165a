package mariadb

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// A statement that is only tried is held against the tables, and changes nothing.
func TestTry(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	for _, sql := range []string{"DELETE FROM " + acc, "PREPARE s FROM 'SELECT 1'", "SELECT id FROM " + acc + " WHERE id = ?"} {
		must(t, b.Try(t.Context(), sql))
	}
	if out := exec(t, b, "SELECT id FROM "+acc); out.Rows != 2 {
		t.Errorf("%d rows are left", out.Rows)
	}
	if err := b.Try(t.Context(), "SELECT 1 FROM nowhere"); txn.SQLState(err) != "42P01" {
		t.Errorf("no such table: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	if err := b.Try(t.Context(), "SELECT 1"); err == nil {
		t.Error("tried on a branch that has ended")
	}
}

// A result has the type of its column, and text as PostgreSQL prints it.
func TestResultTypes(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	for _, c := range []struct {
		expr, want string
		oid        uint32
	}{
		{"1", "1", oidInt4},
		{"CAST(7 AS SIGNED)", "7", oidInt4},
		{"COUNT(*)", "1", oidInt8},
		{"1.50", "1.50", oidNumeric},
		{"1e0", "1", oidFloat8},
		{"1/3e0", "0.3333333333333333", oidFloat8},
		{"18446744073709551615", "18446744073709551615", oidNumeric},
		{"'a'", "a", oidText},
		{"X'00ff5c27'", `\x00ff5c27`, oidBytea},
		{"CAST('x' AS BINARY)", `\x78`, oidBytea},
		{"DATE '2026-02-28'", "2026-02-28", oidDate},
		{"TIMESTAMP '2026-02-28 12:00:00.5'", "2026-02-28 12:00:00.5", oidTimestamp},
		{"FROM_UNIXTIME(0)", "1970-01-01 00:00:00", oidTimestamp}, // in UTC, whatever the server's zone
		{"TIME '-25:00:00'", "-25:00:00", 0},
		{"CAST('0000-00-00' AS DATE)", "0000-00-00", 0},
		{"@@sql_mode LIKE '%STRICT%'", "1", oidInt4},
	} {
		out := exec(t, b, "SELECT "+c.expr)
		if *out.First != c.want || out.Type != c.oid {
			t.Errorf("%s: %q, type %d; want %q, %d", c.expr, *out.First, out.Type, c.want, c.oid)
		}
	}
	acc := "t" + fmt.Sprint(sequence.Add(1))
	admin(t, "a", "CREATE TABLE "+acc+" (b bit(64), f float, ts timestamp(6) NULL)", "INSERT INTO "+acc+" VALUES (b'101', 0.1, '2026-02-28 12:00:00')")
	for _, c := range []struct {
		sql, want string
		oid       uint32
	}{
		{"SELECT b FROM ", "5", oidInt8},
		{"SELECT f FROM ", "0.1", oidFloat4},
		{"UPDATE %s SET ts = '2026-07-28 12:00:00.25'", "", 0},
		{"SELECT ts FROM ", "2026-07-28 12:00:00.250000+00", oidTimestamptz},
		{"UPDATE %s SET b = 18446744073709551615", "", 0},
		{"SELECT b FROM ", "18446744073709551615", oidNumeric},
		{"UPDATE %s SET b = NULL", "", 0},
		{"SELECT b FROM ", "", 0},
	} {
		sql := strings.Replace(c.sql, "%s", acc, 1)
		if sql == c.sql {
			sql += acc
		}
		out := exec(t, b, sql)
		first := ""
		if out.First != nil {
			first = *out.First
		}
		if first != c.want || out.Type != c.oid {
			t.Errorf("%s: %q, type %d; want %q, %d", c.sql, first, out.Type, c.want, c.oid)
		}
	}
	must(t, b.Rollback(t.Context()))
}

// Arguments are bound by the server: what they hold is never read as SQL, and what MariaDB has not is refused.
func TestBound(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	acc := "t" + fmt.Sprint(sequence.Add(1))
	admin(t, "a", "CREATE TABLE "+acc+" (id int PRIMARY KEY, a double, Inf double, b blob)", "INSERT INTO "+acc+" VALUES (1, 1, 42, '')")
	for _, f := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		must(t, b.Savepoint(t.Context(), "s1"))
		_, err := b.Exec(t.Context(), "UPDATE "+acc+" SET a = ?", []any{f})
		if txn.SQLState(err) != "22003" || !strings.Contains(err.Error(), "no Infinity") {
			t.Errorf("%v: %v", f, err)
		}
		must(t, b.RollbackTo(t.Context(), "s1"))
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	exec(t, b, "UPDATE "+acc+" SET b = ? /* ' */ WHERE id = ? -- ' ?", all, int64(1))
	if out := exec(t, b, "SELECT b FROM "+acc); out.First == nil || *out.First != fmt.Sprintf(`\x%x`, all) {
		t.Errorf("bytes come back as %v", out.First)
	}
	// More statements than are kept, one of them twice, and one that cannot be prepared.
	for i := range maxStatements + 2 {
		if out := exec(t, b, fmt.Sprintf("SELECT %d + ?", i%(maxStatements+1)), int64(1)); *out.First != fmt.Sprint(i%(maxStatements+1)+1) {
			t.Errorf("statement %d: %s", i, *out.First)
		}
	}
	if n := len(b.c.statements); n == 0 || n > maxStatements {
		t.Errorf("%d statements are kept", n)
	}
	if _, err := b.Exec(t.Context(), "SELECT (SELECT 1 UNION SELECT ?)", []any{int64(2)}); number(err) != 1242 {
		t.Errorf("two rows where one is wanted: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	b = enlist(t, r, txn.BranchOptions{})
	exec(t, b, "PREPARE s FROM 'SELECT 1'")
	if _, err := b.Exec(t.Context(), "PREPARE s FROM 'SELECT 1'", []any{int64(1)}); number(err) != errUnpreparable {
		t.Errorf("an argument for what has no parameters: %v", err)
	}
	must(t, b.Rollback(t.Context()))
	b = enlist(t, r, txn.BranchOptions{})
	none := func(row []txn.Outcome) error { return fmt.Errorf("a row: %v", row) }
	if err := b.Rows(t.Context(), "PREPARE s FROM 'SELECT 1'", []any{int64(1)}, none); number(err) != errUnpreparable {
		t.Errorf("an argument for what has no parameters, and rows: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}

// A branch that has ended runs nothing more, whichever way it is asked.
func TestEnded(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	must(t, b.Rollback(t.Context()))
	if _, err := b.Exec(t.Context(), "SELECT 1", nil); !errors.Is(err, errOver) {
		t.Errorf("Exec: %v", err)
	}
	none := func(row []txn.Outcome) error { return fmt.Errorf("a row: %v", row) }
	if err := b.Rows(t.Context(), "SELECT 1", nil, none); !errors.Is(err, errOver) {
		t.Errorf("Rows: %v", err)
	}
	if c, s, err := b.For(t.Context(), "SELECT 1"); c != nil || s != nil || !errors.Is(err, errOver) {
		t.Errorf("For: %v, %v, %v", c, s, err)
	}
}
