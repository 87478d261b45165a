// Command bed boots a container, installs a package in it and runs a command or a shell. Everything is gone when
// it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	code, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bed:", err)
		code = 1
	}
	os.Exit(code)
}

// run returns the exit status of the command.
func run(ctx context.Context) (code int, err error) {
	var o bed.Options
	deb := flag.String("deb", "", "`package` to install")
	flag.StringVar(&o.Release, "release", "bookworm", "Debian `release`: bookworm or trixie")
	flag.BoolVar(&o.Databases, "databases", false, "start PostgreSQL and MariaDB")
	flag.BoolVar(&o.Disk, "disk", false, "keep what is written on disk, not in memory")
	packages := flag.String("packages", "", "Debian packages, separated by commas, to have inside in place of the usual ones")
	flag.Parse()
	o.Packages = strings.FieldsFunc(*packages, func(r rune) bool { return r == ',' })

	b, err := bed.Boot(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if *deb != "" {
		if out, err := b.Install(ctx, *deb); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, out)
		}
	}
	args := flag.Args()
	interactive := len(args) == 0
	if interactive {
		// Ctrl-C belongs to the shell.
		signal.Ignore(unix.SIGINT)
		args = []string{"bash", "-i"}
	}
	c := b.Command(ctx, args...)
	if interactive {
		c = b.Terminal(ctx, args...)
	}
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}
