package txn

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// SetFault has f called at every step, and before every system call of the
// log, which fails with what it returns.
func SetFault(o *Options, f func(step string) error) { o.fault = f }

// SetFrozen sets how long a process may be stopped with a lock.
func SetFrozen(o *Options, d time.Duration) { o.frozen = d }

// Retry tries once what is left over.
func Retry(m *Manager, ctx context.Context) { m.retry(ctx, nil) }

// Rotate rewrites the log of m whatever its size.
func Rotate(m *Manager, ctx context.Context) error { return m.ledger.Rotate(ctx, 0, m.dispensable) }

// Sweep drops the proofs of finished commits.
func Sweep(m *Manager, ctx context.Context) error { return m.sweep(ctx) }

// Rested ends the pauses of resources that did not answer, and of branches that
// could not be told.
func Rested(m *Manager) { m.pending.Resume() }

// Away has a resource be left alone for an hour, as after an outage.
func Away(m *Manager, resource string) {
	m.pending.Pause(resource, time.Now().Add(time.Hour), ErrUnreachable)
}

// Rebind has a log directory that was copied pass for the original, which its id tells from a copy. One without a
// readable id stays as it is.
func Rebind(dir, machine string) {
	path := filepath.Join(dir, "id")
	raw, err := os.ReadFile(path)
	var id map[string]string
	if err != nil || json.Unmarshal(raw, &id) != nil {
		return
	}
	born := func(path string) string {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME|unix.STATX_INO, &st); err != nil {
			panic(err)
		}
		if st.Mask&unix.STATX_BTIME == 0 {
			return fmt.Sprintf("inode %d", st.Ino)
		}
		return fmt.Sprintf("time %d.%09d", st.Btime.Sec, st.Btime.Nsec)
	}
	id["machine"], id["birth"], id["self"] = machine, born(dir), born(path)
	raw, _ = json.Marshal(id)
	_ = os.WriteFile(path, raw, 0o640) // the same inode
}

// ReadCount takes over what the recovering process has counted.
func ReadCount(m *Manager) error { return m.readCounted() }

// OldestInDoubt is since when the oldest is in doubt, in nanoseconds since 1970, as the last scan of any process has it.
func OldestInDoubt(m *Manager) int64 { return m.oldest.Load() }

// KeepRoom keeps the operator's room now.
func KeepRoom(m *Manager) { m.ledger.KeepRoom() }

// RetryLoop tells what is left over until ctx ends, and does not scan.
func RetryLoop(m *Manager, ctx context.Context) { m.retryLoop(ctx) }

// Orphaned tells whether an incarnation of another host waits for who recovers.
func Orphaned(m *Manager, ctx context.Context) (bool, error) { return m.ledger.Orphaned(ctx) }
