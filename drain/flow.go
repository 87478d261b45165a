package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This file is the life of one connection: waiting in a listener's queue, accepted, served, closed.

const (
	// patience is how long a connection stays in the queue, for another process with a free slot,
	// before it is accepted on the reserve or by a process that is leaving.
	patience = 50 * time.Millisecond
	// parting is the same when leaving.
	parting = 20 * time.Millisecond
	// handshakes is how long a listener that was closed to newcomers waits for those whose TCP
	// handshake is half done.
	handshakes = 100 * time.Millisecond
	// After a failure that would repeat itself, accepting pauses: first minPause, then twice as long
	// each time up to maxPause.
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// loop accepts from one listener.
type loop struct {
	server   *Server
	listener net.Listener
	name     string
	tally    *tally
	file     *os.File // a descriptor of the listening socket of our own, in the runtime's poller
	raw      syscall.RawConn
	try      func(fd uintptr) bool // tryOnce, made once
	options  []option              // that accepted sockets do not inherit
	wake     chan struct{}         // has a token when something changed that the loop may wait for
	hungry   bool                  // wants to be woken when a place is free; Server.mu guards it
	beat     atomic.Pointer[chan struct{}]
	gone     chan struct{} // closed when the loop has left its listener

	// The result of one try, filled in by accept.
	admit admission
	place place
	fd    int
	from  unix.Sockaddr
	err   error

	queued  time.Time // since when the queue was seen with something in it while no slot was free
	pressed bool      // a stranger was turned out for who comes next: the queue has waited as long as before
	pause   time.Duration
	failed  int // accepts in a row
}

var (
	errFull      = errors.New("no slot is free")
	errInterrupt = errors.New("interrupted")
)

// Serve accepts connections from l and serves each in its own goroutine until Shutdown or Close, when it
// closes l and returns ErrServerClosed, or until the socket is of no use any more. Several Serves may run
// at once. The socket is shared with other processes and stays as it is: non-blocking. Serve works on a
// copy of l's descriptor; l itself, which Serve owns, is only closed, and should not unlink its path.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	a, err := s.enter(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer a.close()
	for !s.isDraining() {
		a.answer()
		err := a.accept(slotOnly)
		if errors.Is(err, errFull) {
			err = a.wait()
		}
		switch {
		case err == nil:
			a.recovered()
			if a.place == onSlot && !a.pressed {
				a.queued = time.Time{}
			}
			a.pressed = false
			a.start()
		case errors.Is(err, errInterrupt), errors.Is(err, unix.EAGAIN):
		case lost(err):
			return fmt.Errorf("drain: accept on %s: %w", a.name, os.NewSyscallError("accept4", err))
		default:
			a.backOff(err)
		}
	}
	a.leave()
	return ErrServerClosed
}

// enter makes the loop known to the server.
func (s *Server) enter(l net.Listener) (*loop, error) {
	file, err := duplicate(l)
	if err != nil {
		return nil, fmt.Errorf("drain: listener %s: %w", nameOf(l), err)
	}
	raw, _ := file.SyscallConn() // fails only on a nil file
	if err := s.watch.start(s); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a := &loop{
		server:   s,
		listener: l,
		name:     nameOf(l),
		file:     file,
		raw:      raw,
		options:  s.missingOptions(file),
		wake:     make(chan struct{}, 1),
		gone:     make(chan struct{}),
	}
	a.try = a.tryOnce
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != serving {
		return nil, errors.Join(ErrServerClosed, file.Close())
	}
	if s.tallies[a.name] == nil {
		s.tallies[a.name] = new(tally)
	}
	a.tally = s.tallies[a.name]
	s.loops[a] = struct{}{}
	return a, nil
}

// nameOf is l's own name, or its address.
func nameOf(l net.Listener) string {
	if n, ok := l.(interface{ Name() string }); ok {
		return n.Name()
	}
	return l.Addr().String()
}

// duplicate makes a file of l's socket that the runtime polls. The copy shares O_NONBLOCK with the
// original and all other processes; os.File.Fd and net's File are avoided since they may clear it.
func duplicate(l net.Listener) (*os.File, error) {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no descriptor", l)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := raw.Control(func(orig uintptr) {
		if fd, err = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	})
	if err = errors.Join(cerr, os.NewSyscallError("fcntl", err)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), nameOf(l)), nil
}

