package pgwire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// version3 is protocol 3.0.
const version3 = 3 << 16

func pairs(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return append(b, 0)
}

// TestStartup is a table of first bytes and what comes of them.
func TestStartup(t *testing.T) {
	f := newFDT(t, bank{})
	ssl, gss := startupPacket(80877103), startupPacket(80877104)
	user := startupPacket(version3, pairs("user", "a")...)
	for name, c := range map[string]struct {
		send []byte
		want string // all but ParameterStatus, up to ReadyForQuery
	}{
		"length zero":            {make([]byte, 8), "closed"},
		"length seven":           {[]byte{0, 0, 0, 7, 0, 0, 0}, "closed"},
		"length of ten thousand": {binary.BigEndian.AppendUint32(nil, 10001), "closed"},
		"HTTP":                   {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "closed"},
		"TLS hello":              {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "closed"},
		"version 2":              {startupPacket(2<<16, pairs("user", "a")...), "E FATAL 0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.2, closed"},
		"version 4":              {startupPacket(4<<16, pairs("user", "a")...), "E FATAL 0A000 unsupported frontend protocol 4.0: server supports 3.0 to 3.2, closed"},
		"version 3.0":            {user, "R ok, K, Z I"},
		"version 3.2":            {startupPacket(version3+2, pairs("user", "a")...), "R ok, K, Z I"},
		"version 3.9":            {startupPacket(version3+9, pairs("user", "a")...), "v 3.2 [], R ok, K, Z I"},
		"protocol option":        {startupPacket(version3, pairs("user", "a", "_pq_.x", "1")...), `v 3.0 ["_pq_.x"], R ok, K, Z I`},
		"no user":                {startupPacket(version3, pairs("database", "a")...), "E FATAL 28000 no PostgreSQL user name specified in startup packet, closed"},
		"no terminator":          {startupPacket(version3, []byte("user\x00a\x00")...), "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte, closed"},
		"name without value":     {startupPacket(version3, []byte("user\x00")...), "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte, closed"},
		"open value":             {startupPacket(version3, []byte("user\x00a")...), "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte, closed"},
		"rest behind the end":    {startupPacket(version3, []byte("user\x00a\x00\x00x")...), "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte, closed"},
		"not UTF-8":              {startupPacket(version3, pairs("user", "a\xff")...), "E FATAL 22021 invalid byte sequence for encoding \"UTF8\" in the startup packet, closed"},
		"setting":                {startupPacket(version3, pairs("user", "a", "datestyle", "ISO, DMY")...), "R ok, K, Z I"},
		"unknown setting":        {startupPacket(version3, pairs("user", "a", "x", "y")...), "E FATAL 42704 unrecognized configuration parameter \"x\", closed"},
		"bad setting":            {startupPacket(version3, pairs("user", "a", "client_encoding", "LATIN1")...), "E FATAL 22023 invalid value for parameter \"client_encoding\": \"LATIN1\", closed"},
		"options":                {startupPacket(version3, pairs("user", "a", "options", `-c a.b=c\ d -cDateStyle=ISO --statement-timeout=5s `)...), "R ok, K, Z I"},
		"bad options":            {startupPacket(version3, pairs("user", "a", "options", "-x")...), "E FATAL 42601 invalid command-line argument for server process: -x, closed"},
		"open options":           {startupPacket(version3, pairs("user", "a", "options", "-c")...), "E FATAL 42601 -c  requires a value, closed"},
		"replication":            {startupPacket(version3, pairs("user", "a", "replication", "database")...), "E FATAL 0A000 fdt has no replication to offer, closed"},
		"quoted encoding":        {startupPacket(version3, pairs("user", "a", "client_encoding", "'utf-8'")...), "R ok, K, Z I"},
		"half a word":            {startupPacket(version3, pairs("user", "a", "replication", "of")...), "R ok, K, Z I"},
		"replication, on":        {startupPacket(version3, pairs("user", "a", "replication", "t")...), "E FATAL 0A000 fdt has no replication to offer, closed"},
		"no replication":         {startupPacket(version3, pairs("user", "a", "replication", "false")...), "R ok, K, Z I"},
		"cancel of nobody":       {startupPacket(80877102, 0, 0, 0, 1, 0, 0, 0, 2), "closed"},
		"short cancel":           {startupPacket(80877102, 0, 0, 0, 1), "closed"},
		"cancel of nothing":      {startupPacket(80877102), "closed"},
		"long cancel":            {startupPacket(80877102, make([]byte, 4+256)...), "closed"},
		"longer cancel":          {startupPacket(80877102, make([]byte, 4+257)...), "closed"},
		"SSLRequest twice":       {append(bytes.Clone(ssl), ssl...), "closed"},
		"SSLRequest and more":    {append(bytes.Clone(ssl), user...), "closed"},
		"GSSENCRequest and more": {append(bytes.Clone(gss), user...), "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := dial(t, "unix", f.sock)
			cl.raw(c.send)
			var list []string
			for _, m := range cl.read() {
				if !strings.HasPrefix(m, "S ") {
					list = append(list, m)
				}
			}
			if got := strings.Join(list, ", "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestNoEncryption shows that SSLRequest and GSSENCRequest are refused, once
// each, and that the startup message may follow.
func TestNoEncryption(t *testing.T) {
	f := newFDT(t, bank{})
	c := dial(t, "unix", f.sock)
	for _, code := range []uint32{80877104, 80877103} {
		c.raw(startupPacket(code))
		var b [1]byte
		if _, err := io.ReadFull(c.conn, b[:]); err != nil || b[0] != 'N' {
			t.Fatalf("%q, %v", b, err)
		}
	}
	c.raw(startupPacket(version3, pairs("user", "a")...))
	if hello := c.read(); hello[len(hello)-1] != "Z I" {
		t.Errorf("%q", hello)
	}
}

// TestSlowStartup shows that a silent client is put out.
func TestSlowStartup(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.StartupTimeout = 50 * time.Millisecond })
	silent, slow := dial(t, "unix", f.sock), dial(t, "tcp", f.tcp)
	slow.raw([]byte{0, 0})
	silent.answers("silent", silent.read(), "closed")
	if got := slow.read(); len(got) != 1 || !strings.HasPrefix(got[0], "closed") { // by a reset where its bytes came too late to be read
		t.Errorf("slow: %q", got)
	}
	early := dial(t, "unix", f.sock)
	_ = early.conn.Close()
	testwait.Until(t, "gone", func() bool { return f.server.Counts().Open == 0 })
}

// TestSilent shows that ten thousand clients who say nothing keep nobody out: who is known is served all the time, who
// comes later in a moment, and only so many take memory as there are slots, and places for strangers.
func TestSilent(t *testing.T) {
	const silent, threads, most = 10000, 1000, 32 << 10 // bytes for each that is served
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < silent+3*threads {
		t.Fatalf("%d descriptors are too few: %v", limit.Cur, err)
	}
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.server.Threads, f.server.Reserve, f.server.Strangers = threads, 16, 64
	})
	known := f.connect("a")
	known.want("CALL enqueue('before')", "C CALL", "Z I")
	before := memory()
	var all sync.WaitGroup
	var conns sync.Map
	var left atomic.Int64
	left.Store(silent)
	t.Cleanup(all.Wait) // also where the test ends early
	for range 64 {
		all.Go(func() {
			for left.Add(-1) >= 0 && t.Context().Err() == nil {
				conn, err := net.Dial("unix", f.sock)
				for ; errors.Is(err, syscall.EAGAIN) && t.Context().Err() == nil; conn, err = net.Dial("unix", f.sock) { // the kernel's queue is full
					time.Sleep(time.Millisecond)
				}
				if err != nil {
					if t.Context().Err() == nil {
						t.Error(err)
					}
					return
				}
				conns.Store(conn, nil)
			}
		})
	}
	testwait.Until(t, "crowded", func() bool { return f.server.Counts().Open >= threads })
	known.want("CALL enqueue('crowded')", "C CALL", "Z I")
	late := connect(t, "tcp", f.tcp, "a")
	late.want("CALL enqueue('late')", "C CALL", "Z I")
	if grown := memory() - before; grown > threads*most {
		t.Errorf("%d bytes more", grown)
	}
	all.Wait()
	testwait.Until(t, "all had their turn", func() bool { return f.server.Counts().Accepted == silent+2 })
	told := 0
	testwait.Until(t, "who had to go was told why", func() bool {
		conns.Range(func(c, _ any) bool {
			conn := c.(net.Conn)
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // it is there, or comes later, or never
			if b, _ := io.ReadAll(conn); bytes.Contains(b, []byte("\x00C53300\x00")) {
				told++
				conns.Delete(c)
				_ = conn.Close()
			}
			return true
		})
		return told >= silent-threads-64
	})
	conns.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil })
	known.want("CALL enqueue('after')", "C CALL", "Z I")
	f.delivered("before", "crowded", "late", "after")
}

