package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// etc makes a configuration directory of files given as name, text, name, text.
func etc(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(files[i+1]), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestState(t *testing.T) {
	d := Dir(t.TempDir())
	if _, err := d.ReadState(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no state is %v", err)
	}
	want := State{Schema: Schema, Next: 9, Applied: 7, Pending: 8, Previous: 6, Draining: []int{5, 7}, RestartWanted: true,
		UnitHash: "u", BinaryHash: "b", Rejected: "why", Step: "settle"}
	for range 2 {
		must(t, d.WriteState(want))
		got, err := d.ReadState()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if live := want.Live(); !reflect.DeepEqual(live, []int{5, 7, 8}) {
		t.Errorf("live are %v", live)
	}
	if live := (State{}).Live(); len(live) != 0 {
		t.Errorf("live are %v", live)
	}
	st, err := os.Stat(d.statePath())
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(string(d), "*.new"))
	if err != nil || len(left) != 2 {
		t.Errorf("room is left for the next: %v, %v", left, err)
	}
	for _, name := range left {
		if st, err := os.Lstat(name); err != nil || st.Size() != room {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

// TestCounts: what everybody may read holds numbers, and no text that the state has.
func TestCounts(t *testing.T) {
	d := Dir(t.TempDir())
	if _, err := d.ReadCounts(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no counts are %v", err)
	}
	must(t, d.Take(7, etc(t, "config.yaml", "workers: {count: 3}\n")))
	want := Counts{Applied: 7, Wanted: 3, Rejected: true, Rollouts: Rollouts{Applied: 7, Failed: 2, Rejected: 1}}
	must(t, d.WriteState(State{Next: 9, Applied: 7, Rejected: "why", Rollouts: want.Rollouts}))
	if got, err := d.ReadCounts(); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	text, err := os.ReadFile(d.countsPath())
	if err != nil || strings.Contains(string(text), "why") {
		t.Errorf("%s, %v", text, err)
	}
	if st, err := os.Stat(d.countsPath()); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", st, err)
	}
	must(t, d.WriteState(State{Next: 9, Applied: 8})) // its snapshot is lost
	if got, err := d.ReadCounts(); err != nil || got != (Counts{Applied: 8}) {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, os.WriteFile(d.countsPath(), []byte("{"), 0o644))
	if _, err := d.ReadCounts(); err == nil || !strings.Contains(err.Error(), "counts.json") {
		t.Errorf("half a file is %v", err)
	}
	must(t, os.Remove(d.countsPath()+".new"))
	must(t, os.MkdirAll(filepath.Join(d.countsPath()+".new", "full"), 0o755))
	if err := d.WriteState(State{Next: 9, Applied: 7}); err == nil {
		t.Error("wrote over a directory")
	}
	if s, err := d.ReadState(); err != nil || s.Applied != 8 {
		t.Errorf("the state is ahead of what is told: %+v, %v", s, err)
	}
}

func TestStateThatCannotBe(t *testing.T) {
	d := Dir(t.TempDir())
	for _, s := range []State{{Next: 1, Applied: 1}, {Next: 1, Pending: 2}, {Next: 3, Draining: []int{3}}, {Next: 3, Applied: -1}} {
		if err := d.WriteState(s); err == nil {
			t.Errorf("wrote %+v", s)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"schema": 2}`, `{"next": 1}`, `{"schema": 1, "next": 1, "applied": 1}`, `{"schema": 1, "next": 1, "draining": [0]}`} {
		must(t, os.WriteFile(d.statePath(), []byte(text), 0o644))
		if s, err := d.ReadState(); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "state.json") {
			t.Errorf("%q is %+v, %v", text, s, err)
		}
	}
	if err := Dir(filepath.Join(string(d), "none")).WriteState(State{Next: 1}); err == nil {
		t.Error("wrote into a directory that does not exist")
	}
	must(t, os.MkdirAll(filepath.Join(d.statePath()+".new", "full"), 0o755))
	if err := d.WriteState(State{Next: 1}); err == nil {
		t.Error("wrote over a directory")
	}
}

func TestSnapshots(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	d := Dir(t.TempDir())
	if gens, err := d.Generations(); err != nil || len(gens) != 0 {
		t.Errorf("%v, %v", gens, err)
	}
	from := etc(t, "config.yaml", "workers: {count: 3}\n", "config.d/a.yaml", "drain: {idle: 1s}\n", "config.d/notes.txt", "x")
	must(t, d.Take(7, from))
	must(t, os.WriteFile(filepath.Join(from, "config.yaml"), []byte("nonsense"), 0o600))
	cfg, err := d.Load(7)
	if err != nil || cfg.Workers.Count != 3 {
		t.Fatalf("%+v, %v", cfg, err)
	}
	if same, err := Same(from, d.Path(7)); same || err != nil {
		t.Errorf("same %v, %v", same, err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o750, "config.d": 0o750, "config.yaml": 0o640, "config.d/a.yaml": 0o640} {
		if st, err := os.Stat(filepath.Join(d.Path(7), name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if _, err := os.Stat(filepath.Join(d.Path(7), "config.d/notes.txt")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("copied what is not read: %v", err)
	}
	if old, err := d.LoadResolved(7); err != nil || !reflect.DeepEqual(old, cfg) {
		t.Errorf("resolved %+v, %v", old, err)
	}
	if err := d.Take(7, from); !errors.Is(err, fs.ErrExist) {
		t.Errorf("taken twice: %v", err)
	}
	must(t, d.Take(12, etc(t, "config.yaml", "")))
	for _, name := range []string{".new-13", ".old-6", "x", "07", "0", "-1"} {
		must(t, os.Mkdir(filepath.Join(d.generations(), name), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(d.generations(), "15"), nil, 0o644))
	if gens, err := d.Generations(); err != nil || !reflect.DeepEqual(gens, []int{7, 12}) {
		t.Errorf("%v, %v", gens, err)
	}
	must(t, d.Take(13, etc(t, "config.yaml", ""))) // over what a killed master left
	must(t, d.Remove(7))
	must(t, d.Remove(7))
	must(t, d.Remove(6))
	if gens, err := d.Generations(); err != nil || !reflect.DeepEqual(gens, []int{12, 13}) {
		t.Errorf("%v, %v", gens, err)
	}
}

// TestSetgid: what is below a setgid directory has its group, without this program setting the bit.
func TestSetgid(t *testing.T) {
	d := Dir(t.TempDir())
	must(t, os.Mkdir(d.generations(), 0o750))
	must(t, os.Chmod(d.generations(), 0o750|fs.ModeSetgid))
	must(t, d.Take(1, etc(t, "config.yaml", "", "config.d/a.yaml", "")))
	for _, name := range []string{"", "config.d"} {
		if st, err := os.Stat(filepath.Join(d.Path(1), name)); err != nil || st.Mode()&fs.ModeSetgid == 0 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

func TestResolved(t *testing.T) {
	d := Dir(t.TempDir())
	must(t, d.Take(1, etc(t, "config.yaml", "nonsense: 1")))
	if _, err := d.LoadResolved(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a faulty configuration is resolved: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(d.Path(1), resolved), []byte("{"), 0o644))
	if _, err := d.LoadResolved(1); err == nil || !strings.Contains(err.Error(), resolved) {
		t.Errorf("half a file is %v", err)
	}
}

func TestTakeFails(t *testing.T) {
	d := Dir(t.TempDir())
	if err := d.Take(1, etc(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no configuration: %v", err)
	}
	if err := d.Take(1, etc(t, "config.yaml", "", "config.d", "")); err == nil {
		t.Error("config.d is a file")
	}
	from := etc(t, "config.yaml", "")
	must(t, os.MkdirAll(filepath.Join(from, "config.d/a.yaml"), 0o755))
	if err := d.Take(1, from); err == nil {
		t.Error("a directory was copied as a file")
	}
	pipe := etc(t, "config.yaml", "")
	must(t, errors.Join(os.Mkdir(filepath.Join(pipe, "config.d"), 0o755), syscall.Mkfifo(filepath.Join(pipe, "config.d/a.yaml"), 0o600)))
	if err := d.Take(1, pipe); err == nil || !strings.Contains(err.Error(), "a.yaml: it is not a regular file") {
		t.Errorf("a pipe in the place of a file: %v", err)
	}
	if _, err := Same(pipe, pipe); err == nil {
		t.Error("a pipe is the same as itself")
	}
	if gens, err := d.Generations(); err != nil || len(gens) != 0 {
		t.Errorf("%v, %v", gens, err)
	}
	if left, err := os.ReadDir(d.generations()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := Dir(filepath.Join(from, "config.yaml"))
	if err := file.Take(1, from); err == nil {
		t.Error("took a snapshot into a file")
	}
	if _, err := file.Generations(); err == nil {
		t.Error("a file has generations")
	}
	if err := file.Remove(1); err == nil {
		t.Error("removed from a file")
	}
}

func TestSave(t *testing.T) {
	to := filepath.Join(t.TempDir(), "last-good")
	first := etc(t, "config.yaml", "workers: {count: 1}\n", "config.d/a.yaml", "")
	second := etc(t, "config.yaml", "workers: {count: 2}\n")
	for _, from := range []string{first, second, first} {
		must(t, Save(from, to))
		if same, err := Same(from, to); !same || err != nil {
			t.Errorf("same %v, %v", same, err)
		}
	}
	if err := Save(etc(t), to); err == nil {
		t.Error("saved nothing")
	}
	if same, err := Same(first, to); !same || err != nil {
		t.Errorf("a failure changed the copy: %v, %v", same, err)
	}
	if left, err := os.ReadDir(filepath.Dir(to)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := Save(first, filepath.Join(to, "config.yaml", "below")); err == nil {
		t.Error("saved below a file")
	}
	if err := copyFile(filepath.Join(first, "config.yaml"), filepath.Join(first, "config.d", "a.yaml"), true); !errors.Is(err, fs.ErrExist) {
		t.Errorf("copied over a file: %v", err)
	}
	if err := force(filepath.Join(to, "none")); err == nil {
		t.Error("forced nothing")
	}
	if err := Save(first, t.TempDir()+"/none/below"); err == nil {
		t.Error("saved below nothing")
	}
}

func TestSame(t *testing.T) {
	a := etc(t, "config.yaml", "a", "config.d/a.yaml", "b")
	for want, others := range map[bool][]string{
		true:  {a, etc(t, "config.yaml", "a", "config.d/a.yaml", "b", "config.d/x", "y")},
		false: {etc(t, "config.yaml", "a"), etc(t, "config.yaml", "a", "config.d/a.yaml", "c"), etc(t, "config.yaml", "a", "config.d/b.yaml", "b")},
	} {
		for _, b := range others {
			if same, err := Same(a, b); same != want || err != nil {
				t.Errorf("%v, %v", same, err)
			}
		}
	}
	if _, err := Same(etc(t), etc(t)); err == nil {
		t.Error("nothing is the same as nothing")
	}
	if _, err := Same(a, etc(t, "config.yaml", "", "config.d", "")); err == nil {
		t.Error("config.d is a file")
	}
}

// FuzzDecodeState: what is accepted survives being written and read.
func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"next":9,"applied":7,"pending":8,"draining":[5,6],"step":"settle","new":1}`))
	f.Add([]byte(`{"schema":1,"next":0}`))
	f.Add([]byte(`{"schema":1,"next":1e3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		for _, gen := range s.Live() {
			if gen <= 0 || gen >= s.Next {
				t.Errorf("generation %d lives in %+v", gen, s)
			}
		}
		d := Dir(t.TempDir())
		must(t, d.WriteState(s))
		if again, err := d.ReadState(); err != nil || !reflect.DeepEqual(again.Live(), s.Live()) || again.Next != s.Next {
			t.Errorf("%+v is %+v, %v", s, again, err)
		}
	})
}
