package activation

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// ListenerOf makes a Listener of a copy of f's descriptor.
func ListenerOf(t *testing.T, f *os.File) *Listener {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := newListener(fd, f.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
