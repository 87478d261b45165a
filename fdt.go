// Package fdt makes a program a worker of fdt: a server of which systemd owns
// the sockets, whose processes are exchanged by a reload without losing a
// connection, and in which every connection has a transaction over several
// databases, with two-phase commit.
//
// A program is a call of [Main] with its parts, procedures, HTTP handlers and
// handlers of streams, in any number and order. It replaces fdt-worker in the
// template of workers, see fdt-worker(8); configuration, listeners, databases,
// authentication, limits and everything that operators do stay as they are.
package fdt

import (
	"fmt"
	"os"

	"github.com/fdtserver/fdt/internal/application"
)

// Part is something that a program adds to what the configuration says.
type Part interface {
	add(*application.Application)
}

// part is a Part by what it does.
type part func(*application.Application)

func (p part) add(app *application.Application) { p(app) }

// Version is what the program prints with -version.
func Version(text string) Part {
	return part(func(app *application.Application) { app.Version = text })
}

// Main is the whole life of a worker. It does not return: the exit status is 0
// after a drain that was asked for, 1 after a failure, of which STATUS= and the
// journal tell the reason, and 2 if the command line is wrong.
func Main(parts ...Part) {
	os.Exit(build(caller(), parts).Main(os.Args))
}

// build is the application of these parts, which the program names at that place.
func build(where string, parts []Part) *application.Application {
	app := new(application.Application)
	for i, p := range parts {
		if p == nil {
			app.Fault(where, fmt.Errorf("part %d is nil", i+1))
			continue
		}
		p.add(app)
	}
	return app
}
