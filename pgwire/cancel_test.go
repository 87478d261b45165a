package pgwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// sleepers counts the statements that sleep in PostgreSQL.
func sleepers(t *testing.T) int {
	t.Helper()
	return count(t, "state = 'active' AND query LIKE 'SELECT pg_sleep(%'")
}

// count counts PostgreSQL's sessions for which a condition holds.
func count(t *testing.T, condition string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database.pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE "+condition).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// asleep starts a call that sleeps, and returns when PostgreSQL runs it.
func asleep(t *testing.T, c *client) {
	t.Helper()
	testwait.Until(t, "nobody sleeps yet", func() bool { return sleepers(t) == 0 })
	c.front.Send(&pgproto3.Query{String: "CALL sleep(60)"})
	if err := c.front.Flush(); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "asleep", func() bool { return sleepers(t) == 1 })
}

func TestCancel(t *testing.T) {
	f := newFDT(t, withBank(t))
	c := f.connect("a")
	c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	cancelRequest(t, "unix", f.sock, c.key) // of a session that waits: nothing
	c.want("CALL enqueue('y')", "C CALL", "Z T")
	asleep(t, c)
	wrong := &pgproto3.BackendKeyData{ProcessID: c.key.ProcessID, SecretKey: []byte{1, 2, 3, 4}}
	cancelRequest(t, "unix", f.sock, wrong)
	nobody := &pgproto3.BackendKeyData{ProcessID: c.key.ProcessID + 1, SecretKey: c.key.SecretKey}
	cancelRequest(t, "unix", f.sock, nobody)
	if n := sleepers(t); n != 1 {
		t.Fatalf("%d sleep", n)
	}
	cancelRequest(t, "tcp", f.tcp, c.key)
	c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z E")
	testwait.Until(t, "awake", func() bool { return sleepers(t) == 0 })
	c.want("COMMIT", "C ROLLBACK", "Z I")
	f.delivered()
}

// TestHalfClose shows that a client that will send no more hears why its request, its transaction and its session end.
func TestHalfClose(t *testing.T) {
	f := newFDT(t, withBank(t))
	for _, at := range [][2]string{{"unix", f.sock}, {"tcp", f.tcp}} {
		c := connect(t, at[0], at[1], "a")
		c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
		asleep(t, c)
		half, _ := c.conn.(interface{ CloseWrite() error })
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.answers(at[0], c.read(), "E FATAL 08006 connection to client lost", "closed")
	}
	f.delivered()
}

// TestLongSecret is a session of protocol 3.2, whose secret is longer, here and at another worker.
func TestLongSecret(t *testing.T) {
	f := newFDT(t, withBank(t))
	other := newFDT(t, bank{}, func(o *fdt, _ *config.Config) {
		o.wire.Origin = pgwire.Origin{Generation: 1}
		o.wire.Relay = func(_ context.Context, pid uint32, secret []byte) { f.wire.Cancel(pid, secret) }
	})
	for _, version := range []uint32{pgproto3.ProtocolVersion30, pgproto3.ProtocolVersion30 + 1, pgproto3.ProtocolVersion32, pgproto3.ProtocolVersion32 + 7} {
		c := dial(t, "unix", f.sock)
		c.raw(startupPacket(version, pairs("user", "a")...))
		c.read()
		want := 4
		if version >= pgproto3.ProtocolVersion32 {
			want = 32
		}
		if n := len(c.key.SecretKey); n != want {
			t.Errorf("version 3.%d: a secret of %d bytes", version&0xffff, n)
		}
		for _, sock := range []string{f.sock, other.sock} {
			asleep(t, c)
			for _, wrong := range [][]byte{c.key.SecretKey[:want-1], append(c.key.SecretKey[:want:want], 0), make([]byte, 256)} {
				cancelRequest(t, "unix", sock, &pgproto3.BackendKeyData{ProcessID: c.key.ProcessID, SecretKey: wrong})
			}
			if n := sleepers(t); n != 1 {
				t.Fatalf("%d sleep", n)
			}
			cancelRequest(t, "unix", sock, c.key)
			c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
			testwait.Until(t, "awake", func() bool { return sleepers(t) == 0 })
		}
	}
}

// TestCancelElsewhere passes a CancelRequest on to the worker that it names.
func TestCancelElsewhere(t *testing.T) {
	behind := withBank(t)
	there := newFDT(t, behind, func(f *fdt, _ *config.Config) { f.wire.Origin = pgwire.Origin{Generation: 70, Slot: 3} })
	here := newFDT(t, behind, func(f *fdt, _ *config.Config) {
		f.wire.Origin = pgwire.Origin{Generation: 71, Slot: 3}
		f.wire.Relay = func(_ context.Context, pid uint32, secret []byte) {
			if there.wire.Origin.Owns(pid) {
				there.wire.Cancel(pid, secret)
			}
		}
	})
	c := there.connect("a")
	asleep(t, c)
	cancelRequest(t, "unix", here.sock, c.key)
	c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
	// A worker that knows no other drops it.
	alone := newFDT(t, bank{})
	cancelRequest(t, "unix", alone.sock, &pgproto3.BackendKeyData{ProcessID: 77 << 16, SecretKey: []byte{0, 0, 0, 1}})
}

