// Command suite runs all tests and adds up what they covered: unit tests with the race detector, then tests of
// the installed, instrumented package in booted systemd. Its last line is always "N passed, N failed", and it
// exits with 1 unless nothing failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	var t tally
	err := run(ctx, &t, os.Stdout)
	stop()
	if err != nil {
		t.failed++
		fmt.Println("suite:", err)
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	if t.failed > 0 {
		os.Exit(1)
	}
}

// run runs both parts, also when tests of the first failed, and prints the coverage of the two together.
func run(ctx context.Context, t *tally, out io.Writer) error {
	work, err := filepath.Abs("build/cover")
	if err != nil {
		return err
	}
	parts := []struct {
		title, dir string
		env, args  []string
	}{
		{
			title: "unit tests",
			dir:   filepath.Join(work, "unit"),
			env:   []string{"CGO_ENABLED=1", "FDT_COVER=" + filepath.Join(work, "unit")}, // for the race detector; for children
			args:  []string{"-race", "-covermode=atomic", "-coverpkg=./...", "./...", "-args", "-test.gocoverdir=" + filepath.Join(work, "unit")},
		},
		{
			title: "tests in booted systemd",
			dir:   filepath.Join(work, "bed"),
			env:   []string{"FDT_BED=1", "FDT_COVER=" + filepath.Join(work, "bed"), "FDT_DEB=" + os.Getenv("FDT_COVER_DEB"), "FDT_RELEASE_DEB=" + os.Getenv("FDT_DEB")},
			args:  []string{"-count=1", "-timeout=25m", "-p=2", "./internal/bed/...", "./test/..."},
		},
	}
	var dirs []string
	for _, part := range parts {
		// Workers write there as their own user, which has another number in each Debian, and replace each other's files.
		if err := errors.Join(os.RemoveAll(part.dir), os.MkdirAll(part.dir, 0o777), os.Chmod(part.dir, 0o777)); err != nil {
			return err
		}
		dirs = append(dirs, part.dir)
		fmt.Fprintf(out, "== %s\n", part.title)
		began := time.Now()
		if err := goTest(ctx, t, out, part.env, part.args); err != nil {
			return fmt.Errorf("%s: %w", part.title, err)
		}
		fmt.Fprintf(out, "%s took %s\n", part.title, time.Since(began).Round(time.Second))
	}
	fmt.Fprintln(out, "== coverage of both together")
	profile := filepath.Join(work, "profile.txt")
	return coverage(ctx, out, dirs, profile)
}

// goTest runs go test and counts its results. That tests failed is in the tally, not in the error.
func goTest(ctx context.Context, t *tally, out io.Writer, env, args []string) error {
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	c.Env = append(os.Environ(), env...)
	c.Stderr = out
	// The test's own process must hear of it too: go test would wait for it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGINT) }
	c.WaitDelay = time.Minute
	events, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	before := t.failed
	read := t.read(events, out)
	err = c.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok && t.failed > before {
		err = nil // counted
	}
	return errors.Join(read, err, context.Cause(ctx))
}
