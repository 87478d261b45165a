package meter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
