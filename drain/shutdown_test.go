package drain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// A busy connection gets its reply and the goodbye with it; an idle one gets the goodbye after Idle.
func TestDrainBusyAndIdle(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		working, finish := make(chan struct{}), make(chan struct{})
		f := start(t, network, &drain.Server{Idle: 20 * time.Millisecond, Handler: func(ctx context.Context, c *drain.Conn) {
			b := make([]byte, 1)
			if _, err := c.Read(b); err != nil {
				if !errors.Is(err, drain.ErrExpired) {
					t.Errorf("Read: %v", err)
				}
				testwait.For(t, "Expired", c.Expired())
				_, _ = io.WriteString(c, "idle bye\n")
				c.Linger(testwait.Patience)
				return
			}
			c.SetBusy()
			close(working)
			<-finish
			testwait.For(t, "Draining", c.Draining())
			if context.Cause(ctx) != nil {
				t.Errorf("context ended: %v", context.Cause(ctx))
			}
			_, _ = io.WriteString(c, "reply and bye\n")
			c.Linger(testwait.Patience)
		}})
		busy, idle := f.dial(), f.dial()
		_, _ = busy.Write([]byte("x"))
		testwait.For(t, "work", working)
		testwait.Until(t, "both accepted", func() bool { return f.s.Counts().Open == 2 })
		if n := f.s.Counts(); n.Busy != 1 || n.Idle != 1 {
			t.Errorf("counts: %+v", n)
		}
		done := f.shutdown(t.Context())
		expect(t, idle, "idle bye")
		expectEOF(t, idle)
		_ = idle.Close()
		testwait.Until(t, "the idle one's end", func() bool { return f.s.Counts().Open == 1 })
		testwait.Until(t, "the listener's end", func() bool {
			c, err := net.Dial(network, f.l.Addr().String())
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		close(finish)
		expect(t, busy, "reply and bye")
		_ = busy.Close()
		if err := testwait.For(t, "the drain's end", done); err != nil {
			t.Error(err)
		}
		if err := f.s.Shutdown(t.Context()); err != nil { // again, and after the end
			t.Error(err)
		}
		if n := f.s.Counts(); n.Drained != 2 || n.Cut != 0 {
			t.Errorf("counts: %+v", n)
		}
	})
}

// One that becomes idle while draining has Idle from then on, and input that comes then is served.
func TestDrainIdleAgain(t *testing.T) {
	sent, errs := make(chan struct{}), make(chan error, 1)
	f := start(t, "tcp", &drain.Server{Idle: 20 * time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		b := make([]byte, 1)
		for {
			<-sent
			if _, err := c.Read(b); err != nil {
				errs <- err
				return
			}
			c.SetBusy()
			_, _ = c.Write([]byte("ok\n"))
			c.SetIdle()
		}
	}})
	c := f.dial()
	_, _ = c.Write([]byte("1"))
	sent <- struct{}{}
	expect(t, c, "ok")
	done := f.shutdown(t.Context())
	testwait.For(t, "Draining", f.s.Draining())
	for range 20 {
		_, _ = c.Write([]byte("2"))
		sent <- struct{}{}
		expect(t, c, "ok")
	}
	close(sent)
	if err := testwait.For(t, "the goodbye", errs); !errors.Is(err, drain.ErrExpired) {
		t.Error(err)
	}
	testwait.For(t, "the drain's end", done)
}

// Input that waits unread keeps a connection from expiring.
func TestDrainPendingInput(t *testing.T) {
	look, got := make(chan struct{}), make(chan error, 1)
	f := start(t, "unix", &drain.Server{Idle: time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		<-look
		_, err := c.Read(make([]byte, 10))
		got <- err
	}})
	c := f.dial()
	_, _ = c.Write([]byte("call"))
	testwait.Until(t, "accepted", func() bool { return f.s.Counts().Open == 1 })
	done := f.shutdown(t.Context())
	testwait.For(t, "Draining", f.s.Draining())
	time.Sleep(20 * time.Millisecond) // not for the outcome: gives a wrong expiry the time to show
	close(look)
	if err := testwait.For(t, "Read", got); err != nil {
		t.Errorf("Read: %v", err)
	}
	testwait.For(t, "the drain's end", done)
}

