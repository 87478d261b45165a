package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", name, got)
	}
}

// TestFaults keeps what an operator reads, word by word.
func TestFaults(t *testing.T) {
	cases, err := os.ReadDir("testdata/faults")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if !c.IsDir() {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			dir := filepath.Join("testdata/faults", c.Name())
			cfg, err := Load(dir)
			faults, ok := errors.AsType[Faults](err)
			if !ok || cfg != nil {
				t.Fatalf("%v, %v", cfg, err)
			}
			golden(t, dir+".golden", faults.Detail()+"\n")
		})
	}
}
