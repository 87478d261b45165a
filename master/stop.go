package master

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
)

// Stop is what fdt-stop.service runs at its stop, with the master alive or not. Only the type of that
// unit's own job tells a stop from a restart: on a restart it leaves a mark for the next master and
// returns. (When systemd restarts a master that crashed, this unit is restarted too; then nobody asked for
// anything, and there is no mark.) On a stop it waits for drain.delay, in which the workers accept as before and balancers learn
// that they should not come. Then it closes the sockets, drains the workers, and returns when all are gone. It returns at
// once if a start comes meanwhile: once the sockets are closed, the master opens them again with a new generation.
//
// m must not be running.
func (m *Master) Stop(ctx context.Context) error {
	restarts, marked := false, false
	return m.bringDown(ctx, func(v view) (wish, error) {
		switch {
		case v.stopper == "stop":
			return m.delay(v), nil
		case v.stopper == "restart" && !restarts:
			// Out of order, or this unit would wait for the master's start, and a stop that comes before would do nothing.
			// Another look, for one that has come by now.
			restarts = true
			return again, m.sd.start(m.opt.Service.Stopper(), "ignore-dependencies")
		case v.stopper == "restart" && v.active && !marked:
			marked = true
			return again, m.markRestart()
		}
		m.log.Info("not stopping, as nobody asks for it any more", "job", v.stopper)
		return leave, nil
	})
}

// wish is what is wanted of a process that is to stop fdt.
type wish int

const (
	leave wish = iota // nothing, or nothing any more
	again             // it has done something, and looks another time before it takes that for granted
	wait              // nothing yet: see Master.closing
	goOn
)

// delay has a stop wait for drain.delay as long as a worker accepts connections.
func (m *Master) delay(v view) wish {
	serves := slices.ContainsFunc(v.workers, worker.unaware) &&
		slices.ContainsFunc(sortedKeys(v.sockets), func(name string) bool { return v.sockets[name].open })
	if m.closing.IsZero() && serves {
		delay := m.serving().Delay
		if m.closing = v.now.Add(delay); delay > 0 {
			m.event(journal.Stopping).Info("stopping: clients are still let in, and balancers told to send none", "delay", delay.String())
			m.say(fmt.Sprintf("stopping: clients are let in for %s more (drain.delay), then draining", delay))
		}
	}
	if serves && v.now.Before(m.closing) {
		return wait
	}
	m.closing = v.now // it does not wait again
	return goOn
}

// Sweep is what fdt-sweep.service runs whenever fdt.service has come to rest: it closes what the stop has left. That is
// nothing, unless the stop came in the moment in which systemd restarts the stopper with a master that died, or the
// stopper itself died.
//
// A listener that was opened since waits for a first connection, and is left alone. m must not be running.
func (m *Master) Sweep(ctx context.Context) error {
	began, left := monotonic(), false
	return m.bringDown(ctx, func(v view) (w wish, err error) {
		if v.resting && !left {
			left, err = m.leftover(v, began)
		}
		if v.resting && left {
			w = goOn // without drain.delay: nobody waits for this, and balancers were told long ago
		}
		return w, err
	})
}

// leftover reports whether the life of fdt.service that has ended left something that serves.
func (m *Master) leftover(v view, began moment) (bool, error) {
	rested, err := m.sd.unitMoment(m.opt.Service.Master(), "InactiveEnterTimestampMonotonic")
	if err != nil {
		return false, err
	}
	if rested == 0 {
		rested = began // systemd has forgotten the unit since
	}
	for _, w := range v.workers {
		if w.phase != draining {
			return true, nil
		}
	}
	for _, name := range sortedKeys(v.sockets) {
		if !v.sockets[name].open {
			continue
		}
		since, err := m.sd.unitMoment(name, "ActiveEnterTimestampMonotonic")
		if err != nil || since < rested {
			return err == nil, err
		}
	}
	return false, nil
}

// bringDown closes the sockets, then drains the workers, and returns when all are gone, or as soon as that is not wanted any more.
func (m *Master) bringDown(ctx context.Context, wanted func(view) (wish, error)) error {
	if !m.connect(ctx) {
		return context.Cause(ctx)
	}
	defer func() { _ = m.sd.Close() }()
	state, err := m.opt.Run.ReadState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("the state cannot be read", "error", err)
	}
	m.state = state
	m.asker = ctx
	first, told := true, false
	began := time.Now()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		v, err := m.read()
		if m.reconnected(ctx) {
			continue
		}
		if err != nil {
			return err
		}
		m.last = v
		w, err := wanted(v)
		switch {
		case err != nil:
			return err
		case w == again:
			continue
		case w == leave:
			return nil
		case w == wait:
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-m.prompts:
			case <-poll.C:
			case <-time.After(m.closing.Sub(v.now)):
			}
			continue
		case first:
			if err := m.beginStop(ctx, v); err != nil {
				return err
			}
			first = false
		}
		actions, done := planStop(v)
		if err := m.apply(actions); err != nil {
			return err
		}
		if done {
			if err := m.rest(v); err != nil {
				return err
			}
			m.event(journal.Stopped).Info("stopped", "after", time.Since(began).Round(time.Millisecond).String())
			return nil
		}
		if !told && len(v.workers) > 0 && len(actions) == 0 {
			told = true
			m.hurryShutdown(v)
		}
		m.showStop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.prompts:
		case c := <-m.counted:
			m.counts, m.asking = c, false
		case l := <-m.lives:
			m.heard(l)
		case <-poll.C:
			m.ask(ctx)
		}
	}
}

