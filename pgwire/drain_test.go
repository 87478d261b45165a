package pgwire_test

import (
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
)

const goodbye = "E FATAL 57P01 terminating connection due to administrator command"

// TestGoodbye is what sessions hear from a server that drains, in each state.
func TestGoodbye(t *testing.T) {
	f := newFDT(t, bank{})
	called, busy, failed, prepared, pinged, checked, waiting, settings := f.connect("a"), f.connect("a"), f.connect("a"),
		f.connect("a"), f.connect("a"), f.connect("a"), f.connect("a"), f.connect("a")
	busy.want("BEGIN", "C BEGIN", "Z T")
	failed.want("BEGIN", "C BEGIN", "Z T")
	prepared.want("BEGIN; CALL enqueue('p')", "C BEGIN", "C CALL", "Z T")
	pinged.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	waiting.want("", "I", "Z I")
	settings.want("SET application_name = 'x'", "C SET", "S application_name=x", "Z I")
	ended := f.shutdown()

	// A call is served, and the goodbye follows its reply.
	called.want("CALL enqueue('called')", "C CALL", "Z I")
	called.answers("then", called.read(), goodbye, "closed")
	// A transaction goes on to its end.
	busy.want("CALL enqueue('busy')", "C CALL", "Z T")
	busy.want("COMMIT", "C COMMIT", "Z I")
	busy.answers("then", busy.read(), goodbye, "closed")
	// One that fails is rolled back, as nothing else can come of it.
	failed.want("CALL enqueue(1, 2)", "E ERROR 42883 procedure enqueue(integer, integer) does not exist @6", "Z E")
	failed.want("ROLLBACK", "C ROLLBACK", "Z I")
	// Between the phases the same connection is to hear the decision.
	prepared.want("PREPARE TRANSACTION 'p'", "C PREPARE TRANSACTION", "Z I")
	prepared.want("COMMIT PREPARED 'p'", "C COMMIT PREPARED", "Z I")
	prepared.answers("then", prepared.read(), goodbye, "closed")
	// A pool that asks whether the connection is good may use it once. One that
	// only asks takes another.
	pinged.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	checked.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	checked.want("CALL enqueue('checked')", "C CALL", "Z I")
	checked.answers("then", checked.read(), goodbye, "closed")
	waiting.want("-- ping", "I", "Z I")
	pinged.want("SELECT 1", goodbye, "closed")
	waiting.want("-- ping", goodbye, "closed")
	// Settings are not work.
	settings.want("SET application_name = 'y'", "C SET", "S application_name=y", "Z I")
	settings.want("CALL enqueue('settings')", "C CALL", "Z I")
	settings.answers("then", settings.read(), goodbye, "closed")

	for _, c := range []*client{called, busy, failed, prepared, pinged, checked, waiting, settings} {
		_ = c.conn.Close()
	}
	<-ended
	f.delivered("called", "busy", "p", "checked", "settings")
}

// TestGoodbyeToPings is the same for the extended protocol.
func TestGoodbyeToPings(t *testing.T) {
	f := newFDT(t, bank{})
	empty, one := f.connect("a"), f.connect("a")
	for _, c := range []*client{empty, one} {
		c.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	}
	ended := f.shutdown()
	for _, want := range [][]string{{"1", "2", "n", "I", "Z I"}, {"1", "2", "n", goodbye, "closed"}} {
		for _, line := range []string{"P _ - ", "B _ _ t", "D P _", "E _ 0", "S"} {
			empty.say(line)
		}
		empty.answers("empty", empty.flush(), want...)
	}
	for _, want := range [][]string{{"1", "2", "D 1", "C SELECT 1", "Z I"}, {"1", "2", goodbye, "closed"}} {
		for _, line := range []string{"P _ - SELECT 1", "B _ _ t", "E _ 0", "S"} {
			one.say(line)
		}
		one.answers("one", one.flush(), want...)
	}
	_, _ = empty.conn.Close(), one.conn.Close()
	<-ended
}

// TestPipelineBeforeGoodbye shows that what was sent before the goodbye is
// served, however much it is.
func TestPipelineBeforeGoodbye(t *testing.T) {
	f := newFDT(t, withBank(t))
	c := f.connect("a")
	c.want("BEGIN", "C BEGIN", "Z T")
	ended := f.shutdown()
	c.front.Send(&pgproto3.Query{String: "COMMIT"})
	const n = 100
	for range n {
		c.front.Send(&pgproto3.Query{String: "CALL enqueue('x')"})
	}
	c.answers("commit", c.flush(), "C COMMIT", "Z I")
	for range n {
		c.answers("call", c.read(), "C CALL", "Z I")
	}
	c.answers("then", c.read(), goodbye, "closed")
	_ = c.conn.Close()
	<-ended
	if got := len(f.messages()); got != n {
		t.Errorf("%d messages", got)
	}
}

// TestGoodbyeAfterReply shows that the goodbye is not sent before the client
// has read the reply, of which drivers would take it for a part.
func TestGoodbyeAfterReply(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	ended := f.shutdown()
	c.front.Send(&pgproto3.Query{String: "CALL enqueue('x')"})
	if err := c.front.Flush(); err != nil {
		t.Fatal(err)
	}
	var all [4096]byte
	n, err := c.conn.Read(all[:])
	if want := "C\x00\x00\x00\x09CALL\x00Z\x00\x00\x00\x05I"; err != nil || string(all[:n]) != want {
		t.Errorf("%q, %v", all[:n], err)
	}
	c.answers("then", c.read(), goodbye, "closed")
	_ = c.conn.Close()
	<-ended
}

