package unit

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFree has all that may be at a path before a listener opens there.
func TestFree(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	served, err := net.Listen("unix", at("served"))
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("left")})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := errors.Join(left.Close(), os.WriteFile(at("file"), nil, 0o600), os.Mkdir(at("dir"), 0o700), os.Symlink("nowhere", at("link")),
		syscall.Mkfifo(at("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"absent": "", "left": "", "file/below": "",
		"served": "is a socket that another process serves",
		"file":   "is a file, which", "dir": "is a directory, which", "link": "is a symbolic link, which", "pipe": "is no socket, which",
	} {
		err := Free(at(name))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at(name))) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestFreeWithoutDescriptors says that it cannot look, and not that all is well.
func TestFreeWithoutDescriptors(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	err = Free(l.Addr().String())
	if restored := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); restored != nil {
		t.Fatal(restored)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Error(err)
	}
}

// TestCommand keeps every character from systemd's hands.
func TestCommand(t *testing.T) {
	if got, want := command(`/a b/%i$HOME\"`), `"/a b/%%i$$HOME\\\""`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
