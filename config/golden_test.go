package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/internal/testgolden"
)

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
			testgolden.Compare(t, dir+".golden", faults.Detail()+"\n")
		})
	}
}
