package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/worker"
)

// A whole life: ready, serving, told to stop twice, draining, gone. Once STOPPING=1 was sent, the
// process takes no connection: this test, like systemd, still has the socket, and finds it in the queue.
func TestLife(t *testing.T) {
	p := launch(t, "echo", "main", "WORKER_TEST_NAMES=main")
	if got, want := p.told("READY=1"), "READY=1\nSTATUS=serving; 0 connections"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	c := p.dial()
	send(t, c, "hello")
	expect(t, c, "hello\n")
	if got, want := p.told("1 connections"), "STATUS=serving; 1 connections"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	p.signal(unix.SIGHUP)
	p.signal(unix.SIGPIPE)
	p.signal(unix.SIGTERM)
	p.signal(unix.SIGTERM)
	got := p.told("STOPPING=1")
	if want := "STOPPING=1\nSTATUS=draining; "; !strings.HasPrefix(got, want) {
		t.Errorf("told %q, want %q…", got, want)
	}
	_ = p.dial()
	_ = p.cmd.Process.Signal(unix.SIGTERM) // unless it has drained already, on a slow machine
	expect(t, c, "bye\n")
	_ = c.Close()
	p.exit(0)
	fd, _, err := unix.Accept(int(p.socket.Fd()))
	if err != nil {
		t.Errorf("the connection that came after STOPPING=1 is not in the queue: %v", err)
	}
	_ = unix.Close(fd)
}

// Rolls under load: clients that come and go and clients that stay lose nothing while workers of one
// generation after another take over the socket, and are refused or served when the last is stopped.
func TestRoll(t *testing.T) {
	socket, path := listen(t)
	dir := t.TempDir()
	generation := func(n int) (ps []*process) {
		for slot := range 2 {
			p := launchOn(t, socket, path, "echo", "main", "WORKER_TEST_IDLE=1h",
				"WORKER_TEST_CONTROL="+filepath.Join(dir, fmt.Sprintf("%d-%d", n, slot)))
			p.told("READY=1")
			ps = append(ps, p)
		}
		return ps
	}
	old := generation(0)
	var clients sync.WaitGroup
	var stopping atomic.Bool
	var calls atomic.Int64
	refused := func(err error) bool {
		return stopping.Load() && errors.Is(err, syscall.ECONNREFUSED)
	}
	t.Cleanup(clients.Wait) // also where the test ends early
	for i := range 8 {
		stays := i%2 == 0
		clients.Go(func() {
			for t.Context().Err() == nil {
				c, err := net.Dial("unix", path)
				if errors.Is(err, syscall.EAGAIN) { // the queue is full
					continue
				}
				if err != nil {
					if !refused(err) {
						t.Errorf("dial: %v", err)
					}
					return
				}
				_ = c.SetDeadline(time.Now().Add(testwait.Patience))
				in := bufio.NewReader(c)
				for bye := false; !bye && t.Context().Err() == nil; bye = bye || !stays {
					if _, err := io.WriteString(c, "call\n"); err != nil {
						t.Errorf("call: %v", err)
						break
					}
					line, err := in.ReadString('\n')
					if err != nil || line != "call\n" {
						t.Errorf("a call got %q, %v", line, err)
						break
					}
					calls.Add(1)
					if in.Buffered() > 0 { // the goodbye comes with the reply
						line, err = in.ReadString('\n')
						if bye = true; err != nil || line != "bye\n" {
							t.Errorf("goodbye: %q, %v", line, err)
						}
					}
				}
				_ = c.Close()
			}
		})
	}
	load := func() {
		t.Helper()
		from := calls.Load()
		testwait.Until(t, "calls", func() bool { return calls.Load() >= from+500 || t.Failed() })
	}
	for n := range 3 {
		load()
		next := generation(n + 1)
		load()
		for _, p := range old {
			p.signal(unix.SIGTERM)
		}
		for _, p := range old {
			p.exit(0)
		}
		old = next
	}
	load()
	stopping.Store(true)
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
	for slot := range old {
		if err := control.Call(t.Context(), filepath.Join(dir, fmt.Sprintf("3-%d", slot)), control.OpDrain,
			control.Drain{Final: true}, nil); err != nil {
			t.Error(err)
		}
	}
	for _, p := range old {
		p.exit(0)
	}
	clients.Wait()
}

