// Command demo shows fdt's main job in a throwaway systemd, step by step, and ends in a table of what was seen.
// It leaves nothing behind: the container and all that happened in it are gone when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// errClaims is the demonstration's failure when it ran to its end.
var errClaims = errors.New("not every claim held")

func run(ctx context.Context) (err error) {
	deb := flag.String("deb", "", "`package` to install")
	release := flag.String("release", "bookworm", "Debian `release`: bookworm or trixie")
	only := flag.String("only", "", "play just Install and the `scenario` of this name")
	rollouts := flag.Bool("rollouts", false, "play what reloads must stand instead of the main job")
	flag.Parse()

	fmt.Printf("== booting Debian %s with systemd in a container\n", *release)
	b, err := bed.Boot(ctx, bed.Options{Release: *release, Disk: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()

	s := &scenario.Stage{Bed: b, Deb: *deb, Out: os.Stdout}
	var failed error
	scenarios := scenario.All()
	if *rollouts {
		scenarios = scenario.Rollouts()
	}
	for i, sc := range scenarios {
		if i > 0 && *only != "" && sc.Name != *only {
			continue
		}
		if failed = s.Play(ctx, sc); failed != nil {
			break
		}
	}
	fmt.Printf("\n== what was seen\n")
	s.Table(os.Stdout)
	switch {
	case failed != nil:
		journal, _ := b.Journal(context.WithoutCancel(ctx), "-u", "fdt*", "-n", "60")
		return fmt.Errorf("%w\n%s", failed, journal)
	case len(s.Failed()) > 0:
		return fmt.Errorf("%w: %d of %d", errClaims, len(s.Failed()), len(s.Findings))
	}
	fmt.Printf("\nall %d claims held\n", len(s.Findings))
	return nil
}
