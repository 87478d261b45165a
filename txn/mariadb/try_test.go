package mariadb

import (
	"errors"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// What MariaDB refuses in a branch is found without running it, and nothing else is.
func TestTryCommits(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	for statement, want := range map[string]bool{
		"TRUNCATE " + acc: true, "/* one */ truncate table " + acc: true, "CREATE TABLE new (i int)": true, "CREATE OR REPLACE TABLE " + acc + " (i int)": true,
		"DROP TABLE " + acc: true, "ALTER TABLE " + acc + " ADD c int": true, "CREATE INDEX i ON " + acc + " (id)": true, "RENAME TABLE " + acc + " TO gone": true,
		"ANALYZE TABLE " + acc: true, "OPTIMIZE TABLE " + acc: true, "CHECK TABLE " + acc: true, "REPAIR TABLE " + acc: true, "FLUSH TABLES": true,
		"GRANT SELECT ON a.* TO fdt@localhost": true, "REVOKE SELECT ON a.* FROM fdt@localhost": true, "SET PASSWORD = ''": true, "LOCK TABLES " + acc + " READ": true,
		"START TRANSACTION": true, "COMMIT": true, "RESET QUERY CACHE": true, "INSTALL SONAME 'x'": true, "UNINSTALL SONAME 'x'": true, "CREATE VIEW v AS SELECT 1": true,
		"DROP VIEW IF EXISTS v": true, "CREATE SEQUENCE s": true, "CREATE FUNCTION f() RETURNS int RETURN 1": true,

		"CREATE TEMPORARY TABLE scratch (i int)": false, "CREATE OR REPLACE TEMPORARY TABLE scratch (i int)": false, "DROP TEMPORARY TABLE IF EXISTS scratch": false,
		"SET @a = 1": false, "SELECT 1": false, "ANALYZE SELECT 1": false, "DO 1": false, "SET SESSION sql_mode = ''": false, "# a comment\n -- and one more\nSELECT 1": false,
	} {
		b := enlist(t, r, txn.BranchOptions{})
		tried := b.Try(t.Context(), statement)
		_, run := b.Exec(t.Context(), statement, nil)
		must(t, b.Rollback(t.Context()))
		if errors.Is(tried, errCommits) != want || tried != nil && !want {
			t.Errorf("%s was tried: %v", statement, tried)
		}
		if refused := number(run) == 1399; refused != want || run != nil && !want {
			t.Errorf("%s was run: %v", statement, run)
		}
	}
}

// A table that cannot be rolled back is found before anything is written to it.
func TestTryEngine(t *testing.T) {
	r := open(t, Options{})
	admin(t, "a", "CREATE OR REPLACE TABLE `my``i sam` (id int) ENGINE=MyISAM", "CREATE OR REPLACE TABLE aria (id int) ENGINE=Aria", "CREATE OR REPLACE TABLE inno (id int) ENGINE=InnoDB")
	admin(t, "b", "CREATE OR REPLACE TABLE heap (id int) ENGINE=MEMORY")
	for statement, engine := range map[string]string{
		"INSERT INTO aria VALUES (?)": "Aria", "insert ignore aria (id) values (1)": "Aria", "REPLACE aria SELECT 1": "Aria", "UPDATE aria SET id = ?": "Aria",
		"UPDATE LOW_PRIORITY aria AS x SET id = 1": "Aria", "UPDATE aria x SET id = 1": "Aria", "DELETE FROM aria": "Aria", "DELETE QUICK FROM aria WHERE id = ?": "Aria",
		"/* to\n a log */ INSERT INTO `my``i sam` VALUES (1)": "MyISAM", "INSERT INTO b.heap VALUES (1)": "MEMORY", "DELETE FROM `b` . `heap`": "MEMORY",
		"INSERT INTO inno SELECT * FROM aria": "", "UPDATE inno SET id = (SELECT MAX(id) FROM aria)": "", "SELECT * FROM aria": "",
		// It is not told from the text which one is changed.
		"UPDATE inno, aria SET inno.id = aria.id": "", "DELETE inno FROM inno JOIN aria": "", "DELETE FROM inno USING inno, aria": "",
	} {
		b := enlist(t, r, txn.BranchOptions{})
		err := b.Try(t.Context(), statement)
		if (err == nil) != (engine == "") || err != nil && !strings.Contains(err.Error(), "engine "+engine) {
			t.Errorf("%s: %v, want %q", statement, err, engine)
		}
		must(t, b.Rollback(t.Context()))
	}
	b := enlist(t, r, txn.BranchOptions{})
	b.c.close()
	if err := b.c.undoable(t.Context(), "DELETE FROM aria"); err == nil {
		t.Error("asked nobody")
	}
	_ = b.Rollback(t.Context())
}

// What no rehearsal finds, the vote does: a transaction that cannot be undone does not pass for one that can.
func TestVoteEngine(t *testing.T) {
	r := open(t, Options{})
	admin(t, "a", "CREATE OR REPLACE TABLE audit (id int) ENGINE=MyISAM", "CREATE OR REPLACE TABLE trail (id int) ENGINE=Aria", "CREATE OR REPLACE TABLE plain (id int) ENGINE=InnoDB",
		"CREATE OR REPLACE TABLE watched (id int) ENGINE=InnoDB", "CREATE OR REPLACE TRIGGER watching AFTER INSERT ON watched FOR EACH ROW INSERT INTO audit VALUES (NEW.id)",
		"CREATE OR REPLACE VIEW view_of_audit AS SELECT * FROM audit",
		"CREATE OR REPLACE PROCEDURE audits() BEGIN INSERT INTO audit VALUES (1); END", "CREATE OR REPLACE PROCEDURE trails() INSERT INTO trail VALUES (1)",
		"CREATE OR REPLACE PROCEDURE nests() BEGIN INSERT INTO plain VALUES (1); CALL audits(); END", "CREATE OR REPLACE PROCEDURE watches() INSERT INTO watched VALUES (1)",
		"CREATE OR REPLACE PROCEDURE adds() INSERT INTO plain VALUES (1)",
		"CREATE OR REPLACE PROCEDURE scribbles() BEGIN CREATE OR REPLACE TEMPORARY TABLE note (id int) ENGINE=MEMORY; INSERT INTO note VALUES (1); INSERT INTO plain SELECT * FROM note; END",
		"CREATE OR REPLACE PROCEDURE tidies() BEGIN EXECUTE IMMEDIATE 'CREATE TEMPORARY TABLE draft (id int) ENGINE=Aria'; INSERT INTO draft VALUES (1); DROP TEMPORARY TABLE draft; END")
	before := enlist(t, r, txn.BranchOptions{}) // what it leaves excuses nobody
	exec(t, before, "CALL scribbles()")
	must(t, before.Rollback(t.Context()))
	for statement, doomed := range map[string]bool{
		"INSERT INTO audit VALUES (1)": true, "INSERT INTO trail VALUES (1)": true, "INSERT INTO watched VALUES (1)": true, "INSERT INTO view_of_audit VALUES (1)": true,
		"INSERT INTO plain VALUES (1)": false, "INSERT INTO plain SELECT * FROM audit": false,
		"CALL audits()": true, "CALL trails()": true, "CALL nests()": true, "CALL watches()": true,
		"CALL adds()": false, "CALL scribbles()": false, "CALL tidies()": false, "CREATE TEMPORARY TABLE own (id int)": false,
	} {
		for _, typed := range []bool{false, true} {
			begun := func() *Branch {
				b := enlist(t, r, txn.BranchOptions{})
				if typed {
					c, err := b.Conn(t.Context())
					must(t, err)
					_, err = c.ExecContext(t.Context(), statement)
					must(t, err)
				} else {
					exec(t, b, statement)
				}
				return b
			}
			judge := func(what string, err error) {
				t.Helper()
				if (err != nil) != doomed || doomed && (txn.SQLState(err) != "0A000" || !strings.Contains(err.Error(), noTransactions)) {
					t.Errorf("%s after %s: %v", what, statement, err)
				}
			}
			b := begun()
			_, err := b.Prepare(t.Context(), b.opt.GID)
			judge("Prepare", err)
			must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
			judge("Commit", begun().Commit(t.Context()))
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("UPDATE `a``b` . c AS d SET e = 1")
	f.Add("DELETE a FROM a, b")
	f.Add("/* x */ insert # y\n into `")
	f.Fuzz(func(t *testing.T, text string) {
		commits(text)
		if schema, table, ok := target(text); ok && table == "" || len(schema)+len(table) > len(text) {
			t.Errorf("%q changes %q of %q", text, table, schema)
		}
	})
}
