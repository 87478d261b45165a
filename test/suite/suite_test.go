package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const prologue = `{"Action":"start","Package":"m/p"}
`

func TestTally(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		want   tally
		says   string
	}{
		"each test counts, also subtests": {
			events: prologue + `{"Action":"run","Package":"m/p","Test":"A"}
{"Action":"pass","Package":"m/p","Test":"A/x"}
{"Action":"pass","Package":"m/p","Test":"A"}
{"Action":"skip","Package":"m/p","Test":"B"}
{"Action":"pass","Package":"m/p","Elapsed":1.5}
`,
			want: tally{passed: 2, skipped: 1},
			says: "pass m/p (1.5s)",
		},
		"a failed test prints what it said": {
			events: prologue + `{"Action":"output","Package":"m/p","Test":"A","Output":"because\n"}
{"Action":"output","Package":"m/p","Test":"B","Output":"silence\n"}
{"Action":"pass","Package":"m/p","Test":"B"}
{"Action":"fail","Package":"m/p","Test":"A"}
{"Action":"fail","Package":"m/p"}
`,
			want: tally{passed: 1, failed: 1},
			says: "because",
		},
		"a panic counts as one": {
			events: prologue + `{"Action":"run","Package":"m/p","Test":"A"}
{"Action":"output","Package":"m/p","Test":"A","Output":"panic: timed out\n"}
{"Action":"fail","Package":"m/p"}
`,
			want: tally{failed: 1},
			says: "panic: timed out",
		},
		"a test cut off after a failed one tells what it said": {
			events: prologue + `{"Action":"run","Package":"m/p","Test":"A"}
{"Action":"output","Package":"m/p","Test":"A","Output":"the parent's reason\n"}
{"Action":"run","Package":"m/p","Test":"A/x"}
{"Action":"output","Package":"m/p","Test":"A/x","Output":"called FailNow on a parent\n"}
{"Action":"fail","Package":"m/p","Test":"A/x"}
{"Action":"fail","Package":"m/p"}
`,
			want: tally{failed: 2},
			says: "in A:\nthe parent's reason\nFAIL m/p",
		},
		"a package that does not build counts as one": {
			events: `{"Action":"build-output","ImportPath":"m/p","Output":"undefined: x\n"}
{"Action":"build-fail","ImportPath":"m/p"}
{"Action":"fail","Package":"m/p","FailedBuild":"m/p"}
`,
			want: tally{failed: 1},
			says: "undefined: x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got tally
			var out bytes.Buffer
			if err := got.read(strings.NewReader(c.events), &out); err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !strings.Contains(out.String(), c.says) || strings.Contains(out.String(), "silence") {
				t.Errorf("printed %q", out.String())
			}
		})
	}
	var got tally
	if err := got.read(strings.NewReader("go: no such tool\n"), &bytes.Buffer{}); err == nil {
		t.Error("no error for a stream that is not JSON")
	}
}

func TestReadProfile(t *testing.T) {
	shares, err := read(strings.NewReader(`mode: atomic
github.com/fdtserver/fdt/drain/a.go:1.1,2.2 3 0
github.com/fdtserver/fdt/drain/a.go:1.1,2.2 3 7
github.com/fdtserver/fdt/drain/a.go:3.1,4.2 1 0
github.com/fdtserver/fdt/test/load/a.go:3.1,4.2 9 0
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(shares) != 1 || shares["drain"] != (share{statements: 4, run: 3}) {
		t.Errorf("got %v", shares)
	}
	if p := shares["drain"].percent(); p != 75 {
		t.Errorf("percent %v", p)
	}
	for _, bad := range []string{"a b\n", "a:1.1,2.2 x 1\n"} {
		if _, err := read(strings.NewReader(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// Two programs of one module, run once each: the coverage of both together is printed.
func TestCoverage(t *testing.T) {
	work := t.TempDir()
	var dirs []string
	for _, program := range []string{"one", "two"} {
		dir := filepath.Join(work, program)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	if err := os.WriteFile(filepath.Join(work, "go.mod"), []byte("module github.com/fdtserver/fdt/x\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := "package main\n\nimport \"os\"\n\nfunc main() {\n\tif len(os.Args) > 1 {\n\t\tprintln(1)\n\t} else {\n\t\tprintln(2)\n\t}\n}\n"
	if err := os.WriteFile(filepath.Join(work, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-cover", "-o", "program", ".")
	build.Dir = work
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, dir := range dirs {
		c := exec.CommandContext(t.Context(), filepath.Join(work, "program"), []string{"more"}[i:]...)
		c.Env = append(os.Environ(), "GOCOVERDIR="+dir)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var out bytes.Buffer
	if err := coverage(t.Context(), &out, dirs[:1], filepath.Join(work, "half")); err != nil || !strings.Contains(out.String(), "66.7%  total") {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	if err := coverage(t.Context(), &out, dirs, filepath.Join(work, "profile")); err != nil || !strings.Contains(out.String(), "100.0%  total") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// Two parts, each with a failure: both run to their ends, are counted, and their coverage is printed.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"go.mod":    "module github.com/fdtserver/fdt/x\n\ngo 1.26\n",
		"a.go":      "package x\n\nfunc one() int { return 1 }\n\nfunc two() int { return 2 }\n",
		"a_test.go": "package x\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) { one() }\n\nfunc TestTwo(t *testing.T) { two(); t.Error(\"because\") }\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	half := func(name, test string) part {
		args := []string{"-cover", "-covermode=atomic", "-run=" + test, ".", "-args", "-test.gocoverdir=" + filepath.Join(dir, name)}
		return part{title: name, dir: filepath.Join(dir, name), args: args}
	}
	var got tally
	var out bytes.Buffer
	if err := run(t.Context(), &got, &out, []part{half("first", "One"), half("second", "Two")}, dir); err != nil {
		t.Fatal(err)
	}
	if want := (tally{passed: 1, failed: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, want := range []string{"== first\n", "== second\n", "first took", "second took", "because", "100.0%  total"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out.String())
		}
	}
	bad := half("third", "One")
	bad.args = []string{"-mod=nonsense", "."}
	if err := run(t.Context(), &got, &out, []part{bad}, dir); err == nil {
		t.Error("no error")
	}
}

// TestBedPackages: every package with tests that ask for booted systemd is in the part that has it.
func TestBedPackages(t *testing.T) {
	var bed []string
	for _, p := range parts(t.TempDir()) {
		if slices.Contains(p.env, "FDT_BED=1") {
			bed = p.args
		}
	}
	root := os.DirFS("../..")
	files, err := fs.Glob(root, "*/*_test.go")
	deeper, derr := fs.Glob(root, "*/*/*_test.go")
	if err := errors.Join(err, derr); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, deeper...) {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		pkg := "./" + path.Dir(file)
		if pkg != "./test/suite" && strings.Contains(string(text), "FDT_BED") && !slices.Contains(bed, pkg) && !slices.Contains(bed, pkg+"/...") {
			t.Errorf("%s asks for systemd, and gets none: %s", file, bed)
		}
	}
}
