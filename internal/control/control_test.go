package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
)

// serve answers on a socket until the test ends, and returns its path.
func serve(t *testing.T, h control.Handlers) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Handlers: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := testwait.For(t, "Serve's return", done); !errors.Is(err, control.ErrServerClosed) {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return path
}

// TestTimeouts: an operation has its time from the connection on, and a self-check, which waits for databases, more of it.
func TestTimeouts(t *testing.T) {
	left := func(ctx context.Context, _ json.RawMessage) (any, error) {
		until, ok := ctx.Deadline()
		if !ok {
			return nil, errors.New("no end")
		}
		return time.Until(until), nil
	}
	path := serve(t, control.Handlers{control.OpStatus: left, control.OpCheck: left})
	for _, c := range []struct {
		op       string
		over, to time.Duration
	}{
		{control.OpStatus, 0, control.Timeout},
		{control.OpCheck, control.Timeout, control.CheckTimeout},
	} {
		var got time.Duration
		if err := control.Call(t.Context(), path, c.op, nil, &got); err != nil || got <= c.over || got > c.to {
			t.Errorf("%s: %s, %v", c.op, got, err)
		}
	}
}

func TestCall(t *testing.T) {
	want := control.Status{Generation: 7, Slot: 2, PID: 42, State: "serving", Open: 3, Since: time.Unix(1e9, 0).UTC()}
	short, cancel := context.WithCancel(t.Context())
	defer cancel()
	path := serve(t, control.Handlers{
		control.OpStatus: func(context.Context, json.RawMessage) (any, error) { return want, nil },
		control.OpCancel: func(_ context.Context, args json.RawMessage) (any, error) {
			var c control.Cancel
			if err := json.Unmarshal(args, &c); err != nil {
				return nil, err
			}
			if c.PID != 1 || string(c.Secret) != "secret" {
				return nil, errors.New("wrong key")
			}
			return nil, nil
		},
		"unencodable": func(context.Context, json.RawMessage) (any, error) { return make(chan int), nil },
		"silent": func(ctx context.Context, _ json.RawMessage) (any, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	ctx := t.Context()
	var got control.Status
	if err := control.Call(ctx, path, control.OpStatus, nil, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("status: %+v, %v", got, err)
	}
	if err := control.Call(ctx, path, control.OpCancel, control.Cancel{PID: 1, Secret: []byte("secret")}, nil); err != nil {
		t.Error(err)
	}
	var number int
	for _, test := range []struct {
		what, op    string
		ctx         context.Context
		path        string
		args, reply any
		want        string
	}{
		{"a handler's error", control.OpCancel, ctx, path, control.Cancel{PID: 2}, nil, "s cancel: wrong key"},
		{"an unknown operation", "dance", ctx, path, nil, nil, "unknown operation"},
		{"a reply that cannot be encoded", "unencodable", ctx, path, nil, nil, "encode the reply"},
		{"a reply of another type", control.OpStatus, ctx, path, nil, &number, "answer: json"},
		{"arguments that are no object", control.OpStatus, ctx, path, []int{1}, nil, "not an object"},
		{"arguments that cannot be encoded", control.OpStatus, ctx, path, make(chan int), nil, "encode the request"},
		{"a worker that is not there", control.OpStatus, ctx, path + "x", nil, nil, "no such file"},
		{"a handler that takes longer than is waited", "silent", short, path, nil, nil, "context canceled"},
	} {
		err := control.Call(test.ctx, test.path, test.op, test.args, test.reply)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
		if is := errors.Is(err, control.ErrUnknownOp); is != (test.op == "dance") {
			t.Errorf("%s: ErrUnknownOp is %v", test.what, is)
		}
	}
}

// answer serves one connection with fixed bytes, for what Call makes of a broken worker.
func answer(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}()
	return path
}

func TestCallBroken(t *testing.T) {
	for text, want := range map[string]string{"": "no answer", "{": "no answer", "no\n": "answer: invalid"} {
		err := control.Call(t.Context(), answer(t, text), control.OpStatus, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("after %q: %v, want %q", text, err, want)
		}
	}
}

func TestRequests(t *testing.T) {
	path := serve(t, nil)
	for request, want := range map[string]string{
		"{}\n":            `{"error":"unknown operation \"\"","code":"unknown_op"}` + "\n",
		"[]\n":            `{"error":"request is not a JSON object`,
		"\n":              `{"error":"request is not a JSON object`,
		`{"op":1}` + "\n": `{"error":"request is not a JSON object`,
		strings.Repeat("x", control.MaxRequest+1): `{"error":"line too long`,
		"": "",
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request)
		_ = c.(*net.UnixConn).CloseWrite()
		got, _ := io.ReadAll(c) // a request that is too long is not read to its end: the close is a reset
		if !strings.HasPrefix(string(got), want) || want == "" && len(got) > 0 {
			t.Errorf("to %.20q: %q, want %q", request, got, want)
		}
		_ = c.Close()
	}
}

func TestListen(t *testing.T) {
	path := serve(t, nil)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("a second worker: %v", err)
	}
	stale := filepath.Join(t.TempDir(), "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as SIGKILL leaves it
	_ = l.Close()
	l, err = control.Listen(stale)
	if err != nil {
		t.Fatalf("over a dead worker's socket: %v", err)
	}
	_ = l.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "none", "s"), filepath.Join(dir, "file", "s")} {
		if _, err := control.Listen(bad); err == nil {
			t.Errorf("Listen(%s): no error", bad)
		}
	}
}

