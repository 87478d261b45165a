package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outstanding is asked for as the socket's send buffer, which the kernel doubles. It bounds what this process has
	// in journald's queue, some twenty records: that queue is short, and systemd itself waits for a place in it.
	outstanding = 12 << 10
	// maxWaiting bounds, in bytes, what is kept for a journal that takes nothing.
	maxWaiting = 1 << 20
	// While records wait, the journal is tried again after minPause, then twice as long each time up to maxPause.
	minPause = 5 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// sink is the socket, shared by a handler and those derived from it. It is not connected, so that a journald that
// comes back is found by the next record.
type sink struct {
	fd     int
	addr   unix.SockaddrUnix
	stream int                      // of systemd to the journal, for what the socket refuses
	note   func(dropped int) []byte // a record that says how many are missing

	mu      sync.Mutex
	waiting []entry // what the journal did not take yet, oldest first
	size    int     // of waiting, in bytes
	dropped int     // since the journal was last told
	pause   time.Duration
	timer   *time.Timer // runs while something waits
}

// entry is one record, as a line for people too.
type entry struct {
	line string
	data []byte
}

func newSink(path string, stream int) (*sink, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", os.NewSyscallError("socket", err))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, outstanding) // never fails on a socket
	return &sink{fd: fd, addr: unix.SockaddrUnix{Name: path}, stream: stream}, nil
}

// write sends a record, or keeps it, or drops it.
func (s *sink) write(line string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := entry{line, data}
	if s.timer == nil && s.send(e) {
		return
	}
	if s.dropped > 0 || s.size+len(data) > maxWaiting { // once begun, up to the note: it says where the gap is
		s.dropped++
	} else {
		s.waiting = append(s.waiting, e)
		s.size += len(data)
	}
	if s.timer == nil {
		s.pause = minPause
		s.timer = time.AfterFunc(s.pause, s.again)
	}
}

// again is called while something waits.
func (s *sink) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := len(s.waiting)
	if s.catchUp() {
		s.timer = nil
		return
	}
	s.pause = min(2*s.pause, maxPause)
	if len(s.waiting) < was {
		s.pause = minPause
	}
	s.timer.Reset(s.pause)
}

// catchUp sends what waits, and then how much is missing. It reports whether nothing is left.
func (s *sink) catchUp() bool {
	for len(s.waiting) > 0 {
		if !s.send(s.waiting[0]) {
			return false
		}
		s.size -= len(s.waiting[0].data)
		s.waiting[0] = entry{}
		s.waiting = s.waiting[1:]
	}
	s.waiting = nil
	if s.dropped > 0 {
		if !s.send(entry{data: s.note(s.dropped)}) {
			return false
		}
		s.dropped = 0
	}
	return true
}

// send sends one record natively; where that is refused, as by a security module, as a line in the stream.
func (s *sink) send(e entry) bool {
	err := unix.Sendto(s.fd, e.data, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, &s.addr)
	switch {
	case err == nil:
		return true
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return false // busy, or not there: for a while, or for ever
	}
	return e.line != "" && unix.Sendto(s.stream, []byte(e.line), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil) == nil
}

// Flush returns when the journal has everything that was logged through h, or after within. It is for a process's
// end. A handler that is not of this package has nothing to flush.
func Flush(h slog.Handler, within time.Duration) {
	native, ok := h.(*Handler)
	for end := time.Now().Add(within); ok && !native.sink.flushed() && time.Now().Before(end); {
		time.Sleep(minPause)
	}
}

func (s *sink) flushed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catchUp()
}