// TestGoodbyeToHaste is what a client hears that sends the next request with
// the reply to the last one, and how what it was told agrees with what was done.
func TestGoodbyeToHaste(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			f := newFDT(t, bank{})
			c := connect(t, network, map[string]string{"unix": f.sock, "tcp": f.tcp}[network], "a")
			ended := f.shutdown()
			var done []string
			for n := range 1_000_000 {
				body := fmt.Sprint(n)
				got := c.query("CALL enqueue('" + body + "')")
				if slices.Equal(got, []string{goodbye, "closed"}) {
					break
				}
				c.answers(body, got, "C CALL", "Z I")
				done = append(done, body)
			}
			_ = c.conn.Close()
			<-ended
			f.delivered(done...)
		})
	}
}

// TestGoodbyeCrossed is what a client hears that has not looked before it sends: its request is not run, and the
// goodbye is its answer.
func TestGoodbyeCrossed(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			f := newFDT(t, bank{})
			c := connect(t, network, map[string]string{"unix": f.sock, "tcp": f.tcp}[network], "a")
			ended := f.shutdown()
			c.want("CALL enqueue('before')", "C CALL", "Z I")
			testwait.Until(t, "the goodbye is there", func() bool { return readable(t, c.conn) })
			c.want("CALL enqueue('crossed')", goodbye, "closed")
			_ = c.conn.Close()
			<-ended
			f.delivered("before")
		})
	}
}

// TestGoodbyeUnread is what comes of a session whose client does not read the reply: it dies, or the drain's limit
// comes.
func TestGoodbyeUnread(t *testing.T) {
	for _, end := range []string{"death", "limit"} {
		t.Run(end, func(t *testing.T) {
			f := newFDT(t, bank{})
			c := f.connect("a")
			ended := f.shutdown()
			c.front.Send(&pgproto3.Query{String: "CALL enqueue('x')"})
			if err := c.front.Flush(); err != nil {
				t.Fatal(err)
			}
			testwait.Until(t, "served", func() bool { return readable(t, c.conn) })
			if end == "limit" {
				f.server.Hurry(0)
				c.answers("call", c.read(), "C CALL", "Z I")
				c.answers("then", c.read(), goodbye, "closed")
			}
			_ = c.conn.Close()
			<-ended
			f.delivered("x")
		})
	}
}

// readable tells whether something can be read.
func readable(t *testing.T, conn net.Conn) (is bool) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		is = n > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// TestGoodbyeToIdle shows that silent sessions are told after drain.idle, also
// those in a failed transaction, which is gone with them.
func TestGoodbyeToIdle(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.server.Idle = 50 * time.Millisecond })
	idle, failed, silent := f.connect("a"), f.connect("a"), dial(t, "unix", f.sock)
	failed.want("BEGIN; CALL enqueue('x'); CALL nonsense()",
		"C BEGIN", "C CALL", "E ERROR 42883 procedure nonsense() does not exist @32", "Z E")
	ended := f.shutdown()
	idle.answers("idle", idle.read(), goodbye, "closed")
	failed.answers("failed", failed.read(), goodbye, "closed")
	silent.answers("before startup", silent.read(), "closed")
	for _, c := range []*client{idle, failed, silent} {
		_ = c.conn.Close()
	}
	<-ended
	f.delivered()
	if n := f.staged(); n != 0 {
		t.Errorf("%d transactions left", n)
	}
}

// TestLateSession shows that a connection which a draining worker still took
// is served once.
func TestLateSession(t *testing.T) {
	f := newFDT(t, bank{})
	c := dial(t, "unix", f.sock)
	testwait.Until(t, "accepted", func() bool { return f.server.Counts().Open == 1 })
	ended := f.shutdown()
	c.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "a"}})
	hello := c.flush()
	c.answers("startup", hello[len(hello)-1:], "Z I")
	c.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	c.want("CALL enqueue('late')", "C CALL", "Z I")
	c.answers("then", c.read(), goodbye, "closed")
	_ = c.conn.Close()
	<-ended
	f.delivered("late")
}

// TestDeadline shows that the end of a drain rolls back what is open, and keeps
// what is prepared.
func TestDeadline(t *testing.T) {
	f := newFDT(t, withBank(t))
	open, running := f.connect("a"), f.connect("a")
	open.want("BEGIN; CALL enqueue('p'); PREPARE TRANSACTION 'kept'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	open.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	running.front.Send(&pgproto3.Query{String: "CALL sleep(60)"})
	if err := running.front.Flush(); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "asleep", func() bool { return sleepers(t) == 1 })
	ended := f.shutdown()
	f.server.Hurry(0)
	open.answers("open", open.read(), goodbye, "closed")
	running.answers("running", running.read(), goodbye, "closed")
	_, _ = open.conn.Close(), running.conn.Close()
	<-ended
	f.delivered()
	list, err := f.manager.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ClientGID != "kept" {
		t.Errorf("in doubt: %v, %v", list, err)
	}
	testwait.Until(t, "awake", func() bool { return sleepers(t) == 0 })
}
