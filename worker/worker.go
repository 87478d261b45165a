// Package worker is a worker process's whole life under systemd: take over the listening sockets, serve
// them, say READY, and on SIGTERM drain and return. After STOPPING=1 has been sent this process accepts
// nothing any more; Run returns when the last connection has ended, or its drain timeout has passed.
//
// Server is an interface that *http.Server satisfies as well as *drain.Server, which alone accepts no
// more than it can serve and leaves the rest to other workers.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/activation"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/notify"
)

// Server is what Run runs. Serve blocks until Shutdown makes it close l and return an error, which is
// then ignored; Shutdown blocks until all connections have ended, or ctx has.
//
// More methods are used if there: Close() error ends what Shutdown left, Beat(context.Context) error
// proves to the watchdog that the accept loops live, Final(...string) is called before Shutdown when no
// other process will accept any more, be it from the listeners named or, without names, from any, and
// Descriptors() int is how many file descriptors the server may hold at once.
type Server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

const (
	// statusEvery is how often the STATUS line is looked at; it is sent if it changed.
	statusEvery = 2 * time.Second
	// overtime is how long Shutdown may go on after its context has ended.
	overtime = 15 * time.Second
)

// Errors of Run, wrapped.
var (
	// ErrListeners means that listeners are missing which must be there.
	ErrListeners = errors.New("worker: listeners are missing")
	// ErrDescriptors means that RLIMIT_NOFILE is too low for what the server and the program may hold open.
	ErrDescriptors = errors.New("too few file descriptors")
	// ErrOvertime means that the server's Shutdown did not return after its context had ended.
	ErrOvertime = errors.New("worker: the server did not shut down")
)

// run is the life of one worker. Its loop owns all that follows "owned".
type run struct {
	options
	server    Server
	listeners map[string]net.Listener
	degraded  string // what is missing, "" if nothing

	signals chan os.Signal
	asked   chan request // from the control socket
	served  chan served  // one from every Serve
	down    chan error   // Shutdown's result

	// owned
	serving int
	stop    *shutdown // nil while serving
	failure error
	shown   string // STATUS= as last sent
}

// request is one to drain.
type request struct {
	within time.Duration // negative: no limit of its own
	final  bool
	on     []string // final for these listeners only
}

// served says that a Serve has returned.
type served struct {
	name string
	err  error
}

// shutdown is a drain under way.
type shutdown struct {
	cancel  context.CancelCauseFunc // of Shutdown's context
	limit   *time.Timer             // calls cancel; nil without a limit
	overdue *time.Timer             // overtime later
	at      time.Time               // when limit is
	said    bool                    // STOPPING=1
}

var errTimeout = errors.New("worker: the drain timeout has passed")

// Run is the worker's life. It returns nil after a drain that was asked for, also if the drain timeout
// cut it short.
//
// SIGTERM and SIGINT start the drain, and change nothing the second time; SIGQUIT starts it, or cuts it
// short, with no time for the connections. SIGHUP and SIGPIPE are ignored from then on. The process's
// umask never gets wider than 007.
//
// An *http.Server gets its Handler and ConnState wrapped, so that no request is dropped when it drains.
func Run(server Server, opts ...Option) (err error) {
	w := &run{
		options: options{ctx: context.Background(), logger: slog.Default(),
			statusEvery: statusEvery, overtime: overtime},
		server:  server,
		signals: make(chan os.Signal, 8),
		asked:   make(chan request),
		down:    make(chan error, 1),
	}
	for _, o := range opts {
		o(&w.options)
	}
	if s, ok := server.(*http.Server); ok {
		server = unhurry(s, ordinary())
		w.server = server
	}
	signal.Notify(w.signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(w.signals)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	unix.Umask(unix.Umask(0o077) | 0o007)

	var all sync.WaitGroup
	if w.controlOn != nil {
		socket := &control.Server{Handlers: w.handlers()}
		all.Go(func() {
			if err := socket.Serve(w.controlOn); !errors.Is(err, control.ErrServerClosed) {
				w.logger.Error("the control socket has failed", "error", err)
			}
		})
		defer func() {
			err = errors.Join(err, socket.Close())
			all.Wait()
		}()
	}
	// A worker that has run out of descriptors must still be able to answer the watchdog.
	if err := errors.Join(notify.Open(), w.enough()); err != nil {
		return errors.Join(fmt.Errorf("worker: %w", err), closeAll(w.own))
	}
	if w.listeners, err = w.take(); err != nil {
		return err
	}
	w.served = make(chan served, len(w.listeners))
	for name, l := range w.listeners {
		w.serving++
		go func() { w.served <- served{name, server.Serve(l)} }() // loop waits for each
	}
	return w.loop()
}

// own is how many descriptors Run itself needs, with some to spare: standard streams, pollers, the control socket
// and its exchanges, the sockets to systemd and its journal, and two for each of some twenty listeners.
const own = 96

// enough raises the soft limit of descriptors to the hard one, and returns an error if that is lower than what this
// process can come to need.
func (w *run) enough() error {
	need := own + w.descriptors
	if d, ok := w.server.(interface{ Descriptors() int }); ok {
		need += d.Descriptors()
	}
	have := limit()
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: have, Max: have}) // every kernel lets everybody do that: getrlimit(2)
	return within(have, need)
}

