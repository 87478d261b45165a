package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Free reports why a listener must not be opened at a path: something is there that is no socket, or is one that
// another process accepts on. systemd removes whatever it finds there, systemd.socket(5). A socket that nobody accepts
// on is what is left of a process that died, and may go. Nothing is said of a path that this process may not look at.
//
// The caller makes sure that the listener is not open already.
func Free(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil //nolint:nilerr // absent, or not for this process to see
	case info.Mode().Type() == fs.ModeSocket:
		return unserved(path)
	}
	return fmt.Errorf("%s is there and is %s, which fdt does not replace by its socket: move it away, or name another path", path, kind(info.Mode()))
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode.Type() == fs.ModeSymlink:
		return "a symbolic link"
	}
	return "no socket"
}

// unserved connects, without waiting. A full queue is served, too.
func unserved(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	for _, harmless := range []error{unix.ECONNREFUSED, unix.ENOENT, unix.EACCES} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	return fmt.Errorf("%s is a socket that another process serves: stop that, or name another path", path)
}
