package application

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestSecret starts many at once: they agree, and leave one file, which stays.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	keys := make([]string, 64)
	for i := range keys {
		all.Go(func() {
			key, err := secret(dir)
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(key)
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || len(key) != 32 {
			t.Fatalf("%x and %x", keys[0], key)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if st, err := entries[0].Info(); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if other, err := secret(t.TempDir()); err != nil || string(other) == keys[0] {
		t.Errorf("elsewhere: %x, %v", other, err)
	}
}

// TestNoSecret is a table of places that have none, and where none can be made.
func TestNoSecret(t *testing.T) {
	short, dangling, taken := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(short, "secret"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dangling, "secret")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(taken, "secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		short:                     "/secret has 5 bytes and not 32; remove it, ",
		dangling:                  "/secret: no such file or directory",
		taken:                     "/secret: is a directory",
		filepath.Join(short, "x"): "/x: no such file or directory",
		"/proc/self/fd":           "open /proc/self/fd/new-",
	} {
		if key, err := secret(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %x, %v, want %s", dir, key, err, want)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "new-*")); len(left) != 0 {
			t.Errorf("%s: left %v", dir, left)
		}
	}
}