// limit is the hard limit of this process's descriptors.
func limit() uint64 {
	var have unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &have) // every kernel has it
	return have.Max
}

func within(have uint64, need int) error {
	if have < uint64(need) {
		return fmt.Errorf("%w: the limit is %d, and it may need %d: raise LimitNOFILE= of its unit, or serve fewer connections at once",
			ErrDescriptors, have, need)
	}
	return nil
}

// Enough returns an ErrDescriptors if this process could not come to hold the descriptors that [Run] would refuse to serve without, for a
// server and a program that need so many.
func Enough(server, program int) error { return within(limit(), own+server+program) }

// handlers are the control socket's operations, with our own.
func (w *run) handlers() control.Handlers {
	handlers := control.Handlers{}
	for name, operation := range w.operations {
		handlers[name] = operation
	}
	handlers[control.OpDrain] = func(ctx context.Context, args json.RawMessage) (any, error) {
		var req control.Drain
		if err := json.Unmarshal(args, &req); err != nil {
			return nil, fmt.Errorf("drain: %w", err)
		}
		if (req.Final || len(req.FinalOn) > 0) && !control.ByRoot(ctx) {
			return nil, fmt.Errorf("drain: %w: final shuts the listener of every worker, and is for root", control.ErrDenied)
		}
		within := time.Duration(-1)
		if req.Within != "" {
			d, err := time.ParseDuration(req.Within)
			if err != nil || d < 0 {
				return nil, fmt.Errorf("drain: within: %q is not a duration such as 5s", req.Within)
			}
			within = d
		}
		select {
		case w.asked <- request{within, req.Final, req.FinalOn}:
		case <-ctx.Done(): // the worker has ended, or the time for an answer has
		}
		return nil, nil
	}
	return handlers
}

// take returns the listeners to serve, by name.
func (w *run) take() (map[string]net.Listener, error) {
	have, err := activation.Listeners()
	if errors.Is(err, activation.ErrNone) && len(w.addresses)+len(w.own) > 0 {
		return w.listen()
	}
	if err != nil && (w.required || len(have) == 0) {
		return nil, errors.Join(fmt.Errorf("worker: %w", err), closeAll(have))
	}
	var faults []string
	if err != nil {
		w.logger.Error("listeners that systemd passed cannot be served", "error", err)
		faults = append(faults, "some listeners cannot be served")
	}
	if w.names != nil {
		selected, missing, surplus := activation.Select(have, w.names)
		if len(missing) > 0 && (w.required || len(selected) == 0) {
			return nil, errors.Join(fmt.Errorf("%w: %s; systemd passed: %s", ErrListeners,
				strings.Join(missing, ", "), strings.Join(slices.Sorted(maps.Keys(have)), ", ")), closeAll(have))
		}
		for _, name := range missing {
			w.logger.Error("a listener is missing; the others are served",
				"listener", name, "message_id", journal.ListenerMissing)
			faults = append(faults, "listener "+name+" is missing")
		}
		for _, name := range surplus {
			w.logger.Info("a listener that is not ours was passed; closing it", "listener", name)
			_ = have[name].Close() // this process's copy
		}
		have = selected
	}
	w.degraded = strings.Join(faults, ", ")
	return have, nil
}

// listen opens what WithAddress named, beside what WithListener gave.
func (w *run) listen() (map[string]net.Listener, error) {
	have := make(map[string]net.Listener, len(w.addresses)+len(w.own))
	maps.Copy(have, w.own)
	for _, a := range w.addresses {
		l, err := new(net.ListenConfig).Listen(w.ctx, a[0], a[1])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("worker: %w", err), closeAll(have))
		}
		have[a[0]+":"+l.Addr().String()] = l
	}
	return have, nil
}

