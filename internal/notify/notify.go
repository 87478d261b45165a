// Package notify tells systemd how a service is doing. No call blocks for longer than its message is worth,
// 10 s, or 100 ms for what is soon said again, though systemd may be too busy to read; without NOTIFY_SOCKET,
// as when run by hand, nothing is sent at all.
//
// The messages are those of sd_notify(3).
package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
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
	s = strings.ToValidUTF8(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' }), " "), "?")
	if len(s) > maxStatus {
		s = strings.ToValidUTF8(s[:maxStatus], "") + "…"
	}
	return "STATUS=" + s
}

func send(within time.Duration, lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET") // a leading @ stands for the abstract namespace, as in package net
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(within)) // fails only on a closed one
	_, err = c.Write([]byte(strings.Join(lines, "\n")))
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
