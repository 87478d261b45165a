package pgwire_test

import (
	"net"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// TestRefusedAndGoesOn shows that who is refused before he is known reads why, and that what he sends then is not read: whatever he
// announced, it costs him a connection for a few KiB.
func TestRefusedAndGoesOn(t *testing.T) {
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t)}))
	c := dial(t, "tcp", f.tcp)
	c.raw(startupPacket(version3, pairs("user", "alice")...))
	if _, err := c.front.Receive(); err != nil {
		t.Fatal(err)
	}
	c.raw(append(length('Q', 16<<20), make([]byte, 32<<10)...))
	c.answers("refusal", c.read(), "E FATAL 08P01 expected SASL response, got message type 81", "closed")
	const most = 256 << 20 // no kernel buffers as much
	b := make([]byte, 1<<20)
	for sent := 0; sent < most; {
		n, err := c.conn.Write(b)
		if sent += n; err != nil {
			return
		}
	}
	t.Errorf("the server has read %d bytes", most)
}

// TestPartingTakesTurns shows that a session's client hears the last message also when it must first send what it was about to, and
// that this is read in turns.
func TestPartingTakesTurns(t *testing.T) {
	const size = 8 << 20
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxMessage = 1 << 20 })
	long := append(length('Q', 4+size), make([]byte, size)...)
	c := f.connect("a")
	c.raw(long)
	c.answers("too long", c.read(), "E FATAL 54000 a message of 8388608 bytes is longer than the 1048576 that are taken here", "closed")

	a, b := f.connect("a"), f.connect("b")
	release := f.wire.HoldTurns()
	sent := make(chan error, 1)
	go func(conn net.Conn) {
		_, err := conn.Write(long)
		sent <- err
	}(a.conn)
	a.answers("too long", a.read(), "E FATAL 54000 a message of 8388608 bytes is longer than the 1048576 that are taken here", "closed")
	for range 20 {
		b.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
	}
	select {
	case err := <-sent:
		release()
		t.Fatalf("read without a turn: %v", err)
	default:
	}
	release()
	testwait.For(t, "the message's end", sent) // an error, if all that has taken too long
}
