package drain_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// hungUp reports the cause that a handler's context ends with.
func hungUp(t *testing.T, network string, s *drain.Server, before func(c *drain.Conn)) (*fixture, <-chan error) {
	causes := make(chan error, 1)
	s.Handler = func(ctx context.Context, c *drain.Conn) {
		before(c)
		<-ctx.Done()
		causes <- context.Cause(ctx)
	}
	return start(t, network, s), causes
}

func TestWatch(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		ends := map[string]func(c net.Conn){
			"close": func(c net.Conn) { _ = c.Close() },
			"half-close": func(c net.Conn) {
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
			},
			"reset": func(c net.Conn) {
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				_ = c.Close()
			},
			"unread input": func(c net.Conn) {
				_, _ = io.WriteString(c, "a statement that was not run")
				_ = c.Close()
			},
		}
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				watching := make(chan struct{})
				f, causes := hungUp(t, network, new(drain.Server), func(c *drain.Conn) {
					c.Watch(true)
					close(watching)
				})
				c := f.dial()
				testwait.For(t, "Watch", watching)
				end(c)
				if err := testwait.For(t, "the cancellation", causes); !errors.Is(err, drain.ErrHangup) {
					t.Error(err)
				}
			})
		}
	})
}

// A hang-up that happened while the watch was off counts when it is turned on.
func TestWatchLate(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		conns := make(chan *drain.Conn)
		f, causes := hungUp(t, network, new(drain.Server), func(c *drain.Conn) {
			c.Watch(true)
			c.Watch(false)
			conns <- c
		})
		client := f.dial()
		c := testwait.For(t, "the connection", conns)
		_ = client.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		testwait.Until(t, "the hang-up", func() bool { return drain.HungUp(c) })
		select {
		case err := <-causes:
			t.Fatalf("cancelled while not watched: %v", err)
		default:
		}
		c.Watch(true)
		if err := testwait.For(t, "the cancellation", causes); !errors.Is(err, drain.ErrHangup) {
			t.Error(err)
		}
	})
}

func TestWatchAllowHalfClose(t *testing.T) {
	conns := make(chan *drain.Conn)
	f, causes := hungUp(t, "unix", &drain.Server{AllowHalfClose: true}, func(c *drain.Conn) {
		c.Watch(true)
		conns <- c
	})
	client := f.dial().(*net.UnixConn)
	c := testwait.For(t, "the connection", conns)
	_ = client.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("still there\n"))
	expect(t, client, "still there")
	select {
	case err := <-causes:
		t.Fatalf("cancelled by a half-close: %v", err)
	default:
	}
	_ = client.Close()
	if err := testwait.For(t, "the cancellation", causes); !errors.Is(err, drain.ErrHangup) {
		t.Error(err)
	}
}

// A connection that the kernel does not watch, here as its descriptor is a file's by now, is served, and the log has it.
func TestWatchFails(t *testing.T) {
	done := make(chan struct{})
	f := start(t, "unix", &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
		defer close(done)
		file, err := os.Open(os.Args[0])
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = file.Close() }()
		drain.Descriptor(c, func(fd int) { err = unix.Dup3(int(file.Fd()), fd, unix.O_CLOEXEC) })
		c.Watch(true)
		if err != nil {
			t.Error(err)
		}
	}})
	_ = f.dial()
	testwait.For(t, "the handler's end", done)
	if text := f.log.String(); !strings.Contains(text, "cannot watch") || !strings.Contains(text, "operation not permitted") {
		t.Errorf("log: %s", text)
	}
}

// Descriptors are reused all the time while watched connections come, go and are closed by their
// handlers: no survivor is taken for one that hung up.
func TestWatchReuse(t *testing.T) {
	f := start(t, "unix", &drain.Server{Handler: func(ctx context.Context, c *drain.Conn) {
		c.Watch(true)
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if b[0] == 'q' {
				_ = c.Close() // while watched
				return
			}
			if err := context.Cause(ctx); err != nil {
				t.Errorf("a live connection was cancelled: %v", err)
			}
			_, _ = c.Write(b)
		}
	}})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 200 {
				c, err := net.Dial("unix", f.l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(testwait.Patience))
				b := []byte("x")
				for range 3 {
					if _, err := c.Write(b); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(c, b); err != nil {
						t.Error(err)
					}
				}
				if (i+j)%2 == 0 {
					_, _ = c.Write([]byte("q"))
				}
				_ = c.Close()
			}
		})
	}
	clients.Wait()
}

// A last message survives input that is still coming, as it would not if the connection were just closed.
func TestLinger(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		const last = "FATAL: going away"
		f := start(t, network, &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, last)
			c.Linger(testwait.Patience)
		}})
		for range 20 {
			c := f.dial()
			for range 64 { // far more than the server reads before it says goodbye
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					t.Fatalf("write: %v", err)
				}
			}
			got, err := io.ReadAll(c)
			if string(got) != last || err != nil {
				t.Fatalf("read %q, %v", got, err)
			}
			_ = c.Close()
		}
	})
}

// Linger does not read on for a peer that sends without end.
func TestLingerIsBounded(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		f := start(t, network, &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
			c.Linger(testwait.Patience)
		}})
		c := f.dial()
		const most = 256 << 20 // no kernel buffers as much
		b := make([]byte, 1<<20)
		for sent := 0; sent < most; {
			n, err := c.Write(b)
			if sent += n; err != nil {
				return
			}
		}
		t.Errorf("the server has read %d bytes", most)
	})
}

// After Part, Read goes on for as long as was said, also of a connection that the drain has told to go.
func TestPart(t *testing.T) {
	began := make(chan struct{})
	f := start(t, "tcp", &drain.Server{Idle: time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		_, _ = c.Read(make([]byte, 1))
		close(began)
		<-c.Expired()
		c.Part(testwait.Patience)
		_, _ = io.Copy(io.Discard, c)
	}})
	c := f.dial()
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "the handler has the connection", began) // one that nobody has accepted is reset with the listener
	ended := f.shutdown(t.Context())
	expectEOF(t, c)
	for range 1000 {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	if err := testwait.For(t, "the drain's end", ended); err != nil {
		t.Error(err)
	}
}

// Linger ends by itself if the peer never closes.
func TestLingerEnds(t *testing.T) {
	f := start(t, "tcp", &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
		c.Linger(10 * time.Millisecond)
	}})
	c := f.dial()
	expectEOF(t, c)
	testwait.Until(t, "the connection's end", func() bool { return f.s.Counts().Open == 0 })
}
