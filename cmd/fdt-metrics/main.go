// Command fdt-metrics serves fdt's numbers to Prometheus; systemd starts it as fdt-metrics@ADDRESS.service at the first
// scrape. It is a worker by package worker, on the one socket that it inherits.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/exporter"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/undumpable"
	"github.com/fdtserver/fdt/worker"
)

// version is set by the build.
var version = "devel"

func main() {
	undumpable.Set()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	svc, err := service.Own()
	if err != nil {
		fmt.Fprintf(os.Stderr, "fdt-metrics: %v\n", err)
		return 2
	}
	flags := flag.NewFlagSet("fdt-metrics", flag.ContinueOnError)
	show := flags.Bool("version", false, "print the version and exit")
	dir := flags.String("run", svc.Run(), "`directory` of fdt's state")
	totals := flags.String("totals", "", "`file` in which sums of counts outlive this process; empty: they do not")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if *show {
		fmt.Println("fdt-metrics", version)
		return 0
	}
	signal.Ignore(unix.SIGPIPE)                             // a journald that restarts sends it to whoever writes to the old stream
	log := slog.New(journal.New(os.Stderr, slog.LevelWarn)) // each scrape may start it: nobody wants to read that
	defer journal.Flush(log.Handler(), time.Second)
	server := exporter.NewServer(&exporter.Collector{Service: svc, Run: snapshot.Dir(*dir), Totals: *totals, Version: version, Logger: log})
	if err := worker.Run(server, worker.WithLogger(log), worker.WithDrainTimeout(exporter.Patience+3*time.Second)); err != nil {
		log.Error("fdt-metrics has failed", "error", err)
		return 1
	}
	return 0
}
