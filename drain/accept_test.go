package drain_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// child runs f in a process of its own, which is this test alone once more.
func child(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	const mark = "DRAIN_TEST_CHILD"
	if os.Getenv(mark) != "" {
		f(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1",
		"-test.gocoverdir="+flag.Lookup("test.gocoverdir").Value.String())
	cmd.Env = append(os.Environ(), mark+"=1", "GORACE=atexit_sleep_ms=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// At the limit of descriptors the server pauses instead of spinning, says so once, and goes on when there
// are some again. In a process of its own, whose limit it lowers.
func TestAcceptExhausted(t *testing.T) { child(t, exhausted) }

// An accept loop that hangs, here in its logger, is what Beat tells the watchdog.
func TestBeatFails(t *testing.T) { child(t, hung) }

// A worker that leaves without descriptors says so, and leaves what it cannot take to others.
func TestLeaveExhausted(t *testing.T) { child(t, leaveExhausted) }

// A server that cannot watch for hang-ups does not serve.
func TestServeExhausted(t *testing.T) { child(t, serveExhausted) }

// exhaust serves one connection, lowers the limit to what is open, and connects another.
func exhaust(t *testing.T, log slog.Handler) (s *drain.Server, served chan error, restore func()) {
	s = &drain.Server{Handler: lines, Logger: slog.New(log)}
	l, err := net.Listen("unix", fmt.Sprintf("@fdt-drain-test-%d", os.Getpid()))
	must(t, err)
	served = make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	warm, err := net.Dial("unix", l.Addr().String()) // so that everything that opens descriptors has
	must(t, err)
	testwait.Until(t, "accepted", func() bool { return s.Counts().Open == 1 })
	// The client's socket exists before there are no more; connecting needs none.
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	lift := limit(t, 0)
	must(t, unix.Connect(client, &unix.SockaddrUnix{Name: l.Addr().String()}))
	return s, served, func() {
		lift()
		testwait.Until(t, "the other is accepted, or left", func() bool { return s.Counts().Accepted == 2 || s.Counts().Draining })
		must(t, errors.Join(unix.Close(client), warm.Close()))
	}
}

// limit lets the process open some descriptors more, and lift as many as before.
func limit(t *testing.T, more int) (lift func()) {
	next, err := unix.Dup(0)
	must(t, err)
	_ = unix.Close(next)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next + more), Max: old.Max}))
	return func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exhausted(t *testing.T) {
	log := new(testwait.Output)
	s, served, restore := exhaust(t, slog.NewTextHandler(log, nil))
	testwait.Until(t, "the log", func() bool { return strings.Contains(log.String(), "cannot accept") })
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	time.Sleep(300 * time.Millisecond) // for a spinning loop to show in the CPU time
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if cpu := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()); cpu > 150*time.Millisecond {
		t.Errorf("used %v of CPU while nothing could be accepted", cpu)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	must(t, s.Beat(ctx)) // alive all the same
	if n := s.Counts().Accepted; n != 1 {
		t.Errorf("accepted %d", n)
	}
	restore()
	must(t, s.Shutdown(ctx))
	if err := testwait.For(t, "Serve's return", served); !errors.Is(err, drain.ErrServerClosed) {
		t.Error(err)
	}
	text := log.String()
	if strings.Count(text, "cannot accept") != 1 || strings.Count(text, "accepting again") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

func leaveExhausted(t *testing.T) {
	log := new(testwait.Output)
	s, served, restore := exhaust(t, slog.NewTextHandler(log, nil))
	testwait.Until(t, "the log", func() bool { return strings.Contains(log.String(), "cannot accept;") })
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if err := testwait.For(t, "Serve's return", served); !errors.Is(err, drain.ErrServerClosed) {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "cannot accept from a queue that is about to go") {
		t.Errorf("log:\n%s", text)
	}
	restore()
	must(t, testwait.For(t, "the drain's end", ended))
}

func serveExhausted(t *testing.T) {
	l, err := net.Listen("unix", fmt.Sprintf("@fdt-drain-test-%d", os.Getpid()))
	must(t, err)
	lift := limit(t, 1) // one is left, for the copy of the listener's descriptor
	s := &drain.Server{Handler: lines}
	if err := s.Serve(l); !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "epoll_create1") {
		t.Errorf("Serve: %v", err)
	}
	lift() // what is written at the end needs some
}

// stuck is a log handler that blocks, and with it who logs.
type stuck struct {
	slog.Handler
	entered, release chan struct{}
}

func (stuck) Enabled(context.Context, slog.Level) bool { return true }

func (s stuck) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelError {
		close(s.entered)
		<-s.release
	}
	return nil
}

func hung(t *testing.T) {
	log := stuck{slog.DiscardHandler, make(chan struct{}), make(chan struct{})}
	s, served, restore := exhaust(t, log)
	testwait.For(t, "the log", log.entered)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Beat(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "@fdt-drain-test") {
		t.Errorf("Beat: %v", err)
	}
	close(log.release)
	restore()
	must(t, s.Close())
	if err := testwait.For(t, "Serve's return", served); !errors.Is(err, drain.ErrServerClosed) {
		t.Error(err)
	}
}

