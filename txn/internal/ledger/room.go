package ledger

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn/internal/wal"
	"github.com/fdtserver/fdt/txn/xa"
)

// roomName is a file that keeps place on the disk for some more logs. Workers have a reserve in their own; an operator, whose
// process has none yet, takes of this where the disk is full: a decision is what frees locks, and often the disk as well.
const roomName = "room"

const (
	// oneLog is what a log takes at first, with its number and its name.
	oneLog = wal.Step + 64<<10
	// roomSize is for as many decisions, each by a process of its own; resolve --all needs no more than one.
	roomSize = 8 * oneLog
)

// keepRoom makes the place, or what is missing of it. Without space for it there is none: that is what it is for.
func (h *directory) keepRoom() {
	f, err := os.OpenFile(h.path(roomName), os.O_WRONLY|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	_ = unix.Fallocate(int(f.Fd()), 0, 0, roomSize)
	_ = f.Close()
}

// useRoom gives the place of one log to whoever is quick, and reports whether there was one.
func (h *directory) useRoom() bool {
	st, err := os.Stat(h.path(roomName))
	return err == nil && st.Size() >= oneLog && os.Truncate(h.path(roomName), st.Size()-oneLog) == nil
}

// isFull reports whether an error is that of a disk without space.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// begin begins this process's incarnation. The caller holds f.mu.
func (f *Files) begin(open func() (*logFile, error)) (*logFile, error) {
	j, err := open()
	if isFull(err) && f.opt.Operator && f.dir.useRoom() {
		j, err = open()
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", xa.ErrLogFull, err)
	}
	return j, err
}

// The directory of claims must keep room free: it is memory that others need, systemd among
// them, and decisions need some, too. Of a small file system an eighth is kept.
const (
	roomBytes  = 16 << 20
	roomFiles  = 1024
	roomEighth = 8
)

// room tells whether one more claim may be made: ENOSPC if not.
func (c claims) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: c.dir, Err: err}
	}
	size := uint64(st.Bsize) //nolint:gosec // positive
	if st.Bavail*size < min(roomBytes, st.Blocks*size/roomEighth) || st.Files > 0 && st.Ffree < min(roomFiles, st.Files/roomEighth) {
		return &os.PathError{Op: "reserve room", Path: c.dir, Err: unix.ENOSPC}
	}
	return c.fault.At("room")
}
