package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testwait"
)

func opened(t *testing.T, path string) *Handler {
	t.Helper()
	h, err := open(path, os.Stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(h.sink.fd) })
	return h
}

// A journal that stands still holds nobody up; when it goes on it gets what was kept, in order, and how much was not.
func TestJournalStandsStill(t *testing.T) {
	path, next := journald(t)
	h := opened(t, path)
	log := slog.New(h)
	sent := 0
	for ; !dropping(h); sent++ { // would never return if a call waited
		log.Info("line", "number", sent, "text", errors.New(strings.Repeat("x", maxError)))
	}
	if taken := sent - 1 - len(h.sink.waiting); taken > 30 {
		t.Errorf("%d records are in a queue that all share", taken)
	}
	log.Info("one more")
	for i := range sent - 1 {
		if got := next(); got["FDT_NUMBER"] != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, got["MESSAGE"][:40])
		}
	}
	if got := next(); got["FDT_COUNT"] != "2" || got["MESSAGE_ID"] != LinesDropped || got["PRIORITY"] != "4" {
		t.Errorf("%q", got)
	}
	testwait.Until(t, "nothing waits", func() bool { return !waits(h) })
	log.Info("as ever")
	if got := next(); got["MESSAGE"] != "as ever" {
		t.Errorf("%q", got)
	}
}

func dropping(h *Handler) bool {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	return h.sink.dropped > 0
}

func waits(h *Handler) bool {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	return h.sink.timer != nil
}

// journald may come and go: what was logged meanwhile it gets from the next one.
func TestJournalComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	h := opened(t, path)
	log := slog.New(h)
	log.Info("before there is one")
	Flush(h, time.Millisecond)
	for range 2 {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("while there is one")
		Flush(h, time.Hour)
		for _, want := range []string{"before there is one", "while there is one"} {
			data := make([]byte, 4096)
			n, err := l.Read(data)
			if err != nil || !strings.HasPrefix(string(data[:n]), "MESSAGE="+want+"\n") {
				t.Errorf("%q, %v; want %q", data[:n], err, want)
			}
		}
		if err := errors.Join(l.Close(), os.RemoveAll(path)); err != nil {
			t.Fatal(err)
		}
		log.Info("before there is one")
	}
}

// The note itself may find the queue full.
func TestNoteWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	h := opened(t, path)
	h.sink.dropped = 3
	if h.sink.flushed() || h.sink.dropped != 3 {
		t.Error("what was never told is forgotten")
	}
}

// Where the native protocol is refused, a line goes to the stream; if that takes nothing either, it waits.
func TestStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path) // of another type: EPROTOTYPE
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	stream := os.NewFile(uintptr(fds[0]), "stream")
	h, err := open(path, stream, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(h.sink.fd)
	slog.New(h).Error("lost?", "gid", "x")
	b := make([]byte, 100)
	if n, err := unix.Read(fds[1], b); err != nil || string(b[:n]) != "<3>lost?: gid=x\n" {
		t.Errorf("the stream got %q, %v", b[:n], err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	h.sink.stream = -1
	slog.New(h).Error("lost?")
	if !waits(h) || h.sink.flushed() {
		t.Error("a line is gone that nobody took")
	}
}
