package application

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// pins is a place with generations that live, and programs.
func pins(t *testing.T, gens ...string) (p place, dir string) {
	t.Helper()
	p = place{gen: 3, run: t.TempDir(), lib: t.TempDir()}
	for _, gen := range gens {
		if err := os.MkdirAll(filepath.Join(p.run, "generation", gen), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(p.lib, "program")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func program1(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPinned: a generation has the program that its first worker ran.
func TestPinned(t *testing.T) {
	p, dir := pins(t, "2", "3")
	first, second := program1(t, "first"), program1(t, "second")
	for _, old := range []string{"1", "2", "new-x"} {
		if err := os.WriteFile(filepath.Join(dir, old), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if path, err := p.pinned(first); path != "" || err != nil {
			t.Fatal(path, err)
		}
	}
	path, err := p.pinned(second)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); string(text) != "first" || err != nil {
		t.Errorf("%s: %s, %v", path, text, err)
	}
	if again, err := p.pinned(path); again != "" || err != nil {
		t.Errorf("the copy is to run %s, %v", again, err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if strings.Join(left, " ") != "2 3 new-x" || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	if path, err := p.pinned(program1(t, "FIRST")); path == "" || err != nil { // of the same size
		t.Error(path, err)
	}
}

// TestPinnedAtOnce: of workers that start at once with different programs, all
// run one.
func TestPinnedAtOnce(t *testing.T) {
	p, _ := pins(t, "3")
	programs := []string{program1(t, "a"), program1(t, "b")}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if _, err := p.pinned(programs[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	runs := map[string]bool{}
	for _, own := range programs {
		path, err := p.pinned(own)
		if err != nil {
			t.Fatal(err)
		}
		if path == "" {
			path = own
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		runs[string(text)] = true
	}
	if len(runs) != 1 {
		t.Errorf("they run %v", runs)
	}
}

// TestNotPinned is a table of places that cannot keep a program.
func TestNotPinned(t *testing.T) {
	p, dir := pins(t, "3")
	if _, err := p.pinned("/nonexistent"); err == nil {
		t.Error("no program")
	}
	if _, err := p.pinned(t.TempDir()); err == nil {
		t.Error("a directory was kept")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	if _, err := equal("/nonexistent", dir); err == nil {
		t.Error("nothing is equal")
	}
	if same, err := equal(dir, t.TempDir()); same || err == nil {
		t.Error("directories are equal")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := p.pinned(program1(t, "a")); err == nil {
		t.Error("kept nowhere")
	}
	if err := keep(program1(t, "a"), filepath.Join(dir, "x")); err == nil {
		t.Error("kept nowhere")
	}
}
