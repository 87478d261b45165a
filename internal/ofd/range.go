package ofd

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// TryByte takes the exclusive lock of one byte of f, which need not exist;
// false if another open file description has it.
func TryByte(f *os.File, at int64) (bool, error) { return set(f, one(unix.F_WRLCK, at)) }

// LockByte is Lock of one byte of f, which need not exist.
func LockByte(ctx context.Context, f *os.File, at int64) error {
	return wait(ctx, f, func() (bool, error) { return TryByte(f, at) })
}

// ShareByte takes a shared lock of one byte of f.
func ShareByte(f *os.File, at int64) (bool, error) { return set(f, one(unix.F_RDLCK, at)) }

// FreeByte gives the lock of one byte back.
func FreeByte(f *os.File, at int64) error {
	_, err := set(f, one(unix.F_UNLCK, at))
	return err
}

// HeldByte tells whether another open file description has a lock of that byte.
func HeldByte(f *os.File, at int64) (bool, error) { return held(f, one(unix.F_WRLCK, at)) }