// TestDeath shows that a client's death rolls its transaction back at once,
// whether it waits or a statement runs.
func TestDeath(t *testing.T) {
	f := newFDT(t, withBank(t))
	for _, network := range []string{"unix", "tcp"} {
		address := map[string]string{"unix": f.sock, "tcp": f.tcp}[network]
		idle, running := connect(t, network, address, "a"), connect(t, network, address, "a")
		idle.want("BEGIN; CALL enqueue('idle')", "C BEGIN", "C CALL", "Z T")
		running.want("BEGIN; CALL enqueue('running')", "C BEGIN", "C CALL", "Z T")
		asleep(t, running)
		_, _ = idle.conn.Close(), running.conn.Close()
		testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 && f.server.Counts().Open == 0 })
		testwait.Until(t, "awake", func() bool { return sleepers(t) == 0 })
		f.delivered()
	}
	prepared := f.connect("a")
	prepared.want("BEGIN; CALL enqueue('kept'); PREPARE TRANSACTION 'kept'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	_ = prepared.conn.Close()
	other := f.connect("a")
	other.want("COMMIT PREPARED 'kept'", "C COMMIT PREPARED", "Z I")
	f.delivered("kept")
}

func TestTimeouts(t *testing.T) {
	f := newFDT(t, withBank(t), func(f *fdt, _ *config.Config) { f.wire.IdleTimeout = time.Hour })
	c := f.connect("a")
	c.want("SET statement_timeout = '50ms'", "C SET", "Z I")
	c.want("CALL sleep(60)", "E ERROR 57014 canceling statement due to statement timeout", "Z I")
	c.want("SET statement_timeout = 0", "C SET", "Z I")
	c.want("CALL impatient()", "E ERROR 57014 canceling statement due to the timeout of procedure impatient (50ms)", "Z I")
	c.want("SET idle_in_transaction_session_timeout = 50", "C SET", "Z I")
	c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	c.answers("silence", c.read(), "E FATAL 25P03 terminating connection due to idle-in-transaction timeout", "closed")

	f = newFDT(t, withBank(t), func(f *fdt, _ *config.Config) { f.wire.IdleTimeout = 50 * time.Millisecond })
	c = f.connect("a")
	c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	c.answers("silence", c.read(), "E FATAL 25P03 terminating connection due to idle-in-transaction timeout", "closed")
	testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 })

	f = newFDT(t, withBank(t), func(f *fdt, _ *config.Config) { f.limits.Transaction = 300 * time.Millisecond })
	c = f.connect("a")
	c.want("BEGIN", "C BEGIN", "Z T")
	c.answers("silence", c.read(), "E FATAL 25P04 terminating connection due to transaction timeout", "closed")
	c = f.connect("a")
	got := c.query("BEGIN; CALL enqueue('x'); CALL sleep(60)")
	got = slices.DeleteFunc(got, func(m string) bool { return m == "C CALL" }) // not on a machine that is slow
	c.answers("sleep", got, "C BEGIN", "E FATAL 25P04 terminating connection due to transaction timeout", "closed")
	testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 })
	f.delivered()
}

// TestTimeoutWhileConnecting shows that a statement's time ends as such also where it waits for a connection to the
// database: one to an address whose queue is full, so that connect(2) waits.
func TestTimeoutWhileConnecting(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	queued, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = queued.Close() }()
	f := newFDT(t, bank{"postgres", fmt.Sprintf("host=127.0.0.1 port=%d user=fdt dbname=bank sslmode=disable", port), bankProcedures})
	hurried, patient := f.connect("a"), f.connect("b")
	hurried.want("SET statement_timeout = '20ms'", "C SET", "Z I")
	for range 20 {
		hurried.want("CALL sleep(60)", "E ERROR 57014 canceling statement due to statement timeout", "Z I")
		patient.want("CALL impatient()", "E ERROR 57014 canceling statement due to the timeout of procedure impatient (50ms)", "Z I")
	}
}

// TestTimeoutWithoutPause shows that a transaction's time ends also where its client never pauses.
func TestTimeoutWithoutPause(t *testing.T) {
	const late = "E FATAL 25P04 terminating connection due to transaction timeout"
	for name, more := range map[string][]string{
		"between":     {"Q BEGIN", "Q SELECT pg_current_xact_id()"},
		"at the Sync": {"P _ - CALL enqueue('x')", "B _ _ t", "E _ 0", "H"},
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 200 * time.Millisecond
			f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.limits.Transaction = limit })
			c := f.connect("a")
			var sending sync.WaitGroup
			for _, line := range more {
				c.say(line)
			}
			if err := c.front.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.front.Receive(); err != nil { // the transaction has begun
				t.Fatal(err)
			}
			sending.Go(func() { // until the server has closed
				again := bytes.Repeat(message('C', []byte("Sx\x00")...), 100)
				if name == "between" {
					again = bytes.Repeat(message('Q', []byte("SELECT pg_current_xact_id()\x00")...), 100)
				}
				for begun := time.Now(); ; {
					if name != "between" && time.Since(begun) > 2*limit {
						again = message('S')
					}
					if _, err := c.conn.Write(again); err != nil {
						return
					}
				}
			})
			var last []string
			for len(last) == 0 || last[len(last)-1] != "closed" {
				if last = c.read(); strings.HasPrefix(last[len(last)-1], "closed by") {
					t.Fatal(last[len(last)-1])
				}
			}
			if n := len(last); n < 2 || last[n-2] != late {
				t.Errorf("%q", last[max(0, n-3):])
			}
			_ = c.conn.Close()
			sending.Wait()
			testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 })
			f.delivered()
		})
	}
}

