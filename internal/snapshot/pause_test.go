package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPause keeps what is paused, also beside what cannot be read.
func TestPause(t *testing.T) {
	d := Dir(t.TempDir())
	if all, err := d.Pauses(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	is := Pause{Since: time.Unix(7, 0).UTC(), By: "root", Detached: true}
	if err := errors.Join(d.Pause("bank", Pause{}), d.Pause("bank", is), d.Resume("none")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(string(d), "paused")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "x.json.new"), nil, 0o600), os.WriteFile(filepath.Join(dir, "y.json"), []byte("{"), 0o600),
		os.Symlink("nowhere", filepath.Join(dir, "z.json"))); err != nil {
		t.Fatal(err)
	}
	all, err := d.Pauses()
	if err == nil || !strings.Contains(err.Error(), "y.json") || len(all) != 1 || all["bank"] != is {
		t.Errorf("%v, %v", all, err)
	}
	if err := errors.Join(d.Resume("bank"), os.Remove(filepath.Join(dir, "y.json"))); err != nil {
		t.Fatal(err)
	}
	if all, err := d.Pauses(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}

	file := Dir(filepath.Join(dir, "x.json.new"))
	if err := file.Pause("bank", is); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if err := file.Resume("bank"); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}
