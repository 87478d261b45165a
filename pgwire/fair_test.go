package pgwire_test

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// send sends a Query and does not wait for its answer.
func (c *client) send(text string) {
	c.front.Send(&pgproto3.Query{String: text})
	if err := c.front.Flush(); err != nil {
		c.t.Error(err)
	}
}

// long is a request that takes turns, and its answer.
var long = "SELECT 1 /*" + strings.Repeat("x", 100<<10) + "*/"

// TestTurnsOfSessions shows that what asks for little waits for nobody who computes for long, nor for those who log in, and that long
// requests and handshakes take turns.
func TestTurnsOfSessions(t *testing.T) {
	authority := newAuthority(t)
	authority.issue("p256", elliptic.P256(), nil)
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: pgwire.Trust{}, TLS: authority.server("p256")}))
	a, b := f.connect("a"), f.connect("b")
	release := f.wire.HoldTurns()
	done := make(chan []string, 1)
	a.send(long)
	go func() { done <- a.read() }()
	secure := make(chan error, 1)
	go func() { secure <- login(t, f.tcp, "user=a sslmode=require") }()
	for range 20 {
		b.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
		f.connect("c").want("BEGIN; CALL enqueue('x'); ROLLBACK", "C BEGIN", "C CALL", "C ROLLBACK", "Z I")
	}
	select {
	case got := <-done:
		t.Errorf("without a turn: %.80q", got)
	case err := <-secure:
		t.Errorf("a handshake without a turn: %v", err)
	default:
	}
	release()
	a.answers("long", testwait.For(t, "the long request", done), "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	if err := testwait.For(t, "the handshake", secure); err != nil {
		t.Error(err)
	}
}

