// Fdt-worker is one worker of fdt's default server. It reads its generation's
// snapshot of the configuration and never /etc/fdt itself, so that all workers
// of a generation are alike; see fdt-worker(8).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/internal/unit"
)

var version = "devel" // set by the linker

func main() { os.Exit(run(os.Args[1:])) }

// place is where a worker finds and keeps things.
type place struct {
	gen, slot int
	run       string // /run/fdt
	lib       string // /var/lib/fdt
}

func (p place) control() string {
	return filepath.Join(p.run, "worker", unit.Instance(p.gen, p.slot)+".sock")
}

func run(args []string) int {
	flags := flag.NewFlagSet("fdt-worker", flag.ContinueOnError)
	show := flags.Bool("version", false, "print the version and exit")
	instance := flags.String("instance", "", "`GENERATION-SLOT`, the instance of fdt-worker@.service")
	var p place
	flags.StringVar(&p.run, "run", "/run/fdt", "`directory` of what lasts until the host goes down")
	flags.StringVar(&p.lib, "lib", "/var/lib/fdt", "`directory` of what lasts")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if *show {
		fmt.Println("fdt-worker", version)
		return 0
	}
	log := slog.New(journal.New(os.Stderr, slog.LevelInfo))
	slog.SetDefault(log) // for what libraries log
	var ok bool
	if p.gen, p.slot, ok = unit.ParseInstance(*instance); !ok {
		fmt.Fprintf(os.Stderr, "fdt-worker: -instance %q is not GENERATION-SLOT\n", *instance)
		return 2
	}
	if err := serve(context.Background(), p, log); err != nil {
		// One line for STATUS=, which the master reads when the unit has failed; the journal has all of it.
		_ = notify.Status(strings.ReplaceAll(err.Error(), "\n", "; "))
		log.Error("the worker has failed", slog.Any("error", err), journal.ID(journal.WorkerFailed))
		return 1
	}
	return 0
}
