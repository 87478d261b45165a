package drain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// fixture is a server under test with one listener.
type fixture struct {
	t      *testing.T
	s      *drain.Server
	l      net.Listener
	served chan error
	log    *testwait.Output
}

// listen makes a listener in the test's own directory or on a free port.
func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // as systemd's are, without SocketProtocol=mptcp
	l, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // as an inherited one
	}
	return l
}

// start serves; the test's end closes the server and checks that everything ended.
func start(t *testing.T, network string, s *drain.Server) *fixture {
	t.Helper()
	return startOn(t, listen(t, network), s)
}

// startOn is start on a listener.
func startOn(t *testing.T, l net.Listener, s *drain.Server) *fixture {
	t.Helper()
	f := &fixture{t: t, s: s, l: l, served: make(chan error, 1), log: new(testwait.Output)}
	if s.Logger == nil {
		s.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	}
	go func() { f.served <- s.Serve(f.l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, drain.ErrStuck) {
			t.Errorf("Close: %v", err)
		}
		if err := testwait.For(t, "Serve's return", f.served); !errors.Is(err, drain.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

// dial connects a client that is closed at the test's end.
func (f *fixture) dial() net.Conn {
	f.t.Helper()
	c, err := net.Dial(f.l.Addr().Network(), f.l.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testwait.Patience))
	return c
}

// shutdown drains in the background.
func (f *fixture) shutdown(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f.s.Shutdown(ctx) }()
	return done
}

// beat returns when the accept loop has come round.
func (f *fixture) beat() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), testwait.Patience)
	defer cancel()
	if err := f.s.Beat(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// lines is a handler that answers each line with itself, and says goodbye when draining.
func lines(_ context.Context, c *drain.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		switch {
		case errors.Is(err, drain.ErrExpired), errors.Is(err, drain.ErrDeadline):
			_, _ = io.WriteString(c, "bye\n")
			c.Linger(testwait.Patience)
			return
		case err != nil:
			return
		}
		c.SetBusy()
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
		select {
		case <-c.Draining():
			_, _ = io.WriteString(c, "bye\n")
			c.Linger(testwait.Patience)
			return
		default:
			c.SetIdle()
		}
	}
}

func ask(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	expect(t, c, line)
}

// expect reads a line byte by byte, so that what follows stays unread.
func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("read %q, then: %v", got, err)
		}
		if b[0] == '\n' {
			break
		}
		got = append(got, b[0])
	}
	if string(got) != want {
		t.Fatalf("read %q, want %q", got, want)
	}
}

func expectEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d, %v; want EOF", n, err)
	}
}

func networks(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

func TestServe(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		f := start(t, network, &drain.Server{Handler: lines})
		c := f.dial()
		ask(t, c, "hello")
		if n := f.s.Counts(); n.Open != 1 || n.Busy+n.Idle != 1 || n.Accepted != 1 || n.Threads != drain.DefaultThreads || n.Draining {
			t.Errorf("counts: %+v", n)
		}
		_ = c.Close()
		testwait.Until(t, "the connection's end", func() bool { return f.s.Counts().Open == 0 })
	})
}

func TestConn(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		conns := make(chan *drain.Conn)
		release := make(chan struct{})
		f := start(t, network, &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
			conns <- c
			<-release
		}})
		before := time.Now()
		client := f.dial()
		c := testwait.For(t, "the handler", conns)
		if at := c.Since(); at.Before(before) || at.After(time.Now()) {
			t.Errorf("Since %v, dialled at %v", at, before)
		}
		if got, want := c.Listener(), f.l.Addr().String(); got != want {
			t.Errorf("Listener %q, want %q", got, want)
		}
		if got, want := c.LocalAddr().String(), client.RemoteAddr().String(); got != want {
			t.Errorf("LocalAddr %q, want %q", got, want)
		}
		if got, want := c.RemoteAddr().Network(), network; got != want {
			t.Errorf("RemoteAddr's network %q, want %q", got, want)
		}
		if network == "tcp" && c.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("RemoteAddr %v, want %v", c.RemoteAddr(), client.LocalAddr())
		}
		if network == "tcp" {
			c.SpeaksFor(netip.MustParseAddrPort("192.0.2.7:4711"))
			if c.RemoteAddr().String() != "192.0.2.7:4711" || c.Peer() != "192.0.2.7:4711" || c.LocalAddr().String() != client.RemoteAddr().String() {
				t.Errorf("a proxy's client is %v, %s", c.RemoteAddr(), c.Peer())
			}
		}
		u, err := c.PeerCred()
		if network == "unix" && (err != nil || int(u.Pid) != os.Getpid() || int(u.Uid) != os.Getuid()) {
			t.Errorf("PeerCred: %+v, %v", u, err)
		}

		_ = c.SetReadDeadline(time.Unix(1, 0))
		_, err = c.Read(make([]byte, 1))
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read past its deadline: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
		if _, err := c.Write([]byte("x\n")); err != nil {
			t.Error(err)
		}
		expect(t, client, "x")
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		expectEOF(t, client)
		_, err = c.Write([]byte("x"))
		if err == nil {
			t.Error("Write after CloseWrite succeeded")
		}

		if err := c.Close(); err != nil {
			t.Error(err)
		}
		c.Watch(true)
		c.Linger(time.Hour)
		_, rerr := c.Read(make([]byte, 1))
		_, werr := c.Write(make([]byte, 1))
		_, perr := c.PeerCred()
		for i, err := range []error{c.Close(), rerr, werr, perr, c.CloseWrite(), c.SetDeadline(time.Now())} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%d after Close: %v", i, err)
			}
		}
		close(release)
	})
}

