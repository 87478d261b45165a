package drain

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells connections that their peer hung up: one epoll instance for all of a server's, itself
// waited for by the runtime's, so that it holds no thread.
//
// A connection is registered once, at its first Watch(true), and edge-triggered: it costs nothing while
// it lives and one event when it dies. Events name a connection by its number, which is never used again,
// so one that is late, of a descriptor closed and reused meanwhile, finds nobody.
type watcher struct {
	mu      sync.Mutex
	epoll   *os.File // nil if not started
	raw     syscall.RawConn
	stopped bool
	running sync.WaitGroup
}

// start is idempotent. The goroutine ends in stop.
func (w *watcher) start(s *Server) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll != nil || w.stopped {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("drain: %w", os.NewSyscallError("epoll_create1", err))
	}
	_ = unix.SetNonblock(fd, true) // makes os.NewFile hand it to the poller; fails only on a closed one
	w.epoll = os.NewFile(uintptr(fd), "epoll")
	raw, _ := w.epoll.SyscallConn() // fails only on a nil file
	w.raw = raw
	w.running.Go(func() { watch(raw, s) })
	return nil
}

// stop ends the goroutine and waits for it.
func (w *watcher) stop() {
	w.mu.Lock()
	w.stopped = true
	if w.epoll != nil {
		_ = w.epoll.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// watch runs until raw is closed.
func watch(raw syscall.RawConn, s *Server) {
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // fails only with EINTR
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			s.mu.Lock()
			c := s.conns[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			s.mu.Unlock()
			if c != nil {
				c.hangup()
			}
		}
	}
}

// add registers the descriptor fd of the connection id. If its peer has hung up already, the event comes
// at once.
func (w *watcher) add(fd int, id uint64, events uint32) error {
	e := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	var err error
	_ = w.raw.Control(func(epfd uintptr) { // fails only on a closed file: then no connection is left
		err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, fd, &e)
	})
	return os.NewSyscallError("epoll_ctl", err)
}

// remove forgets the descriptor of a connection that is open elsewhere, too.
func (w *watcher) remove(fd int) error {
	var err error
	_ = w.raw.Control(func(epfd uintptr) { // fails only on a closed file: then no connection is left
		err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_DEL, fd, nil)
	})
	return os.NewSyscallError("epoll_ctl", err)
}

// Watch turns the watch for the peer's hang-up on or off. While it is on, a hang-up, also one that came
// earlier, cancels the connection's context with ErrHangup, whatever input may still be unread. Turning
// it on costs one system call the first time and none after that.
func (c *Conn) Watch(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = on
	if !on || c.phase == closed {
		return
	}
	if !c.registered {
		events := uint32(unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR)
		if c.loop.server.AllowHalfClose {
			events &^= unix.EPOLLRDHUP
		}
		err := c.control(func(fd int) error { return c.loop.server.watch.add(fd, c.id, events) })
		if err != nil {
			c.loop.server.logger().Warn("cannot watch a connection for its peer's hang-up",
				"listener", c.loop.name, "error", err)
			return
		}
		c.registered = true
	}
	if c.hungUp {
		c.cancel(ErrHangup)
	}
}

// hangup is the watcher's word that the peer has gone.
func (c *Conn) hangup() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hungUp = true
	if c.watching {
		c.cancel(ErrHangup)
	}
}
