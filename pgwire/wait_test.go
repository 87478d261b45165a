package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

// TestWaits shows in pg_stat_activity for whose lock a session waits: another's, here and elsewhere, a prepared transaction's by its gid,
// and a stranger's. Of strangers only an operator is told.
func TestWaits(t *testing.T) {
	b := withBank(t)
	elsewhere := []pgwire.Activity{{PID: 5, Principal: "trust:carol", User: "carol", Database: "far", State: "idle in transaction"}}
	f := newFDT(t, b, func(f *fdt, _ *config.Config) {
		f.onUnix = append(f.onUnix, pgwire.Listener{Auth: &pgwire.Peer{Group: "root"}})
		f.wire.Elsewhere = func(context.Context) []pgwire.Activity { return elsewhere }
	})
	setUp := f.connect("alice")
	setUp.want("CALL deposit(7, 1)", "C CALL", "Z I")
	operator := connect(t, "unix", f.socks[0], "root")
	nosy := f.connect("bob")
	// said is what a session is told of the one that waits.
	said := func(c *client) string {
		t.Helper()
		rows := c.query("SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = 'waiter'")
		if len(rows) != 4 {
			t.Fatal(rows)
		}
		return rows[1]
	}
	// wait has a client wait for row 7 until it is let go, and is told by its user and by others for whom.
	wait := func(what, alice, root string, letGo func()) {
		t.Helper()
		waiter, viewer := f.connect("alice", "database", "waiter"), f.connect("alice")
		waiter.front.Send(&pgproto3.Query{String: "CALL deposit(7, 1)"})
		if err := waiter.front.Flush(); err != nil {
			t.Fatal(err)
		}
		testwait.Until(t, what, func() bool { return strings.HasPrefix(said(viewer), "D Lock|") })
		for c, want := range map[*client]string{viewer: "D Lock|bank: " + alice, operator: "D Lock|bank: " + root, nosy: "D NULL|NULL|{}"} {
			if got := said(c); got != want {
				t.Errorf("%s: %s, not %s", what, got, want)
			}
		}
		letGo()
		waiter.answers("let go", waiter.read(), "C CALL", "Z I")
		if err := waiter.conn.Close(); err != nil {
			t.Fatal(err)
		}
		testwait.Until(t, "gone", func() bool {
			return !slices.ContainsFunc(f.wire.Activity(), func(a pgwire.Activity) bool { return a.Database == "waiter" })
		})
	}

	holder := f.connect("carol")
	pid := holder.key.ProcessID
	holder.want("BEGIN; CALL deposit(7, 1)", "C BEGIN", "C CALL", "Z T")
	by := fmt.Sprintf("session %d|{%d}", pid, pid)
	wait("behind another", by, by, func() { holder.want("COMMIT", "C COMMIT", "Z I") })

	holder.want("BEGIN; CALL deposit(7, 1)", "C BEGIN", "C CALL", "Z T")
	gid, err := txn.ParseGID(f.wire.Activity()[slices.IndexFunc(f.wire.Activity(), func(a pgwire.Activity) bool { return a.PID == pid })].GID)
	if err != nil {
		t.Fatal(err)
	}
	holder.want("PREPARE TRANSACTION 'doubt'", "C PREPARE TRANSACTION", "Z I")
	gid.Role = txn.RoleExternal
	wait("behind one in doubt", "prepared "+gid.String()+"|{0}", `prepared "doubt"|{0}`, func() { holder.want("COMMIT PREPARED 'doubt'", "C COMMIT PREPARED", "Z I") })

	own := f.connect("alice")
	own.want("BEGIN; CALL deposit(7, 1); PREPARE TRANSACTION 'own'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	wait("behind one's own in doubt", `prepared "own"|{0}`, `prepared "own"|{0}`, func() { own.want("COMMIT PREPARED 'own'", "C COMMIT PREPARED", "Z I") })

	stranger, err := pgx.Connect(t.Context(), b.dsn+" application_name=console")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close(context.WithoutCancel(t.Context())) }()
	say := func(text string) {
		t.Helper()
		if _, err := stranger.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	lock := "BEGIN; UPDATE account SET balance = 0 WHERE id = 7"
	say(lock)
	other := stranger.PgConn().PID()
	wait("behind a stranger", "a session of others|{0}", fmt.Sprintf("backend %d (user fdt, database bank, application console)|{0}", other), func() { say("ROLLBACK") })
	say(lock)
	elsewhere[0].Places = []txn.Place{{Resource: "bank", Backend: uint64(other), Since: time.Unix(1, 0)}}
	wait("behind a session elsewhere", "session 5|{5}", "session 5|{5}", func() { say("ROLLBACK") })
	say(lock)
	elsewhere[0].Places = nil
	say("PREPARE TRANSACTION 'theirs'")
	wait("behind what others prepared", "a prepared transaction of others|{0}", `prepared "theirs" of others|{0}`, func() { say("ROLLBACK PREPARED 'theirs'") })
}

// TestWaitsUntold: where the resource does not answer, that is said of who may wait; what somebody else has asked is not asked again.
func TestWaitsUntold(t *testing.T) {
	f := newFDT(t, withBank(t))
	c := f.connect("a")
	asleep(t, c)
	long := func() bool {
		a := f.wire.Activity()[0]
		return time.Since(a.Query) > time.Second && len(a.Places) == 1 && a.Places[0].Resource == "bank"
	}
	testwait.Until(t, "it takes long", long)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if w := f.wire.Waits(ended)[0].Waits; len(w) != 1 || !strings.Contains(w[0].Fault, "context canceled") {
		t.Errorf("%+v", w)
	}
	viewer := f.connect("a", "database", "viewer")
	f.wire.WaitsWithin(1)
	viewer.want("SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname <> 'viewer'",
		"T wait_event_type:25/-1/0 wait_event:25/-1/0 pg_blocking_pids:1007/-1/0", "D Extension|bank: not told|{}", "C SELECT 1", "Z I")
	f.wire.WaitsWithin(time.Minute)
	viewer.want("SELECT wait_event FROM pg_stat_activity WHERE datname <> 'viewer'", "T wait_event:25/-1/0", "D NULL", "C SELECT 1", "Z I")
	done := f.wire.Asking()
	if w := f.wire.Waits(ended)[0].Waits; len(w) != 1 || w[0].Fault != "context canceled" {
		t.Errorf("while somebody else asks, in no time: %+v", w)
	}
	answer := make(chan []pgwire.Activity, 1)
	go func() { answer <- f.wire.Waits(t.Context()) }()
	done()
	<-answer
	if w := f.wire.Waits(t.Context())[0].Waits; len(w) != 0 {
		t.Errorf("a sleeper waits for %+v", w)
	}
	if w := f.wire.Waits(ended)[0].Waits; len(w) != 0 {
		t.Errorf("known, and told as %+v", w)
	}
	cancelRequest(t, "unix", f.sock, c.key)
	c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
	if a := f.wire.Activity()[0]; len(a.Places) != 0 {
		t.Errorf("%+v", a)
	}
}

// TestJoin finds who holds a lock by the session of the resource, or its transaction, among the sessions of all workers.
func TestJoin(t *testing.T) {
	gid := txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: 1, Role: txn.RoleLocal}
	prepared := gid
	prepared.Role = txn.RoleExternal
	at := func(backend uint64, since int64) []txn.Place {
		return []txn.Place{{Resource: "r", Backend: backend, Since: time.Unix(since, 0)}}
	}
	shared := []txn.Wait{{Resource: "r", Backend: 9, Holders: []txn.Holder{{Backend: 1}, {Backend: 2}, {GID: prepared}, {GID: txn.GID{Log: txn.LogID{2}, Role: 'L'}}}}}
	list := []pgwire.Activity{{PID: 1, Places: at(1, 5)}, {PID: 2, Places: at(1, 6)}, {PID: 3, Places: at(1, 4), GID: gid.String()}, {PID: 4, Waits: shared}}
	pgwire.Join(list)
	want := []uint32{2, 0, 3, 0}
	for i, h := range list[3].Waits[0].Holders {
		if h.Session != want[i] {
			t.Errorf("holder %d: %+v", i, h)
		}
	}
	if shared[0].Holders[0].Session != 0 {
		t.Error("what others are told was changed")
	}
}