// memory is what this process holds after a collection, in bytes.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestPeer logs in by what the kernel says.
func TestPeer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user: run as root")
	}
	groups := []string{"root", "daemon", "no-such-group"}
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		for _, g := range groups {
			f.onUnix = append(f.onUnix, pgwire.Listener{Auth: &pgwire.Peer{Group: g}})
		}
		f.onUnix = append(f.onUnix, pgwire.Listener{})
		f.onTCP = &f.onUnix[0]
	})
	socks := map[string]string{}
	for i, g := range []string{"/root", "/daemon", "/none"} {
		socks[g] = f.socks[i]
	}
	for _, c := range []struct{ group, unix, asked, want string }{
		{"/root", "root", "root", ""},
		{"/none", "root", "root", ""},
		{"/none", "root", "daemon", `peer authentication failed for user "daemon"`},
		{"/daemon", "daemon", "daemon", ""},
		{"/daemon", "daemon", "root", `You are the unix user "daemon", and can only be that user here.`},
		{"/none", "daemon", "daemon", `The unix user "daemon" must be a member of the group "no-such-group".`},
		{"/root", "daemon", "daemon", `The unix user "daemon" must be a member of the group "root".`},
		{"/daemon", "4242", "root", `authentication failed for user "root"`},
	} {
		out, err := f.psqlAs(c.unix, socks[c.group], c.asked, "CALL enqueue('x')")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(out, c.want)) {
			t.Errorf("unix user %s as %s, group %s: %v %s", c.unix, c.asked, c.group, err, out)
		}
	}
	// There is no peer on TCP.
	c := connect(t, "tcp", f.tcp, "root")
	c.answers("tcp", c.hello, `E FATAL 28000 authentication failed for user "root"`, "closed")
	c = connect(t, "unix", f.socks[3], "root")
	c.answers("no rule", c.hello, `E FATAL 28000 no way to authenticate on listener "`+f.socks[3]+`"`, "closed")
}