func closeAll(listeners map[string]net.Listener) error {
	var errs []error
	for _, l := range listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// loop goes from READY=1 to the end of the drain.
func (w *run) loop() error {
	w.shown = w.line("serving")
	w.tell(notify.Ready(w.shown))
	w.logger.Info("serving", "listeners", strings.Join(slices.Sorted(maps.Keys(w.listeners)), " "),
		"message_id", journal.WorkerReady)

	status := time.NewTicker(w.statusEvery)
	defer status.Stop()
	var watchdog <-chan time.Time
	interval, err := notify.Interval()
	if err != nil {
		w.logger.Warn("no watchdog pings, as their interval cannot be read", "error", err)
	}
	if interval > 0 {
		t := time.NewTicker(interval / 2)
		defer t.Stop()
		watchdog = t.C
	}
	ended := w.ctx.Done()
	for {
		select {
		case sig := <-w.signals:
			w.drain(sig.String())
			if sig == unix.SIGQUIT {
				w.hurry(0)
			}
		case <-ended:
			ended = nil
			w.drain(context.Cause(w.ctx).Error())
		case r := <-w.asked:
			if f, ok := w.server.(interface{ Final(listeners ...string) }); ok && (r.final || len(r.on) > 0) {
				if r.final {
					r.on = nil
				}
				f.Final(r.on...)
			}
			w.drain("control socket")
			if r.within >= 0 {
				w.hurry(r.within)
			}
		case s := <-w.served:
			w.serving--
			if w.stop == nil {
				w.failure = fmt.Errorf("worker: serving %s: %w", s.name, s.err)
				w.drain("listener " + s.name + " has failed")
			}
			w.stopping()
		case err := <-w.down:
			return w.end(err)
		case <-w.overdue():
			return errors.Join(w.failure, ErrOvertime)
		case <-status.C:
			w.refresh()
		case <-watchdog:
			w.ping(interval / 4)
		}
	}
}

// drain starts the shutdown, unless it is under way.
func (w *run) drain(why string) {
	if w.stop != nil {
		w.logger.Info("asked to drain again", "by", why)
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(w.ctx))
	w.stop = &shutdown{cancel: cancel}
	w.logger.Info("draining", "by", why, "message_id", journal.WorkerDraining)
	if w.drainTimeout > 0 {
		w.hurry(w.drainTimeout)
	}
	go func() { w.down <- w.server.Shutdown(ctx) }() // loop waits for it
	w.stopping()
}

// hurry sets the end of the drain to no later than d from now.
func (w *run) hurry(d time.Duration) {
	at := time.Now().Add(d)
	switch s := w.stop; {
	case s.limit == nil:
		s.at = at
		s.limit = time.AfterFunc(d, func() { s.cancel(errTimeout) })
		s.overdue = time.NewTimer(d + w.overtime)
	case at.Before(s.at):
		s.at = at
		s.limit.Reset(d)
		s.overdue.Reset(d + w.overtime)
	}
	if w.deadline != nil {
		w.deadline(w.stop.at)
	}
}

// overdue gets a value when the server ought to have shut down.
func (w *run) overdue() <-chan time.Time {
	if w.stop == nil || w.stop.overdue == nil {
		return nil
	}
	return w.stop.overdue.C
}

// stopping says STOPPING=1 once no listener is served any more, and not before: who sees it may count on
// that this process takes no connection.
func (w *run) stopping() {
	if w.serving > 0 || w.stop.said {
		return
	}
	w.stop.said = true
	w.shown = w.line("draining")
	w.tell(notify.Stopping(w.shown))
}

// end comes after Shutdown.
func (w *run) end(err error) error {
	cut := w.stop.limit != nil && !w.stop.limit.Stop()
	w.stop.cancel(nil)
	if c, ok := w.server.(interface{ Close() error }); ok && err != nil {
		cerr := c.Close()
		if cut && errors.Is(err, context.Canceled) { // as http.Server.Shutdown says it
			err = cerr
		}
	}
	closed := closeAll(w.listeners)
	for ; w.serving > 0; w.serving-- {
		<-w.served
	}
	w.stopping()
	if err != nil {
		err = fmt.Errorf("worker: shutdown: %w", err)
		w.logger.Error("connections did not end", "error", err, "message_id", journal.HandlerStuck)
	}
	w.logger.Info("drained, and ends", "cut_short", cut, "message_id", journal.WorkerStopped)
	return errors.Join(w.failure, err, closed)
}

// line is the text of STATUS=.
func (w *run) line(state string) string {
	parts := []string{state}
	if w.status != nil {
		parts = append(parts, w.status())
	}
	if w.degraded != "" {
		parts = append(parts, w.degraded)
	}
	return strings.Join(parts, "; ")
}

// refresh sends STATUS= if it has changed.
func (w *run) refresh() {
	state := "serving"
	if w.stop != nil {
		state = "draining"
	}
	if line := w.line(state); line != w.shown {
		w.shown = line
		w.tell(notify.Status(line))
	}
}

// ping tells the watchdog that the accept loops live, if they do. While draining there are none.
func (w *run) ping(within time.Duration) {
	if b, ok := w.server.(interface{ Beat(context.Context) error }); ok && w.stop == nil {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := b.Beat(ctx); err != nil {
			w.logger.Error("no watchdog ping, as connections are not accepted", "error", err, "message_id", journal.WatchdogFailing)
			return
		}
	}
	w.tell(notify.Watchdog())
}

// tell logs a notification's failure: systemd will act on its absence.
func (w *run) tell(err error) {
	if err != nil {
		w.logger.Warn("systemd cannot be told how the worker is", "error", err)
	}
}
