// Package foreign reads files that somebody else may have put there: what lies in a directory into which another
// user may write is of his choosing, in kind, length and owner. Reading never waits, and never follows a link.
package foreign

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Sentinels of Read, wrapped in a [fs.PathError].
var (
	ErrKind  = errors.New("not a regular file")
	ErrOwner = errors.New("not the file of its directory's owner")
	ErrLong  = errors.New("too long")
)

// Read returns a regular file of at most limit bytes, which belongs to the owner of its directory or to root, and what
// stat(2) says of it. Opening does not wait for the other end of a FIFO (open(2), O_NONBLOCK), and a symbolic link in
// the file's place is an error (O_NOFOLLOW).
func Read(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	dir, derr := os.Stat(filepath.Dir(name))
	if err = errors.Join(err, derr); err == nil {
		err = sound(st, dir)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, limit+1))
	}
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrLong, limit)
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return text, st, nil
}

// sound tells what is wrong with a file in a directory.
func sound(st, dir fs.FileInfo) error {
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%w but %s", ErrKind, st.Mode().Type())
	}
	if uid := owner(st); uid != owner(dir) && uid != 0 {
		return fmt.Errorf("%w, but of uid %d", ErrOwner, uid)
	}
	return nil
}

func owner(st fs.FileInfo) uint32 {
	sys, _ := st.Sys().(*syscall.Stat_t)
	return sys.Uid
}
