package ofd

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// TryByte takes the exclusive lock of one byte of f, which need not exist;
// false if another open file description has it.
func TryByte(f *os.File, at int64) (bool, error) { return setByte(f, at, unix.F_WRLCK) }

// ShareByte takes a shared lock of one byte of f.
func ShareByte(f *os.File, at int64) (bool, error) { return setByte(f, at, unix.F_RDLCK) }

// FreeByte gives the lock of one byte back.
func FreeByte(f *os.File, at int64) error {
	_, err := setByte(f, at, unix.F_UNLCK)
	return err
}

// HeldByte tells whether another open file description has a lock of that byte.
func HeldByte(f *os.File, at int64) (bool, error) {
	l := &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l); err != nil {
		return false, &fs.PathError{Op: "probe lock", Path: f.Name(), Err: err}
	}
	return l.Type != unix.F_UNLCK, nil
}

func setByte(f *os.File, at int64, kind int16) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return true, nil
}