// TestNoTurnWhileWaiting shows that nobody holds a turn who waits: for a database, for a client that does not read, for the rest of a
// message.
func TestNoTurnWhileWaiting(t *testing.T) {
	f := newFDT(t, withBank(t))
	asks, slow, deaf := f.connect("a"), f.connect("b"), f.connect("c")
	testwait.Until(t, "nobody sleeps yet", func() bool { return sleepers(t) == 0 })
	asks.send("CALL sleep(60) /*" + strings.Repeat("x", 100<<10) + "*/")
	testwait.Until(t, "asleep", func() bool { return sleepers(t) == 1 })
	message, err := (&pgproto3.Query{String: long}).Encode(nil)
	if err == nil {
		_, err = slow.conn.Write(message[:90<<10])
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = deaf.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	deaf.send("SELECT '" + strings.Repeat("x", 8<<20) + "'")
	for range 20 {
		f.connect("d").want(long, "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	}
	cancelRequest(t, "unix", f.sock, asks.key)
	asks.answers("cancelled", asks.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
	if _, err := slow.conn.Write(message[90<<10:]); err != nil {
		t.Fatal(err)
	}
	slow.answers("the rest", slow.read(), "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
}

// TestTurnsOfStatements shows that a request of many statements runs each in its turn, also behind one that has waited for a database.
func TestTurnsOfStatements(t *testing.T) {
	f := newFDT(t, withBank(t))
	locker, err := pgx.Connect(t.Context(), database.pg.DSN("bank"))
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(context.WithoutCancel(t.Context()))
	if _, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE account"); err != nil {
		t.Fatal(err)
	}
	a, b := f.connect("a"), f.connect("b")
	a.send("CALL deposit(1, 1);" + strings.Repeat("SET a.b = 1;", 100))
	testwait.Until(t, "waiting for the lock", func() bool { return waiting(t) == 1 })
	release := f.wire.HoldTurns()
	if _, err := locker.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string, 1)
	go func() { done <- a.read() }()
	testwait.Until(t, "the procedure's end", func() bool { return waiting(t) == 0 })
	for range 20 {
		b.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	}
	select {
	case got := <-done:
		release()
		t.Fatalf("without a turn: %.80q", got)
	default:
	}
	release()
	if got := testwait.For(t, "the rest", done); len(got) != 102 || got[0] != "C CALL" || got[101] != "Z I" {
		t.Errorf("%.200q", got)
	}
}

// TestTurnsOfReplies shows that a long reply is written in turns, as far as the client reads it.
func TestTurnsOfReplies(t *testing.T) {
	const size = 8 << 20
	f := newFDT(t, bank{})
	a, b := f.connect("a"), f.connect("b")
	a.send("SELECT '" + strings.Repeat("x", size) + "'")
	first := make([]byte, 1)
	if _, err := a.conn.Read(first); err != nil {
		t.Fatal(err)
	}
	release := f.wire.HoldTurns()
	var got atomic.Int64
	done := make(chan error, 1)
	go func() {
		var err error
		for b := make([]byte, 32<<10); err == nil && got.Load() < size; {
			var n int
			n, err = a.conn.Read(b)
			got.Add(int64(n))
		}
		done <- err
	}()
	for before := int64(-1); before != got.Load(); { // until nothing comes any more
		before = got.Load()
		for range 500 {
			b.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
		}
	}
	if n := got.Load(); n >= size {
		t.Errorf("%d bytes without a turn", n)
	}
	release()
	if err := testwait.For(t, "the reply", done); err != nil {
		t.Error(err)
	}
}

// TestNothingHoldsAText shows that a name or a value that a session keeps does not keep the long text in which it was.
func TestNothingHoldsAText(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	comment := "/*" + strings.Repeat("x", 15<<20) + "*/"
	c.want("BEGIN", "C BEGIN", "Z T")
	before := memory()
	for n := range 4 {
		for _, text := range []string{"SAVEPOINT s%d", "SET s%d.b = w%[1]d", "SET application_name = w%d", "SET LOCAL a.b = 1%d"} {
			if got := c.query(fmt.Sprintf(text, n) + comment); got[len(got)-1] != "Z T" {
				t.Fatal(got)
			}
		}
	}
	if grown := memory() - before; grown > 32<<20 { // one text that is held by chance, and its copies
		t.Errorf("%d bytes more", grown)
	}
}

// TestMemoryOfAll shows that what all sessions hold together is bounded: a message that finds no room is passed over, and answered with an
// error of the session, which lives on; an ordinary one always finds room, and what is let go of makes room.
func TestMemoryOfAll(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxTotal, f.wire.MaxMemory = 8<<20, 8<<20 })
	a, b := f.connect("a"), f.connect("b")
	text := "SELECT '" + strings.Repeat("x", 1<<20) + "'"
	say := func(c *client, want string, lines ...string) {
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
	const crammed = "E ERROR 53200 out of memory"
	say(a, "1, 1, Z I", "P a - "+text, "P b - "+text)
	if n := f.wire.Shared(); n < 2<<20 {
		t.Errorf("%d bytes are taken", n)
	}
	huge := "SELECT 1 /*" + strings.Repeat("x", 7<<20) + "*/"
	b.want(huge, crammed, "Z I")
	say(b, crammed+", Z I", "P c - "+huge, "P d - "+huge) // the second is passed over in any case
	for _, m := range []pgproto3.FrontendMessage{&pgproto3.CopyData{Data: []byte(huge)}, &pgproto3.FunctionCall{Arguments: [][]byte{[]byte(huge)}}} {
		b.front.Send(m)
	}
	if err := b.front.Flush(); err != nil {
		t.Fatal(err)
	}
	b.answers("COPY, and a function", b.read(), crammed, "Z I")
	b.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	b.want("SELECT ARRAY["+strings.Repeat("1,", 100000)+"1]", crammed, "Z I")
	a.want("DEALLOCATE ALL", "C DEALLOCATE ALL", "Z I")
	a.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I") // by when it has waited
	b.want("SELECT 1 /*"+strings.Repeat("x", 2<<20)+"*/", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	// Half of a message that did not fit: the client goes.
	message, _ := (&pgproto3.Query{String: huge}).Encode(nil)
	if _, err := b.conn.Write(message[:len(message)-1]); err != nil {
		t.Fatal(err)
	}
	_ = b.conn.Close()
	_ = a.conn.Close()
	testwait.Until(t, "all given back", func() bool { return f.wire.Shared() == 0 })
}
