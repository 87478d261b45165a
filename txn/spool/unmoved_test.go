package spool_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestUnmoved: a one-phase commit of which a rename surely did nothing is rolled back and said to be, and not called unknown.
func TestUnmoved(t *testing.T) {
	fault := func(errno error, step string) func(c scene) {
		return func(c scene) {
			c.s.SetFault(func(is string) error {
				if is == step {
					return errno
				}
				return nil
			})
		}
	}
	stands := func(dir string) func(c scene) { // in the place of the directory
		return func(c scene) { c.must(os.Remove(c.dir+"/"+dir), os.WriteFile(c.dir+"/"+dir, nil, 0o600)) }
	}
	for name, test := range map[string]struct {
		bodies  []string
		trouble func(c scene)
		want    error
		sure    bool
	}{
		"one, no directory":       {[]string{"1"}, stands("new"), syscall.ENOTDIR, true},
		"two, no directory":       {[]string{"1", "2"}, stands("prepared"), syscall.ENOTDIR, true},
		"one, full":               {[]string{"1"}, fault(syscall.ENOSPC, "rename new"), syscall.ENOSPC, true},
		"two, full":               {[]string{"1", "2"}, fault(syscall.EMLINK, "rename prepared"), syscall.EMLINK, true},
		"one, who knows":          {[]string{"1"}, fault(syscall.EIO, "rename new"), txn.ErrUnknownOutcome, false},
		"two, decided":            {[]string{"1", "2"}, fault(syscall.ENOSPC, "rename new"), txn.ErrUnknownOutcome, false},
		"one, moved and unsynced": {[]string{"1"}, fault(syscall.ENOSPC, "sync new"), txn.ErrUnknownOutcome, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.must(c.b.Rollback(t.Context()))
			b := c.branch(local, test.bodies...)
			test.trouble(c)
			err := b.Commit(t.Context())
			if !errors.Is(err, test.want) || txn.InDoubt(err) == test.sure {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(c.entry("tmp", local, "")); test.sure && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the messages: %v", err)
			}
		})
	}
}
