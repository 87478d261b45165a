package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/worker"
)

// lazy leaves its listeners to Run, cannot prove that it accepts, and gives up its connections without an end.
type lazy struct{ asked chan struct{} }

var errLazy = errors.New("too lazy")

func (lazy) Shutdown(context.Context) error { return errLazy }

func (s lazy) Serve(l net.Listener) error {
	_, err := l.Accept()
	return err
}

func (s lazy) Beat(context.Context) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	return errLazy
}

// What goes wrong around a server is told, and ends in order.
func TestFaults(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "control")
	lc, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var log testwait.Output
	s := lazy{make(chan struct{}, 1)}
	err = run(t, s, func() {
		testwait.For(t, "the beat", s.asked)
		_ = lc.Close()
		testwait.Until(t, "the control socket's end is told", func() bool { return strings.Contains(log.String(), "the control socket has failed") })
		_ = unix.Kill(unix.Getpid(), unix.SIGTERM)
	}, worker.WithListener("main", l), worker.WithControl(lc, nil), worker.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if !errors.Is(err, errLazy) {
		t.Errorf("Run: %v", err)
	}
	for _, want := range []string{"no watchdog ping", "systemd cannot be told how the worker is", "connections did not end"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
}