// psqlAs runs psql as a unix user.
func (f *fdt) psqlAs(unix, sock, asked, query string) (string, error) {
	f.t.Helper()
	uid := map[string]uint32{"root": 0, "daemon": 1, "4242": 4242}[unix]
	host, port := strings.Split(sock, "/.s.PGSQL.")[0], strings.Split(sock, ".PGSQL.")[1]
	cmd := exec.Command("psql", "-X", "-h", host, "-p", port, "-U", asked, "-c", query, "db")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestReserve shows what a connection without a slot can do: settle prepared
// transactions and cancel, while a call waits for a slot.
func TestReserve(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.server.Threads, f.server.Reserve, f.wire.ReserveTimeout = 1, 4, time.Hour
	})
	holder := f.connect("a")
	holder.want("BEGIN; CALL enqueue('p'); PREPARE TRANSACTION 'p'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	holder.want("BEGIN", "C BEGIN", "Z T")
	settler, caller := f.connect("a"), f.connect("a")
	settler.want("SELECT gid FROM pg_prepared_xacts", "T gid:25/-1/0", "D p", "C SELECT 1", "Z I")
	settler.want("COMMIT PREPARED 'p'", "C COMMIT PREPARED", "Z I")
	caller.front.Send(&pgproto3.Query{String: "CALL enqueue('later')"})
	if err := caller.front.Flush(); err != nil {
		t.Fatal(err)
	}
	f.delivered("p")
	_ = holder.conn.Close()
	caller.answers("later", caller.read(), "C CALL", "Z I")
	f.delivered("p", "later")
	// One that waits is cancelled like one that runs.
	caller.want("BEGIN", "C BEGIN", "Z T")
	settler.front.Send(&pgproto3.Query{String: "CALL enqueue('never')"})
	if err := settler.front.Flush(); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "cancelled", func() bool {
		cancelRequest(t, "unix", f.sock, settler.key)
		_ = settler.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		m, err := settler.front.Receive()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return false
		}
		e, ok := m.(*pgproto3.ErrorResponse)
		return ok && e.Code == "57014"
	})
	f.delivered("p", "later")
}