// What arrives between the expiry and the Read is read, and SetBusy takes the expiry back.
func TestDrainInputAfterExpiry(t *testing.T) {
	expired, sent := make(chan struct{}), make(chan struct{})
	f := start(t, "unix", &drain.Server{Idle: time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		<-c.Expired()
		_ = c.SetReadDeadline(time.Time{}) // does not put it off
		close(expired)
		<-sent
		b := make([]byte, 1)
		if n, err := c.Read(b); n != 1 || err != nil {
			t.Errorf("Read after the expiry: %d, %v", n, err)
		}
		c.SetBusy()
		if n, err := c.Read(b); n != 1 || err != nil {
			t.Errorf("Read while busy: %d, %v", n, err)
		}
		c.SetIdle()
		if _, err := c.Read(b); !errors.Is(err, drain.ErrExpired) {
			t.Errorf("Read when idle again: %v", err)
		}
		_, _ = c.Write([]byte("bye\n"))
		testwait.Until(t, "the end of input", func() bool {
			_, err := c.Read(b)
			return errors.Is(err, io.EOF)
		})
	}})
	c := f.dial()
	testwait.Until(t, "accepted", func() bool { return f.s.Counts().Open == 1 })
	done := f.shutdown(t.Context())
	testwait.For(t, "Expired", expired)
	_, _ = c.Write([]byte("ab"))
	close(sent)
	expect(t, c, "bye")
	_ = c.Close()
	testwait.For(t, "the drain's end", done)
}

func TestDeadline(t *testing.T) {
	limits := map[string]func(s *drain.Server) (context.Context, func()){
		"Timeout": func(s *drain.Server) (context.Context, func()) {
			s.Timeout = 10 * time.Millisecond
			return context.Background(), func() {}
		},
		"context": func(*drain.Server) (context.Context, func()) {
			ctx, cancel := context.WithCancel(context.Background())
			return ctx, cancel
		},
		"Hurry": func(s *drain.Server) (context.Context, func()) {
			return context.Background(), func() {
				s.Hurry(time.Millisecond)
				s.Hurry(time.Hour) // never lengthens
			}
		},
		"another Shutdown": func(s *drain.Server) (context.Context, func()) {
			return context.Background(), func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_ = s.Shutdown(ctx)
			}
		},
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			causes := make(chan error, 2)
			reads := make(chan error, 2)
			s := &drain.Server{Idle: time.Hour, Handler: func(ctx context.Context, c *drain.Conn) {
				b := make([]byte, 1)
				_, err := c.Read(b)
				if err == nil { // the busy one
					c.SetBusy()
					<-ctx.Done()
					_, err = c.Read(b)
				}
				reads <- err
				<-ctx.Done()
				causes <- context.Cause(ctx)
				testwait.For(t, "Expired", c.Expired())
				_ = c.SetReadDeadline(time.Time{})
				_, _ = io.WriteString(c, "cut\n")
				c.Linger(testwait.Patience)
			}}
			ctx, trigger := limit(s)
			f := start(t, "tcp", s)
			busy, idle := f.dial(), f.dial()
			_, _ = busy.Write([]byte("x"))
			testwait.Until(t, "one busy, one idle", func() bool { n := s.Counts(); return n.Busy == 1 && n.Idle == 1 })
			done := f.shutdown(ctx)
			testwait.For(t, "Draining", s.Draining())
			go trigger()
			for _, c := range []net.Conn{busy, idle} {
				expect(t, c, "cut")
				_ = c.Close()
				if err := testwait.For(t, "the cancellation", causes); !errors.Is(err, drain.ErrDeadline) {
					t.Errorf("cause: %v", err)
				}
				if err := testwait.For(t, "Read's return", reads); !errors.Is(err, drain.ErrDeadline) {
					t.Errorf("Read: %v", err)
				}
			}
			if err := testwait.For(t, "the drain's end", done); err != nil {
				t.Error(err)
			}
			if n := strings.Count(f.log.String(), "connection cut at the drain's deadline"); n != 2 {
				t.Errorf("%d cuts logged, want 2:\n%s", n, f.log)
			}
			if n := s.Counts(); n.Drained != 0 || n.Cut != 2 {
				t.Errorf("counts: %+v", n)
			}
		})
	}
}