// A listening socket that somebody shut down is lost: Serve says so, and does not spin.
func TestAcceptLost(t *testing.T) {
	s := &drain.Server{Handler: lines}
	l := listen(t, "tcp")
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "x")
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	if err := testwait.For(t, "Serve's return", served); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	ask(t, c, "still served")
	_ = c.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// named is a listener with a name of its own whose close fails, which is logged by the accept loop.
type named struct{ *net.TCPListener }

func (named) Name() string { return "public" }
func (n named) Close() error {
	return errors.Join(n.TCPListener.Close(), errors.New("as a test"))
}

func TestListenerName(t *testing.T) {
	log := new(testwait.Output)
	names := make(chan string, 1)
	s := &drain.Server{
		Logger:  slog.New(slog.NewTextHandler(log, nil)),
		Handler: func(_ context.Context, c *drain.Conn) { names <- c.Listener() },
	}
	l := named{listen(t, "tcp").(*net.TCPListener)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := testwait.For(t, "the handler", names); got != "public" {
		t.Error(got)
	}
	_ = c.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	testwait.For(t, "Serve's return", served)
	if !strings.Contains(log.String(), "cannot close a listener") {
		t.Errorf("log: %s", log)
	}
}

// A connection whose peer closed it in the queue, with nothing sent or in the middle of it, costs no handler and no place.
func TestEndedInQueue(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		l := listen(t, network)
		for range 10 {
			c, err := net.Dial(l.Addr().Network(), l.Addr().String())
			must(t, err)
			must(t, c.Close())
		}
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		must(t, err)
		if tcp, ok := c.(*net.TCPConn); ok { // a reset
			must(t, tcp.SetLinger(0))
		}
		must(t, c.Close())
		said, err := net.Dial(l.Addr().Network(), l.Addr().String())
		must(t, err)
		_, err = said.Write([]byte("x"))
		must(t, errors.Join(err, said.Close()))
		handled := make(chan byte, 12)
		f := startOn(t, l, &drain.Server{Threads: 1, Handler: func(_ context.Context, c *drain.Conn) {
			var b [1]byte
			_, _ = c.Read(b[:])
			handled <- b[0]
		}})
		if got := testwait.For(t, "what was said", handled); got != 'x' {
			t.Errorf("a handler for one that had ended, before %q", got)
		}
		if n := f.s.Counts().Accepted; n != 12 {
			t.Errorf("accepted %d", n)
		}
	})
}

// The listener stays non-blocking for the others that have it, whatever one server does.
func TestNonblockIsShared(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		f := start(t, network, &drain.Server{Handler: lines})
		var copied int
		raw, err := f.l.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { copied, err = unix.Dup(int(fd)) })
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(copied)
		nonblock := func() bool {
			flags, err := unix.FcntlInt(uintptr(copied), unix.F_GETFL, 0)
			return err == nil && flags&unix.O_NONBLOCK != 0
		}
		ask(t, f.dial(), "x")
		if !nonblock() {
			t.Error("blocking while served")
		}
		if err := f.s.Close(); err != nil {
			t.Error(err)
		}
		if !nonblock() {
			t.Error("blocking afterwards")
		}
	})
}

func TestTCPOptions(t *testing.T) {
	tests := map[string]struct {
		server *drain.Server
		want   map[string]int
	}{
		"defaults": {&drain.Server{}, map[string]int{"nodelay": 1, "keepalive": 1, "idle": 60, "interval": 15, "count": 4, "user timeout": 120000}},
		"own": {&drain.Server{UserTimeout: 1500 * time.Millisecond,
			KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 1500 * time.Millisecond, Interval: 3 * time.Second, Count: 5}},
			map[string]int{"nodelay": 1, "keepalive": 1, "idle": 2, "interval": 3, "count": 5, "user timeout": 1500}},
		"none": {&drain.Server{UserTimeout: -1, KeepAlive: net.KeepAliveConfig{Idle: -1}},
			map[string]int{"nodelay": 1, "keepalive": 0, "user timeout": 0}},
	}
	names := map[string][2]int{
		"nodelay": {unix.IPPROTO_TCP, unix.TCP_NODELAY}, "keepalive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		"idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, "interval": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		"count": {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, "user timeout": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	}
	for name, test := range tests {
		for _, inherited := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " inherited ", inherited), func(t *testing.T) {
				fds := make(chan int)
				s := &drain.Server{KeepAlive: test.server.KeepAlive, UserTimeout: test.server.UserTimeout}
				s.Handler = func(_ context.Context, c *drain.Conn) {
					drain.Descriptor(c, func(fd int) {
						fds <- fd
						<-fds
					})
				}
				f := start(t, "tcp", s)
				if inherited {
					raw, _ := f.l.(syscall.Conn).SyscallConn()
					_ = raw.Control(func(fd uintptr) {
						_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
					})
				}
				_ = f.dial()
				fd := testwait.For(t, "the connection", fds)
				for option, want := range test.want {
					got, err := unix.GetsockoptInt(fd, names[option][0], names[option][1])
					if err != nil || got != want {
						t.Errorf("%s: %d, %v; want %d", option, got, err, want)
					}
				}
				fds <- 0
			})
		}
	}
}