// TestSilentReserve shows that who is silent on the reserve takes a slot or
// goes.
func TestSilentReserve(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.server.Threads, f.server.Reserve, f.wire.ReserveTimeout = 1, 4, 500*time.Millisecond
	})
	holder := f.connect("a")
	silent := f.connect("a")
	silent.answers("silent", silent.read(), "E FATAL 53300 sorry, too many clients already", "closed")
	testwait.Until(t, "a slot of its own", func() bool { // in the time it has, unless the machine is slow
		late := f.connect("a")
		_ = holder.conn.Close()
		testwait.Until(t, "off the reserve", func() bool { return f.server.Counts().Reserve == 0 })
		holder = late
		return slices.Equal(late.query("CALL enqueue('x')"), []string{"C CALL", "Z I"})
	})
	f.delivered("x")
}

// TestCrowd shows that clients who are not known yet keep out neither a cancel request, nor who settles a prepared
// transaction, nor who calls, however far they go: all places and the queue are full of them, and more come. None of them
// may ever be let in by time: all limits are an hour.
func TestCrowd(t *testing.T) {
	for name, first := range map[string][]byte{
		"one byte":  {0},
		"half":      startupPacket(version3, pairs("user", "alice")...)[:12],
		"startup":   startupPacket(version3, pairs("user", "alice")...),
		"SASL":      append(startupPacket(version3, pairs("user", "alice")...), message('p', []byte("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=x")...)...),
		"encrypted": startupPacket(80877103),
	} {
		t.Run(name, func(t *testing.T) {
			const threads, strangers = 8, 4
			f := newFDT(t, withBank(t), onTCP(pgwire.Listener{Auth: users(t)}), func(f *fdt, _ *config.Config) {
				f.server.Threads, f.server.Reserve, f.server.Strangers = threads, 2, strangers
				f.wire.StartupTimeout, f.wire.ReserveTimeout = time.Hour, time.Hour
			})
			c := f.connect("alice")
			c.want("BEGIN; CALL enqueue('x'); PREPARE TRANSACTION 'g'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
			stop := make(chan struct{})
			var crowd sync.WaitGroup
			defer crowd.Wait()
			defer close(stop)
			for range threads + strangers + 6 {
				crowd.Go(func() {
					for { // who is put out comes again
						conn, err := net.Dial("tcp", f.tcp)
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = conn.Write(first)
						gone := make(chan struct{})
						go func() {
							defer close(gone)
							_, _ = io.Copy(io.Discard, conn)
						}()
						select {
						case <-stop:
							_ = conn.Close()
							<-gone
							return
						case <-gone:
							_ = conn.Close()
						}
					}
				})
			}
			testwait.Until(t, "full", func() bool { return f.server.Counts().Open >= threads+strangers })
			asleep(t, c)
			cancelRequest(t, "tcp", f.tcp, c.key)
			c.answers("cancelled", c.read(), "E ERROR 57014 canceling statement due to user request", "Z I")
			settler := f.connect("alice")
			settler.want("COMMIT PREPARED 'g'", "C COMMIT PREPARED", "Z I")
			if err := login(t, f.tcp, "user=alice password=wonderland"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStrangersMemory shows what a client costs that is not known: no more for what it announces, or sends without
// being asked.
func TestStrangersMemory(t *testing.T) {
	// A goroutine's stack doubles from 8 to 16 KiB by the race detector's frames; without it, it is about 7 KiB in all.
	const clients, most = 200, 32 << 10
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t)}))
	hello := startupPacket(version3, pairs("user", "alice")...)
	for name, send := range map[string][]byte{
		"a long startup packet": binary.BigEndian.AppendUint32(nil, 10000),
		"a long query":          slices.Concat(hello, length('Q', 16<<20), make([]byte, 64<<10)),
		"a long password":       slices.Concat(hello, length('p', 16<<20), make([]byte, 64<<10)),
		"a short password":      slices.Concat(hello, length('p', 1000)),
	} {
		before, conns := memory(), make([]net.Conn, clients)
		for i := range conns {
			conn, err := net.Dial("tcp", f.tcp)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(send) // it may have been refused before the end
			conns[i] = conn
		}
		open := func() int { return f.server.Counts().Open }
		if strings.Contains(name, "long ") && name != "a long startup packet" {
			testwait.Until(t, name+": refused", func() bool { return open() == 0 })
		} else {
			testwait.Until(t, name+": all there", func() bool { return open() == clients })
		}
		grown := (memory() - before) / clients
		t.Logf("%s: %d bytes for each", name, grown)
		if grown > most {
			t.Errorf("%s: %d bytes for each", name, grown)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
		testwait.Until(t, "gone", func() bool { return open() == 0 })
	}
}