// TestWaitText has each kind of holder in words.
func TestWaitText(t *testing.T) {
	for _, c := range []struct {
		wait         txn.Wait
		operator, to string
	}{
		{txn.Wait{Resource: "r", Fault: "down"}, "not told: down", "not told"},
		{txn.Wait{Resource: "r"}, "not told", "not told"},
		{txn.Wait{Holders: []txn.Holder{{OneOf: 2}, {Session: 7, GID: txn.GID{Role: 'L'}}}}, "one of 2 prepared transactions, session 7", "one of 2 prepared transactions, session 7"},
		{txn.Wait{Holders: []txn.Holder{{Prepared: "x"}}}, `prepared "x" of others`, "a prepared transaction of others"},
		{txn.Wait{Holders: []txn.Holder{{Backend: 5, Address: "::1"}}}, "backend 5 (from ::1)", "a session of others"},
	} {
		if a, b := pgwire.WaitText(&c.wait, true), pgwire.WaitText(&c.wait, false); a != c.operator || b != c.to {
			t.Errorf("%q, %q", a, b)
		}
	}
}

// TestWaitsOfMariaDB: where the database does not tell for whose lock a session waits, the columns do not say that it waits for none's.
func TestWaitsOfMariaDB(t *testing.T) {
	my, err := testdb.StartMariaDB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := my.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(my.Database(t.Context(), "bank"), my.Exec(t.Context(), "bank",
		"CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL) ENGINE=InnoDB", "INSERT INTO account VALUES (1, 0)")); err != nil {
		t.Fatal(err)
	}
	f := newFDT(t, bank{"mariadb", my.DSN("fdt", "bank"), lockProcedures})
	holder, altering, viewer := f.connect("a"), make(chan error, 1), f.connect("a")
	holder.want("BEGIN; CALL add(1, 1)", "C BEGIN", "C CALL", "Z T")
	go func() { altering <- my.Exec(t.Context(), "bank", "ALTER TABLE account ADD COLUMN note text") }()
	waiter := f.connect("a", "database", "waiter")
	var told []string
	testwait.Until(t, "the change of the table waits", func() bool {
		return my.Exec(t.Context(), "bank", "SET STATEMENT lock_wait_timeout = 0 FOR SELECT * FROM account WHERE id = 1 FOR UPDATE SKIP LOCKED") != nil
	})
	waiter.front.Send(&pgproto3.Query{String: "CALL add(1, 1)"})
	if err := waiter.front.Flush(); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "it waits behind that", func() bool {
		told = viewer.query("SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = 'waiter'")
		return strings.Contains(told[1], "not told")
	})
	if told[1] != "D Extension|bank: not told|{0}" {
		t.Error(told)
	}
	holder.want("ROLLBACK", "C ROLLBACK", "Z I")
	if err := testwait.For(t, "the change", altering); err != nil {
		t.Error(err)
	}
	waiter.answers("let go", waiter.read(), "C CALL", "Z I")
}

