package master

import (
	"cmp"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/config"
)

// The first and the longest delay between two attempts, where the configuration has no say.
const (
	backoffFirst = 500 * time.Millisecond
	backoffLast  = 30 * time.Second
)

// backoff doubles a delay from attempt to attempt. The zero value begins.
type backoff struct {
	limits config.Backoff
	delay  time.Duration
	until  time.Time
}

// next returns the delay before the next attempt, and remembers when that is. A pause of ten times the
// last delay starts anew.
func (b *backoff) next(now time.Time) time.Duration {
	if !b.until.IsZero() && now.Sub(b.until) > max(10*b.delay, time.Minute) {
		b.delay = 0
	}
	first, longest := cmp.Or(b.limits.First, backoffFirst), cmp.Or(b.limits.Longest, backoffLast)
	b.delay = min(max(2*b.delay, first), longest)
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