func TestDrainTimeout(t *testing.T) {
	p := launch(t, "echo", "main", "WORKER_TEST_TIMEOUT=10ms")
	p.told("READY=1")
	c := p.dial()
	send(t, c, "wait")
	p.told("1 connections")
	p.signal(unix.SIGTERM)
	expect(t, c, drain.ErrDeadline.Error()+"\n")
	if log := p.exit(0); !strings.Contains(log, "cut_short=true") {
		t.Error("the log does not say that the drain was cut short")
	}
}

func TestQuit(t *testing.T) {
	p := launch(t, "echo", "main", "WORKER_TEST_TIMEOUT=1h")
	p.told("READY=1")
	c := p.dial()
	send(t, c, "wait")
	p.told("1 connections")
	p.signal(unix.SIGTERM)
	p.told("STOPPING=1")
	p.signal(unix.SIGQUIT)
	expect(t, c, drain.ErrDeadline.Error()+"\n")
	p.exit(0)
}

func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	p := launch(t, "echo", "main", "WORKER_TEST_CONTROL="+path)
	p.told("READY=1")
	c := p.dial()
	send(t, c, "wait")
	p.told("1 connections")
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	for _, within := range []string{"soon", "-1s"} {
		err := control.Call(ctx, path, control.OpDrain, control.Drain{Within: within}, nil)
		if err == nil || !strings.Contains(err.Error(), "not a duration") {
			t.Errorf("drain within %q: %v", within, err)
		}
	}
	if err := control.Call(ctx, path, control.OpDrain, map[string]int{"within": 1}, nil); err == nil {
		t.Error("drain within a number: no error")
	}
	if err := control.Call(ctx, path, control.OpDrain, control.Drain{Final: true}, nil); err != nil {
		t.Fatal(err)
	}
	p.told("STOPPING=1")
	if _, err := net.Dial("unix", p.path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after the final stop: %v", err)
	}
	if err := control.Call(ctx, path, control.OpDrain, control.Drain{Within: "1ms"}, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, c, drain.ErrDeadline.Error()+"\n")
	p.exit(0)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left behind: %v", err)
	}
}

func TestListeners(t *testing.T) {
	tests := map[string]struct {
		passed, wanted, required string
		status                   string // told with READY=1, or
		fault                    string // logged
	}{
		"surplus":          {"main:other", "main", "", "serving; 0 connections", ""},
		"one missing":      {"main", "main gone", "", "serving; 0 connections; listener gone is missing", ""},
		"one required":     {"main", "main gone", "1", "", "listeners are missing: gone; systemd passed: main"},
		"all missing":      {"main", "gone", "", "", "listeners are missing: gone; systemd passed: main"},
		"one unusable":     {"main:main", "main", "", "serving; 0 connections; some listeners cannot be served", ""},
		"unusable, strict": {"main:main", "main", "1", "", "duplicate name"},
		"none":             {"", "main", "", "", "no descriptors were passed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := launch(t, "echo", test.passed, "WORKER_TEST_NAMES="+test.wanted, "WORKER_TEST_REQUIRED="+test.required)
			if test.fault != "" {
				if log := p.exit(1); !strings.Contains(log, test.fault) {
					t.Errorf("no %q in:\n%s", test.fault, log)
				}
				return
			}
			if got, want := p.told("READY=1"), "READY=1\nSTATUS="+test.status; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
			c := p.dial()
			send(t, c, "x")
			expect(t, c, "x\n")
			_ = c.Close()
			p.signal(unix.SIGINT)
			p.exit(0)
		})
	}
}

func TestWatchdog(t *testing.T) {
	p := launch(t, "echo", "main", "WATCHDOG_USEC=20000")
	p.told("READY=1")
	p.told("WATCHDOG=1")
	p.told("WATCHDOG=1")
	c := p.dial()
	send(t, c, "wait")
	p.told("1 connections")
	p.signal(unix.SIGTERM)
	p.told("STOPPING=1")
	p.told("WATCHDOG=1")
	_ = c.Close()
	p.signal(unix.SIGQUIT)
	p.exit(0)
	p = launch(t, "echo", "main", "WATCHDOG_USEC=x")
	p.told("READY=1")
	p.signal(unix.SIGTERM)
	if log := p.exit(0); !strings.Contains(log, "no watchdog pings") {
		t.Error("a bad WATCHDOG_USEC is not logged")
	}
}

