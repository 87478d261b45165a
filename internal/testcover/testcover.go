// Package testcover has a test binary that a test runs as a child leave its counters, as a program built with
// go build -cover does. Without FDT_COVER, which names the directory, or in a binary without counters, nothing is written.
package testcover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Exit ends a child, from its TestMain, with the status. Of a child that is killed nothing is known.
func Exit(m *testing.M, status int) {
	if dir := os.Getenv("FDT_COVER"); dir != "" && testing.CoverMode() != "" {
		if err := write(m, dir); err != nil {
			fmt.Fprintln(os.Stderr, "testcover:", err)
			status = 1
		}
	}
	os.Exit(status)
}

// write has the end of a run of no tests write the counters, which is the only way to have them, and silences it.
func write(m *testing.M, dir string) error {
	own, err := os.MkdirTemp(dir, "child-") // it would read all that lies beside them
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	os.Args = []string{os.Args[0], "-test.run=^$", "-test.gocoverdir=" + own}
	stderr := os.Stderr
	os.Stdout, os.Stderr = null, null
	m.Run()
	os.Stderr = stderr
	files, err := filepath.Glob(filepath.Join(own, "*"))
	for _, file := range files {
		err = errors.Join(err, os.Rename(file, filepath.Join(dir, filepath.Base(file))))
	}
	return errors.Join(err, os.Remove(own))
}
