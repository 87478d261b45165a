package fdt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/application"
)

// TB is what [Test] needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Output() io.Writer
}

// App is an application under test.
type App struct {
	dir   string
	addrs map[string]string // by handler
}

// settling is how long an application under test may take to start, and to end.
const settling = 30 * time.Second

// Test runs the application in this process until the test has ended, as
// httptest does a handler: with all of a worker but systemd. The configuration
// is that of fdt.yaml(5) without listen: there is a unix socket for the
// PostgreSQL protocol, and a port on the loopback interface for each handler.
// What the application logs is in the test's output.
func Test(t TB, configuration string, parts ...Part) *App {
	t.Helper()
	where := caller()
	dir, err := os.MkdirTemp("", "fdt") // short, for unix sockets
	if err != nil {
		t.Fatalf("fdt.Test: %v", err)
	}
	app := build(where, parts)
	a := &App{dir: dir, addrs: map[string]string{}}
	listeners := map[string]net.Listener{}
	open := func(network, address string) string {
		l, err := new(net.ListenConfig).Listen(context.Background(), network, address)
		if err != nil {
			t.Fatalf("fdt.Test: %v", err)
		}
		listeners[l.Addr().String()] = l
		return l.Addr().String()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "listen:\n  local: {address: %s, auth: trust}\n", open("unix", filepath.Join(dir, ".s.PGSQL.7432")))
	for _, name := range app.Handlers() {
		a.addrs[name] = open("tcp4", "127.0.0.1:0")
		fmt.Fprintf(&text, "  %s: {address: %q, serve: %s}\n", name, a.addrs[name], name)
	}
	text.WriteString(configuration)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	trial := &application.Trial{Dir: dir, Listeners: listeners, Log: log}
	go func() { ended <- trial.Run(ctx, app, text.String()) }()
	t.Cleanup(func() {
		trial.Hurry() // what the test has left open
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("fdt.Test: %v", err)
			}
		case <-time.After(settling):
			t.Errorf("fdt.Test: the application did not end within %s", settling)
		}
		_ = os.RemoveAll(dir)
	})
	started, stop := context.WithTimeout(ctx, settling)
	defer stop()
	if err := trial.Started(started, ended); err != nil {
		t.Fatalf("fdt.Test: %v", err)
	}
	return a
}

// DSN is where the PostgreSQL protocol is served, for any user: a connection
// string as of libpq.
func (a *App) DSN(user string) string {
	return fmt.Sprintf("host=%s port=7432 user=%s dbname=test", a.dir, user)
}

// Address is where a handler's listener is: the loopback interface and a port.
// Empty if there is no such handler.
func (a *App) Address(handler string) string { return a.addrs[handler] }

// URL is http:// with Address.
func (a *App) URL(handler string) string { return "http://" + a.Address(handler) }
