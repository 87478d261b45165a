package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
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
	one, two := Asker{"1", "root", time.Unix(7, 0).UTC()}, Asker{"2", "eve", time.Unix(8, 0).UTC()}
	if err := errors.Join(d.Ask("bank", one), d.Ask("bank", two), d.Detach("bank", "2"), d.Detach("bank", "1"), d.Drop("bank", "1"), d.Drop("bank", "1"),
		d.Drop("none", "1"), d.Asks("bank", "2"), d.Resume("none", "root")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(string(d), "paused")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "x.json.new"), nil, 0o600), os.WriteFile(filepath.Join(dir, "y.json"), []byte("{"), 0o600),
		os.Symlink("nowhere", filepath.Join(dir, "z.json"))); err != nil {
		t.Fatal(err)
	}
	all, err := d.Pauses()
	if err == nil || !strings.Contains(err.Error(), "y.json") || len(all) != 1 || !reflect.DeepEqual(all["bank"], Pause{one.Since, "eve", true, []Asker{two}}) {
		t.Errorf("%v, %v", all, err)
	}
	var over *ResumedError
	if err := d.Asks("bank", "1"); !errors.As(err, &over) || err.Error() != "bank is not paused any more: somebody has resumed it" {
		t.Error(err)
	}
	for _, err := range []error{d.Ask("y", one), d.Asks("y", "1"), d.Detach("y", "1"), d.Drop("y", "1")} {
		if err == nil || !strings.Contains(err.Error(), "y.json") {
			t.Error(err)
		}
	}
	if err := errors.Join(d.Resume("bank", "root"), os.Remove(filepath.Join(dir, "y.json"))); err != nil {
		t.Fatal(err)
	}
	if all, err := d.Pauses(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}

	if err := d.Asks("bank", "2"); !errors.As(err, &over) || over.By != "root" || !strings.HasPrefix(err.Error(), "bank is not paused any more: root resumed it at ") {
		t.Error(err)
	}
	if err := d.Detach("bank", "2"); !errors.As(err, &over) {
		t.Error(err)
	}
	if err := errors.Join(d.Ask("bank", one), d.Drop("bank", "1")); err != nil {
		t.Error(err)
	}
	if all, err := d.Pauses(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}

	file := Dir(filepath.Join(dir, "x.json.new"))
	if err := file.Ask("bank", one); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if err := file.Resume("bank", "root"); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}