func TestServeRefuses(t *testing.T) {
	s := &drain.Server{Handler: lines}
	if err := s.Serve(pipe{}); err == nil || !strings.Contains(err.Error(), "no descriptor") {
		t.Errorf("Serve of no socket: %v", err)
	}
	if err := s.Serve(named{&net.TCPListener{}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve of an empty listener: %v", err)
	}
	l := listen(t, "tcp")
	_ = l.Close()
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve of a closed listener: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Serve(listen(t, "tcp")); !errors.Is(err, drain.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if !s.Counts().Draining {
		t.Error("Counts do not show the drain")
	}
	testwait.For(t, "Draining", s.Draining())
}

// pipe is a listener without a descriptor.
type pipe struct{}

func (pipe) Accept() (net.Conn, error) { return nil, io.EOF }
func (pipe) Close() error              { return nil }
func (pipe) Addr() net.Addr            { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestThreads(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		f := start(t, network, &drain.Server{Handler: lines, Threads: 2})
		a, b := f.dial(), f.dial()
		ask(t, a, "a")
		ask(t, b, "b")
		queued := f.dial()
		for range 3 {
			f.beat()
		}
		if n := f.s.Counts(); n.Accepted != 2 {
			t.Fatalf("accepted %d with two threads", n.Accepted)
		}
		testwait.Until(t, "one in the queue", func() bool { return maps.Equal(f.s.Queues(), map[string]int{f.l.Addr().String(): 1}) })
		_ = a.Close()
		ask(t, queued, "c")
		testwait.Until(t, "the queue's end", func() bool { return maps.Equal(f.s.Queues(), map[string]int{f.l.Addr().String(): 0}) })
	})
}

// One budget serves all listeners: a listener nobody connects to must not hold a slot.
func TestThreadsShared(t *testing.T) {
	f := start(t, "tcp", &drain.Server{Handler: lines, Threads: 1})
	second := listen(t, "unix")
	served := make(chan error, 1)
	go func() { served <- f.s.Serve(second) }()
	for i := range 20 {
		l := []net.Listener{f.l, second}[i%2]
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(testwait.Patience))
		ask(t, c, fmt.Sprint(i))
		_ = c.Close()
	}
	for _, l := range []net.Listener{f.l, second} {
		if n := f.s.Counts().Listeners[l.Addr().String()]; n.Accepted != 10 || n.Busy > n.Open {
			t.Errorf("%s: %+v", l.Addr(), n)
		}
	}
	if err := f.s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := testwait.For(t, "Serve's return", served); !errors.Is(err, drain.ErrServerClosed) {
		t.Error(err)
	}
	if n := f.s.Queues(); len(n) != 0 {
		t.Errorf("queues of nobody: %v", n)
	}
}

func TestReserve(t *testing.T) {
	type result struct {
		who string
		err error
	}
	results := make(chan result, 8)
	handler := func(ctx context.Context, c *drain.Conn) {
		reserved := c.Reserved()
		who, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return
		}
		c.Watch(true)
		err = c.Acquire(ctx)
		results <- result{fmt.Sprint(strings.TrimSpace(who), reserved), err}
		if err == nil {
			_, _ = c.Read(make([]byte, 1))
		}
	}
	f := start(t, "unix", &drain.Server{Handler: handler, Threads: 1, Reserve: 2})
	connect := func(who string) net.Conn {
		c := f.dial()
		_, _ = io.WriteString(c, who+"\n")
		return c
	}
	a := connect("a")
	if r := testwait.For(t, "a", results); r.who != "afalse" || r.err != nil {
		t.Fatal(r)
	}
	b := connect("b")
	testwait.Until(t, "b on the reserve", func() bool { return f.s.Counts().Reserve == 1 })
	c := connect("c")
	testwait.Until(t, "c on the reserve", func() bool { return f.s.Counts().Reserve == 2 })
	d := connect("d")
	f.beat()
	if n := f.s.Counts(); n.Accepted != 3 || n.Open != 3 {
		t.Fatalf("accepted beyond the reserve: %+v", n)
	}
	_ = b.Close()
	if r := testwait.For(t, "b's end", results); r.who != "btrue" || !errors.Is(r.err, drain.ErrHangup) {
		t.Fatal(r)
	}
	testwait.Until(t, "d on the reserve", func() bool { return f.s.Counts().Accepted == 4 })
	_ = a.Close()
	// Slots go to those who ask in the order in which they ask, and c and d ask when their goroutines come to it.
	conns := map[string]net.Conn{"ctrue": c, "dtrue": d}
	for _, slot := range []string{"a's slot", "the next slot"} {
		r := testwait.For(t, slot, results)
		if conns[r.who] == nil || r.err != nil {
			t.Fatalf("%s went to %q: %v", slot, r.who, r.err)
		}
		_ = conns[r.who].Close()
		delete(conns, r.who)
	}
	if n := f.s.Counts(); n.Reserve != 0 {
		t.Errorf("%+v", n)
	}
	testwait.Until(t, "the end of all", func() bool { return f.s.Counts().Open == 0 })
	e := connect("e")
	if r := testwait.For(t, "e", results); r.who != "efalse" || r.err != nil {
		t.Fatal(r)
	}
	_ = e.Close()
}
