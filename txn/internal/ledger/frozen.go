package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
)

// A lock of the directory ends with the process that holds it, but not while
// that is stopped: by SIGSTOP, or by Ctrl-Z in a command of an operator. Its
// file therefore names the holder, and who has found that one stopped each time
// for frozenFor kills it. What it was at is recovered as of any that died.

// frozenFor is how long a process may be stopped with a lock that others want.
const frozenFor = 30 * time.Second

// holder is a process, by its number and when it was started in clock ticks
// after boot: proc_pid_stat(5), fields 1 and 22.
type holder struct {
	pid   int
	start uint64
}

// processOf reads what a process is, and its state; an error if there is none.
func processOf(pid int) (h holder, state byte, err error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return holder{}, 0, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from the third on, as the second may hold anything
	if len(fields) < 20 {
		return holder{}, 0, fmt.Errorf("/proc/%d/stat: %q", pid, raw)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return holder{pid, start}, fields[0][0], err
}

// sign has a lock's file name this process. That it cannot is no fault: then
// nobody kills it.
func sign(f *os.File) {
	if h, _, err := processOf(os.Getpid()); err == nil {
		_ = f.Truncate(0)
		_, _ = f.WriteAt(fmt.Appendln(nil, h.pid, h.start), 0)
	}
}

// signed reads who holds a lock; false if its file does not say.
func signed(f *os.File) (h holder, ok bool) {
	raw := make([]byte, 64)
	n, err := f.ReadAt(raw, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return holder{}, false
	}
	_, err = fmt.Sscan(string(raw[:n]), &h.pid, &h.start)
	return h, err == nil
}

// freezes is since when the holders of locks were found stopped.
type freezes struct {
	mu     sync.Mutex
	since  map[string]freeze // by lock
	events Events
	limit  time.Duration // frozenFor, but for tests
}

type freeze struct {
	by    holder
	since time.Time
	told  bool
}

// look looks at who holds the lock that was not to be had, and kills a process
// that has been stopped for too long.
func (fr *freezes) look(ctx context.Context, name string, f *os.File, now time.Time) {
	fr.mu.Lock()
	defer fr.mu.Unlock()
	by, ok := signed(f)
	is, state, err := processOf(by.pid)
	if !ok || err != nil || is != by || state != 'T' {
		delete(fr.since, name)
		return
	}
	was, known := fr.since[name]
	if !known || was.by != by {
		if fr.since == nil {
			fr.since = map[string]freeze{}
		}
		was = freeze{by: by, since: now}
	}
	if now.Sub(was.since) >= fr.limit && !was.told {
		was.told = true
		fr.events.Froze(ctx, by.pid, f.Name(), syscall.Kill(by.pid, syscall.SIGKILL))
	}
	fr.since[name] = was
}

// lockAgain is how often who waits for a lock looks at its holder.
const lockAgain = time.Second

var errLockAgain = errors.New("still held")

// wait waits for the lock of f, and sees to it that a stopped process does not
// keep it for ever.
func (h *directory) wait(ctx context.Context, name string, f *os.File) error {
	for {
		within, cancel := context.WithTimeoutCause(ctx, min(lockAgain, h.freezes.limit), errLockAgain)
		err := ofd.Lock(within, f)
		cancel()
		if err == nil {
			sign(f)
		}
		if !errors.Is(err, errLockAgain) {
			return err
		}
		h.freezes.look(ctx, name, f, time.Now())
	}
}
