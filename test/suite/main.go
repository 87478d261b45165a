// Command suite runs all tests and adds up what they covered: unit tests with the race detector, long ones of one goroutine and of many
// processes without, and at the same time tests of the installed, instrumented package in booted systemd. They wait most of the time,
// for databases, disks and reboots, and so does each test of theirs: more of them run at once than there are processors. The last line
// is always "N passed, N failed", and the exit status is 1 unless nothing failed.
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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	var t tally
	work, err := filepath.Abs("build/cover")
	if err == nil {
		err = run(ctx, &t, os.Stdout, parts(work), work)
	}
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

// part is one of the runs of go test.
type part struct {
	title, dir string
	env, args  []string
}

// unraced are the tests that take long in one goroutine, as the models, which check all states of what is pure, what recovers after
// each of many failures, and statements that cost as much as they are allowed to: there is no race to detect, and that would take
// them ten times as long. Likewise those that start hundreds of processes, each of which would have to make the detector's memory.
const unraced = "^(TestModel|TestMutants|TestPowerCut|TestFailAtEveryCall|TestCrashAtEveryStep|TestSystemCallsFail|TestHostile|TestHostileArrays|TestNothingHoldsAText)$"

// parts are all, with work for what they write. Of the packages with unit tests those come first that take longest.
func parts(work string) []part {
	unit, alone, bed := filepath.Join(work, "unit"), filepath.Join(work, "alone"), filepath.Join(work, "bed")
	return []part{
		{
			title: "unit tests",
			dir:   unit,
			env:   []string{"CGO_ENABLED=1", "FDT_COVER=" + unit}, // for the race detector; for children
			args: []string{
				"-race", "-skip=" + unraced, "-parallel=8", "-timeout=2h", "-covermode=atomic", "-coverpkg=./...",
				"./txn", "./pgwire", "./txn/mariadb", "./test/bank", "./txn/postgres", "./...", "-args", "-test.gocoverdir=" + unit,
			},
		},
		{
			title: "tests without the race detector",
			dir:   alone,
			env:   []string{"FDT_COVER=" + alone},
			args:  []string{"-run=" + unraced, "-timeout=2h", "-covermode=atomic", "-coverpkg=./...", "./txn", "./master", "./pgwire", "-args", "-test.gocoverdir=" + alone},
		},
		{
			title: "tests in booted systemd",
			dir:   bed,
			env:   []string{"FDT_BED=1", "FDT_COVER=" + bed, "FDT_DEB=" + os.Getenv("FDT_COVER_DEB"), "FDT_RELEASE_DEB=" + os.Getenv("FDT_DEB")},
			args:  []string{"-count=1", "-parallel=4", "-timeout=2h", "-p=2", "./test", "./internal/bed/...", "./test/clients", "./test/generator"},
		},
	}
}

// run runs all parts to their ends, whatever fails, and prints the coverage of all together.
func run(ctx context.Context, t *tally, out io.Writer, parts []part, work string) error {
	var dirs []string
	for _, p := range parts {
		// Workers write there as their own user, which has another number in each Debian, and replace each other's files.
		if err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o777), os.Chmod(p.dir, 0o777)); err != nil {
			return err
		}
		dirs = append(dirs, p.dir)
	}
	tallies, errs := make([]tally, len(parts)), make([]error, len(parts))
	shared := &turns{out: out}
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() {
			fmt.Fprintf(shared, "== %s\n", p.title)
			began := time.Now()
			if err := goTest(ctx, &tallies[i], shared, p.env, p.args); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.title, err)
				return
			}
			fmt.Fprintf(shared, "%s took %s\n", p.title, time.Since(began).Round(time.Second))
		})
	}
	all.Wait()
	for i := range tallies {
		t.add(tallies[i])
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintln(out, "== coverage of all together")
	profile := filepath.Join(work, "profile.txt")
	return coverage(ctx, out, dirs, profile)
}

// turns is an output for several at once; each writes what belongs together at once.
type turns struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *turns) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

// goTest runs go test and counts its results. That tests failed is in the tally, not in the error. Go vet is make lint's: here it would
// look at everything three times.
func goTest(ctx context.Context, t *tally, out io.Writer, env, args []string) error {
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-vet=off"}, args...)...)
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
