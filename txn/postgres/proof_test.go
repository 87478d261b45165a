package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// After a crash the server gives an xid8 that was not on disk out again. That the stranger who has it commits proves nothing.
func TestXidOfAnotherLife(t *testing.T) {
	// Nothing writes the log but those who commit.
	own, err := testdb.StartPostgres("wal_writer_delay=10s", "bgwriter_delay=10s")
	must(t, err)
	defer func() { must(t, own.Close()) }()
	crashes := map[string]func(b *Branch) error{
		"server": func(*Branch) error { return errors.Join(own.Kill(), own.Start()) },
		"session": func(b *Branch) error {
			return syscall.Kill(int(b.c.pg.PgConn().PID()), syscall.SIGKILL) // of the shared memory's users one is enough
		},
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			r := open(t, Options{DSN: own.DSN("postgres")})
			prepared := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
			prepare(t, prepared)
			b := enlist(t, r, txn.BranchOptions{})
			exec(t, b, "SELECT 1")
			proof, xid := b.Proof(), b.xid
			must(t, crash(b))
			if err := b.Commit(t.Context()); !txn.InDoubt(err) {
				t.Errorf("Commit after the crash: %v", err)
			}
			testwait.Until(t, "a stranger commits with the xid8", func() bool { return commit(t, own) >= xid })
			if d, err := r.Outcome(t.Context(), b.opt.GID, proof); !errors.Is(err, errNoProof) {
				t.Errorf("Outcome = %v, %v, want errNoProof", d, err)
			}
			if got, err := r.Resolve(t.Context(), b.opt.GID, txn.Abort, proof); err != nil || got != txn.ResolvedDone {
				t.Errorf("Resolve = %v, %v", got, err)
			}
			for range 2 { // what was prepared is on disk, and has its own
				if got, err := r.Resolve(t.Context(), prepared.opt.GID, txn.Commit, prepared.Proof()); err != nil || got != txn.ResolvedDone {
					t.Errorf("Resolve of what was prepared = %v, %v", got, err)
				}
			}
		})
	}
}

// commit commits a stranger's transaction, and returns its xid8; empty while there is no server.
func commit(t *testing.T, server *testdb.Postgres) (xid string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close(context.Background()) }()
	must(t, c.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&xid))
	return xid
}

func TestEra(t *testing.T) {
	is := era{system: "7", timeline: "2", life: "1.1"}
	for proof, want := range map[txn.Proof]string{
		is.proof("42", "7.8", false): "42 true", is.proof("42", "7.8", true): "42 true", "42": "42 true",
		"42/7/2/1.2": "42 false", "42/7/1": "42 false", "42/6/2": "42 false", "x/7/2": " false", "": " false", "/7": " false",
	} {
		xid, same, err := is.meaning(proof)
		if got := xid + " " + strconv.FormatBool(same); got != want || (err == nil) != (want != " false") {
			t.Errorf("%q means %q, %v; want %q", proof, got, err, want)
		}
	}
}

// A proof without an xid8 proves nothing, but names the session that is to end.
func TestSessionOf(t *testing.T) {
	is := era{system: "7", timeline: "2", life: "1.1"}
	if xid, same, err := is.meaning(is.proof("", "7.8", false)); xid != "" || same || err != nil {
		t.Errorf("means %q, %t, %v", xid, same, err)
	}
	for proof, want := range map[txn.Proof]bool{
		is.proof("42", "7.8", false): true, is.proof("", "7.8", false): true, is.proof("42", "7.8", true): false, "42": false, "": false, "42@7": false,
	} {
		pid, start, ok := sessionOf(proof)
		if ok != want || ok && (pid != 7 || start != 8) {
			t.Errorf("%q names %d.%d, %t", proof, pid, start, ok)
		}
	}
}

// The number of a prepared branch's xid8 may be a stranger's on a standby that was promoted without it; what it has is finished there.
func TestFailover(t *testing.T) {
	old, err := testdb.StartPostgres("wal_level=replica")
	must(t, err)
	defer func() { must(t, old.Close()) }()
	r := open(t, Options{DSN: old.DSN("postgres")})
	b, gone := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)}), enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
	prepare(t, b)
	prepare(t, gone)
	copied, err := old.Standby()
	must(t, err)
	defer func() { must(t, copied.Close()) }()
	if got, err := r.Resolve(t.Context(), gone.opt.GID, txn.Commit, gone.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	caughtUp(t, old)
	before, err := r.Identity(t.Context())
	must(t, err)

	standby := open(t, Options{DSN: copied.DSN("postgres")})
	if id, err := standby.Identity(t.Context()); err == nil {
		t.Errorf("a standby is %s", id)
	}
	must(t, old.Kill())
	must(t, copied.Exec(t.Context(), "postgres", "SELECT pg_promote()"))
	after, err := standby.Identity(t.Context())
	must(t, err)
	if before == after || !standby.Succeeds(after, before) || standby.Succeeds(before, after) {
		t.Errorf("%s was promoted to %s: it succeeds %t, the old one %t", before, after, standby.Succeeds(after, before), standby.Succeeds(before, after))
	}
	if got, err := standby.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve of what the standby holds = %v, %v", got, err)
	}
	if got, err := standby.Resolve(t.Context(), gone.opt.GID, txn.Commit, gone.Proof()); err != nil || got != txn.ResolvedUnknown {
		t.Errorf("Resolve of what it does not hold = %v, %v: nothing proves that it had it", got, err)
	}
}

// caughtUp returns when the standby has all that the primary has.
func caughtUp(t *testing.T, primary *testdb.Postgres) {
	t.Helper()
	ask := func(server *testdb.Postgres, query string) (answer bool) {
		c, err := pgx.Connect(t.Context(), server.DSN("postgres"))
		must(t, err)
		defer func() { _ = c.Close(context.Background()) }()
		must(t, c.QueryRow(t.Context(), query).Scan(&answer))
		return answer
	}
	testwait.Until(t, "the standby has all", func() bool {
		return ask(primary, "SELECT coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication")
	})
}

func TestSucceeds(t *testing.T) {
	r := open(t, Options{})
	const was = "7/2/5/a/b"
	for now, want := range map[string]bool{
		was: true, "7/3/5/a/b": true, "7/10/5/a/b": true, "7/1/5/a/b": false, "8/3/5/a/b": false, "7/3/6/a/b": false, "7/3/5/a": false,
		"7/x/5/a/b": false, "7/3": false, "": false,
	} {
		if got := r.Succeeds(now, was); got != want {
			t.Errorf("%q succeeds %q: %t", now, was, got)
		}
	}
	if r.Succeeds(was, strings.Replace(was, "2", "x", 1)) {
		t.Error("a store without a timeline was succeeded")
	}
}