// accept waits for a connection, and for a place for it, and takes both: a.fd, a.from and a.place. It
// returns errFull, holding nothing, when one is in the queue and no place is free.
func (a *loop) accept(admit admission) error {
	a.admit = admit
	if err := a.raw.Read(a.try); err != nil {
		// The deadline is interrupt's, and nobody else closes the file.
		_ = a.file.SetReadDeadline(time.Time{})
		return errInterrupt
	}
	return a.err
}

// tryOnce is called by the runtime, at first and whenever the listener may be ready; false means wait.
func (a *loop) tryOnce(fd uintptr) bool {
	var ok bool
	if a.place, ok = a.server.take(a, a.admit); !ok {
		a.err = errFull
		return a.admit != slotOnly || readable(int(fd))
	}
	for {
		a.fd, a.from, a.err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if a.err == nil {
			return true
		}
		if !passing(a.err) {
			break
		}
	}
	a.server.give(a.place)
	if errors.Is(a.err, unix.EAGAIN) {
		a.queued = time.Time{}
		return a.admit != slotOnly // the others do not wait here
	}
	return true
}

// passing tells the errors that concern one connection, which has left the queue: accept(2).
func passing(err error) bool {
	return is(err, unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH)
}

// lost tells the errors that the socket will not get over.
func lost(err error) bool {
	return is(err, unix.EBADF, unix.EINVAL, unix.ENOTSOCK)
}

func is(err error, any ...unix.Errno) bool {
	errno, ok := errors.AsType[unix.Errno](err)
	return ok && slices.Contains(any, errno)
}

func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n > 0
}

// wait comes after errFull: until a place may be free, or the queue has waited long enough for a place on
// the reserve; then it takes one.
func (a *loop) wait() error {
	now := time.Now()
	if a.queued.IsZero() {
		a.queued = now
	}
	due := a.queued.Add(patience)
	if !now.Before(due) {
		if err := a.accept(orReserve); !errors.Is(err, errFull) {
			return err
		}
		due, a.pressed = a.server.turnOut() // a place will wake us
	}
	t := time.NewTimer(due.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.wake:
	}
	return errInterrupt
}

// backOff pauses after an error that would otherwise repeat at once, such as EMFILE.
func (a *loop) backOff(err error) {
	a.failed++
	a.pause = min(max(2*a.pause, minPause), maxPause)
	if a.failed == 1 {
		a.server.logger().Error("cannot accept; connections wait in the queue",
			"listener", a.name, "error", os.NewSyscallError("accept4", err), "message_id", idAcceptFailing)
	}
	t := time.NewTimer(a.pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.wake:
	}
}

// recovered ends a row of failures.
func (a *loop) recovered() {
	if a.failed > 0 {
		a.server.logger().Info("accepting again", "listener", a.name, "failures", a.failed,
			"message_id", idAcceptRecovered)
		a.failed, a.pause = 0, 0
	}
}

// start makes a connection of what accept took and serves it.
func (a *loop) start() {
	s := a.server
	if ended(a.fd) { // while it was in the queue
		a.tally.accepted.Add(1)
		_ = unix.Close(a.fd)
		s.give(a.place)
		return
	}
	for _, o := range a.options {
		_ = unix.SetsockoptInt(a.fd, o.level, o.name, o.value) // fails if the peer is gone: Read will tell
	}
	c := &Conn{
		file:  os.NewFile(uintptr(a.fd), ""),
		loop:  a,
		peer:  peerOf(a.from),
		since: time.Now(),
		place: a.place,
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	a.tally.accepted.Add(1)
	s.mu.Lock()
	if s.stage > dismissing { // too late for this one
		s.mu.Unlock()
		_ = c.Close()
		s.give(c.place)
		return
	}
	s.nextID++
	c.id = s.nextID
	s.conns[c.id] = c
	s.arrive(c)
	a.tally.open.Add(1)
	s.mu.Unlock()
	go s.serve(c)
}

// ended tells whether a connection's peer has closed it, and there is nothing to be read.
func ended(fd int) bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil || errors.Is(err, unix.ECONNRESET)
}