// TestWaitsBeforeLocks: who waits for a connection or for the end of a pause is told so at once, and the database is not asked.
func TestWaitsBeforeLocks(t *testing.T) {
	f := newFDT(t, withBank(t))
	viewer := f.connect("alice")
	waits := func() []txn.Wait {
		for _, a := range f.wire.Activity() {
			if a.Database == "waiter" {
				return a.Waits
			}
		}
		return nil
	}
	// told has a session wait until it is let go, and is told what for.
	waiter := f.connect("alice", "database", "waiter")
	told := func(what, why, text string, letGo func()) {
		t.Helper()
		begun := time.Now()
		waiter.front.Send(&pgproto3.Query{String: "CALL deposit(7, 1)"})
		if err := waiter.front.Flush(); err != nil {
			t.Fatal(err)
		}
		testwait.Until(t, what, func() bool { return len(waits()) == 1 })
		if w := waits()[0]; w.Resource != "bank" || w.For != what || w.Why != why || w.Since.Before(begun) || w.Since.After(time.Now()) {
			t.Errorf("%+v", w)
		}
		rows := viewer.query("SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = 'waiter'")
		if want := "D Extension|bank: " + text + "|{}"; rows[1] != want {
			t.Errorf("%s, not %s", rows[1], want)
		}
		letGo()
		waiter.answers("let go", waiter.read(), "C CALL", "Z I")
		if w := waits(); len(w) != 0 {
			t.Errorf("%+v", w)
		}
	}

	f.manager.Pause("bank", false)
	told(txn.ForResume, "", "the end of a pause", func() { f.manager.Resume(t.Context(), "bank") })

	var holders []*client
	for i := range 8 {
		c := f.connect("bob")
		c.want(fmt.Sprintf("BEGIN; CALL deposit(%d, 1)", 100+i), "C BEGIN", "C CALL", "Z T")
		holders = append(holders, c)
	}
	full := "the worker's share of 8 is used up"
	told(txn.ForConnection, full, "a connection ("+full+")", func() { holders[3].want("ROLLBACK", "C ROLLBACK", "Z I") })
}

// TestWaitsForSlot: so is who waits for a slot.
func TestWaitsForSlot(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.server.Threads, f.server.Reserve, f.wire.ReserveTimeout = 1, 4, time.Hour
	})
	holder := f.connect("alice")
	holder.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	waiter, viewer := f.connect("alice", "database", "waiter"), f.connect("alice")
	waiter.front.Send(&pgproto3.Query{String: "CALL enqueue('y')"})
	if err := waiter.front.Flush(); err != nil {
		t.Fatal(err)
	}
	const told = "SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = 'waiter'"
	testwait.Until(t, "told", func() bool { return viewer.query(told)[1] == "D Extension|a slot (workers.threads)|{}" })
	holder.want("COMMIT", "C COMMIT", "Z I")
	if err := holder.conn.Close(); err != nil {
		t.Fatal(err)
	}
	waiter.answers("let go", waiter.read(), "C CALL", "Z I")
	if got := viewer.query(told)[1]; got != "D Client|ClientRead|{}" {
		t.Error(got)
	}
}
