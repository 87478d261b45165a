package postgres

import (
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// ends are the ways in which a branch gives its session back.
var ends = map[string]func(t *testing.T, r *Resource, b *Branch){
	"commit":   func(t *testing.T, _ *Resource, b *Branch) { must(t, b.Commit(t.Context())) },
	"rollback": func(t *testing.T, _ *Resource, b *Branch) { must(t, b.Rollback(t.Context())) },
	"commit prepared": func(t *testing.T, _ *Resource, b *Branch) {
		prepare(t, b)
		must(t, b.CommitPrepared(t.Context(), b.opt.GID))
	},
	"rollback prepared": func(t *testing.T, _ *Resource, b *Branch) {
		prepare(t, b)
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	},
	"vote": func(t *testing.T, r *Resource, b *Branch) {
		gid := b.opt.GID
		gid.Role = txn.RoleExternal
		_, err := b.Prepare(t.Context(), gid)
		must(t, err)
		_, err = r.Resolve(t.Context(), gid, txn.Abort, b.Proof())
		must(t, err)
	},
	"failed commit": func(t *testing.T, _ *Resource, b *Branch) {
		exec(t, b, "INSERT INTO late VALUES (2)")
		if err := b.Commit(t.Context()); txn.SQLState(err) != "23503" {
			t.Errorf("Commit: %v", err)
		}
	},
	"failed vote": func(t *testing.T, _ *Resource, b *Branch) {
		exec(t, b, "INSERT INTO late VALUES (2)")
		if _, err := b.Prepare(t.Context(), b.opt.GID); txn.SQLState(err) != "23503" {
			t.Errorf("Prepare: %v", err)
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	},
}

// late makes the table late, whose rows are found wrong at the transaction's end.
func late(t *testing.T) {
	t.Helper()
	admin(t, "a", "CREATE TABLE IF NOT EXISTS early (id int PRIMARY KEY)", "CREATE TABLE IF NOT EXISTS late (id int REFERENCES early DEFERRABLE INITIALLY DEFERRED)",
		"GRANT ALL ON early, late TO app")
}

// However a branch ends, its session is as new for the next one, and it is the same session.
func TestSessionState(t *testing.T) {
	r, other := open(t, Options{Pool: 1}), open(t, Options{})
	late(t)
	admin(t, "a", "DO $$BEGIN CREATE ROLE guest; EXCEPTION WHEN duplicate_object THEN END$$", "GRANT guest TO app")
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	const state = `SELECT concat_ws(' ', current_setting('work_mem'), current_setting('datestyle'), current_setting('lock_timeout'), current_user,
		current_setting('application_name'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
		(SELECT count(*) FROM pg_cursors WHERE is_holdable), (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.scratch'))`
	look := func() (found string, pid uint32) {
		opt.GID.Sequence++
		b := enlist(t, r, opt)
		defer func() { must(t, b.Rollback(t.Context())) }()
		return *exec(t, b, state).First, b.c.pg.PgConn().PID()
	}
	fresh, pid := look()
	for name, end := range ends {
		for _, statements := range [][]string{
			{"SELECT set_config('work_mem', '77kB', false), set_config('datestyle', 'German', false), set_config('role', 'app', false), pg_advisory_lock(77)", "SELECT set_config('role', 'none', false)"},
			{"DO $$BEGIN PERFORM set_config('lock_timeout', '7', false); PERFORM pg_advisory_lock(77), pg_advisory_lock(77); END$$"},
			{"SET work_mem = '77kB'", "SET datestyle = 'German'", "SELECT pg_advisory_lock(77)"},
			{"CREATE TEMP TABLE scratch ()", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "LISTEN x"},
		} {
			if two := name != "commit" && name != "rollback" && name != "failed commit"; two && statements[0] == "CREATE TEMP TABLE scratch ()" {
				continue // they cannot be prepared
			}
			opt.GID.Sequence++
			b := enlist(t, r, opt)
			for _, s := range statements {
				exec(t, b, s)
			}
			end(t, r, b)
			free := enlist(t, other, txn.BranchOptions{})
			if got := *exec(t, free, "SELECT pg_try_advisory_xact_lock(77)").First; got != "t" {
				t.Errorf("%s after %q: the lock is still held", name, statements)
			}
			must(t, free.Rollback(t.Context()))
			if got, now := look(); got != fresh || now != pid {
				t.Errorf("%s after %q: session %d is %q, session %d was %q", name, statements, now, got, pid, fresh)
				pid = now
			}
		}
	}
}

// A session has the role again that it had at its start, which need not be its user's own.
func TestRole(t *testing.T) {
	admin(t, "a", "DO $$BEGIN CREATE ROLE guest; EXCEPTION WHEN duplicate_object THEN END$$", "GRANT guest TO app")
	for own, change := range map[string]string{"app": "guest", "guest": "none"} {
		if own == "guest" {
			admin(t, "a", "ALTER ROLE app SET role = guest")
		}
		r := open(t, Options{Pool: 1})
		opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
		var first *conn
		for range 2 {
			opt.GID.Sequence++
			b := enlist(t, r, opt)
			if b.c != first && first != nil {
				t.Error("it is another session")
			}
			first = b.c
			if is := *exec(t, b, "SELECT current_user").First; is != own {
				t.Errorf("role %s, want %s", is, own)
			}
			exec(t, b, "SELECT set_config('role', '"+change+"', false)")
			must(t, b.Commit(t.Context()))
		}
		if own == "guest" {
			admin(t, "a", "ALTER ROLE app RESET role")
		}
	}
}

// A session that cannot be reset is not used again.
func TestResetFails(t *testing.T) {
	r := open(t, Options{Pool: 1})
	late(t)
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for name, end := range ends {
		opt.GID.Sequence++
		b := enlist(t, r, opt)
		exec(t, b, "SELECT 1")
		c := b.c
		c.prepared[resetAll] = "nobody" // as when somebody had dropped it
		end(t, r, b)
		opt.GID.Sequence++
		b = enlist(t, r, opt)
		if b.c == c {
			t.Errorf("%s: the session is used again", name)
		}
		must(t, b.Rollback(t.Context()))
	}
}

// A fence finds a session by its application_name: with another no branch gets through.
func TestMark(t *testing.T) {
	r := open(t, Options{Pool: 1})
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	for _, local := range []string{"true", "false"} {
		for _, sql := range []string{"SELECT set_config('application_name', 'x', " + local + ")", "DO $$BEGIN PERFORM set_config('application_name', 'x', " + local + "); END$$"} {
			opt.GID.Sequence++
			b := enlist(t, r, opt)
			if _, err := b.Exec(t.Context(), sql, nil); !errors.Is(err, txn.ErrRolledBack) {
				t.Errorf("%s: %v", sql, err)
			}
			if _, err := b.Prepare(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrRolledBack) {
				t.Errorf("Prepare after %s: %v", sql, err)
			}
			if err := b.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) {
				t.Errorf("Commit after %s: %v", sql, err)
			}
			must(t, b.Rollback(t.Context()))
			opt.GID.Sequence++
			b = enlist(t, r, opt)
			if got := *exec(t, b, "SHOW application_name").First; got != b.c.app {
				t.Errorf("after %s the mark is %q", sql, got)
			}
			must(t, b.Rollback(t.Context()))
		}
	}
}

// A vote is for the transaction that has begun, not for one that a statement has put in its place.
func TestChain(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	update := "UPDATE " + acc + " SET balance = balance - 1 WHERE id = 1"
	for _, chain := range []string{"ROLLBACK AND CHAIN", "COMMIT AND CHAIN"} {
		for _, typed := range []bool{false, true} {
			begun := func() *Branch {
				b := enlist(t, r, txn.BranchOptions{})
				exec(t, b, update)
				if typed {
					pg, err := b.Conn(t.Context())
					must(t, err)
					_, err = pg.Exec(t.Context(), chain)
					must(t, err)
				} else {
					exec(t, b, chain)
				}
				exec(t, b, "SELECT pg_current_xact_id()")
				return b
			}
			b := begun()
			if vote, err := b.Prepare(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrRolledBack) {
				t.Errorf("Prepare after %s, typed %t: %v, %v", chain, typed, vote, err)
			}
			// What the statement has committed cannot be undone, which is told.
			if err := b.RollbackPrepared(t.Context(), b.opt.GID); (err != nil) != (chain[0] == 'C') || err != nil && !errors.Is(err, txn.ErrHeuristicCommit) {
				t.Errorf("RollbackPrepared after %s: %v", chain, err)
			}
			b = begun()
			if err := b.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) {
				t.Errorf("Commit after %s, typed %t: %v", chain, typed, err)
			}
			must(t, b.Rollback(t.Context()))
		}
	}
	before := value(t, "a", "SELECT balance::text FROM "+acc+" WHERE id = 1")
	for _, s := range []string{"SAVEPOINT mine", "ROLLBACK TO SAVEPOINT mine"} { // no harm
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "SAVEPOINT mine")
		exec(t, b, s)
		exec(t, b, update)
		must(t, b.Commit(t.Context()))
	}
	if got := value(t, "a", "SELECT (balance + 2)::text FROM "+acc+" WHERE id = 1"); got != before {
		t.Errorf("balance + 2 is %s, was %s", got, before)
	}
	b := enlist(t, r, txn.BranchOptions{})
	_, err := b.Conn(t.Context())
	must(t, err)
	must(t, r.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
	if err := b.Commit(t.Context()); err == nil || txn.InDoubt(err) {
		t.Errorf("Commit where the vote could not be asked for: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}
