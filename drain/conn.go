package drain

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is one connection, a net.Conn. The handler owns it; Server closes it when the handler returns.
// Methods may be called concurrently.
type Conn struct {
	file   *os.File // the socket, in the runtime's poller
	loop   *loop    // that accepted it
	id     uint64
	ctx    context.Context
	cancel context.CancelCauseFunc
	peer   netip.AddrPort                 // not valid for a unix-domain peer
	since  time.Time                      // when it was accepted
	client atomic.Pointer[netip.AddrPort] // see SpeaksFor; nil: the peer

	place   place         // Server.mu guards it, and the next two
	among   *list.List    // the strangers that it is one of; nil: it is none
	element *list.Element // its place there

	mu         sync.Mutex // not held together with Server.mu
	phase      phase
	busy       bool
	welcome    bool // is no stranger any more
	watching   bool
	registered bool // with the watcher
	hungUp     bool
	late       bool          // was cut
	movable    bool          // see Movable
	asked      bool          // ErrMove was given
	moved      bool          // is another process's
	expired    chan struct{} // nil until asked for
	busySince  time.Time     // with busy
	idleSince  time.Time     // zero: since before the drain
	works      []*Work
	remote     string    // who it was, once it is closed by force
	deadline   time.Time // for reading, as the handler set it
}

// phase is a connection's life.
type phase uint8

const (
	open       phase = iota
	invited          // Read fails with ErrMove, once
	expired          // idle for too long while draining: Read fails with ErrExpired
	crowded          // turned out: Read fails with ErrCrowded
	beyond           // the drain's limit has passed: Read fails with ErrDeadline
	terminated       // by Terminate: Read fails with ErrTerminated
	lingering        // in Linger: Server leaves its deadlines alone
	closed
)

// past, as a deadline, makes a blocked Read return.
var past = time.Unix(1, 0)

// SetBusy says that the connection has work in progress that a drain must let end. It is for the
// goroutine that reads, once it has read what the work is.
func (c *Conn) SetBusy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return
	}
	c.busy, c.busySince = true, time.Now()
	c.loop.tally.busy.Add(1)
	if c.phase == invited || c.phase == expired { // input came at the same moment
		if c.phase == expired {
			c.expired = nil
		}
		c.stay()
	}
}

// SetIdle says that the connection may be closed between now and its next input. A new connection is
// idle.
func (c *Conn) SetIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy {
		return
	}
	c.busy = false
	c.loop.tally.busy.Add(-1)
	if c.loop.server.isDraining() {
		c.idleSince = time.Now()
		c.inviteLocked()
	}
}

// Draining is closed when the server drains: say goodbye with the next reply, or as soon as the peer has
// read that (see Unread), so that the peer has it before it asks again.
func (c *Conn) Draining() <-chan struct{} { return c.loop.server.draining }

// Expired is closed when the connection has been idle for Server.Idle while draining. A handler that is
// blocked in Read need not look: Read returns ErrExpired. SetBusy takes that back, and makes the channel
// obsolete.
func (c *Conn) Expired() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired == nil {
		c.expired = make(chan struct{})
		if c.phase == expired || c.phase == beyond || c.phase == terminated {
			close(c.expired)
		}
	}
	return c.expired
}

// expire tells a connection that has been idle for long enough, and has no input waiting, to go.
// Otherwise it returns when that may next be so; zero means not before its state changes.
func (c *Conn) expire(now, began time.Time, idle time.Duration) (due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy || c.phase != open && c.phase != invited {
		return time.Time{}
	}
	since := began
	if c.idleSince.After(since) {
		since = c.idleSince
	}
	if due = since.Add(idle - c.sooner(idle)); now.Before(due) {
		return due
	}
	if c.Pending() {
		return now
	}
	c.leave(expired)
	return time.Time{}
}

// sooner is how much of idle the connection is spared: see Server.Spread. By steps of the golden ratio those that came one after another lie
// evenly, however many there are.
func (c *Conn) sooner(idle time.Duration) time.Duration {
	const golden = 0x9E3779B9 // of 1 << 32
	return min(c.loop.server.Spread, idle) / 1024 * time.Duration(uint32(c.id*golden)>>22)
}

// cut is the end of patience: the handler must come to an end.
func (c *Conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel(ErrDeadline)
	if c.phase.reads() {
		c.leave(beyond)
		c.overdue()
		c.loop.server.logger().Warn("connection cut at the drain's deadline",
			"listener", c.loop.name, "remote", c.Peer(), "busy", c.busy,
			"message_id", idConnectionCut)
	}
}

