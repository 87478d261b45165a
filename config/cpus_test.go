package config

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestCPUs has control groups leave less than the machine has, at each place, in the kernel's words.
func TestCPUs(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int
	}{
		"nothing there":     {nil, math.MaxInt32},
		"no limits":         {map[string]string{"a/b/cpu.max": "max 100000\n", "a/cpu.max": "max 100000\n"}, math.MaxInt32},
		"half of one":       {map[string]string{"a/b/cpu.max": "50000 100000\n"}, 1},
		"one and a half":    {map[string]string{"a/b/cpu.max": "150000 100000\n"}, 2},
		"three":             {map[string]string{"a/b/cpu.max": "300000 100000\n"}, 3},
		"less above":        {map[string]string{"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "200000 100000\n"}, 2},
		"the container":     {map[string]string{"a/b/cpu.max": "max 100000\n", "cpu.max": "250000 50000\n"}, 5},
		"fdt is stopped":    {map[string]string{"a/cpu.max": "200000 100000\n"}, 2},
		"allowed CPUs":      {map[string]string{"a/b/cpuset.cpus.effective": "0-3,8\n"}, 5},
		"fewer of these":    {map[string]string{"a/b/cpuset.cpus.effective": "7\n", "a/cpu.max": "200000 100000\n"}, 1},
		"not the kernel's":  {map[string]string{"a/b/cpu.max": "x y\n", "a/cpu.max": "1\n", "cpu.max": "1 0\n", "a/b/cpuset.cpus.effective": "3-1\n", "cpuset.cpus.effective": "all\n"}, math.MaxInt32},
		"an absurd quota":   {map[string]string{"a/b/cpu.max": "9223372036854775000 1000\n"}, math.MaxInt32},
		"no CPU of its own": {map[string]string{"a/b/cpuset.cpus.effective": "\n"}, math.MaxInt32},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := allowed(root, "a/b"); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if n := cpus(); n < 1 {
		t.Errorf("%d CPUs here", n)
	}
}
