// Package activation takes over the listening sockets that systemd passes to a service, by name. Every
// way in which they can be wrong is an error, and an error of one hides none of the others.
//
// The protocol is sd_listen_fds(3): descriptors from 3 on, counted by LISTEN_FDS, named by
// LISTEN_FDNAMES, meant for LISTEN_PID.
package activation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFD is SD_LISTEN_FDS_START.
const firstFD = 3

// maxFDs is more than systemd passes, and few enough for a wrong number to be harmless.
const maxFDs = 4096

// Sentinels, wrapped by Listeners' error.
var (
	// ErrNone means that nothing was passed: the process was not started by a socket's service.
	ErrNone = errors.New("activation: no descriptors were passed (LISTEN_FDS is not set)")
	// ErrNotOurs means that they were meant for another process.
	ErrNotOurs = errors.New("activation: LISTEN_PID is not this process")
	// ErrEnvironment means that LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES do not fit together.
	ErrEnvironment = errors.New("activation: malformed environment")
	// ErrNotListening means that a descriptor is not a listening stream socket.
	ErrNotListening = errors.New("activation: not a listening stream socket")
	// ErrDuplicate means that two descriptors have the same name.
	ErrDuplicate = errors.New("activation: duplicate name")
)

// Listeners returns the listening sockets by their FileDescriptorName=, see systemd.socket(5), made
// close-on-exec and non-blocking. It removes the variables from the environment, so that it works once
// and no child believes that they are its own.
//
// Listeners and an error may both be returned: the error joins what is wrong with every other descriptor.
// Those are left open, as they may not be what was meant. The caller owns the listeners.
func Listeners() (map[string]net.Listener, error) {
	env := environment{
		fds:   os.Getenv("LISTEN_FDS"),
		pid:   os.Getenv("LISTEN_PID"),
		names: os.Getenv("LISTEN_FDNAMES"),
	}
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		_ = os.Unsetenv(name) // fails only on a malformed name
	}
	names, err := env.parse(os.Getpid())
	if err != nil {
		return nil, err
	}
	return listeners(firstFD, names)
}

// environment is what systemd sets.
type environment struct{ fds, pid, names string }

// parse returns the names, in the descriptors' order.
func (e environment) parse(self int) ([]string, error) {
	if e.fds == "" {
		return nil, ErrNone
	}
	n, err := strconv.Atoi(e.fds)
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("%w: LISTEN_FDS=%q", ErrEnvironment, e.fds)
	}
	pid, err := strconv.Atoi(e.pid)
	if err != nil {
		return nil, fmt.Errorf("%w: LISTEN_PID=%q", ErrEnvironment, e.pid)
	}
	if pid != self {
		return nil, fmt.Errorf("%w: it is %d, this is %d", ErrNotOurs, pid, self)
	}
	if n == 0 {
		return nil, ErrNone
	}
	if e.names == "" { // systemd sets it always, other launchers may not
		names := make([]string, n)
		for i := range names {
			names[i] = "LISTEN_FD_" + strconv.Itoa(firstFD+i)
		}
		return names, nil
	}
	names := strings.Split(e.names, ":")
	if len(names) != n {
		return nil, fmt.Errorf("%w: LISTEN_FDS=%d, but LISTEN_FDNAMES has %d names: %q",
			ErrEnvironment, n, len(names), e.names)
	}
	return names, nil
}

// listeners takes over the descriptors from first on.
func listeners(first int, names []string) (map[string]net.Listener, error) {
	have := make(map[string]net.Listener, len(names))
	var errs []error
	for i, name := range names {
		fd := first + i
		err := check(fd)
		if _, dup := have[name]; dup && err == nil {
			err = ErrDuplicate
		}
		var l *Listener
		if err == nil {
			l, err = newListener(fd, name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("descriptor %d, %q: %w", fd, name, err))
			continue
		}
		have[name] = l
	}
	return have, errors.Join(errs...)
}

