package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/snapshot"
)

// host is a root directory, and the directory for units.
type host struct {
	t         *testing.T
	root, out string
}

func newHost(t *testing.T) host {
	h := host{t: t, root: t.TempDir(), out: t.TempDir()}
	h.write("run/fdt/generation/.keep", "")
	return h
}

func (h host) write(name, text string) {
	h.t.Helper()
	name = filepath.Join(h.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) snapshots() snapshot.Dir { return snapshot.Dir(filepath.Join(h.root, "run/fdt")) }

// listen is a configuration with one listener.
func listen(path string) string { return "listen: {local: {address: " + path + "}}\n" }

// take makes a snapshot of a configuration with one listener.
func (h host) take(gen int, path string) {
	h.t.Helper()
	h.write("tmp/config.yaml", listen(path))
	if err := h.snapshots().Take(gen, filepath.Join(h.root, "tmp")); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) state(s snapshot.State) {
	h.t.Helper()
	if err := h.snapshots().WriteState(s); err != nil {
		h.t.Fatal(err)
	}
}

// run runs the generator and returns the exit code, what it said, the basenames of the sockets that it wrote and of
// those that the target wants.
func (h host) run() (code int, said string, written, wanted []string) {
	h.t.Helper()
	var stderr strings.Builder
	code = run([]string{"-root", h.root, h.out, h.out, h.out}, &stderr)
	short := func(pattern string) []string {
		names, err := filepath.Glob(filepath.Join(h.out, pattern))
		if err != nil {
			h.t.Fatal(err)
		}
		for i, name := range names {
			name = strings.TrimPrefix(filepath.Base(name), "fdt-listen@unix-")
			names[i], _, _ = strings.Cut(name, "-")
		}
		return names
	}
	return code, stderr.String(), short("fdt-listen@*.socket"), short("fdt-sockets.target.wants/*")
}

// expect demands sockets by the last element of their paths; wanted are those before the "|" only.
func (h host) expect(code int, said, sockets string) {
	h.t.Helper()
	wanted, leaving, _ := strings.Cut(sockets, "|")
	gotCode, gotSaid, gotWritten, gotWanted := h.run()
	all := append(strings.Fields(wanted), strings.Fields(leaving)...)
	slices.Sort(all)
	if gotCode != code || !strings.Contains(gotSaid, said) || said == "" && gotSaid != "" ||
		!slices.Equal(gotWritten, all) || !slices.Equal(gotWanted, strings.Fields(wanted)) {
		h.t.Errorf("code %d, sockets %v of which wanted %v, said:\n%s", gotCode, gotWritten, gotWanted, gotSaid)
	}
}

func TestBoot(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.expect(0, "", "etc")
}

func TestBootWithoutVar(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", "workers: {treads: 1}")
	h.expect(1, "there is no last good one", "")
}

func TestBootWithBrokenConfiguration(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", "workers: {treads: 1}")
	h.write("var/lib/fdt/last-good/config.yaml", listen("/run/good"))
	h.expect(1, `<3>fdt-generator: `+h.root+`/etc/fdt/config.yaml:1:11: there is no key "treads"`, "good")
	h.expect(1, "<3>fdt-generator: the configuration is faulty, the last good one is used, from /var/lib/fdt/last-good\n", "good")

	h.write("dev/kmsg", "")
	h.expect(1, "", "good")
	said, err := os.ReadFile(filepath.Join(h.root, "dev/kmsg"))
	if err != nil || strings.Count(string(said), "\n") != 2 || strings.Count(string(said), "<3>fdt-generator: ") != 2 {
		t.Errorf("the kernel's log has %q, %v", said, err)
	}
}

func TestManyFaultsFitTheKernelsLog(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", strings.Repeat("x", 1000)+": 1\n"+strings.Repeat("workers: 1\n", 20))
	h.write("var/lib/fdt/last-good/config.yaml", listen("/run/good"))
	h.expect(1, "and 14 more; fdtctl check shows them\n", "good")
	_, said, _, _ := h.run()
	if lines := strings.Count(said, "\n"); lines > 10 || len(said) > lines*1000 {
		t.Errorf("%d lines:\n%s", lines, said)
	}
}

func TestSnapshotsCountNotTheFileUnderEdit(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.take(3, "/run/three")
	h.take(4, "/run/four")
	h.take(5, "/run/five")
	h.take(6, "/run/six")
	h.state(snapshot.State{Next: 7, Applied: 5, Pending: 6, Draining: []int{3}})
	h.expect(0, "", "five six|three")
}

func TestStoppedMeansBoot(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.take(3, "/run/three")
	h.state(snapshot.State{Next: 4})
	h.expect(0, "", "etc")
}

func TestDamagedStateKeepsEverySnapshot(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.take(3, "/run/three")
	h.take(4, "/run/four")
	h.write("run/fdt/state.json", "{")
	h.expect(1, "state.json", "four three")
}

// TestUpgradeKeepsListeners: a stricter version than the one that took the snapshot closes nothing.
func TestUpgradeKeepsListeners(t *testing.T) {
	h := newHost(t)
	h.take(3, "/run/three")
	h.state(snapshot.State{Next: 4, Applied: 3})
	h.write("run/fdt/generation/3/config.yaml", "no: longer known\n")
	h.expect(1, "the configuration of generation 3 is not accepted any more", "three")
	h.write("run/fdt/generation/3/resolved.json", "")
	h.expect(1, "so its listeners close", "three") // the output of before is not taken away by the generator
	h.out = t.TempDir()
	h.expect(1, "so its listeners close", "")
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	h := newHost(t)
	h.write("etc/fdt/config.yaml", listen("/run/etc"))
	h.out = filepath.Join(h.root, "etc/fdt/config.yaml")
	if code, said, _, _ := h.run(); code != 1 || said == "" {
		t.Errorf("code %d, said %q", code, said)
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"-x", "a"}, {"a", "b", "c", "d"}, {"-service=No", "a"}} {
		var stderr strings.Builder
		if code := run(args, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: %d, %q", args, code, stderr.String())
		}
	}
}

// TestGuard says whether a listener may open at a path.
func TestGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-guard", path}, 0, ""},
		{[]string{"-guard", filepath.Dir(path)}, 1, levelError + "fdt-generator: " + filepath.Dir(path) + " is there and is a directory"},
		{[]string{"-guard", path, "/run/units"}, 2, "usage: "},
	} {
		var stderr strings.Builder
		if code := run(c.args, &stderr); code != c.code || !strings.HasPrefix(stderr.String(), c.want) {
			t.Errorf("%q: %d, %q", c.args, code, stderr.String())
		}
	}
}