// serve runs the handler; Shutdown waits for it by way of s.conns.
func (s *Server) serve(c *Conn) {
	defer s.end(c)
	s.Handler(c.ctx, c)
}

// end closes the connection and gives its place to the next.
func (s *Server) end(c *Conn) {
	c.SetIdle()
	c.cancel(nil)
	_ = c.Close() // the handler may have
	c.mu.Lock()
	late := c.late || c.moved
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	c.loop.tally.open.Add(-1)
	if s.stage != serving && !late {
		s.drained.Add(1)
	}
	s.depart(c)
	s.release(c.place)
	s.goneLocked()
}

// goneLocked wakes a drain that waits for the last to go.
func (s *Server) goneLocked() {
	if s.stage != serving && len(s.conns) == 0 && len(s.loops) == 0 {
		notify(s.quiet)
	}
}

// leave serves what would be reset if nobody else accepts from this socket: see Server.Final.
func (a *loop) leave() {
	var wait time.Duration
	switch {
	case a.server.isFinal(a.name):
		wait = a.refuseNewcomers()
	case a.waiting():
		// Others may take what is queued; they have more to give than a server that drains.
		time.Sleep(parting)
	default:
		return
	}
	_ = a.file.SetReadDeadline(time.Time{})
	for until := time.Now().Add(wait); a.sweep() && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// sweep accepts all that is queued; false means that it is no use to go on.
func (a *loop) sweep() bool {
	for range 1 << 16 {
		err := a.accept(unlimited)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err == nil {
			a.start()
		} else if !errors.Is(err, errInterrupt) {
			a.server.logger().Error("cannot accept from a queue that is about to go",
				"listener", a.name, "error", os.NewSyscallError("accept4", err))
			break
		}
	}
	return false
}

// waiting reports whether the queue has something in it.
func (a *loop) waiting() (is bool) {
	_ = control(a.file, func(fd int) error {
		is = readable(fd)
		return nil
	})
	return is
}

// close forgets the loop. The socket lives on in other processes, if they have it.
func (a *loop) close() {
	_ = a.file.Close()
	if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		a.server.logger().Warn("cannot close a listener", "listener", a.name, "error", err)
	}
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loops, a)
	close(a.gone)
	s.goneLocked()
}

// interrupt makes the loop come round, whatever it waits for.
func (a *loop) interrupt() {
	_ = a.file.SetReadDeadline(past)
	notify(a.wake)
}

// answer is the loop's word that it lives.
func (a *loop) answer() {
	if ch := a.beat.Swap(nil); ch != nil {
		close(*ch)
	}
}

// Beat makes every accept loop come round and returns when all have, or an error that names one that did
// not before ctx ended. It is what a watchdog wants to know.
func (s *Server) Beat(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	loops := make([]*loop, 0, len(s.loops))
	for a := range s.loops {
		loops = append(loops, a)
	}
	s.mu.Unlock()
	for _, a := range loops {
		ch := make(chan struct{})
		a.beat.Store(&ch)
		a.interrupt()
		select {
		case <-ch:
		case <-a.gone:
		case <-s.draining:
		case <-ctx.Done():
			return fmt.Errorf("drain: the accept loop of %s does not answer: %w", a.name, context.Cause(ctx))
		}
	}
	return nil
}

// peerOf keeps an address in 24 bytes; what is not IP gives an invalid one.
func peerOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// localAddr asks the kernel, since a listener may be bound to every address.
func (a *loop) localAddr(c *Conn) net.Addr {
	var local netip.AddrPort
	_ = c.control(func(fd int) error {
		sa, err := unix.Getsockname(fd)
		local = peerOf(sa)
		return err
	})
	if local.IsValid() {
		return net.TCPAddrFromAddrPort(local)
	}
	return a.listener.Addr()
}

// control calls f with file's descriptor, which stays open, and the same, until f returns.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn() // fails only on a nil file
	cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	if cerr != nil { // it fails only on a closed file
		return net.ErrClosed
	}
	return err
}
