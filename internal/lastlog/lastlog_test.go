package lastlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/lastlog"
)

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "transaction-log")
	expect := func(machine, want string) {
		t.Helper()
		if log, err := lastlog.Read(file, machine); log != want || err != nil {
			t.Errorf("%q, %v; want %q", log, err, want)
		}
	}
	expect("m1", "")
	for _, log := range []string{"a", "b"} {
		if err := lastlog.Write(file, "m1", log); err != nil {
			t.Fatal(err)
		}
		expect("m1", log)
	}
	expect("m2", "") // a copy of the configuration
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(file, []byte("# a\n\nm1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if log, err := lastlog.Read(file, "m1"); err == nil {
		t.Errorf("%q", log)
	}
	if log, err := lastlog.Read(filepath.Dir(file), "m1"); err == nil {
		t.Errorf("a directory: %q", log)
	}
	if err := lastlog.Write(filepath.Join(file, "below"), "m1", "a"); err == nil {
		t.Error("written below a file")
	}
	if err := lastlog.Write("/dev/full/x", "m1", "a"); err == nil {
		t.Error("written to nowhere")
	}
	if err := os.WriteFile(file, []byte("m1 a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file+".new", 0o600); err != nil { // which takes every byte, and forces none to disk
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(file+".new", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := lastlog.Write(file, "m1", "b"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("forced to no disk: %v", err)
	}
	expect("m1", "a")
}
