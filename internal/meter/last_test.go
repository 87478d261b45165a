package meter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLast(t *testing.T) {
	dir := t.TempDir()
	if got, err := Left(dir); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for _, w := range []Worker{{Generation: 7, Slot: 1, Cut: 1}, {Generation: 7, Slot: 2, Cut: 2}, {Generation: 7, Slot: 1, Cut: 3}} {
		if err := Leave(dir, w); err != nil {
			t.Fatal(err)
		}
	}
	cuts := func() (all []uint64) {
		t.Helper()
		got, err := Left(dir)
		if err != nil {
			t.Error(err)
		}
		for _, w := range got {
			all = append(all, w.Cut)
		}
		return all
	}
	if got := cuts(); !slices.Equal(got, []uint64{3, 2}) {
		t.Error(got)
	}
	old := time.Now().Add(-Kept)
	if err := os.Chtimes(filepath.Join(dir, "7-1.last"), old, old); err != nil {
		t.Fatal(err)
	}
	if got := cuts(); !slices.Equal(got, []uint64{2}) {
		t.Error(got)
	}
	if err := Leave(dir, Worker{Generation: 8, Slot: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "7-1.last")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is old stays: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, "9-1.last"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Left(dir)
	if err == nil || !strings.Contains(err.Error(), "9-1.last") || len(got) != 2 {
		t.Errorf("half a file: %v, %v", got, err)
	}
	if err := Leave(filepath.Join(dir, "none"), Worker{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nowhere to leave it: %v", err)
	}
}

// TestLeftByOthers: whatever a worker puts into the directory, the others leave and are told.
func TestLeftByOthers(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	long := []byte(`{"cut": 1}` + strings.Repeat(" ", maxLast))
	if err := errors.Join(
		syscall.Mkfifo(at("0-0.last"), 0o600), syscall.Mkfifo(at("7-1.last.new"), 0o600), os.Symlink("/dev/zero", at("0-1.last")),
		os.WriteFile(at("0-2.last"), long, 0o600), os.WriteFile(at("x.last"), []byte("{}"), 0o600), os.WriteFile(at("07-1.last"), []byte("{}"), 0o600),
		os.WriteFile(at("9-9.last"), []byte(`{"generation": 7, "slot": 1, "cut": 5}`), 0o600),
		Leave(dir, Worker{Generation: 7, Slot: 1, Cut: 3}),
	); err != nil {
		t.Fatal(err)
	}
	got, err := Left(dir)
	if len(got) != 2 || got[0].Generation != 7 || got[0].Cut != 3 || got[1].Generation != 9 || got[1].Slot != 9 {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"0-0.last", "0-1.last", "0-2.last", "x.last", "07-1.last"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("of %s is said %v", name, err)
		}
	}
	// What is no file goes with its age too, and what cannot be removed is told.
	old := time.Now().Add(-Kept)
	if err := errors.Join(os.Chtimes(at("0-0.last"), old, old), os.MkdirAll(at("8-1.last/full"), 0o700), os.Chtimes(at("8-1.last"), old, old),
		os.MkdirAll(at("8-2.last.new/full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := Leave(dir, Worker{Generation: 8, Slot: 2}); err == nil || !strings.Contains(err.Error(), "8-1.last") || !strings.Contains(err.Error(), "8-2.last.new") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(at("0-0.last")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old FIFO stays: %v", err)
	}
}

// TestLeftTooMuch: what is read in all is bounded.
func TestLeftTooMuch(t *testing.T) {
	dir := t.TempDir()
	long := []byte(`{"cut": 1}` + strings.Repeat(" ", maxLast-10))
	for slot := range maxLeft/maxLast + 1 {
		if err := os.WriteFile(filepath.Join(dir, lastName(1, slot)), long, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Left(dir); !errors.Is(err, errMuch) || len(got) != maxLeft/maxLast {
		t.Errorf("%d, %v", len(got), err)
	}
}
