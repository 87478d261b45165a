package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/worker"
)

// TestMain lets tests run this binary as a worker, under a test that plays systemd.
func TestMain(m *testing.M) {
	if kind := os.Getenv("WORKER_TEST_KIND"); kind != "" {
		if err := child(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			testcover.Exit(m, 1)
		}
		testcover.Exit(m, 0)
	}
	os.Exit(m.Run())
}

func child(kind string) error {
	if os.Getenv("LISTEN_PID") == "self" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if n, err := strconv.ParseUint(os.Getenv("WORKER_TEST_NOFILE"), 10, 64); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	opts := []worker.Option{worker.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil)))}
	if names, ok := os.LookupEnv("WORKER_TEST_NAMES"); ok {
		opts = append(opts, worker.WithListeners(strings.Fields(names)...))
	}
	if os.Getenv("WORKER_TEST_REQUIRED") != "" {
		opts = append(opts, worker.WithRequired())
	}
	if d, err := time.ParseDuration(os.Getenv("WORKER_TEST_TIMEOUT")); err == nil {
		opts = append(opts, worker.WithDrainTimeout(d))
	}
	if path := os.Getenv("WORKER_TEST_CONTROL"); path != "" {
		l, err := control.Listen(path)
		if err != nil {
			return err
		}
		opts = append(opts, worker.WithControl(l, nil))
	}
	if kind == "http" {
		return worker.Run(&http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_, _ = fmt.Fprintf(w, "%s", body)
			})}, opts...)
	}
	s := &drain.Server{Handler: lines, Idle: 50 * time.Millisecond, Grace: time.Minute}
	if d, err := time.ParseDuration(os.Getenv("WORKER_TEST_IDLE")); err == nil {
		s.Idle = d
	}
	if kind == "umask" {
		s.Handler = func(_ context.Context, c *drain.Conn) {
			_, _ = fmt.Fprintf(c, "%03o\n", unix.Umask(0))
		}
	}
	return worker.Run(s, append(opts, worker.WithStatus(func() string {
		return fmt.Sprintf("%d connections", s.Counts().Open)
	}), worker.WithPace(10*time.Millisecond, time.Minute))...)
}

// lines echoes; "wait" makes it wait for the context's end.
func lines(ctx context.Context, c *drain.Conn) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			_, _ = io.WriteString(c, "bye\n")
			c.Linger(testwait.Patience)
			return
		}
		c.SetBusy()
		if line == "wait\n" {
			<-ctx.Done()
			_, _ = fmt.Fprintln(c, context.Cause(ctx))
			return
		}
		select {
		case <-c.Draining(): // in one write: who reads the reply has the goodbye before its next call
			_, _ = io.WriteString(c, line+"bye\n")
			c.Linger(testwait.Patience)
			return
		default:
			_, _ = io.WriteString(c, line)
			c.SetIdle()
		}
	}
}

// process is a worker under a test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	notify chan string // datagrams
	socket *os.File    // the listening socket, as systemd holds it
	path   string
	log    *bytes.Buffer
	exited chan error
	seen   []string // datagrams
}

// listen makes a listening socket as systemd does.
func listen(t *testing.T) (socket *os.File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		t.Fatal(err)
	}
	socket = os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { _ = socket.Close() })
	return socket, path
}

// launch starts a worker with one socket named "main", and more names for copies of it.
func launch(t *testing.T, kind, names string, env ...string) *process {
	t.Helper()
	socket, path := listen(t)
	return launchOn(t, socket, path, kind, names, env...)
}

func launchOn(t *testing.T, socket *os.File, path, kind, names string, env ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, socket: socket, path: path, log: new(bytes.Buffer), exited: make(chan error, 1)}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	p.notify = make(chan string, 1<<12)
	go func() {
		defer close(p.notify)
		for b := make([]byte, 4096); ; {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			p.notify <- string(b[:n])
		}
	}()
	t.Cleanup(func() { _ = notify.Close() })
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), "WORKER_TEST_KIND="+kind, "GORACE=atexit_sleep_ms=0",
		"NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	if names != "" {
		n := len(strings.Split(names, ":"))
		for range n {
			p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, p.socket)
		}
		p.cmd.Env = append(p.cmd.Env, "LISTEN_PID=self", "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_FDNAMES="+names)
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // if it still runs
		if t.Failed() {
			<-p.exited
			t.Logf("told systemd: %q\nlog:\n%s", p.seen, p.log)
		}
	})
	return p
}

// told waits for a datagram that contains what.
func (p *process) told(what string) string {
	p.t.Helper()
	timeout := time.After(testwait.Patience)
	for {
		select {
		case got := <-p.notify:
			p.seen = append(p.seen, got)
			if strings.Contains(got, what) {
				return got
			}
		case <-timeout:
			p.t.Fatalf("systemd was not told %q", what)
		}
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the process's end and returns what it logged.
func (p *process) exit(code int) string {
	p.t.Helper()
	p.exited <- testwait.For(p.t, "the worker's exit", p.exited)
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d (%v), want %d", got, p.cmd.ProcessState, code)
	}
	return p.log.String()
}

func (p *process) dial() net.Conn {
	p.t.Helper()
	c, err := net.Dial("unix", p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testwait.Patience))
	return c
}

func send(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}