func TestUmask(t *testing.T) {
	p := launch(t, "umask", "main")
	p.told("READY=1")
	c := p.dial()
	b, err := io.ReadAll(c)
	if mask, perr := strconv.ParseUint(strings.TrimSpace(string(b)), 8, 32); err != nil || perr != nil || mask&0o007 != 0o007 {
		t.Errorf("umask %s, %v", b, err)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A listening socket that is lost ends the worker with a failure, so that systemd starts another.
func TestLost(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	s := &drain.Server{Handler: lines}
	err = run(t, s, func() { _ = unix.Shutdown(fd, unix.SHUT_RDWR) }, worker.WithAddress("unix", filepath.Join(t.TempDir(), "s")),
		worker.WithListener("lost", l))
	if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "serving lost") {
		t.Errorf("Run: %v", err)
	}
}

// run runs a worker in this process, without systemd, and then does what comes after its start.
func run(t *testing.T, s worker.Server, then func(), opts ...worker.Option) error {
	t.Helper()
	done := make(chan error, 1)
	opts = append([]worker.Option{worker.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	go func() { done <- worker.Run(s, opts...) }()
	then()
	return testwait.For(t, "Run's return", done)
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "s")
	err := run(t, &drain.Server{Handler: lines, Idle: time.Millisecond}, func() {
		testwait.Until(t, "somebody listens", func() bool {
			c, err := net.Dial("unix", path)
			if err != nil {
				return false
			}
			send(t, c, "x")
			expect(t, c, "x\n")
			return c.Close() == nil
		})
		cancel()
	}, worker.WithAddress("unix", path), worker.WithContext(ctx))
	if err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = run(t, &drain.Server{Handler: lines}, func() {}, worker.WithAddress("tcp", "127.0.0.1:0"),
		worker.WithAddress("unix", l.Addr().String()))
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Run: %v", err)
	}
}

// mute is a server whose Shutdown never returns.
type mute struct{ served chan struct{} }

func (m mute) Serve(l net.Listener) error     { <-m.served; return nil }
func (m mute) Shutdown(context.Context) error { close(m.served); select {} }

func TestOvertime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := run(t, mute{make(chan struct{})}, cancel, worker.WithAddress("tcp", "127.0.0.1:0"), worker.WithContext(ctx),
		worker.WithDrainTimeout(time.Millisecond), worker.WithPace(time.Hour, time.Millisecond))
	if !errors.Is(err, worker.ErrOvertime) {
		t.Errorf("Run: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	for name, finish := range map[string]bool{"finished": true, "cut": false} {
		t.Run(name, func(t *testing.T) {
			timeout := "1h"
			if !finish {
				timeout = "50ms"
			}
			p := launch(t, "http", "main", "WORKER_TEST_TIMEOUT="+timeout)
			p.told("READY=1")
			c := p.dial()
			const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
			if _, err := io.WriteString(c, head); err != nil {
				t.Fatal(err)
			}
			expect(t, c, "HTTP/1.1 100 Continue\r\n\r\n") // the handler reads the body
			p.signal(unix.SIGTERM)
			p.told("STOPPING=1")
			if !finish {
				log := p.exit(0)
				if !strings.Contains(log, "cut_short=true") {
					t.Error("not cut short")
				}
				return
			}
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			expect(t, c, "HTTP/1.1 200 OK\r\n")
			if b, err := io.ReadAll(c); err != nil || !bytes.HasSuffix(b, []byte("hello")) {
				t.Errorf("read %q, %v", b, err)
			}
			p.exit(0)
		})
	}
}

// Who may come to need more descriptors than there are says so before it says READY, with the numbers.
func TestDescriptors(t *testing.T) {
	for limit, want := range map[string]string{
		"1":   "too many open files",
		"300": "too few file descriptors: the limit is 300, and it may need 353: raise LimitNOFILE=",
	} {
		p := launch(t, "drain", "main", "WORKER_TEST_NOFILE="+limit)
		if said := p.exit(1); !strings.Contains(said, want) {
			t.Errorf("with %s descriptors: %s", limit, said)
		}
		if len(p.notify) > 0 {
			t.Errorf("with %s descriptors: told systemd %q", limit, <-p.notify)
		}
	}
	launch(t, "drain", "main", "WORKER_TEST_NOFILE=353").told("READY=1")
	launch(t, "http", "main", "WORKER_TEST_NOFILE=96").told("READY=1") // as many as it likes
}
