// Package ofd locks files by open file description (fcntl(2), F_OFD_SETLK). A
// lock lives exactly as long as a process holds the file open, however it
// dies, so that a lock proves a life and no timer is needed; it is no use on
// a file that programs outside of fdt lock by other means.
package ofd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// TryLock takes the exclusive lock of f; false if another open file
// description has it.
func TryLock(f *os.File) (bool, error) { return set(f, whole(unix.F_WRLCK)) }

// Close gives the lock of f back and closes it. Closing alone would not do
// while a process that was just forked still holds the description open.
func Close(f *os.File) error { return errors.Join(Free(f), f.Close()) }

// Free gives all locks of f back, also those of single bytes.
func Free(f *os.File) error {
	_, err := set(f, whole(unix.F_UNLCK))
	return err
}

// Held tells whether another open file description than f has the lock.
func Held(f *os.File) (bool, error) { return held(f, whole(unix.F_WRLCK)) }

// Lock waits for the exclusive lock of f until ctx ends. It asks again with
// growing pauses, 0.2 ms to 50 ms, since a blocked fcntl cannot be called off.
func Lock(ctx context.Context, f *os.File) error {
	return wait(ctx, f, func() (bool, error) { return TryLock(f) })
}

// wait is Lock of what try takes.
func wait(ctx context.Context, f *os.File, try func() (bool, error)) error {
	pause := 200 * time.Microsecond
	for {
		ok, err := try()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", f.Name(), context.Cause(ctx))
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}

// Linked tells whether f still has a name in a directory; a lock on a file
// without one guards nothing.
func Linked(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Nlink > 0, nil
}

func set(f *os.File, l *unix.Flock_t) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return true, nil
}

func held(f *os.File, l *unix.Flock_t) (bool, error) {
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l); err != nil {
		return false, &fs.PathError{Op: "probe lock", Path: f.Name(), Err: err}
	}
	return l.Type != unix.F_UNLCK, nil
}

func whole(kind int16) *unix.Flock_t { return &unix.Flock_t{Type: kind} }

func one(kind int16, at int64) *unix.Flock_t { return &unix.Flock_t{Type: kind, Start: at, Len: 1} }
