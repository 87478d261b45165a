package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const envDir = "FDT_TEST_POWERCUT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := work(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// work is what a process does to files that it takes care of, and says.
func work(dir string) error {
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	f, err := os.OpenFile(at("disk", "draft"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 8192), 0)
	_, more := f.WriteAt(make([]byte, 8192), 8192)
	_, head := f.WriteAt([]byte("head"), 0)
	err = errors.Join(err, more, head, f.Sync())
	_, tail := f.WriteAt([]byte("tail"), 16000)
	err = errors.Join(err, tail, os.Rename(at("disk", "draft"), at("disk", "sub", "file")), unix.Fdatasync(int(f.Fd())), f.Truncate(16384), f.Truncate(100), f.Close())
	fmt.Println("one")
	for _, dir := range []string{"sub", ""} {
		d, failed := os.Open(at("disk", dir))
		err = errors.Join(err, failed, d.Sync(), d.Close())
	}
	fmt.Println("two")
	g, failed := os.OpenFile(at("disk", "old"), os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0)
	err = errors.Join(err, failed)
	for range 2 {
		_, failed = g.WriteString("line\n")
		err = errors.Join(err, failed)
	}
	err = errors.Join(err, g.Close(), os.WriteFile(at("watched", "new-1"), []byte("claim"), 0o600), os.Link(at("watched", "new-1"), at("watched", "claim")),
		os.Mkdir(at("disk", "doomed"), 0o700), os.WriteFile(at("disk", "doomed", "x"), []byte("x"), 0o600), os.RemoveAll(at("disk", "doomed")),
		os.Link(at("disk", "old"), at("disk", "again")), os.Rename(at("disk", "old"), at("disk", "again")))
	return errors.Join(err, os.WriteFile(at("elsewhere"), nil, 0o600), os.Rename(at("elsewhere"), at("else")), os.Remove(at("else")),
		os.Mkdir(at("beside"), 0o700), os.Link(at("watched", "claim"), at("linked")))
}

// states are the names of files and their contents, as far as they are not zeros, in every state of a moment.
func states(t *testing.T, d *Disk, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for s := range d.States() {
		to := t.TempDir()
		if err := s.Restore(map[string]string{root: to}); err != nil {
			t.Fatal(err)
		}
		var files []string
		err := filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				var raw []byte
				raw, err = os.ReadFile(path)
				files = append(files, fmt.Sprintf("%s:%d:%s", strings.TrimPrefix(path, to+"/"), len(raw), strings.Join(strings.FieldsFunc(string(raw), func(r rune) bool { return r == 0 || r == '\n' }), ",")))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		all[s.Name] = strings.Join(files, " ")
	}
	return all
}

// TestPlay plays what a process really did.
func TestPlay(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "disk")
	for _, sub := range []string{"disk", "disk/sub", "watched"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "old"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New([]string{root}, []string{filepath.Join(dir, "watched")})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envDir+"="+dir)
	calls, said, err := Run(cmd, t.TempDir())
	if errors.Is(err, ErrNoStrace) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil || said != "one\ntwo\n" {
		t.Fatalf("%q, %v", said, err)
	}
	var moments []string
	at, half := map[string]map[string]string{}, map[string]int{}
	if err := d.Play(calls, func(m Moment) error {
		name := strings.TrimSpace(strings.ReplaceAll(fmt.Sprint(m.Sync, " ", m.Said, " ", m.Written, " ", m.At), dir, ""))
		moments = append(moments, strings.ReplaceAll(name, "\n", ""))
		at[moments[len(moments)-1]] = states(t, d, root)
		half[moments[len(moments)-1]] = len(d.HalfSynced())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{
		"/disk/draft", "/disk/draft", "one", "/disk/sub", "/disk", "two", "claim /watched/new-1", "claim /watched/claim",
	}; !slices.Equal(moments, want) {
		t.Errorf("moments %q, want %q", moments, want)
	}
	one := at["one"]
	for state, want := range map[string]string{
		"nothing":       "old:7:content", // its name is not durable, whatever its content is
		"all":           "old:7:content sub/file:100:head",
		"names only":    "old:7:content sub/file:16384:head,tail",
		"contents only": "old:7:content",
		"all until rename " + root + "/draft to " + root + "/sub/file": "",
		"all until create " + root + "/draft":                          "draft:16384:head,tail old:7:content",
	} {
		if got := one[state]; got != want {
			t.Errorf("with %s: %q, want %q", state, got, want)
		}
	}
	if n := len(at["/disk/draft"]); n == 0 || at["two"]["nothing"] != "old:7:content sub/file:16384:head,tail" || len(at["two"]) != 2 {
		t.Errorf("after the sync of the directories: %v", at["two"])
	}
	if half["/disk/sub"] != 0 || half["/disk"] != 1 || half["two"] != 0 {
		t.Errorf("renames half synced: %v", half)
	}
	end := states(t, d, root)
	if want := "again:10:line,line old:10:line,line sub/file:100:head"; end["all"] != want {
		t.Errorf("in the end %q, want %q", end["all"], want)
	}
	to := t.TempDir()
	for s := range d.States() {
		if s.Name == "all" {
			if err := s.Restore(map[string]string{root: to}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := exec.CommandContext(t.Context(), "diff", "-r", root, to).CombinedOutput(); err != nil {
		t.Errorf("the model is not what is there: %v\n%s", err, out)
	}
}

func TestRunFails(t *testing.T) {
	if _, _, err := Run(exec.CommandContext(t.Context(), "/bin/false"), t.TempDir()); err == nil {
		t.Error("the failure of the command is not told")
	}
	t.Setenv("PATH", t.TempDir())
	if _, _, err := Run(exec.CommandContext(t.Context(), "/bin/true"), t.TempDir()); !errors.Is(err, ErrNoStrace) {
		t.Errorf("without strace: %v", err)
	}
}