// A handler that goes on after the deadline loses its connection a Grace later; one that does not return
// then is reported.
func TestForced(t *testing.T) {
	stubborn := make(chan struct{})
	causes := make(chan error, 1)
	f := start(t, "unix", &drain.Server{Grace: 20 * time.Millisecond, Timeout: time.Millisecond,
		Handler: func(ctx context.Context, c *drain.Conn) {
			c.SetBusy()
			done, transfer, other := drain.Work{Name: "done"}, drain.Work{Kind: "procedure", Name: "transfer"}, drain.Work{Face: "web"}
			for _, w := range []*drain.Work{&done, &transfer, &other} {
				c.Begin(w)
			}
			c.End(&done)
			c.End(&done) // again changes nothing
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			_, err := c.Write(make([]byte, 64<<20)) // blocks until the connection is closed
			causes <- err
			<-stubborn
		}})
	c := f.dial()
	testwait.Until(t, "busy", func() bool { return f.s.Counts().Busy == 1 })
	hurried := make(chan struct{})
	go func() { // that others are in a hurry, too, does not make testwait.Patience longer or shorter
		defer close(hurried)
		for f.s.Counts().Open > 0 {
			f.s.Hurry(0)
		}
	}()
	if err := f.s.Shutdown(t.Context()); !errors.Is(err, drain.ErrStuck) || !strings.Contains(err.Error(), ": 1") {
		t.Errorf("Shutdown: %v", err)
	}
	if err := testwait.For(t, "Write's return", causes); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if err := f.s.Shutdown(t.Context()); !errors.Is(err, drain.ErrStuck) {
		t.Errorf("Shutdown again: %v", err)
	}
	if n := f.s.Counts(); n.Drained != 0 || n.Cut != 1 { // once, though its time was up before
		t.Errorf("counts: %+v", n)
	}
	if !strings.Contains(f.log.String(), "closed by force") || !strings.Contains(f.log.String(), `work="procedure transfer, web" since=`) {
		t.Errorf("log: %s", f.log)
	}
	_ = c.Close()
	close(stubborn)
	testwait.For(t, "the last connection's end", hurried)
}

func TestClose(t *testing.T) {
	causes := make(chan error, 1)
	f := start(t, "tcp", &drain.Server{Grace: time.Hour, Handler: func(ctx context.Context, c *drain.Conn) {
		c.SetBusy()
		<-ctx.Done()
		causes <- context.Cause(ctx)
	}})
	c := f.dial()
	testwait.Until(t, "busy", func() bool { return f.s.Counts().Busy == 1 })
	if err := f.s.Close(); err != nil {
		t.Error(err)
	}
	if err := testwait.For(t, "the cancellation", causes); !errors.Is(err, drain.ErrForced) {
		t.Errorf("cause: %v", err)
	}
	expectEOF(t, c)
}

// What waits in the queue when the listener is left is served, over the budget if need be: nobody is
// reset.
func TestLeaveServesTheQueue(t *testing.T) {
	for _, final := range []bool{false, true} {
		networks(t, func(t *testing.T, network string) {
			hold := make(chan struct{})
			s := &drain.Server{Threads: 1, Handler: func(ctx context.Context, c *drain.Conn) {
				if c.Acquire(ctx) == nil {
					<-hold
					lines(ctx, c)
				}
			}}
			if final {
				s.Final()
			}
			f := start(t, network, s)
			clients := []net.Conn{f.dial()}
			testwait.Until(t, "the slot taken", func() bool { return s.Counts().Open == 1 })
			for range 20 {
				clients = append(clients, f.dial())
			}
			done := f.shutdown(t.Context())
			for i, c := range clients { // sent only now
				_, _ = fmt.Fprintln(c, i)
			}
			testwait.Until(t, "the queue taken", func() bool { return s.Counts().Open == len(clients) })
			close(hold)
			var all sync.WaitGroup
			for i, c := range clients { // at once: each holds the slot until it closes
				all.Go(func() {
					got, err := io.ReadAll(c)
					if want := fmt.Sprintf("%d\nbye\n", i); string(got) != want || err != nil {
						t.Errorf("read %q, %v; want %q", got, err, want)
					}
					_ = c.Close()
				})
			}
			all.Wait()
			if err := testwait.For(t, "the drain's end", done); err != nil {
				t.Error(err)
			}
		})
	}
}

