// Package application is the life of a worker that serves clients in
// transactions: from its generation's snapshot of the configuration, by way of
// its resources, log and listeners, to the end of its drain. It never reads
// /etc/fdt itself, so that all workers of a generation are alike.
//
// What a program adds to the configuration, as code, stands in an Application;
// package fdt is the face of that.
package application

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/lastlog"
	"github.com/fdtserver/fdt/internal/notify"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/undumpable"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/procedure"
)

// Application is the code of a program beside what the configuration says.
type Application struct {
	Version    string // for -version
	Procedures []*procedure.Procedure

	rehearsals []rehearsal
	handlers   map[string]Handler
	places     map[string]string // of each handler in the program
	faults     []error
	types      []config.ResourceType
	openers    map[string]resources.Opener // by the type's name
	seating    time.Duration               // but for tests, the constant
}

// Resource adds a type of resource. where is the place in the program that says so.
func (app *Application) Resource(where string, t config.ResourceType, open resources.Opener) {
	if _, taken := app.openers[t.Name]; taken {
		app.Fault(where, fmt.Errorf("there is a type of resource %q already", t.Name))
		return
	}
	if app.openers == nil {
		app.openers = map[string]resources.Opener{}
	}
	app.types, app.openers[t.Name] = append(app.types, t), open
}

// program is by whose knowledge configurations are read.
func (app *Application) program() config.Program { return config.Program{Types: app.types} }

// lastWords is how long a journal that is busy may keep the process from its end.
const lastWords = time.Second

// place is where a worker finds and keeps things.
type place struct {
	gen, slot int
	run       string // /run/fdt
	lib       string // /var/lib/fdt
	last      string // the file of package lastlog; empty: none
}

func (p place) control() string {
	return filepath.Join(p.run, "worker", service.Instance(p.gen, p.slot)+".sock")
}

// moves is the socket at which other workers offer their sessions.
func (p place) moves() string {
	return filepath.Join(p.run, "worker", service.Instance(p.gen, p.slot)+moveSuffix)
}

// metrics is the socket on which fdt-metrics asks, in a directory of its own: there is nothing else for it to ask.
func (p place) metrics() string {
	return filepath.Join(snapshot.Dir(p.run).Metrics(), service.Instance(p.gen, p.slot)+".sock")
}

// Main is a process's whole life, with the command line as fdt-worker(8) has
// it, and returns its exit status: 0, 1 after a failure that the journal and
// STATUS= tell, 2 for a wrong command line.
func (app *Application) Main(args []string) int {
	undumpable.Set()
	// One more for each turn of those that compute for long: the others are for those who ask for little, and are idle often enough for
	// the runtime to look for what came from the network.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + pgwire.Turns)
	program := filepath.Base(args[0])
	svc, err := service.Own()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		return 2
	}
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	show := flags.Bool("version", false, "print the version and exit")
	instance := flags.String("instance", "", "`GENERATION-SLOT`, the instance of fdt-worker@.service")
	check := flags.Bool("check", false, "read the files of a configuration as JSON from standard input, and print what is wrong with it: for fdtctl check --live")
	schema := flags.Bool("schema", false, "print the JSON Schema of a configuration for this program, with its types of resource, and exit")
	settles := flags.Bool("txn", false, "settle transactions as a request on standard input says: for fdtctl txn")
	var p place
	flags.StringVar(&p.run, "run", svc.Run(), "`directory` of what lasts until the host goes down")
	flags.StringVar(&p.last, "last-log", filepath.Join(svc.Etc(), filepath.Base(lastlog.File)), "`file` that tells which transaction log served last, and is waited for")
	flags.StringVar(&p.lib, "lib", svc.Lib(), "`directory` of what lasts")
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if *show {
		fmt.Println(program, app.Version)
		return 0
	}
	if *schema {
		_, _ = os.Stdout.Write(app.program().Schema()) // who reads it sees whether it is whole
		return 0
	}
	if *settles {
		program := app.program()
		return settle.Unit(settle.Own{Program: &program, Openers: app.openers}, os.Stdout, os.Stderr)
	}
	if *check {
		return app.examine(context.Background(), os.Stdin, os.Stdout, p)
	}
	signal.Ignore(unix.SIGPIPE) // a journald that restarts sends it to whoever writes to the old stream
	log := slog.New(journal.New(os.Stderr, slog.LevelInfo))
	defer journal.Flush(log.Handler(), lastWords)
	slog.SetDefault(log) // for what libraries log
	var ok bool
	if p.gen, p.slot, ok = service.ParseInstance(*instance); !ok {
		_, _ = fmt.Fprintf(flags.Output(), "%s: -instance %q is not GENERATION-SLOT\n", program, *instance)
		return 2
	}
	if path, err := p.pinned(self); err != nil {
		log.Warn("the generation's program is not kept: a worker that is started again may run another", "error", err)
	} else if path != "" {
		log.Warn("the program was replaced since the generation began, and is brought in by a reload", "running", path)
		err := unix.Exec(path, args, os.Environ())
		log.Error("the generation's program cannot be run; going on with the one that is there", "program", path, "error", err)
	}
	if err := app.serve(context.Background(), p, log); err != nil {
		// One line for STATUS=, which the master reads when the unit has failed; the journal has all of it.
		_ = notify.Status(strings.ReplaceAll(err.Error(), "\n", "; "))
		log.Error("the worker has failed", slog.String("error", config.Detail(err)), journal.ID(journal.WorkerFailed))
		return 1
	}
	return 0
}
