// Package notify tells systemd how a service is doing. No call blocks for longer than its message is worth,
// 10 s, or 100 ms for what is soon said again, though systemd may be too busy to read; without NOTIFY_SOCKET,
// as when run by hand, nothing is sent at all.
//
// The messages are those of sd_notify(3).
package notify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/printable"
)

const (
	patient   = 10 * time.Second
	impatient = 100 * time.Millisecond
)

// maxStatus keeps a message within one datagram, and a line of `systemctl status` readable.
const maxStatus = 1024

// Ready says that the service has started, or has reloaded.
func Ready(status string) error { return send(patient, "READY=1", statusLine(status)) }

// Stopping says that the service has begun to stop, in the same datagram as the status: who sees the one
// has the other.
func Stopping(status string) error { return send(patient, "STOPPING=1", statusLine(status)) }

// Status replaces the line that `systemctl status` shows.
func Status(status string) error { return send(impatient, statusLine(status)) }

// Watchdog says that the service works: due every WatchdogSec= at the latest.
func Watchdog() error { return send(impatient, "WATCHDOG=1") }

// Reloading says that the service reloads until the next Ready. The time stamp is what systemd 253 and
// later ask for.
func Reloading(status string) error {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // every kernel has it, clock_gettime(2)
	usec := t.Nano() / int64(time.Microsecond)
	return send(patient, "RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(usec, 10), statusLine(status))
}

// Interval is WatchdogSec=, or zero if this process has no watchdog.
func Interval() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("notify: %w", err)
	}
	return d, nil
}

func statusLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\t' }), " ")
	return "STATUS=" + printable.Cut(printable.Line(s), maxStatus)
}

// socket is opened once and kept, so that a process that has run out of descriptors still speaks. It is not
// connected: each message finds systemd by its path.
var socket struct {
	sync.Mutex
	open bool
	fd   int
}

// Open opens the socket now, if there is a systemd to tell; else the first message does.
func Open() error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	_, err := descriptor()
	return err
}

func descriptor() (int, error) {
	socket.Lock()
	defer socket.Unlock()
	if !socket.open {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("notify: %w", os.NewSyscallError("socket", err))
		}
		socket.fd, socket.open = fd, true
	}
	return socket.fd, nil
}

// again is how long a message waits before it is tried once more, while systemd is busy.
const again = 5 * time.Millisecond

func send(within time.Duration, lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET") // a leading @ stands for the abstract namespace, as in package unix
	if path == "" {
		return nil
	}
	fd, err := descriptor()
	if err != nil {
		return err
	}
	message, to := []byte(strings.Join(lines, "\n")), &unix.SockaddrUnix{Name: path}
	for end := time.Now().Add(within); ; time.Sleep(again) {
		switch err := unix.Sendto(fd, message, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, to); {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("notify: %w", os.NewSyscallError("sendto", err))
		case time.Now().After(end):
			return fmt.Errorf("notify: systemd does not read: %w", os.ErrDeadlineExceeded)
		}
	}
}
