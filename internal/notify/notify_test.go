package notify_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/notify"
)

func TestMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	long := strings.Repeat("ä", 2000)
	for _, test := range []struct {
		err  error
		want string
	}{
		{notify.Ready("up"), "^READY=1\nSTATUS=up$"},
		{notify.Stopping("draining 3"), "^STOPPING=1\nSTATUS=draining 3$"},
		{notify.Status("two\nlines\tand \xff\x1b"), `^STATUS=two lines and \\xff\\u001b$`},
		{notify.Status(long), `^STATUS=ä{512}… \(2976 bytes more\)$`},
		{notify.Watchdog(), "^WATCHDOG=1$"},
		{notify.Reloading("to 8"), "^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\nSTATUS=to 8$"},
	} {
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if test.err != nil || err != nil || !regexp.MustCompile(test.want).Match(b[:n]) {
			t.Errorf("sent %q, %v, %v; want %s", b[:n], test.err, err, test.want)
		}
	}
	for range 10_000 { // systemd does not read
		if err = notify.Watchdog(); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("to a socket that nobody reads: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", path+"x")
	if err := notify.Watchdog(); err == nil {
		t.Error("no error though nobody listens")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := errors.Join(notify.Watchdog(), notify.Open()); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}

func TestInterval(t *testing.T) {
	for usec, want := range map[string]time.Duration{"": 0, "1500000": 1500 * time.Millisecond} {
		t.Setenv("WATCHDOG_USEC", usec)
		if d, err := notify.Interval(); d != want || err != nil {
			t.Errorf("WATCHDOG_USEC=%q: %v, %v", usec, d, err)
		}
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := notify.Interval(); err == nil {
		t.Error("no error")
	}
}

// Who has a socket needs no other, however many descriptors there are.
func TestNoDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := func(f func() error) error {
		err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max})
		said := f()
		return errors.Join(err, said, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	}
	notify.CloseSocket()
	for _, f := range []func() error{notify.Open, notify.Watchdog} {
		if err := none(f); !errors.Is(err, unix.EMFILE) {
			t.Errorf("without a descriptor: %v", err)
		}
	}
	if err := errors.Join(notify.Open(), none(notify.Watchdog)); err != nil {
		t.Errorf("with a socket of its own: %v", err)
	}
	b := make([]byte, 100)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "WATCHDOG=1" {
		t.Errorf("%q, %v", b[:n], err)
	}
}
