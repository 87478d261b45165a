package foreign

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt") // short, for a unix socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("plain"), []byte("text"), 0o600))
	must(t, os.Symlink("plain", at("link")))
	must(t, syscall.Mkfifo(at("fifo"), 0o600)) // without a writer: an open that waits would hang here
	must(t, os.Mkdir(at("directory"), 0o700))
	l, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer l.Close()

	text, st, err := Read(at("plain"), 4)
	if err != nil || string(text) != "text" || st.Size() != 4 {
		t.Errorf("%q, %v, %v", text, st, err)
	}
	for name, want := range map[string]error{
		"fifo": ErrKind, "directory": ErrKind, "link": syscall.ELOOP, "socket": syscall.ENXIO, "none": fs.ErrNotExist,
	} {
		if text, _, err := Read(at(name), 4); !errors.Is(err, want) || text != nil {
			t.Errorf("%s: %q, %v, want %v", name, text, err, want)
		}
	}
	if _, _, err := Read(at("plain"), 3); !errors.Is(err, ErrLong) {
		t.Errorf("a file that is too long: %v", err)
	}
	if _, _, err := Read("/dev/zero", 3); !errors.Is(err, ErrKind) {
		t.Errorf("a device: %v", err)
	}
	if _, _, err := Read("/proc/self/mem", 3); !errors.Is(err, syscall.EIO) { // address 0 is not mapped
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// TestOwner: a file of a third party, put there by a link, is not read; root's is.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Chown(name, 65534, -1))
	if _, _, err := Read(name, 1); !errors.Is(err, ErrOwner) {
		t.Errorf("a stranger's: %v", err)
	}
	must(t, os.Chown(dir, 65534, -1))
	if _, _, err := Read(name, 1); err != nil {
		t.Errorf("the directory's owner's: %v", err)
	}
	must(t, os.Chown(name, 0, -1))
	if _, _, err := Read(name, 1); err != nil {
		t.Errorf("root's: %v", err)
	}
}