// TestFailed shows that a failed transaction gives its resources up at once,
// unless a savepoint may bring it back.
func TestFailed(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	c.want("BEGIN; CALL enqueue('x'); SAVEPOINT s; CALL nonsense()",
		"C BEGIN", "C CALL", "C SAVEPOINT", "E ERROR 42883 procedure nonsense() does not exist @45", "Z E")
	if n := f.staged(); n != 1 {
		t.Errorf("%d staged", n)
	}
	c.want("ROLLBACK TO s; CALL enqueue('y'); COMMIT", "C ROLLBACK", "C CALL", "C COMMIT", "Z I")
	c.want("BEGIN; CALL enqueue('x'); CALL nonsense()",
		"C BEGIN", "C CALL", "E ERROR 42883 procedure nonsense() does not exist @32", "Z E")
	if n := f.staged(); n != 0 {
		t.Errorf("%d staged", n)
	}
	c.want("COMMIT", "C ROLLBACK", "Z I")
	f.delivered("x", "y")
}

// TestInterrupt is an operator's word to a session: its statement is cancelled, or it ends, at rest, in a transaction and in a call, with
// TLS and without, and what it has prepared stays.
func TestInterrupt(t *testing.T) {
	f := newFDT(t, withBank(t))
	interrupt := func(c *client, end bool, state string) {
		t.Helper()
		if was, found := f.wire.Interrupt(c.key.ProcessID, end); !found || was.PID != c.key.ProcessID || was.State != state {
			t.Errorf("%+v, %t", was, found)
		}
	}
	c := f.connect("a")
	c.want("BEGIN; CALL enqueue('kept'); PREPARE TRANSACTION 'kept'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	interrupt(c, false, "idle")
	c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	asleep(t, c)
	interrupt(c, false, "active")
	c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z E")
	c.want("ROLLBACK; BEGIN; CALL enqueue('x')", "C ROLLBACK", "C BEGIN", "C CALL", "Z T")
	const ended = "E FATAL 57P01 terminating connection due to administrator command"
	interrupt(c, true, "idle in transaction")
	c.answers("ended in a transaction", c.read(), ended, "closed")
	testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 })
	c = f.connect("a")
	c.want("BEGIN; CALL enqueue('x')", "C BEGIN", "C CALL", "Z T")
	asleep(t, c)
	interrupt(c, true, "active")
	c.answers("ended in a call", c.read(), ended, "closed")
	testwait.Until(t, "awake", func() bool { return sleepers(t) == 0 })
	c = f.connect("a")
	interrupt(c, true, "idle")
	c.answers("ended at rest", c.read(), ended, "closed")
	testwait.Until(t, "gone", func() bool { return len(f.wire.Activity()) == 0 })
	if _, found := f.wire.Interrupt(c.key.ProcessID, true); found {
		t.Error("a session that has gone was found")
	}
	other := f.connect("a")
	other.want("COMMIT PREPARED 'kept'", "C COMMIT PREPARED", "Z I")
	f.delivered("kept")
}

// TestCancelReading shows that a cancel request reaches a value that is long to read, before there is one.
func TestCancelReading(t *testing.T) {
	f := newFDT(t, bank{})
	numbers := strings.Repeat("1,", 20_000) + "1"
	for name, b := range map[string]*pgproto3.Bind{
		"jsonb":  {PreparedStatement: "jsonb", Parameters: [][]byte{[]byte("[" + numbers + "]")}},
		"binary": {PreparedStatement: "jsonb", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{[]byte("\x01[" + numbers + "]")}},
		"array":  {PreparedStatement: "array", Parameters: [][]byte{[]byte("{" + numbers + "}")}},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.connect("a")
			c.say("P jsonb - SELECT $1::jsonb")
			c.say("P array - SELECT $1::int2[]")
			c.say("S")
			c.answers("prepared", c.flush(), "1", "1", "Z I")
			defer f.wire.HoldTurns()()
			c.front.Send(b)
			c.front.Send(&pgproto3.Sync{})
			if err := c.front.Flush(); err != nil {
				t.Fatal(err)
			}
			testwait.Until(t, "being read", func() bool { return f.wire.Running() == 1 })
			cancelRequest(t, "unix", f.sock, c.key)
			c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
		})
	}
}
