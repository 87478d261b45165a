package application

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/txn"
)

// Handler is code that serves listeners: one of its fields is set.
type Handler struct {
	HTTP   http.Handler
	Stream Stream
}

// Handle adds a handler under the name that listeners have in serve:. where is
// the place in the program that says so.
func (app *Application) Handle(name, where string, h Handler) {
	if app.handlers == nil {
		app.handlers, app.places = map[string]Handler{}, map[string]string{}
	}
	if _, taken := app.handlers[name]; taken {
		app.Fault(where, fmt.Errorf("there is a handler %q already, from %s", name, app.places[name]))
		return
	}
	if err := config.CheckHandlerName(name); err != nil {
		app.Fault(where, fmt.Errorf("handler %w", err))
		return
	}
	if h.HTTP == nil && h.Stream == nil {
		app.Fault(where, fmt.Errorf("handler %q is nil", name))
	}
	app.handlers[name], app.places[name] = h, where
}

// Handlers returns the names of the handlers.
func (app *Application) Handlers() []string { return slices.Sorted(maps.Keys(app.handlers)) }

// Rehearse adds what is asked of the program's resources before a generation
// takes over.
func (app *Application) Rehearse(where string, f func(context.Context, *txn.Session) error) {
	app.rehearsals = append(app.rehearsals, rehearsal{where, f})
}

type rehearsal struct {
	where string
	f     func(context.Context, *txn.Session) error
}

// rehearse returns what the rehearsals have found. Nothing of them stays.
func (app *Application) rehearse(ctx context.Context, m *txn.Manager) (faults []string) {
	for _, r := range app.rehearsals {
		s := NewScope(ctx, m, txn.Principal{User: "fdt", Addr: "self-check"}, "rehearsal "+r.where)
		err := errors.Join(r.try(ctx, s.Session()), s.Close(ctx))
		if err != nil {
			faults = append(faults, r.where+": "+err.Error())
		}
	}
	return faults
}

// try runs the rehearsal. A panic is an error.
func (r rehearsal) try(ctx context.Context, s *txn.Session) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.f(ctx, s)
}

// Fault notes what is wrong with the program at a place in it; it fails the
// start.
func (app *Application) Fault(where string, err error) {
	app.faults = append(app.faults, fmt.Errorf("%s: %w", where, err))
}

// agree compares the handlers with the listeners, and returns what is wrong with
// either.
func (app *Application) agree(cfg *config.Config) error {
	var errs []error
	served := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen)) {
		l := cfg.Listen[name]
		served[l.Serve] = true
		if _, ok := app.handlers[l.Serve]; l.Serve != "" && !ok {
			has := "it has none"
			if len(app.handlers) > 0 {
				has = "it has " + strings.Join(app.Handlers(), ", ")
			}
			errs = append(errs, fmt.Errorf("listener %s: serve: the program has no handler %q; %s", name, l.Serve, has))
		}
	}
	for _, name := range app.Handlers() {
		if !served[name] {
			errs = append(errs, fmt.Errorf("%s: no listener is served by handler %q: give one serve: %s", app.places[name], name, name))
		}
	}
	return errors.Join(errs...)
}

// faces are the running handlers.
type faces struct {
	by    map[string]func(context.Context, *drain.Conn) // by the listener's name, as systemd passes it
	webs  []*web
	tasks sync.WaitGroup
}

// open makes the handlers ready. agree has found nothing.
func (app *Application) open(cfg *config.Config, m *txn.Manager, log *slog.Logger, tracer *trace.Exporter) (*faces, error) {
	f := &faces{by: map[string]func(context.Context, *drain.Conn){}}
	ways := map[string]map[string]*tls.Config{}
	for name := range app.handlers {
		ways[name] = map[string]*tls.Config{}
	}
	for _, l := range cfg.Listen {
		if l.Serve == "" {
			continue
		}
		encryption, err := encryption(l.TLS, l.Auth)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		if encryption != nil && app.handlers[l.Serve].HTTP != nil {
			encryption.NextProtos = []string{"h2", "http/1.1"} // RFC 7301
		}
		for _, a := range l.Addresses {
			if a.Network != "unix" && encryption != nil {
				ways[l.Serve][unit.FDName(a)] = encryption
			}
		}
	}
	app.seating = cmp.Or(app.seating, seating)
	for name, h := range app.handlers {
		calls := newRequests(&cfg.Log, log.With("handler", name), name, tracer)
		handle := (&stream{name: name, handler: h.Stream, idle: cfg.Transaction.IdleTimeout, tls: ways[name], manager: m, log: log, calls: calls, seating: app.seating}).handle
		if h.HTTP != nil {
			w := newWeb(name, h.HTTP, ways[name], m, log, app.seating)
			w.calls = calls
			f.webs = append(f.webs, w)
			handle = w.handle
		}
		for _, l := range cfg.Listen {
			for _, a := range l.Addresses {
				if l.Serve == name {
					f.by[unit.FDName(a)] = handle
				}
			}
		}
	}
	return f, nil
}

// start runs what serves beside the connections; stop ends it.
func (f *faces) start() {
	for _, w := range f.webs {
		f.tasks.Go(w.serve)
	}
}

func (f *faces) stop() {
	for _, w := range f.webs {
		w.stop()
	}
	f.tasks.Wait()
}

// or is a drain.Server's Handler: the handler of the connection's listener, or
// else the one given.
func (f *faces) or(wire func(context.Context, *drain.Conn)) func(context.Context, *drain.Conn) {
	return func(ctx context.Context, c *drain.Conn) {
		if handle, ok := f.by[c.Listener()]; ok {
			handle(ctx, c)
			return
		}
		wire(ctx, c)
	}
}
