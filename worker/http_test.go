package worker_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/worker"
)

// served runs a server until drain is called; the test waits for its end.
func served(t *testing.T, s worker.Server) (address string, drain func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, drain := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		err := worker.Run(s, worker.WithListener("main", l), worker.WithContext(ctx), worker.WithDrainTimeout(time.Minute))
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		drain()
		running.Wait()
	})
	return l.Addr().String(), drain
}

// closed waits until nothing listens at the address.
func closed(t *testing.T, address string) {
	t.Helper()
	testwait.Until(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testwait.Patience))
	return c
}

// ask sends a request and wants its answer, which says or does not say that the connection ends.
func ask(t *testing.T, c net.Conn, last bool) {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal("not answered: ", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "hello" {
		t.Errorf("answered %q, %v", body, err)
	}
	if answer.Close != last {
		t.Errorf("Connection: close is %t, want %t", answer.Close, last)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// A connection whose first request comes after the drain has begun is served, and so is the next request of
// one that is kept; both are told that it was the last.
func TestHTTPDrain(t *testing.T) {
	accepted := make(chan struct{}, 10)
	address, drain := served(t, worker.Unhurry(&http.Server{
		ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(hello),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				accepted <- struct{}{}
			}
		},
	}))
	kept := dial(t, address)
	ask(t, kept, false)
	fresh := dial(t, address)
	for range 2 {
		testwait.For(t, "accepted", accepted)
	}
	drain()
	closed(t, address)
	ask(t, fresh, true)
	ask(t, kept, true)
}

// A request that takes long does not keep the server from telling those who registered for its shutdown.
func TestHTTPLong(t *testing.T) {
	asked, told := make(chan struct{}), make(chan struct{})
	was := http.DefaultServeMux
	t.Cleanup(func() { http.DefaultServeMux = was })
	http.DefaultServeMux = http.NewServeMux()
	http.HandleFunc("GET /long", func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-told
		hello(w, r)
	})
	s := &http.Server{ReadHeaderTimeout: time.Minute} // the default handler
	s.RegisterOnShutdown(func() { close(told) })
	address, drain := served(t, s)
	c := dial(t, address)
	if _, err := io.WriteString(c, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "the request", asked)
	drain()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal("not answered: ", err)
	}
	_ = answer.Body.Close()
}

// slow is a listener whose accept loop hears of a connection only after the listener was closed, as on a crowded machine.
type slow struct {
	net.Listener
	closed chan struct{} // by Close
	hasty  chan struct{} // by http.Server.Shutdown
	held   chan struct{} // when there is a connection
	once   sync.Once
}

func (l *slow) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *slow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		close(l.held)
		<-l.closed
		select {
		case <-l.hasty: // it would drop the connection now
		case <-time.After(200 * time.Millisecond): // or has had the time to
		}
	}
	return c, err
}

// A connection that is accepted at the moment of the drain is served.
func TestHTTPAccepting(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &slow{Listener: inner, closed: make(chan struct{}), hasty: make(chan struct{}), held: make(chan struct{})}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(hello)}
	s.RegisterOnShutdown(func() { close(l.hasty) })
	u := worker.Unhurry(s)
	var running sync.WaitGroup
	running.Go(func() {
		if err := u.Serve(l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	c := dial(t, inner.Addr().String())
	testwait.For(t, "the connection", l.held)
	running.Go(func() {
		if err := u.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	ask(t, c, true)
	running.Wait()
}

// A listener that Serve gets when the drain has begun is closed and not served.
func TestHTTPLate(t *testing.T) {
	u := worker.Unhurry(&http.Server{Handler: http.HandlerFunc(hello)})
	if err := u.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}