// beginStop says that a stop begins.
func (m *Master) beginStop(ctx context.Context, v view) error {
	m.event(journal.Stopping).Info("stopping: closing the listeners, then draining the workers")
	m.ask(ctx)
	return m.closeAhead(v)
}

// hurryShutdown gives the drains of a host that goes down its own limit.
func (m *Master) hurryShutdown(v view) {
	if !m.shutdown() {
		return
	}
	within := m.serving().Shutdown
	m.log.Info("the host is going down", "within", within.String())
	for _, gen := range v.generations() {
		m.hurry(gen, within)
	}
}

// rest leaves the state of a fdt that does not run, so that whatever starts it next reads /etc/fdt.
func (m *Master) rest(v view) error {
	state, err := m.opt.Run.ReadState() // the master may have written since
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m.state = state
	return m.nothing(v)
}

// closeAhead closes the sockets. Where the host goes down, or changes to the rescue mode, their stop is already asked for,
// and ordered behind that of fdt.service, which waits for this process: without stepping out of that order both would wait
// for ever.
func (m *Master) closeAhead(v view) error {
	for _, s := range v.surplus(nil) {
		if err := m.sd.stop(s.unit, "ignore-dependencies"); err != nil {
			return err
		}
	}
	return nil
}

// planStop is one look at a stop: sockets first, for a service that stops while its socket listens is
// started again by the next client; companions after them; then the workers.
func planStop(v view) (actions []action, done bool) {
	var d decision
	if !closeSurplus(v, &d, nil) {
		return d.actions, false
	}
	if v.target {
		d.do(doStop, v.svc.Sockets()) // not waited for: it is ordered to stop after fdt.service
	}
	if slices.ContainsFunc(v.workers, worker.unaware) {
		d.do(doFinal, "")
		return d.actions, false
	}
	for _, w := range v.workers {
		switch {
		case !w.released:
			d.do(doRelease, w.unit)
		case w.phase == draining && w.job == "stop" && w.jobRuns:
			d.do(doCancel, w.unit)
		}
	}
	prod(v, &d)
	return d.actions, len(v.workers) == 0 && len(d.actions) == 0
}

// unaware reports whether the worker serves and knows of no stop. In a stop of the host each has a job, which waits
// for the stopper.
func (w worker) unaware() bool {
	return w.stays() || w.told.IsZero() && w.phase == draining && w.job == "stop" && !w.jobRuns
}

// final tells the workers that nobody else will accept, so that they serve what is in the queue. Who does
// not understand it is only stopped.
func (m *Master) final() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, w := range slices.DeleteFunc(slices.Clone(m.last.workers), func(w worker) bool { return !w.unaware() }) {
		m.memo(w.unit).told = time.Now()
		path := m.controlPath(w.gen, w.slot)
		all.Go(func() {
			if err := control.Call(ctx, path, control.OpDrain, control.Drain{Final: true}, nil); err != nil {
				m.log.Debug("a worker is stopped by signal alone", "socket", path, "error", err)
			}
		})
	}
	all.Wait()
}

func (v view) generations() []int {
	seen := map[int]bool{}
	var out []int
	for _, w := range v.workers {
		if !seen[w.gen] {
			seen[w.gen] = true
			out = append(out, w.gen)
		}
	}
	return out
}

func (m *Master) showStop() {
	s := m.status()
	s.count(m.counts)
	workers := 0
	for _, g := range s.Generations {
		workers += len(g.Workers)
	}
	m.say(fmt.Sprintf("draining: %s, %s left", plural(workers, "worker"), plural(s.Connections, "connection")))
}

// say is the stopper's STATUS=.
func (m *Master) say(line string) {
	if line == m.shown {
		return
	}
	m.shown = line
	if err := m.opt.Status(line); err != nil {
		m.log.Warn("systemd cannot be told the status", "error", err)
	}
}

// markRestart tells the next master that it was started on purpose, and is to roll the workers.
func (m *Master) markRestart() error {
	f, err := os.OpenFile(m.restartMark(), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// shutdown reports whether the whole host stops.
func (m *Master) shutdown() bool {
	down, err := m.sd.goingDown()
	if err != nil {
		m.log.Warn("the state of the system cannot be read", "error", err)
	}
	return down
}

// serving is drain of the configuration that serves.
func (m *Master) serving() config.Drain {
	cfg, err := m.opt.Run.Load(m.state.Applied)
	if err != nil {
		if cfg, err = config.Load(m.opt.Etc); err != nil {
			return config.Drain{Shutdown: time.Minute}
		}
	}
	return cfg.Drain
}
