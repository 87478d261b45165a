package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	for name, c := range map[string]struct {
		args         []string
		code         int
		out, problem string // what must be in it; empty: nothing may be
	}{
		"valid":          {[]string{good}, 0, good + " is valid: listeners 1, workers 3", ""},
		"quiet":          {[]string{"-quiet", good}, 0, "", ""},
		"fault":          {[]string{bad}, 1, "", bad + `/config.yaml:1:11: there is no key "treads" in workers; did you mean "threads"?` + "\n    1 | workers: {treads: 3}\n      |           ^~~~~~\n"},
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
