// Package notify tells systemd how a service is doing. A message that cannot be sent is an error to
// report, never a reason to stop: without NOTIFY_SOCKET, as when run by hand, nothing is sent at all.
//
// The messages are those of sd_notify(3).
package notify

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// maxStatus keeps a message within one datagram, and a line of `systemctl status` readable.
const maxStatus = 1024

// Ready says that the service has started, or has reloaded.
func Ready(status string) error { return send("READY=1", statusLine(status)) }

// Stopping says that the service has begun to stop, in the same datagram as the status: who sees the one
// has the other.
func Stopping(status string) error { return send("STOPPING=1", statusLine(status)) }

// Status replaces the line that `systemctl status` shows.
func Status(status string) error { return send(statusLine(status)) }

// Watchdog says that the service works: due every WatchdogSec= at the latest.
func Watchdog() error { return send("WATCHDOG=1") }

// Reloading says that the service reloads until the next Ready. The time stamp is what systemd 253 and
// later ask for.
func Reloading(status string) error {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return fmt.Errorf("notify: %w", os.NewSyscallError("clock_gettime", err))
	}
	usec := t.Nano() / int64(time.Microsecond)
	return send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(usec, 10), statusLine(status))
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

func send(lines ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