// Terminate asks the handler to come to an end, as the deadline of a drain does, and of this connection alone: its
// context is cancelled with ErrTerminated, and Read returns that from now on. It does not wait, and does not end a
// Write that the peer holds up. It returns false if Move has handed the connection over before.
func (c *Conn) Terminate() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel(ErrTerminated)
	if c.phase.reads() {
		c.leave(terminated)
	}
	return !c.moved
}

// reads tells whether Read goes on, or can.
func (p phase) reads() bool { return p == open || p == invited || p == expired }

// overdue counts the connection among those that were cut, once. c.mu is held.
func (c *Conn) overdue() {
	if !c.late {
		c.late = true
		c.loop.server.cut.Add(1)
	}
}

// leave goes to a phase in which Read fails, and makes one that is blocked return.
func (c *Conn) leave(to phase) {
	if c.expired != nil && c.phase != expired {
		close(c.expired)
	}
	c.phase = to
	_ = c.file.SetReadDeadline(past)
}

// force closes the connection under its handler.
func (c *Conn) force() {
	c.cancel(ErrForced)
	c.remote = c.Peer()
	if c.Close() == nil {
		c.mu.Lock()
		c.overdue()
		c.mu.Unlock()
		c.loop.server.logger().Warn("connection closed by force",
			"listener", c.loop.name, "remote", c.remote,
			"message_id", idConnectionCut)
	}
}

// Pending reports whether there is input, or its end, to be read. It does not block.
func (c *Conn) Pending() bool {
	var b [1]byte
	err := c.control(func(fd int) error {
		_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err
	})
	return !errors.Is(err, unix.EAGAIN)
}

// Unread returns how many bytes of what was written are still under way: on a unix socket those that the
// peer has not read, on TCP those that its host has not acknowledged.
func (c *Conn) Unread() (n int) {
	_ = c.control(func(fd int) (err error) { // of a closed connection nothing is
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n
}

// Read reads. It is not interrupted by the context's end, but see ErrExpired, ErrDeadline and ErrTerminated.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.file.Read(b)
	switch {
	case err == nil, err == io.EOF:
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.lastRead(b, err)
	}
	return n, c.failed("read", err)
}

// lastRead comes after a deadline. If that was the server's, what is there to be read goes first: an
// expired connection has none.
func (c *Conn) lastRead(b []byte, err error) (int, error) {
	c.mu.Lock()
	phase := c.phase
	if phase == invited {
		c.stay()
	}
	c.mu.Unlock()
	switch phase {
	case invited:
		err = ErrMove
	case beyond:
		err = ErrDeadline
	case terminated:
		err = ErrTerminated
	case crowded:
		err = ErrCrowded
	case open, expired, lingering, closed:
	}
	if phase == expired {
		var n int
		rerr := c.control(func(fd int) (err error) {
			n, err = unix.Read(fd, b)
			return err
		})
		if errors.Is(rerr, unix.EAGAIN) {
			rerr = ErrExpired
		}
		switch {
		case rerr != nil:
			return 0, c.failed("read", rerr)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
	return 0, c.failed("read", err)
}

// Write writes all of b, unless it fails.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	if err != nil {
		err = c.failed("write", err)
	}
	return n, err
}

// TryWrite writes of b what the kernel takes at once, and returns how many bytes that is: zero where Write would wait, or fail.
func (c *Conn) TryWrite(b []byte) (n int) {
	_ = c.control(func(fd int) (err error) {
		n, err = unix.Write(fd, b)
		return err
	})
	return max(0, n)
}

// Close closes the connection. A second one returns net.ErrClosed, wrapped.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = closed
	// The kernel takes a descriptor out of the watcher's epoll when it is closed: it has no copy.
	if err := c.file.Close(); err != nil {
		return c.failed("close", err)
	}
	return nil
}

// CloseWrite shuts down the sending side; the peer reads end of file after what was written.
func (c *Conn) CloseWrite() error {
	err := c.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
	if err != nil {
		return c.failed("close", err)
	}
	return nil
}

// discarded is how many bytes Linger reads at most. A client that waits for answers has sent no more, and one that
// does not has filled the window of a new connection with as much, see tcp_rmem in tcp(7).
const discarded = 64 << 10

