package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testwait"
)

// as runs f on a thread of another user, which ends with it: credentials belong to threads, credentials(7).
func as(t *testing.T, uid int, f func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to anybody else
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		done <- f()
	}()
	return testwait.For(t, "the other user's thread", done)
}

// sent sends a line on a blocking socket of this thread, and returns what is answered.
func sent(path, line string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return "", err
	}
	if _, err := unix.Write(fd, []byte(line)); err != nil {
		return "", err
	}
	b := make([]byte, 1024)
	n, err := unix.Read(fd, b)
	return string(b[:max(n, 0)]), err
}

// open serves on a socket to which everybody can connect.
func open(t *testing.T, h Handlers) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fdt-control-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	if err = errors.Join(err, os.Chmod(dir, 0o711)); err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handlers: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		_ = testwait.For(t, "Serve's return", done)
	})
	return path
}

const stranger = 65534

// TestWhoMayAsk: a stranger may read and bring the key of a session; what acts is for root and the own user.
func TestWhoMayAsk(t *testing.T) {
	roots := make(chan bool, 8)
	handler := func(ctx context.Context, _ json.RawMessage) (any, error) {
		roots <- ByRoot(ctx)
		return "done", nil
	}
	path := open(t, Handlers{OpStatus: handler, OpMetrics: handler, OpCancel: handler, OpDrain: handler, OpCheck: handler, "other": handler})
	for op, allowed := range map[string]bool{OpStatus: true, OpMetrics: true, OpCancel: true, OpDrain: false, OpCheck: false, "other": false} {
		var got string
		if err := as(t, stranger, func() (err error) {
			got, err = sent(path, fmt.Sprintf(`{"op":%q}`+"\n", op))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(got, "done") != allowed || strings.Contains(got, "permission denied") == allowed {
			t.Errorf("a stranger's %s is answered %s", op, got)
		}
		if allowed && testwait.For(t, "the handler", roots) {
			t.Errorf("a stranger's %s passes for root's", op)
		}
		if err := Call(t.Context(), path, op, nil, nil); err != nil || !testwait.For(t, "the handler", roots) {
			t.Errorf("root's %s: %v", op, err)
		}
	}
}

// TestWhoAnswers: a socket of a stranger in a directory that is not his is told nothing.
func TestWhoAnswers(t *testing.T) {
	path := open(t, nil)
	if err := as(t, 0, func() error { return os.Chown(filepath.Dir(path), stranger, -1) }); err != nil {
		t.Fatal(err)
	}
	if err := Call(t.Context(), path, OpStatus, nil, nil); !errors.Is(err, ErrStranger) {
		t.Errorf("got %v", err)
	}
	link := filepath.Join(t.TempDir(), "s") // a directory of our own, but a socket of somebody else
	elsewhere := filepath.Join(filepath.Dir(path), "theirs")
	var fd int
	if err := as(t, stranger, func() (err error) {
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: elsewhere}), unix.Listen(fd, 1))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if err := Call(t.Context(), link, OpStatus, nil, nil); !errors.Is(err, ErrStranger) {
		t.Errorf("got %v", err)
	}
}

// TestUnknownPeer: where the kernel does not say who it is, it is nobody.
func TestUnknownPeer(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if ctx := asked(t.Context(), a); ByRoot(ctx) || byOwn(ctx) {
		t.Error("a pipe's other end is somebody")
	}
	if err := expect(a, "/"); err == nil {
		t.Error("a pipe is served by somebody")
	}
	path := open(t, nil)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := expect(c, filepath.Join(path, "none")); err == nil {
		t.Error("a directory that is none belongs to somebody")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := peer(c); err == nil {
		t.Error("a closed connection has a peer")
	}
}
