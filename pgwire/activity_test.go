package pgwire_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

// TestActivity shows what pg_stat_activity tells of sessions here and elsewhere: to everybody that they are there and whose they
// are, what they do only to the same user and to an operator, as PostgreSQL.
func TestActivity(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.onUnix = append(f.onUnix, pgwire.Listener{Auth: &pgwire.Peer{Group: "root"}})
		f.wire.Elsewhere = func(context.Context) []pgwire.Activity {
			return []pgwire.Activity{
				{PID: 5, Principal: "trust:alice", User: "alice", Database: "far", State: "active", Text: "CALL far()", Began: time.Unix(0, 0), Address: "::1", Port: "77"},
				{PID: 6, Principal: "scram:alice", User: "alice", Database: "far", State: "idle", Text: "CALL farther()", Began: time.Unix(0, 0)},
			}
		}
	})
	const list = "SELECT usename, datname, application_name, state, query FROM pg_stat_activity ORDER BY datname, backend_start NULLS LAST"
	const header = "T usename:19/64/0 datname:19/64/0 application_name:25/-1/0 state:25/-1/0 query:25/-1/0"
	alice := f.connect("alice", "database", "a", "application_name", "console")
	alice.want("BEGIN; CALL enqueue('secret')", "C BEGIN", "C CALL", "Z T")
	const far, hidden = "D alice|far||active|CALL far()", "|NULL|<insufficient privilege>"
	bob := f.connect("bob", "database", "b")
	bob.want(list, header, "D alice|a|console"+hidden, "D bob|b||active|"+list, "D alice|far|"+hidden, "D alice|far|"+hidden, "C SELECT 4", "Z I")
	const waits = "SELECT pid <> pg_backend_pid(), wait_event, xact_start IS NULL, query_start <= state_change, client_port, backend_type FROM pg_stat_activity WHERE datname = 'a'"
	const waitsHeader = "T ?column?:16/1/0 wait_event:25/-1/0 ?column?:16/1/0 ?column?:16/1/0 client_port:23/4/0 backend_type:25/-1/0"
	bob.want(waits, waitsHeader, "D t|NULL|t|NULL|NULL|NULL", "C SELECT 1", "Z I")
	again := f.connect("alice", "database", "b2")
	again.want(waits, waitsHeader, "D t|ClientRead|f|t|-1|client backend", "C SELECT 1", "Z I")
	again.want(list, header, "D alice|a|console|idle in transaction|BEGIN; CALL enqueue('secret')", "D bob|b"+"|"+hidden, "D alice|b2||active|"+list, far,
		"D alice|far|"+hidden, "C SELECT 5", "Z I")
	again.want("SELECT client_addr, client_port FROM pg_stat_activity WHERE query = 'CALL far()'", "T client_addr:869/-1/0 client_port:23/4/0", "D ::1|77", "C SELECT 1", "Z I")
	// By the extended protocol, what is run is the text of its Parse; a failed transaction says so.
	for _, line := range []string{"P s - SELECT 'ä', 1/0", "B _ s t", "E _ 0", "S"} {
		alice.say(line)
	}
	alice.answers("a failure", alice.flush(), "1", "2", "E ERROR 22012 division by zero", "Z E")
	const aborted = "SELECT state, query FROM pg_stat_activity WHERE datname = 'a'"
	again.want(aborted, "T state:25/-1/0 query:25/-1/0", "D idle in transaction (aborted)|SELECT 'ä', 1/0", "C SELECT 1", "Z I")
	alice.want("ROLLBACK", "C ROLLBACK", "Z I")
	again.want(aborted, "T state:25/-1/0 query:25/-1/0", "D idle|ROLLBACK", "C SELECT 1", "Z I")
	// A long text is cut, between characters.
	alice.want("SELECT 1 /*"+strings.Repeat("ä", 1000)+"*/", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	again.want("SELECT octet_length(query) FROM pg_stat_activity WHERE datname = 'a'", "T octet_length:23/4/0", "D 1023", "C SELECT 1", "Z I")
	// What others see of names and numbers goes together.
	again.want("SELECT a.usename = r.rolname, pg_get_userbyid(a.usesysid), a.usesysid::regrole, count(*) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid GROUP BY 1, 2, 3 ORDER BY 2",
		"T ?column?:16/1/0 pg_get_userbyid:19/64/0 usesysid:4096/4/0 count:20/8/0", "D t|alice|alice|4", "D t|bob|bob|1", "C SELECT 2", "Z I")
	var of pgwire.Activity
	alice.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	for _, a := range f.wire.Activity() {
		if a.Database == "a" {
			of = a
		}
	}
	if of.GID == "" || of.Principal != "trust:alice" || of.Listener == "" || of.Transaction.IsZero() || of.PID == 0 {
		t.Errorf("%+v", of)
	}
	alice.want("ROLLBACK", "C ROLLBACK", "Z I")
	if of := f.wire.Activity(); of[0].GID != "" || !of[0].Transaction.IsZero() {
		t.Errorf("%+v", of[0])
	}
}

// TestActivityOfCall: a call outside of a transaction block has a transaction of its own, with a name while it runs.
func TestActivityOfCall(t *testing.T) {
	f := newFDT(t, withBank(t))
	c := connect(t, "unix", f.sock, "a")
	asleep(t, c)
	of := f.wire.Activity()[0]
	if gid, err := txn.ParseGID(of.GID); err != nil || gid.Role != txn.RoleLocal || of.State != "active" {
		t.Errorf("%+v, %v", of, err)
	}
	cancelRequest(t, "unix", f.sock, c.key)
	c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
	if of := f.wire.Activity()[0]; of.GID != "" {
		t.Errorf("%+v", of)
	}
}