// Linger ends the conversation so that the peer can read what was last written to it: Part, then it reads and
// discards until the peer closes, but no more than 64 KiB. A peer that sends more is reset. Close comes after it.
func (c *Conn) Linger(d time.Duration) {
	c.Part(d)
	var b [4096]byte
	for left := discarded; left > 0; {
		n, err := c.file.Read(b[:min(left, len(b))])
		if err != nil {
			return
		}
		left -= n
	}
}

// Part begins the end of the conversation: it shuts down the sending side, and leaves d for Read, whatever the
// server has in mind. What is read is to be discarded. Without that, input that arrives after Close, or was unread, makes
// the kernel reset the connection, and the peer may lose its last message (RFC 1122, 4.2.2.13).
func (c *Conn) Part(d time.Duration) {
	c.mu.Lock()
	if c.phase == closed {
		c.mu.Unlock()
		return
	}
	c.phase = lingering
	_ = c.file.SetReadDeadline(time.Now().Add(d))
	c.mu.Unlock()
	_ = c.CloseWrite() // of a peer that is gone already, which Read tells
}

// Listener is the name of the listener that the connection came from: its Name() if it has one, as those
// of package activation, or its address.
func (c *Conn) Listener() string { return c.loop.name }

// PeerCred returns who connected a unix-domain socket, as of then: SO_PEERCRED, see unix(7).
func (c *Conn) PeerCred() (*unix.Ucred, error) {
	var u *unix.Ucred
	err := c.control(func(fd int) (err error) {
		u, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return nil, c.failed("getsockopt", err)
	}
	return u, nil
}

// PeerGroups returns the supplementary groups of the process that connected a unix-domain socket, as of then:
// SO_PEERGROUPS, see unix(7).
func (c *Conn) PeerGroups() ([]uint32, error) {
	list := make([]uint32, 64)
	err := c.control(func(fd int) error {
		for {
			size := uint32(4 * len(list)) //nolint:gosec // at most NGROUPS_MAX, 65536
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
				uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
			switch {
			case errno == unix.ERANGE:
				list = make([]uint32, size/4)
			case errno != 0:
				return errno
			default:
				list = list[:size/4]
				return nil
			}
		}
	})
	if err != nil {
		return nil, c.failed("getsockopt", err)
	}
	return list, nil
}

// Since returns when the connection was accepted.
func (c *Conn) Since() time.Time { return c.since }

// SpeaksFor says that the peer is a proxy, and who its client is: the one whom Peer and RemoteAddr tell from now on.
func (c *Conn) SpeaksFor(client netip.AddrPort) { c.client.Store(&client) }

// far is the address of the other end; not valid for a unix-domain peer.
func (c *Conn) far() netip.AddrPort {
	if client := c.client.Load(); client != nil {
		return *client
	}
	return c.peer
}

// Peer says in a word who is at the other end: its address and port, or of a unix-domain socket its user and process.
func (c *Conn) Peer() string {
	if far := c.far(); far.IsValid() {
		return far.String()
	}
	u, err := c.PeerCred()
	if err != nil { // the connection is closed
		return "unix"
	}
	return fmt.Sprintf("unix:uid=%d,pid=%d", u.Uid, u.Pid)
}

// LocalAddr is the address that the peer connected to.
func (c *Conn) LocalAddr() net.Addr { return c.loop.localAddr(c) }

// RemoteAddr is a *net.TCPAddr, or a *net.UnixAddr without a name.
func (c *Conn) RemoteAddr() net.Addr {
	if far := c.far(); far.IsValid() {
		return net.TCPAddrFromAddrPort(far)
	}
	return &net.UnixAddr{Net: "unix"}
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read; it cannot put off ErrExpired, ErrDeadline or ErrTerminated.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.phase == invited || c.phase == expired || c.phase == beyond || c.phase == crowded || c.phase == terminated {
		return nil
	}
	if c.file.SetReadDeadline(t) != nil { // it says so only of a closed file
		return c.failed("set", net.ErrClosed)
	}
	return nil
}

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.file.SetWriteDeadline(t) != nil {
		return c.failed("set", net.ErrClosed)
	}
	return nil
}

// control calls f with the descriptor, which stays open, and the same, until f returns.
func (c *Conn) control(f func(fd int) error) error {
	return control(c.file, f)
}

// failed makes the error that package net would, and net.ErrClosed of a closed file's.
func (c *Conn) failed(op string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	remote := c.RemoteAddr()
	return &net.OpError{Op: op, Net: remote.Network(), Addr: remote, Err: err}
}
