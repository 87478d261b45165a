package main

import "testing"

func TestRun(t *testing.T) {
	for arg, want := range map[string]int{"-version": 0, "-h": 0, "-nonsense": 2, "-run=" + t.TempDir(): 1} { // without a socket to serve
		if got := run([]string{arg}); got != want {
			t.Errorf("%s: %d, want %d", arg, got, want)
		}
	}
}
