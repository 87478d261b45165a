package activation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/activation"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestMain lets tests run this binary as systemd runs a service: with descriptors from 3 on, and an
// environment that says so.
func TestMain(m *testing.M) {
	if mode := os.Getenv("ACTIVATION_TEST_CHILD"); mode != "" {
		testcover.Exit(m, child(mode))
	}
	os.Exit(m.Run())
}

// child prints what it was passed, or serves it.
func child(mode string) int {
	if pid := os.Getenv("LISTEN_PID"); pid == "self" { // exec keeps no promise about the pid beforehand
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	ls, err := activation.Listeners()
	switch mode {
	case "list":
		for name, l := range ls {
			fmt.Printf("have %s %s\n", name, l.Addr().Network())
		}
		for name, sentinel := range sentinels {
			if errors.Is(err, sentinel) {
				fmt.Printf("error %s\n", name)
			}
		}
		if err != nil {
			fmt.Println(err)
		}
		for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
			if v, ok := os.LookupEnv(name); ok {
				fmt.Printf("left %s=%s\n", name, v)
			}
		}
		if _, err := activation.Listeners(); !errors.Is(err, activation.ErrNone) {
			fmt.Println("a second call found:", err)
		}
	case "serve":
		for name, l := range ls {
			c, err := l.Accept()
			if err != nil {
				fmt.Println(err)
				return 1
			}
			_, _ = io.WriteString(c, name+" "+l.(*activation.Listener).Name())
			if err := errors.Join(c.Close(), l.Close()); err != nil {
				fmt.Println(err)
				return 1
			}
		}
	}
	return 0
}

var sentinels = map[string]error{
	"none": activation.ErrNone, "not ours": activation.ErrNotOurs, "environment": activation.ErrEnvironment,
	"not listening": activation.ErrNotListening, "duplicate": activation.ErrDuplicate,
}

// activate runs this binary with files passed as systemd passes them, and returns what it printed.
func activate(t *testing.T, mode, fds, pid, names string, files ...*os.File) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "ACTIVATION_TEST_CHILD="+mode, "GORACE=atexit_sleep_ms=0")
	for name, v := range map[string]string{"LISTEN_FDS": fds, "LISTEN_PID": pid, "LISTEN_FDNAMES": names} {
		if v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	return out.String()
}

// socket makes a descriptor of the kind asked for. It is made by hand, as systemd does, since a file made
// of a net.Listener would share its non-blocking flag with it.
func socket(t *testing.T, kind string) *os.File {
	t.Helper()
	var fd int
	var err error
	var sa unix.Sockaddr
	listening := true
	switch kind {
	case "tcp4":
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sa = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	case "tcp6":
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sa = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	case "unix":
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sa = &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	case "datagram":
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		sa, listening = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, false
	case "bound":
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sa, listening = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, false
	case "vsock":
		fd, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sa = &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}
		if err != nil {
			t.Skipf("no vsock here: %v", err)
		}
	case "file":
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil && listening {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), kind)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestListeners(t *testing.T) {
	tests := map[string]struct {
		fds, pid, names string
		kinds           []string
		want            []string // lines, or beginnings of lines
	}{
		"nothing":         {want: []string{"error none"}},
		"zero":            {fds: "0", pid: "self", want: []string{"error none"}},
		"one of each":     {"3", "self", "a:b:c", []string{"tcp4", "tcp6", "unix"}, []string{"have a tcp", "have b tcp", "have c unix"}},
		"without names":   {"1", "self", "", []string{"unix"}, []string{"have LISTEN_FD_3 unix"}},
		"not a number":    {fds: "x", pid: "self", want: []string{"error environment"}},
		"negative":        {fds: "-1", pid: "self", want: []string{"error environment"}},
		"far too many":    {fds: "4097", pid: "self", want: []string{"error environment"}},
		"no pid":          {fds: "1", want: []string{"error environment"}},
		"another's":       {"1", "1", "a", []string{"unix"}, []string{"error not ours"}},
		"a name short":    {"2", "self", "a", []string{"unix", "unix"}, []string{"error environment"}},
		"a name more":     {"1", "self", "a:b", []string{"unix"}, []string{"error environment"}},
		"twice one name":  {"2", "self", "a:a", []string{"unix", "tcp4"}, []string{"have a unix", "error duplicate", `descriptor 4, "a"`}},
		"a file":          {"2", "self", "a:b", []string{"file", "tcp4"}, []string{"have b tcp", "error not listening", `descriptor 3, "a"`}},
		"a datagram":      {"2", "self", "a:b", []string{"datagram", "tcp4"}, []string{"have b tcp", "error not listening"}},
		"not listening":   {"2", "self", "a:b", []string{"bound", "tcp4"}, []string{"have b tcp", "error not listening"}},
		"fewer than said": {"2", "self", "a:b", []string{"tcp4"}, []string{"have a tcp", `descriptor 4, "b"`}},
		"far fewer":       {"60", "self", strings.Repeat("a:", 59) + "b", []string{"tcp4"}, []string{"have a tcp", `descriptor 62, "b": fcntl: bad file descriptor`}},
		"two faults":      {"2", "self", "a:b", []string{"file", "bound"}, []string{"error not listening", `descriptor 3, "a"`, `descriptor 4, "b"`}},
		"another family":  {"1", "self", "a", []string{"vsock"}, []string{"error not listening", `descriptor 3, "a"`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var files []*os.File
			for _, kind := range test.kinds {
				files = append(files, socket(t, kind))
			}
			out := activate(t, "list", test.fds, test.pid, test.names, files...)
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if got, want := strings.Count(out, "have "), strings.Count(strings.Join(test.want, "\n"), "have "); got != want {
				t.Errorf("%d listeners, want %d:\n%s", got, want, out)
			}
			for _, bad := range []string{"left ", "second call"} {
				if strings.Contains(out, bad) {
					t.Errorf("%s", out)
				}
			}
		})
	}
}

