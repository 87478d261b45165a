package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/master"
)

var (
	// errSilent is a master that lives and does not answer in time.
	errSilent = errors.New("the master does not answer")
	// errMasterLost and errBusLost say that one of them went away before the answer came.
	errMasterLost = errors.New("the master died or was restarted before it answered")
	errBusLost    = errors.New("the system bus was restarted before the master answered; see fdtctl status")
)

// silent is errSilent, with what to do.
func silent() error { return fmt.Errorf("%w: systemctl status %s", errSilent, own()) }

// masterLost is errMasterLost, with where to look.
func masterLost() error {
	return fmt.Errorf("%w; see fdtctl status and journalctl -u %s", errMasterLost, own())
}

// noMaster says that no master runs, or that there is no such service on the host with a root directory, and which there are.
func noMaster(root string, s service.Service) error {
	for _, dir := range []string{s.Etc(), s.Run(), s.Lib()} {
		if _, err := os.Stat(filepath.Join(root, dir)); s == service.Default || !errors.Is(err, fs.ErrNotExist) { // the first is not for everybody
			return fmt.Errorf("the master does not run: systemctl status %s", s)
		}
	}
	var there []string
	for _, other := range service.Known(root) {
		there = append(there, other.String())
	}
	return fmt.Errorf("there is no service %s, as there is no %s/config.yaml; there is %s", s.Name(), s.Etc(), strings.Join(there, ", "))
}

// call calls the master. The error is its reason, in full, or that of the
// context's end.
func call(ctx context.Context, method string, out any, args ...any) error {
	err := ask(ctx, method, out, args...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func ask(ctx context.Context, method string, out any, args ...any) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("the system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	c := conn.Object(own().BusName(), master.BusPath).CallWithContext(ctx, master.BusInterface+"."+method, dbus.FlagNoAutoStart, args...)
	if c.Err == nil && out != nil {
		return c.Store(out)
	}
	if e, ok := errors.AsType[dbus.Error](c.Err); ok {
		switch e.Name {
		case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
			return noMaster("/", own())
		case "org.freedesktop.DBus.Error.NoReply", master.ErrorLeaving:
			return masterLost()
		case "org.freedesktop.DBus.Error.AccessDenied":
			return errors.New("only root may do this; members of group fdt may ask for the status")
		}
		return errors.New(e.Error())
	}
	if errors.Is(c.Err, io.EOF) || errors.Is(c.Err, dbus.ErrClosed) {
		return errBusLost
	}
	return c.Err
}

// aWhile is what drain leaves to a generation if nothing else is given.
const aWhile = 10 * time.Second

func runDrain(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl drain", flag.ContinueOnError)
	now := flags.Bool("now", false, "cut what is left at once; a commit in progress still finishes")
	within := flags.Duration("within", aWhile, "deadline for what is left")
	asJSON := flags.Bool("json", false, "print the outcome as JSON")
	rest, code, done := parse(flags, args, 1, stderr)
	if done {
		return code
	}
	gen, err := strconv.ParseUint(rest[0], 10, 31)
	if err != nil {
		fmt.Fprintf(stderr, "fdtctl drain: %q is not a generation\n", rest[0])
		return 2
	}
	switch {
	case *within < 0, *now && *within != aWhile:
		fmt.Fprintln(stderr, "fdtctl drain: give --now, or --within and a time from now")
		return 2
	case *now:
		*within = time.Millisecond
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Second, silent())
	defer cancel()
	if err := call(ctx, "Drain", nil, uint32(gen), within.String()); err != nil {
		return fail(stderr, "drain", err)
	}
	if *asJSON {
		return printJSON("drain", drainTold{gen, within.Seconds()}, stdout, stderr)
	}
	fmt.Fprintf(stdout, "generation %d was told to end within %s\n", gen, *within)
	return 0
}

// drainTold is the outcome of fdtctl drain, as JSON.
type drainTold struct {
	Generation uint64  `json:"generation"`
	Within     float64 `json:"within"` // seconds
}

func status(ctx context.Context) (master.Status, error) {
	var s master.Status
	var text string
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, silent())
	defer cancel()
	if err := call(ctx, "Status", &text); err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

func runStatus(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl status", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print everything as JSON")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	s, err := status(context.Background())
	if err != nil {
		return fail(stderr, "status", err)
	}
	if *asJSON {
		return printJSON("status", s, stdout, stderr)
	}
	_, columns := screenOf(stdout)
	show(stdout, screen(s, columns, time.Now()))
	paused, _ := snapshot.Dir(own().Run()).Pauses() // workers and resume tell of what cannot be read
	for _, line := range stranded(paused, s.Resources) {
		fmt.Fprint(stdout, "\n"+wrapped(line, columns, "  "))
	}
	return 0
}

// runStopHook is ExecStop= of fdt-stop.service.
func runStopHook(args []string, _, stderr io.Writer) int {
	return runHook("stop-hook", args, stderr, func(ctx context.Context, m *master.Master, log *slog.Logger) error {
		err := m.Stop(ctx)
		if err != nil {
			log.Error("the stop is not complete", "error", err)
		}
		return err
	})
}

// runSweepHook is ExecStart= of fdt-sweep.service.
func runSweepHook(args []string, _, stderr io.Writer) int {
	return runHook("sweep-hook", args, stderr, func(ctx context.Context, m *master.Master, log *slog.Logger) error {
		err := m.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // who stops this unit looks after the rest
		case err != nil:
			log.Error("something may serve on after the stop: stop the service again", "error", err)
		}
		return err
	})
}

// runStartHook is ExecStart= of fdt-refresh.service.
func runStartHook(args []string, _, stderr io.Writer) int {
	return runHook("start-hook", args, stderr, func(ctx context.Context, m *master.Master, log *slog.Logger) error {
		err := m.Refresh(ctx)
		if err != nil {
			log.Error("listeners may open as an earlier configuration had them", "error", err)
		}
		return err
	})
}

// runHook runs what a unit needs of a master that is not running; it has logged its error.
func runHook(name string, args []string, stderr io.Writer, hook func(context.Context, *master.Master, *slog.Logger) error) int {
	flags := flag.NewFlagSet("fdtctl "+name, flag.ContinueOnError)
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	log := slog.New(journal.New(os.Stderr, slog.LevelInfo))
	m := master.New(master.Options{Service: own(), Version: version, Logger: log, Status: notify.Status, Ready: notify.Status})
	if hook(ctx, m, log) != nil {
		return 1
	}
	return 0
}