// check makes fd close-on-exec and non-blocking, and refuses what cannot be accepted from.
func check(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotListening, os.NewSyscallError("getsockopt", err))
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || typ != unix.SOCK_STREAM || listening == 0 {
		return ErrNotListening
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// Select sorts listeners by the names that are wanted: those there are, the wanted names that are
// missing, and the names nobody wants, whose listeners the caller closes. Names come sorted.
func Select(have map[string]net.Listener, want []string) (selected map[string]net.Listener, missing, surplus []string) {
	selected = make(map[string]net.Listener, len(want))
	for _, name := range want {
		if l, ok := have[name]; ok {
			selected[name] = l
		} else if !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	for name := range have {
		if _, ok := selected[name]; !ok {
			surplus = append(surplus, name)
		}
	}
	slices.Sort(missing)
	slices.Sort(surplus)
	return selected, missing, surplus
}

// Listener is an inherited listening socket. Closing it closes this process's copy only: it never unlinks
// the path of a unix-domain socket, and never shuts the socket down for others.
type Listener struct {
	name string
	addr net.Addr

	mu     sync.RWMutex
	fd     int // −1 when closed
	accept func() (net.Listener, error)
}

// newListener owns fd if it returns no error.
func newListener(fd int, name string) (*Listener, error) {
	l := &Listener{name: name, fd: fd}
	sa, _ := unix.Getsockname(fd) // none of a family that is unknown
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		l.addr = &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		l.addr = &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrUnix:
		l.addr = &net.UnixAddr{Name: sa.Name, Net: "unix"}
	default:
		return nil, fmt.Errorf("%w: address family is neither IP nor unix", ErrNotListening)
	}
	l.accept = sync.OnceValues(l.std)
	return l, nil
}

// Name is the socket unit's FileDescriptorName=.
func (l *Listener) Name() string { return l.name }

// Addr is the address that it listens on.
func (l *Listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection, which is a *net.TCPConn or *net.UnixConn. Its first call makes a second
// descriptor; a server that works on SyscallConn, as drain.Server, never calls it.
func (l *Listener) Accept() (net.Conn, error) {
	std, err := l.accept()
	if err != nil {
		return nil, err
	}
	return std.Accept()
}

// std makes the standard library's listener of a copy. The copy is non-blocking when os.NewFile sees it,
// and so File.Fd, which net.FileListener calls, leaves the shared O_NONBLOCK alone.
func (l *Listener) std() (net.Listener, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.fd < 0 {
		return nil, l.failed("accept", net.ErrClosed)
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, l.failed("accept", os.NewSyscallError("fcntl", err))
	}
	f := os.NewFile(uintptr(fd), l.name)
	defer f.Close()
	return net.FileListener(f)
}

// Close closes the socket in this process; a blocked Accept returns. A second Close returns net.ErrClosed,
// wrapped.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.fd < 0 {
		l.mu.Unlock()
		return l.failed("close", net.ErrClosed)
	}
	_ = unix.Close(l.fd) // with any result it is closed, close(2)
	l.fd = -1
	l.mu.Unlock()
	if std, err := l.accept(); err == nil { // was made by Accept: it cannot be any more
		_ = std.Close()
	}
	return nil
}

// SyscallConn gives access to the descriptor; only Control works.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return rawConn{l}, nil }

type rawConn struct{ l *Listener }

// Control calls f with the descriptor, which is not closed meanwhile.
func (r rawConn) Control(f func(fd uintptr)) error {
	r.l.mu.RLock()
	defer r.l.mu.RUnlock()
	if r.l.fd < 0 {
		return r.l.failed("control", net.ErrClosed)
	}
	f(uintptr(r.l.fd))
	return nil
}

// Read is not for listeners, as in package net.
func (r rawConn) Read(func(uintptr) bool) error { return syscall.EINVAL }

// Write is not for listeners, as in package net.
func (r rawConn) Write(func(uintptr) bool) error { return syscall.EINVAL }

func (l *Listener) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: l.addr.Network(), Addr: l.addr, Err: err}
}
