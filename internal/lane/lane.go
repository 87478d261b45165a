// Package lane has all processes that share a file compute for long one after
// another, as far as the host has not more processors than that takes. Without
// it, two processes that each have one thing that computes for long leave no
// processor of two to those who ask for little.
//
// A seat is the lock of one byte of the file (package ofd), so that a process
// which dies gives its own back. One that stands still keeps it, which others
// bear: they have waited once, and go on without one then.
package lane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
)

const (
	// pause is between two looks for a free seat, more or less.
	pause = 200 * time.Microsecond
	// patience is how long a seat is waited for. Who has one gives it up after some milliseconds at most, or as late as the processors
	// come to it.
	patience = 250 * time.Millisecond
	// wantedAt is the byte of which those that wait for a seat hold a shared lock.
	wantedAt = 1 << 30
)

// Lane is one process's part in the seats. It may have one at a time; its methods must not be called by several goroutines at once.
type Lane struct {
	file   *os.File // for the life of the process
	seats  int64
	seat   int64 // is held, or was
	held   bool
	frozen bool // a seat was waited for in vain, and none was there since
}

// Open opens the file, making it if need be. There are as many seats as processors but one, and one at least.
func Open(path string, processors int) (*Lane, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lane: %w", err)
	}
	return &Lane{file: f, seats: int64(max(1, processors-1))}, nil
}

// Take waits for a seat, behind other processes that do, or until one of them must be standing still: then it is done without. It returns
// false if ctx ends before.
func (l *Lane) Take(ctx context.Context) bool {
	if l.frozen || !l.wanted() {
		if l.try() || l.frozen {
			return true
		}
	}
	_, _ = ofd.ShareByte(l.file, wantedAt) // what others do not see, they do not wait for
	defer func() { _ = ofd.FreeByte(l.file, wantedAt) }()
	for until := time.Now().Add(patience); !l.frozen; l.frozen = time.Now().After(until) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause/2 + rand.N(pause)):
		}
		if l.try() {
			break
		}
	}
	return true
}

// try takes a seat if there is one: first that of before, which others leave alone.
func (l *Lane) try() bool {
	for range l.seats {
		ok, err := ofd.TryByte(l.file, l.seat)
		if ok || err != nil { // where nothing can be locked, there is no lane
			l.held, l.frozen = ok, false
			return true
		}
		l.seat = (l.seat + 1) % l.seats
	}
	return false
}

// Rest gives the seat up, if there is one.
func (l *Lane) Rest() {
	if l.held {
		l.held = false
		_ = ofd.FreeByte(l.file, l.seat) // goes with the process otherwise
	}
}

// wanted tells whether another process waits for a seat.
func (l *Lane) wanted() bool {
	held, err := ofd.HeldByte(l.file, wantedAt)
	return held && err == nil
}
