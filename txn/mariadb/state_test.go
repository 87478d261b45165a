package mariadb

import (
	"fmt"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// What a transaction sets, locks or creates for its session does not meet the next one.
func TestSessionState(t *testing.T) {
	r := open(t, Options{Pool: 1})
	admin(t, "a", "CREATE OR REPLACE PROCEDURE hidden() BEGIN SET SESSION time_zone = '+07:00', foreign_key_checks = 0; DO GET_LOCK('hidden', 0); END",
		"CREATE OR REPLACE PROCEDURE remembers() SET @mine = 7", "CREATE OR REPLACE PROCEDURE litters() CREATE TEMPORARY TABLE litter (i int)",
		"CREATE OR REPLACE PROCEDURE scratches() BEGIN CREATE TEMPORARY TABLE scratch (i int); INSERT INTO scratch VALUES (1); DROP TEMPORARY TABLE scratch; END")
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	next := func() *Branch {
		opt.GID.Sequence++
		return enlist(t, r, opt)
	}
	look := func() string {
		b := next()
		defer func() { must(t, b.Rollback(t.Context())) }()
		return *exec(t, b, `SELECT CONCAT_WS(' ', @@sql_mode, @@time_zone, @@foreign_key_checks, @@autocommit, @@group_concat_max_len, @mine,
			IS_USED_LOCK('mine'), IS_USED_LOCK('hidden'), IS_USED_LOCK(`+b.c.mark+`) = CONNECTION_ID())`).First
	}
	fresh := look()
	endings := map[string]func(b *Branch){
		"commit":   func(b *Branch) { must(t, b.Commit(t.Context())) },
		"rollback": func(b *Branch) { must(t, b.Rollback(t.Context())) },
		"commit prepared": func(b *Branch) {
			prepare(t, b)
			must(t, b.CommitPrepared(t.Context(), b.opt.GID))
		},
		"vote": func(b *Branch) {
			_, err := b.Prepare(t.Context(), external(b))
			must(t, err)
			_, err = r.Resolve(t.Context(), external(b), txn.Commit, b.Proof())
			must(t, err)
		},
	}
	for name, end := range endings {
		for _, statement := range []string{
			"SET SESSION sql_mode = '', time_zone = '+01:00', autocommit = 0, group_concat_max_len = 7", "SELECT @mine := 7", "SELECT GET_LOCK('mine', 0)",
			"CREATE TEMPORARY TABLE scratch (i int)", "CALL scratches()", "CALL hidden()",
			"CALL remembers()", "CALL litters()",
		} {
			b := next()
			exec(t, b, statement)
			end(b)
			testwait.Until(t, name+" after "+statement+" frees the lock", func() bool {
				return value(t, "a", "SELECT IS_USED_LOCK('mine') IS NULL AND IS_USED_LOCK('hidden') IS NULL") == "1"
			})
			if got := look(); got != fresh {
				t.Errorf("%s after %s: %s, was %s", name, statement, got, fresh)
			}
		}
	}
}

// A session that has lost the lock by which it is found does not vote yes, and has it again for the next transaction.
func TestMark(t *testing.T) {
	r := open(t, Options{Pool: 1})
	admin(t, "a", "CREATE OR REPLACE PROCEDURE careless() DO RELEASE_ALL_LOCKS()")
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for range 2 {
		for _, statement := range []string{"DO RELEASE_ALL_LOCKS()", "CALL careless()"} {
			for what, vote := range map[string]func(b *Branch) error{
				"Commit":  func(b *Branch) error { return b.Commit(t.Context()) },
				"Prepare": func(b *Branch) error { _, err := b.Prepare(t.Context(), b.opt.GID); return err },
			} {
				opt.GID.Sequence++
				b := enlist(t, r, opt)
				exec(t, b, statement)
				if err := vote(b); txn.SQLState(err) != "40000" {
					t.Errorf("%s after %s: %v", what, statement, err)
				}
				must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
				opt.GID.Sequence++
				b = enlist(t, r, opt)
				must(t, vote(b))
				must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
			}
		}
	}
}

// What the driver has prepared on the session may be dropped or replaced by a statement or a routine: that changes no vote, and the next
// transaction has it again.
func TestStored(t *testing.T) {
	r := open(t, Options{Pool: 1})
	admin(t, "a", "CREATE OR REPLACE PROCEDURE drops() BEGIN DEALLOCATE PREPARE fdt_vote0; DEALLOCATE PREPARE fdt_again0; END",
		"CREATE OR REPLACE PROCEDURE replaces() BEGIN PREPARE fdt_vote0 FROM 'DO 1'; PREPARE fdt_again0 FROM 'DO 1'; DO RELEASE_ALL_LOCKS(); END")
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	vote := func(statements ...string) error {
		opt.GID.Sequence++
		b := enlist(t, r, opt)
		for _, s := range statements {
			exec(t, b, s)
		}
		_, err := b.Prepare(t.Context(), b.opt.GID)
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		return err
	}
	for _, statements := range [][]string{
		{}, {}, {"DEALLOCATE PREPARE fdt_vote0"}, {}, {}, {"CALL drops()"}, {}, {},
	} {
		must(t, vote(statements...))
	}
	for _, statements := range [][]string{
		{"PREPARE fdt_vote0 FROM 'DO 1'", "DO RELEASE_ALL_LOCKS()"}, {"CALL replaces()"}, {"DO RELEASE_ALL_LOCKS()"},
	} {
		must(t, vote())
		must(t, vote())
		if err := vote(statements...); txn.SQLState(err) != "40000" {
			t.Errorf("%q: %v", statements, err)
		}
		must(t, vote())
	}
}

func TestLeaves(t *testing.T) {
	for text, want := range map[string]bool{
		"SELECT 1": false, " (select 1)": false, "/* x */ UPDATE t SET a = 1": false, "CALL p(?)": false, "DO 1": false,
		"SET a = 1": true, "SELECT @a := 1": true, "select get_lock('a', 1)": true, "PREPARE s FROM 'SELECT 1'": true, "": true, "HANDLER t OPEN": true, "/*! SET a = 1 */": true,
	} {
		if got := leaves(text); got != want {
			t.Errorf("%q leaves something: %t", text, got)
		}
	}
	if n := len(noTransactions); n > 128 || len(noMark) > 128 {
		t.Errorf("%s are too long for MESSAGE_TEXT", fmt.Sprint(n, len(noMark)))
	}
}