// Close ends what is under way, and Serve does not start after it.
func TestClose(t *testing.T) {
	entered := make(chan struct{})
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Handlers: control.Handlers{"wait": func(ctx context.Context, _ json.RawMessage) (any, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	var all sync.WaitGroup
	all.Go(func() { _ = s.Serve(l) })
	all.Go(func() {
		if err := control.Call(t.Context(), path, "wait", nil, nil); err == nil {
			t.Error("the call succeeded")
		}
	})
	testwait.For(t, "the exchange", entered)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	l, err = control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, control.ErrServerClosed) {
		t.Error(err)
	}
	l, err = control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := control.Serve(l, nil); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Any line gets one line back, or nothing.
func FuzzRequest(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s")
	l, err := control.Listen(path)
	if err != nil {
		f.Fatal(err)
	}
	s := &control.Server{Handlers: control.Handlers{control.OpStatus: func(_ context.Context, args json.RawMessage) (any, error) {
		return args, nil
	}}}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	f.Cleanup(func() { _ = s.Close(); testwait.For(f, "Serve's return", done) })
	for _, seed := range []string{`{"op":"status"}`, `{"op":"status","x":[1,{"y":null}]}`, `{`, `{"op":"\ud800"}`, "\x00"} {
		f.Add(seed + "\n")
	}
	f.Fuzz(func(t *testing.T, request string) {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, request)
		_ = c.(*net.UnixConn).CloseWrite()
		got, _ := io.ReadAll(c)
		if len(got) == 0 {
			return
		}
		var reply map[string]any
		if json.Unmarshal(got, &reply) != nil || got[len(got)-1] != '\n' {
			t.Errorf("to %q: %q", request, got)
		}
	})
}

// failing tells of each failure to accept.
type failing struct {
	net.Listener
	failed chan error
}

func (f *failing) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		f.failed <- err
	}
	return c, err
}

// A lack of descriptors passes: the socket answers as soon as there are some, and can be closed meanwhile.
func TestNoDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{l, make(chan error, 1000)}
	s := &control.Server{Handlers: control.Handlers{"ping": func(context.Context, json.RawMessage) (any, error) { return "pong", nil }}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(f) }()
	var clients [2]int
	for i := range clients {
		if clients[i], err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	exhaust := func(client int) {
		err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max})
		if err := errors.Join(err, unix.Connect(client, &unix.SockaddrUnix{Name: path})); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := testwait.For(t, "accept fails", f.failed); !errors.Is(err, unix.EMFILE) {
				t.Errorf("accept: %v", err)
			}
		}
	}
	exhaust(clients[0])
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	c := os.NewFile(uintptr(clients[0]), "client")
	defer c.Close()
	if _, err := c.WriteString("{\"op\":\"ping\"}\n"); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(c); err != nil || string(said) != "{\"reply\":\"pong\"}\n" {
		t.Errorf("%q, %v", said, err)
	}

	exhaust(clients[1])
	closed := s.Close()
	err = testwait.For(t, "the end of Serve", served)
	if lerr := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); !errors.Is(err, control.ErrServerClosed) || closed != nil || lerr != nil {
		t.Errorf("%v, %v, %v", err, closed, lerr)
	}
	_ = unix.Close(clients[1])
}
