// Command bench measures fdt beside what it competes with, in a throwaway systemd, and prints one table.
// Every figure is a ratio taken in one run: the sides take turns for moments and the medians are compared, so that what else the
// machine does hits all alike. Absolute figures say nothing beyond the run.
//
//	make bench                              # all of it, in about twenty-five minutes
//	make bench BENCH='-only reload'         # the measures whose name matches
//
// It is never a test: a missed aim is a finding, and the exit status tells only whether everything could be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// inside is where this program and the examples lie in the container.
const inside = "/usr/local/lib/bench"

func run(ctx context.Context) error {
	if len(os.Args) > 1 {
		// This program is also the peer and the clients of some measures.
		if part, ok := parts[os.Args[1]]; ok {
			return part(ctx, os.Args[2:])
		}
	}
	deb := flag.String("deb", os.Getenv("FDT_DEB"), "`package` to measure")
	release := flag.String("release", "bookworm", "Debian `release`: bookworm or trixie")
	only := flag.String("only", "", "take just the measures whose name matches this `expression`")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range measures() {
		names = append(names, m.name)
	}
	if !slices.ContainsFunc(names, wanted.MatchString) {
		return fmt.Errorf("-only %q matches no measure; they are %s", *only, strings.Join(names, ", "))
	}
	if *deb == "" {
		return errors.New("no package to measure: -deb or $FDT_DEB names it")
	}
	return host(ctx, *deb, *release, *only)
}

// parts are what this program is when its first argument names one.
var parts = map[string]func(context.Context, []string) error{
	"measure": measureAll,
	"bare":    bareLoop,
	"dial":    dialLoop,
	"exec":    execStamped,
	"attack":  attackLoop,
	"worker":  worker,
	"web":     bareWeb,
}

// host boots the container, puts everything in and has this very program measure there.
func host(ctx context.Context, deb, release, only string) (err error) {
	dir, err := os.MkdirTemp("", "fdt-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Println("== building the examples, booting Debian", release)
	for _, args := range [][]string{
		{"build", "-trimpath", "-o", dir, "./test/bench", "./examples/echo", "./examples/http"},
		{"test", "-c", "-trimpath", "-o", filepath.Join(dir, "txn.test"), "./txn"},
		{"test", "-c", "-trimpath", "-o", filepath.Join(dir, "wal.test"), "./txn/internal/wal"},
	} {
		build := exec.CommandContext(ctx, "go", args...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w: %s", err, out)
		}
	}
	b, err := bed.Boot(ctx, bed.Options{
		Release: release, Disk: true, Databases: true,
		Packages: []string{"postgresql", "mariadb-server", "nginx", "haproxy", "pgbouncer"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if out, err := b.Install(ctx, deb); err != nil {
		return fmt.Errorf("install: %w: %s", err, out)
	}
	if _, err := b.Run(ctx, "mkdir", "-p", inside, scratch); err != nil {
		return err
	}
	for _, name := range []string{"bench", "echo", "http", "txn.test", "wal.test"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = b.WriteFile(ctx, filepath.Join(inside, name), data)
		}
		if err == nil {
			_, err = b.Run(ctx, "chmod", "755", filepath.Join(inside, name))
		}
		if err != nil {
			return err
		}
	}
	c := b.Command(ctx, filepath.Join(inside, "bench"), "measure", only)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		journal, _ := b.Journal(context.WithoutCancel(ctx), "-p", "warning", "-n", "40")
		return fmt.Errorf("measure: %w\n%s", err, journal)
	}
	return nil
}
