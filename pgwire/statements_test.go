package pgwire_test

import (
	"flag"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var (
	manyStatements = flag.Int("statements", 1500, "how many statements TestStatements takes")
	statementSeed  = flag.Uint64("statement-seed", 1, "from which it makes them")
)

// statementSeeds are what the statements are made from: those about transactions and settings, and queries without tables.
var statementSeeds = []string{
	"BEGIN", "BEGIN WORK", "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE , READ ONLY", "START TRANSACTION READ WRITE NOT DEFERRABLE",
	"START TRANSACTION ISOLATION LEVEL REPEATABLE READ DEFERRABLE", "BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
	"COMMIT", "COMMIT WORK AND CHAIN", "END TRANSACTION AND NO CHAIN", "ROLLBACK", "ROLLBACK WORK AND CHAIN", "ABORT TRANSACTION", "ABORT AND NO CHAIN",
	"SAVEPOINT a", "SAVEPOINT \"A b\"", "RELEASE a", "RELEASE SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TRANSACTION TO savepoint",
	"COMMIT PREPARED 'nobody'", "ROLLBACK PREPARED 'nobody'", "SAVEPOINT is",
	"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY , DEFERRABLE", "SET SESSION TRANSACTION READ ONLY", "SET LOCAL TRANSACTION READ ONLY",
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
	"SET TIME ZONE 'Europe/Berlin'", "SET TIME ZONE LOCAL", "SET TIME ZONE DEFAULT", "SET TIME ZONE - 5", "SET LOCAL TIME ZONE 0", "SET TimeZone = utc", "SET TimeZone TO 'UTC'",
	"SET NAMES 'UTF8'", "SET NAMES", "SET NAMES DEFAULT", "SET SESSION application_name = 'x'", "SET LOCAL application_name TO DEFAULT", "SET application_name = x",
	"SET extra_float_digits = 3", "SET extra_float_digits = '1'", "SET extra_float_digits TO - 1", "SET bytea_output = hex", "SET a.b = 1", "SET a.b.c TO 'x' , 'y'",
	"SET DateStyle = ISO", "SET DateStyle TO ISO , MDY", "SET DateStyle = 'ISO, YMD'", "SET statement_timeout = '1.5s'", "SET statement_timeout = 100", "SET statement_timeout TO '1 min'",
	"SET jit = off", "SET jit TO 'on'", "SET jit = tru", "SET search_path = a , b", "SET SCHEMA 'x'", "SET ROLE NONE", "SET role = 'none'", "SET SESSION AUTHORIZATION DEFAULT",
	"SET default_transaction_isolation = 'serializable'", "SET default_transaction_read_only = on", "SET standard_conforming_strings = on",
	"SHOW TimeZone", "SHOW TIME ZONE", "SHOW TRANSACTION ISOLATION LEVEL", "SHOW server_version_num", "SHOW nonsense", "SHOW session_authorization", "SHOW SESSION AUTHORIZATION",
	"RESET TimeZone", "RESET ALL", "RESET TIME ZONE", "RESET TRANSACTION ISOLATION LEVEL", "RESET SESSION AUTHORIZATION", "RESET nonsense", "RESET server_version",
	"DISCARD PLANS", "DISCARD TEMP", "DISCARD TEMPORARY", "DISCARD SEQUENCES", "DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE PREPARE ALL", "DEALLOCATE a", "DEALLOCATE PREPARE a", "DEALLOCATE prepare",
	"UNLISTEN *", "UNLISTEN a", "CLOSE ALL", "CLOSE a",
	"SELECT 1", "SELECT", "SELECT ALL 1", "SELECT 'a' AS b", "SELECT 1 AS one , 'x' two", "SELECT NULL , TRUE , 1.5", "SELECT '5' :: int8", "SELECT CAST ( '1' AS numeric ( 3 , 1 ) )",
	"SELECT int4 '7'", "SELECT ARRAY [ 1 , 2 ]", "SELECT ( ( 1 ) )", "SELECT - 5", "SELECT + 5", "SELECT $$x$$", "SELECT E'\\n'", "SELECT now ( )", "SELECT version ( )",
	"SELECT current_setting ( 'jit' )", "SELECT current_user", "SELECT 'a' :: varchar ( 2 ) [ ]", "SELECT '1' :: timestamp ( 3 ) with time zone", "SELECT 'x' :: character varying ( 3 )",
	"SELECT 1 ; SELECT 2", "SELECT 1 ;", ";", "", "-- x", "/* x */ SELECT 1",
	"CALL enqueue ( 'x' )", "CALL enqueue ( body => 'x' )", "CALL echo ( 1 , 2 , 'c' )", "CALL echo ( a => 1 , b := 2 )", "CALL nobody ( )",
}

// statementDifferences are where fdt does not answer as PostgreSQL, on purpose; "fdt answer | PostgreSQL's answer".
var statementDifferences = []struct{ answers, statements, reason string }{
	{`^0A000 \| `, ``, "fdt does not serve all of SQL, and says so of what it does not know whether it is right"},
	{`^42883 \| (42883|42809|42P01|42703|42601|SELECT|CALL|22.*)`, `SELECT|CALL`, "fdt has few functions, and finds procedures in SELECT too"},
	{`^(42704|22023|55P02) \| (SET|RESET|SHOW|42704|42501|55P02|22023|42601)`, `^(SET|RESET|SHOW|DISCARD)`, "fdt knows the settings that clients set, and the values that it serves"},
	{`^SELECT 1 \| 42809`, `SELECT`, "fdt calls procedures in SELECT too"},
	{`^42704 \| (42883|0A000)`, `SELECT`, "fdt has each function once, and casts its arguments; it has no schemas"},
}

// TestStatements makes statements out of parts of others and compares what fdt answers, a tag or an SQLSTATE, with what PostgreSQL does.
func TestStatements(t *testing.T) {
	pg := postgresql(t)
	anew(t, pg, "statements", oracleProcedures...)
	dsn, err := pgx.ParseConfig(pg.DSN("statements"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFDT(t, withBank(t))
	theirs := connect(t, "unix", socket(dsn), "fdt", "database", "statements", "synchronous_commit", "off")
	mine := connect(t, "unix", f.sock, "fdt", "database", "statements")
	r := rand.New(rand.NewPCG(*statementSeed, 0))
	for i := range *manyStatements {
		text := statementSeeds[i%len(statementSeeds)]
		if i >= len(statementSeeds) {
			text = mutated(r, text)
		}
		if i/len(statementSeeds)%2 == 1 {
			theirs.query("BEGIN")
			mine.query("BEGIN")
		}
		theirAnswer, myAnswer := essence(theirs.query(text)), essence(mine.query(text))
		if theirAnswer != myAnswer && !allowed(text, myAnswer+" | "+theirAnswer) {
			t.Errorf("%s: fdt %s, PostgreSQL %s", text, myAnswer, theirAnswer)
		}
		for _, c := range []*client{theirs, mine} {
			c.query("ROLLBACK")
			c.query("RESET ALL")
			c.query("RESET SESSION AUTHORIZATION")
		}
	}
}

// mutated takes, adds, swaps or replaces words of a statement.
func mutated(r *rand.Rand, text string) string {
	words := strings.Fields(text)
	for range 1 + r.IntN(2) {
		other := strings.Fields(statementSeeds[r.IntN(len(statementSeeds))])
		word := "x"
		if len(other) > 0 {
			word = other[r.IntN(len(other))]
		}
		at := r.IntN(len(words) + 1)
		switch r.IntN(4) {
		case 0:
			words = append(words[:at:at], append([]string{word}, words[at:]...)...)
		case 1:
			if at < len(words) {
				words = append(words[:at:at], words[at+1:]...)
			}
		case 2:
			if at < len(words) {
				words[at] = word
			}
		case 3:
			if at+1 < len(words) {
				words[at], words[at+1] = words[at+1], words[at]
			}
		}
	}
	return strings.Join(words, " ")
}

// essence is the last answer's tag or SQLSTATE.
func essence(answers []string) string {
	last := ""
	for _, m := range answers {
		fields := strings.Fields(m)
		switch {
		case len(fields) > 2 && fields[0] == "E":
			return fields[2]
		case fields[0] == "C":
			last = strings.TrimPrefix(m, "C ")
		case fields[0] == "I":
			last = "empty"
		case m == "closed":
			return m
		}
	}
	return last
}

func allowed(text, answers string) bool {
	for _, d := range statementDifferences {
		if regexp.MustCompile(d.answers).MatchString(answers) && regexp.MustCompile("(?i)"+d.statements).MatchString(text) {
			return true
		}
	}
	return false
}