// A process that accepts and closes leaves the socket as it was: the path stays, others still accept.
func TestServeInherited(t *testing.T) {
	for _, kind := range []string{"tcp4", "unix"} {
		t.Run(kind, func(t *testing.T) {
			f := socket(t, kind)
			sa, err := unix.Getsockname(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			network, address := "unix", ""
			switch sa := sa.(type) {
			case *unix.SockaddrInet4:
				network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", sa.Port)
			case *unix.SockaddrUnix:
				address = sa.Name
			}
			for range 2 {
				got := make(chan string, 1)
				go func() {
					c, err := net.Dial(network, address)
					if err != nil {
						got <- err.Error()
						return
					}
					defer c.Close()
					b, _ := io.ReadAll(c)
					got <- string(b)
				}()
				if out := activate(t, "serve", "1", "self", "main", f); out != "" {
					t.Error(out)
				}
				if s := testwait.For(t, "the child's listeners", got); s != "main main" {
					t.Errorf("client read %q", s)
				}
			}
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the shared description is blocking: %#x, %v", flags, err)
			}
		})
	}
}

func TestListener(t *testing.T) {
	for _, accepting := range []bool{false, true} {
		l := activation.ListenerOf(t, socket(t, "unix"))
		raw, err := l.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		called := false
		if err := raw.Control(func(uintptr) { called = true }); err != nil || !called {
			t.Errorf("Control: %v, called %v", err, called)
		}
		f := func(uintptr) bool { return true }
		if !errors.Is(raw.Read(f), syscall.EINVAL) || !errors.Is(raw.Write(f), syscall.EINVAL) {
			t.Error("Read and Write of a listener work")
		}
		accepted := make(chan error, 1)
		if accepting {
			c, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			go func() {
				_, err := l.Accept()
				accepted <- err
			}()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if !accepting {
			_, err := l.Accept()
			accepted <- err
		}
		for i, err := range []error{testwait.For(t, "Accept's return", accepted), l.Close(), raw.Control(func(uintptr) {})} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%d after Close: %v", i, err)
			}
		}
	}
}

// A process that has no descriptor left cannot accept; the listener lives on.
func TestAcceptWithoutDescriptors(t *testing.T) {
	l := activation.ListenerOf(t, socket(t, "unix"))
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := l.Accept()
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); back != nil {
		t.Fatal(back)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("Accept: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestSelect(t *testing.T) {
	a, b := activation.ListenerOf(t, socket(t, "unix")), activation.ListenerOf(t, socket(t, "unix"))
	c := activation.ListenerOf(t, socket(t, "unix"))
	have := map[string]net.Listener{"a": a, "b": b, "c": c}
	selected, missing, surplus := activation.Select(have, []string{"z", "b", "y", "z"})
	if len(selected) != 1 || selected["b"] != b {
		t.Errorf("selected %v", selected)
	}
	if !slices.Equal(missing, []string{"y", "z"}) || !slices.Equal(surplus, []string{"a", "c"}) {
		t.Errorf("missing %v, surplus %v", missing, surplus)
	}
}
