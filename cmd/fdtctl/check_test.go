package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
)

// etcWith is a configuration directory with one file.
func etcWith(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheck(t *testing.T) {
	good := etcWith(t, "workers: {count: 3}\n")
	bad := etcWith(t, "workers: {treads: 3}\n")
	worse := etcWith(t, "workers: {treads: 3}\ndrian: {}\n")
	open := etcWith(t, "users: {}\nlisten:\n  local:\n    address: /run/fdt/x\n    auth: trust\n    mode: 0666\n")
	for name, c := range map[string]struct {
		args         []string
		code         int
		out, problem string // what must be in it; empty: nothing may be
	}{
		"valid":          {[]string{good}, 0, good + " is valid: listeners 1, workers 3", "not checked: what the service can read, "},
		"JSON":           {[]string{"-json", good}, 0, `"valid": true`, ""},
		"fault as JSON":  {[]string{"-json", bad}, 1, `"line": 1,`, ""},
		"warning":        {[]string{open}, 0, "is valid", "warning: " + open + "/config.yaml:6:11: whoever has an account on this host may connect"},
		"quiet warning":  {[]string{"-quiet", open}, 0, "", ""},
		"live, not here": {[]string{"-live", good}, 1, "", "run it as root where systemd runs"},
		"live schema":    {[]string{"-live", "-schema"}, 2, "", "usage:"},
		"quiet":          {[]string{"-quiet", good}, 0, "", ""},
		"fault":          {[]string{bad}, 1, "", bad + `/config.yaml:1:11: there is no key "treads" in workers; did you mean "threads"?` + "\n    1 | workers: {treads: **\n      |           ^~~~~~\n"},
		"faults":         {[]string{worse}, 1, "", "2 faults in " + worse + "\n"},
		"no directory":   {[]string{good + "/none"}, 1, "", "no such file"},
		"two":            {[]string{good, bad}, 2, "", "usage:"},
		"unknown flag":   {[]string{"-x"}, 2, "", "usage:"},
		"help":           {[]string{"-h"}, 0, "", "usage:"},
		"schema of what": {[]string{"-schema", good}, 2, "", "usage:"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := runCheck(c.args, &stdout, &stderr)
			if code != c.code || !strings.Contains(stdout.String(), c.out) || !strings.Contains(stderr.String(), c.problem) ||
				c.out == "" && stdout.Len() > 0 || c.problem == "" && stderr.Len() > 0 {
				t.Errorf("%d\n%s%s", code, stdout.String(), stderr.String())
			}
		})
	}
}

func TestCheckPrintsTheSchema(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := runCheck([]string{"-schema"}, &stdout, &stderr); code != 0 || !json.Valid(stdout.Bytes()) {
		t.Errorf("%d, %s", code, stderr.String())
	}
}

// TestCheckUnit does in this process what the unit does that sees what the service sees.
func TestCheckUnit(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal([]config.Named{
		{Path: "a", Name: file}, {Path: "b", Name: file + "/none"}, {Path: "c", Name: file + ".none"}, {Path: "d", Name: dir, Directory: true},
		{Path: "e", Name: file, Directory: true}, {Path: "f", Name: dir + "/none", Directory: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := answerCheck(bytes.NewReader(request), &stdout, &stderr); code != 0 {
		t.Fatalf("%d %s", code, stderr.String())
	}
	var got []refused
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range got {
		words = append(words, r.Path+": "+r.Why)
	}
	want := "b: not a directory, c: no such file or directory, e: permission denied, f: no such file or directory" // nobody may execute the file
	if text := strings.Join(words, ", "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	stderr.Reset()
	if code := answerCheck(strings.NewReader("nonsense"), &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "use fdtctl check") {
		t.Errorf("%d %s", code, stderr.String())
	}
}

// TestCheckOccupied: a listener's path at which another process accepts, or which is no socket, is a fault, as it is for a reload.
func TestCheckOccupied(t *testing.T) {
	sockets := t.TempDir()
	l, err := net.Listen("unix", sockets+"/served")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.WriteFile(sockets+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := etcWith(t, "listen:\n  a: {address: "+sockets+"/served, auth: trust}\n  b: {address: "+sockets+"/file, auth: trust}\n  c: {address: "+sockets+"/free, auth: trust}\n")
	cfg, places, err := config.LoadPlaced(dir)
	if err != nil {
		t.Fatal(err)
	}
	faults := (&checked{Directory: dir, cfg: cfg}).occupied(t.Context(), places)
	if len(faults) != 2 || faults[0].Line+faults[1].Line != 5 || !strings.Contains(faults.Error(), "is a socket that another process serves") || !strings.Contains(faults.Error(), "is a file, which fdt does not replace") {
		t.Errorf("%v", faults)
	}
}
