// Command fdt-master decides which of fdt's workers run; systemd starts it as fdt.service.
// It takes no arguments but flags for its own description: everything else is in /etc/fdt and /run/fdt.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/undumpable"
	"github.com/fdtserver/fdt/master"
)

// version is set by the build.
var version = "devel"

// misconfigured is EX_CONFIG of sysexits(3), after which fdt.service does not start again by itself.
const misconfigured = 78

func main() {
	undumpable.Set()
	os.Exit(run())
}

func run() int {
	svc, err := service.Own()
	if err != nil {
		fmt.Fprintf(os.Stderr, "fdt-master: %v\n", err)
		return misconfigured
	}
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println("fdt-master", version)
		return 0
	}
	// The umask of fdt.service keeps snapshots from others; what readers need has its mode set.
	signal.Ignore(unix.SIGPIPE) // a journald that restarts sends it to whoever writes to the old stream
	log := slog.New(journal.About(journal.New(os.Stderr, slog.LevelInfo), svc.String()+".service"))
	defer journal.Flush(log.Handler(), time.Second)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	m := master.New(master.Options{Service: svc, Version: version, Logger: log, Ready: notify.Ready, Status: notify.Status})

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	ctx, cancel := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				m.Reload(ctx)
			}
		}
	})
	err = m.Run(ctx)
	cancel()
	reloads.Wait()
	if err != nil {
		err = errors.Join(err, notify.Status("not serving: "+err.Error()))
		if !errors.Is(err, master.ErrNothingToServe) {
			log.Error("the master cannot go on, and systemd starts another; what serves goes on serving", "error", config.Detail(err))
			return 1
		}
		log.Error("fdt cannot serve; its listeners are closed", "error", config.Detail(err))
		if errors.Is(err, master.ErrMisconfigured) {
			return misconfigured
		}
		return 1
	}
	return 0
}