// With Final, newcomers are refused at once, also while another process holds the socket; who is there is served.
func TestFinalRefuses(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		there, hold := make(chan struct{}), make(chan struct{})
		s := &drain.Server{Handler: func(ctx context.Context, c *drain.Conn) {
			if c.Acquire(ctx) == nil {
				close(there)
				<-hold
				lines(ctx, c)
			}
		}}
		f := start(t, network, s)
		other, err := f.l.(interface{ File() (*os.File, error) }).File() // as systemd has one, or a sibling
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		c := f.dial()
		testwait.For(t, "the slot taken", there)
		s.Final()
		done := f.shutdown(t.Context())
		testwait.Until(t, "the listener left", func() bool { return len(s.Queues()) == 0 })
		d := net.Dialer{Timeout: testwait.Patience}
		if late, err := d.Dial(network, f.l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a newcomer: %v, %v", late, err)
		}
		close(hold)
		_, _ = io.WriteString(c, "x\n")
		if got, err := io.ReadAll(c); string(got) != "x\nbye\n" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
		if err := testwait.For(t, "the drain's end", done); err != nil {
			t.Error(err)
		}
		if said := f.log.String(); strings.Contains(said, "newcomers") {
			t.Errorf("log: %s", said)
		}
	})
}

// All that takes no privilege, which workers do not have.
func TestFinalNeedsNoPrivilege(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestFinalRefuses$", "-test.v")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFinalRefuses") {
		t.Errorf("%v: %s", err, out)
	}
}

// With Final, a client that connects around the stop is served or refused, never reset: the reason is in
// refuseNewcomers.
func TestFinalNeverResets(t *testing.T) {
	networks(t, func(t *testing.T, network string) {
		for range 10 {
			s := &drain.Server{Handler: lines, Idle: time.Hour}
			f := start(t, network, s)
			var clients sync.WaitGroup
			var answered atomic.Int64
			t.Cleanup(clients.Wait) // also where the test ends early
			for range 4 {
				clients.Go(func() {
					for t.Context().Err() == nil {
						d := net.Dialer{Timeout: 100 * time.Millisecond} // a dropped SYN comes again after 1 s
						c, err := d.Dial(network, f.l.Addr().String())
						if err != nil {
							ne, ok := errors.AsType[net.Error](err)
							switch {
							case ok && ne.Timeout() && !s.Counts().Draining:
								continue // the machine is slow
							case !errors.Is(err, syscall.ECONNREFUSED) && (!ok || !ne.Timeout()):
								t.Errorf("dial: %v", err)
							}
							return
						}
						_ = c.SetDeadline(time.Now().Add(testwait.Patience))
						_, err = io.WriteString(c, "x\n")
						line, rerr := bufio.NewReader(c).ReadString('\n')
						if err != nil || line != "x\n" {
							t.Errorf("connected and lost: %v, %q, %v\n%v %s", err, line, rerr, s.Counts(), f.log)
						}
						answered.Add(1)
						_ = c.Close()
					}
				})
			}
			testwait.Until(t, "load", func() bool { return answered.Load() > 20 })
			s.Final()
			if err := f.s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			clients.Wait()
		}
	})
}

// TestTerminate ends one connection, busy or idle, and leaves the other alone.
func TestTerminate(t *testing.T) {
	conns, ends := make(chan *drain.Conn, 2), make(chan [3]error, 2)
	s := &drain.Server{Handler: func(ctx context.Context, c *drain.Conn) {
		conns <- c
		var b [1]byte
		_, err := c.Read(b[:])
		if err == nil { // the busy one
			c.SetBusy()
			<-ctx.Done()
			_, err = c.Read(b[:])
		}
		testwait.For(t, "Expired", c.Expired())
		_ = c.SetReadDeadline(time.Time{})
		_, again := c.Read(b[:])
		ends <- [3]error{err, again, context.Cause(ctx)}
		_, _ = io.WriteString(c, "told\n")
	}}
	f := start(t, "unix", s)
	dial := func() (net.Conn, *drain.Conn) {
		c := f.dial()
		return c, testwait.For(t, "the connection", conns)
	}
	idle, first := dial()
	busy, second := dial()
	_, _ = busy.Write([]byte("x"))
	testwait.Until(t, "busy", func() bool { return s.Counts().Busy == 1 })
	end := func(peer net.Conn, c *drain.Conn, left int) {
		c.Terminate()
		c.Terminate()
		for i, err := range testwait.For(t, "the end", ends) {
			if !errors.Is(err, drain.ErrTerminated) {
				t.Errorf("%d: %v", i, err)
			}
		}
		expect(t, peer, "told")
		expectEOF(t, peer)
		testwait.Until(t, "one less", func() bool { return s.Counts().Open == left })
	}
	end(idle, first, 1)
	end(busy, second, 0)
}
