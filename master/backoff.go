package master

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// The first and the longest delay between two attempts.
const (
	backoffFirst = 500 * time.Millisecond
	backoffLast  = 30 * time.Second
)

// backoff doubles a delay from attempt to attempt. The zero value begins.
type backoff struct {
	delay time.Duration
	until time.Time
}

// next returns the delay before the next attempt, and remembers when that is. A pause of ten times the
// last delay starts anew.
func (b *backoff) next(now time.Time) time.Duration {
	if !b.until.IsZero() && now.Sub(b.until) > max(10*b.delay, time.Minute) {
		b.delay = 0
	}
	b.delay = min(max(2*b.delay, backoffFirst), backoffLast)
	b.until = now.Add(b.delay)
	return b.delay
}

// identity changes whenever a file is replaced or written to; it is not a checksum.
func identity(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path + " absent;"
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%s %d %d %d;", path, inode, info.Size(), info.ModTime().UnixNano())
}
