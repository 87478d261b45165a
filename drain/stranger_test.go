package drain_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// door is a server whose handler hears one line, by which the client says how far it goes, and says how it ended.
func door(t *testing.T, s *drain.Server) (f *fixture, inside chan *drain.Conn, ended chan error) {
	inside, ended = make(chan *drain.Conn, 64), make(chan error, 64)
	s.Handler = func(ctx context.Context, c *drain.Conn) {
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		switch line {
		case "heard\n":
			c.Heard()
			c.Heard() // once is enough
		case "welcome\n":
			c.Heard()
			c.Welcome()
		case "acquire\n":
			err = c.Acquire(ctx)
		case "linger\n":
			c.Linger(time.Hour)
			ended <- nil
			return
		}
		if err == nil {
			inside <- c
			_, err = in.ReadByte()
		}
		ended <- err
	}
	return start(t, "unix", s), inside, ended
}

// TestStrangers shows who must go when another comes: the oldest of whom nothing was heard, then the oldest that was heard,
// and nobody who is welcome.
func TestStrangers(t *testing.T) {
	f, inside, ended := door(t, &drain.Server{Threads: 2, Reserve: 1, Strangers: 2})
	say := func(line string) io.Closer {
		c := f.dial()
		_, _ = io.WriteString(c, line)
		return c
	}
	say("welcome\n")
	testwait.For(t, "the first", inside)
	say("heard\n")
	heard := testwait.For(t, "the second", inside)
	say("x") // half a line, without a slot
	testwait.Until(t, "a third", func() bool { return f.s.Counts().Open == 3 })
	say("y")
	testwait.Until(t, "a fourth", func() bool { return f.s.Counts().Open == 4 })
	for range 3 { // each in the place of the oldest that is silent
		say("z")
		if err := testwait.For(t, "one who goes", ended); !errors.Is(err, drain.ErrCrowded) {
			t.Fatal(err)
		}
	}
	testwait.Until(t, "all places taken", func() bool { c := f.s.Counts(); return c.Reserve == 2 && c.Open == 4 })
	// Who is welcome and wants a slot gets that of who is not.
	say("acquire\n")
	last := testwait.For(t, "a slot", inside)
	if last.Reserved() {
		t.Error("no slot")
	}
	_ = heard.SetReadDeadline(time.Now()) // who stays, without one
	if _, err := heard.Read(make([]byte, 1)); errors.Is(err, drain.ErrCrowded) {
		t.Error("the second must go")
	}
	// No slot is left that a stranger has, and one who is welcome without one fills the reserve: the rest waits in the queue.
	say("welcome\n")
	if c := testwait.For(t, "one more", inside); !c.Reserved() {
		t.Error("a slot")
	}
	n := f.s.Counts().Accepted
	say("heard\n")
	f.beat()
	f.beat()
	if m := f.s.Counts().Accepted; m != n {
		t.Errorf("%d accepted, and then %d", n, m)
	}
}

// TestWelcomeInTime shows that who becomes known as he is turned out stays.
func TestWelcomeInTime(t *testing.T) {
	conns := make(chan *drain.Conn, 1)
	ended := make(chan error, 8)
	f := start(t, "unix", &drain.Server{Threads: 1, Strangers: 1, Reserve: 1, Handler: func(_ context.Context, c *drain.Conn) {
		conns <- c
		_, err := c.Read(make([]byte, 1)) // of what never comes
		if !errors.Is(err, drain.ErrCrowded) {
			ended <- err
			return
		}
		c.Welcome()
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		ended <- err
	}})
	f.dial()
	testwait.For(t, "the first", conns)
	f.dial()
	testwait.For(t, "the second", conns)
	f.dial()
	err := testwait.For(t, "an end", ended)
	if te, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); !ok || !te.Timeout() || errors.Is(err, drain.ErrCrowded) {
		t.Error(err)
	}
}

// TestStrangerLingers shows that a stranger who has been refused gives his place up, too.
func TestStrangerLingers(t *testing.T) {
	f, _, ended := door(t, &drain.Server{Threads: 1, Strangers: 1})
	for range 4 {
		_, _ = io.WriteString(f.dial(), "linger\n")
	}
	for range 2 {
		if err := testwait.For(t, "an end", ended); err != nil {
			t.Error(err)
		}
	}
}

// TestWelcomeBefore shows that who is known when the word comes to go stays, and who is not goes; and that there are no
// groups of a peer on TCP.
func TestWelcomeBefore(t *testing.T) {
	conns := make(chan *drain.Conn, 1)
	over := make(chan struct{})
	f := start(t, "tcp", &drain.Server{Threads: 1, Strangers: 1, Handler: func(_ context.Context, c *drain.Conn) {
		conns <- c
		<-over
	}})
	defer close(over)
	client := f.dial()
	c := testwait.For(t, "a connection", conns)
	if groups, err := c.PeerGroups(); err == nil {
		t.Errorf("groups %v", groups)
	}
	c.Welcome()
	drain.TurnOut(c)
	_, _ = client.Write([]byte{1})
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
