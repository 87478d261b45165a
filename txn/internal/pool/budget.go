package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn"
)

// Budget bounds the connections that all processes together keep open, whatever their number and generation. Each connection is the lock of
// one byte of a file that they share, so that a process which dies gives its own back; it guards nothing from a process that opens another
// file.
type Budget struct {
	file *os.File // for the life of the process

	mu      sync.Mutex
	held    []bool // by this process
	waiting int    // callers that wait for a place
}

// wantedAt is the byte of which those that wait for a place hold a shared lock.
const wantedAt = 1 << 30

// lookAgain is how long a process that waits for a place pauses, and one that has idle connections until it asks whether another waits.
const (
	lookAgain = 10 * time.Millisecond
	yieldEach = 250 * time.Millisecond
)

// OpenBudget opens the file, making it if need be. Processes may have different limits: each keeps to its own.
func OpenBudget(path string, limit int) (*Budget, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("connection budget: %w", err)
	}
	return &Budget{file: f, held: make([]bool, limit)}, nil
}

// limit is how many places this process knows.
func (b *Budget) limit() int { return len(b.held) }

// takeNow takes a place if there is one and nobody waits for it.
func (b *Budget) takeNow() (bool, error) {
	if b.wanted() {
		return false, nil
	}
	return b.try()
}

// take takes a place, for which it waits until ctx ends, then the error is txn.ErrExhausted. Meanwhile other processes give up idle ones.
func (b *Budget) take(ctx context.Context) error {
	b.wait(+1)
	defer b.wait(-1)
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: all %d of the service are open (%w)", txn.ErrExhausted, b.limit(), context.Cause(ctx))
		case <-time.After(lookAgain/2 + rand.N(lookAgain)):
		}
		if ok, err := b.try(); ok || err != nil {
			return err
		}
	}
}

// try takes a place if there is one.
func (b *Budget) try() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, held := range b.held {
		if held {
			continue
		}
		ok, err := ofd.TryByte(b.file, int64(i))
		if ok || err != nil {
			b.held[i] = ok
			return ok, err
		}
	}
	return false, nil
}

// give gives a place back: any, as they are alike. A lock that cannot be given back goes with the process.
func (b *Budget) give() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, held := range b.held {
		if held && ofd.FreeByte(b.file, int64(i)) == nil {
			b.held[i] = false
			return
		}
	}
}

// wait counts the callers that wait, and lets other processes see whether there are any. What it cannot show only takes longer.
func (b *Budget) wait(more int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += more
	switch {
	case b.waiting == 1 && more > 0:
		_, _ = ofd.ShareByte(b.file, wantedAt)
	case b.waiting == 0:
		_ = ofd.FreeByte(b.file, wantedAt)
	}
}

// wanted tells whether another process waits for a place.
func (b *Budget) wanted() bool {
	held, err := ofd.HeldByte(b.file, wantedAt)
	return held && err == nil
}
