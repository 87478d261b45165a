package master

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// Sentinels of a rollout that does not end well. Every other error is the reason itself.
var (
	// ErrStopping answers every request that a stop of fdt.service overtakes.
	ErrStopping = errors.New("fdt is being stopped")
	// ErrLeaving answers every request that the master's own end overtakes; the next master goes on with it.
	ErrLeaving = errors.New("the master was told to exit; the next one goes on")
	// ErrNoPrevious is the answer to a rollback when no earlier snapshot is kept.
	ErrNoPrevious = errors.New("there is no earlier generation to go back to")
	// ErrUnknownGeneration is the answer to a drain of a generation that does not drain.
	ErrUnknownGeneration = errors.New("no such generation is draining")
)

// Options say where things are. The zero value is an installed system.
type Options struct {
	Service   service.Service // whose names and places are the defaults of what follows
	Root      string          // directory in which other services of the host are looked for; default /
	Run       snapshot.Dir
	Etc       string
	LastGood  string
	Generated string // where fdt-generator writes; default /run/systemd/generator
	Generator string // the program; default unit.Generator
	Private   string // the D-Bus address of systemd's manager itself; default unix:path=/run/systemd/private
	Version   string
	Logger    *slog.Logger
	// Notify sends STATUS=, and READY=1 with the first call of its second kind; see internal/notify.
	Ready, Status func(status string) error
}

// Master is the state machine with its one owner, Run.
type Master struct {
	opt Options
	log *slog.Logger

	requests chan request
	prompts  prompter
	counted  chan counts
	checks   chan checked
	lives    chan lived
	shows    chan Status    // the newest status, for the bus
	helpers  sync.WaitGroup // asks workers for counts, serves the bus

	// Everything below belongs to Run's goroutine.
	sd               *systemd
	living           context.Context // ends with Run; nil in Stop
	asker            context.Context // ends with either
	state            snapshot.State
	step             Step
	applied, pending *target
	memos            map[string]*memo
	reached          map[string]reached // by socket unit
	jobs             map[string]uint32
	hurried          map[int]bool
	backoff          backoff
	retry            backoff // of rollouts that the master itself began
	recheck          bool    // an adopted rollout was not over yet: see wantRestart
	coldSource       string  // what a cold start tried, to try the last good one after it
	isReady          bool
	closing          time.Time // of the stopper: when drain.delay ends; zero: it has not begun
	wasStopping      bool
	last             view
	counts           counts
	asking           bool
	shown            string
	instead          string // why the configuration that is being rolled out is not the one in /etc/fdt
	failure          error  // why the pending generation is being taken back
	crash            string
	serves           string    // the transaction log that is known to have served
	untidy           bool      // a rollout is over, and tidy has something to do
	tidied           backoff   // of tidy, where that fails
	answers          []func()  // held back until STATUS= shows what they say
	wanted           []request // to be answered by the next rollout
	callers          []request // answered by the rollout in progress
}

// New prepares a master; nothing happens before Run.
func New(opt Options) *Master {
	opt.Root = cmp.Or(opt.Root, "/")
	opt.Run = cmp.Or(opt.Run, snapshot.Dir(opt.Service.Run()))
	opt.Etc = cmp.Or(opt.Etc, opt.Service.Etc())
	opt.LastGood = cmp.Or(opt.LastGood, opt.Service.LastGood())
	opt.Generated = cmp.Or(opt.Generated, "/run/systemd/generator")
	opt.Generator = cmp.Or(opt.Generator, unit.Generator)
	opt.Private = cmp.Or(opt.Private, privateBus)
	return &Master{
		opt: opt, log: opt.Logger, requests: make(chan request), prompts: make(prompter, 1), counted: make(chan counts, 1), checks: make(chan checked), lives: make(chan lived),
		shows: make(chan Status, 1),
		memos: map[string]*memo{}, hurried: map[int]bool{}, jobs: map[string]uint32{},
	}
}

// Run is the master's life. It returns nil at once when ctx ends, whatever is going on: sockets and workers
// go on without it. It returns an error if there is nothing that it could serve; then the sockets are closed.
func (m *Master) Run(ctx context.Context) error {
	defer m.helpers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.living, m.asker = ctx, ctx
	m.helpers.Go(func() { m.serveBus(ctx) })
	if !m.connect(ctx) {
		return nil
	}
	defer func() { _ = m.sd.Close() }()
	if err := m.begin(false); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	m.ask(ctx)
	for {
		wake, err := m.advance()
		switch {
		case errors.Is(err, ErrNothingToServe):
			m.flush()
			return err
		case err != nil:
			m.log.Warn("the master cannot go on; trying again in a second", "error", err)
			wake = time.Now().Add(time.Second)
		}
		m.show()
		m.flush()
		m.tidy()
		if wake.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.prompts:
		case <-timer.C:
		case <-m.sd.Done():
			m.reconnected(ctx)
		case r := <-m.requests:
			m.handle(r)
		case c := <-m.counted:
			m.counts, m.asking = c, false
			m.age(c)
			m.keepLog(c)
		case c := <-m.checks:
			m.concluded(c)
		case l := <-m.lives:
			m.heard(l)
		case <-poll.C:
			m.ask(ctx)
		}
	}
}

// connect reaches systemd, however long that takes. It reports false if ctx ended first.
func (m *Master) connect(ctx context.Context) bool {
	delay := backoff{}
	for ctx.Err() == nil {
		sd, err := connect(m.opt.Private, m.prompts)
		if err == nil {
			m.sd = sd
			m.prompts.prompt()
			return true
		}
		m.log.Warn("systemd does not answer; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(delay.next(time.Now())):
		}
	}
	return false
}

// reconnected reaches systemd again where the connection broke, as it does at a daemon-reexec.
func (m *Master) reconnected(ctx context.Context) bool {
	select {
	case <-m.sd.Done():
		_ = m.sd.Close()
		return m.connect(ctx)
	default:
		return false
	}
}

// advance looks, decides and acts until nothing more happens without a prompt. It returns when to look again.
func (m *Master) advance() (wake time.Time, err error) {
	for {
		v, err := m.read()
		if err != nil {
			return time.Time{}, err
		}
		m.last = v
		if m.wasStopping && !v.stopping {
			// A start overtook the stop. Within drain.delay nothing has come of it; after that the sockets are closed, so the
			// workers that are left cannot serve.
			m.wasStopping = false
			if m.whole(v) {
				m.log.Info("the stop was called off before anything was closed")
				continue
			}
			if err := m.begin(true); err != nil {
				return time.Time{}, err
			}
			continue
		}
		m.wasStopping = v.stopping
		if v.stopping {
			m.refuse(ErrStopping)
		}
		d := plan(v)
		if err := m.apply(d.actions); err != nil {
			if m.step == Idle || m.step >= Telling {
				return time.Time{}, err
			}
			d.event, d.err = Failed, err
		}
		if d.event == None && m.step == Idle && !v.stopping {
			if err := m.idle(v, &d); err != nil {
				return time.Time{}, err
			}
			if m.step != Idle {
				continue
			}
		}
		if d.event == None {
			if len(d.actions) > 0 {
				// The effects may be visible already, and their prompts may have come before they were.
				m.prompts.prompt()
			}
			return d.wake, nil
		}
		if err := m.happen(d.event, d.err); err != nil {
			return time.Time{}, err
		}
	}
}

// whole reports whether the applied generation, and no other, serves on every listener, and none of its workers was told to go.
func (m *Master) whole(v view) bool {
	if m.step != Idle || m.applied == nil || len(v.old(m.applied.gen)) > 0 || len(v.of(m.applied.gen, ready)) == 0 || len(v.of(m.applied.gen, draining)) > 0 {
		return false
	}
	return !slices.ContainsFunc(m.applied.sockets, func(name string) bool { return !v.sockets[name].open || v.sockets[name].job != "" })
}

// idle starts the next rollout if one is wanted.
func (m *Master) idle(v view, d *decision) error {
	switch {
	case m.recheck && !v.now.Before(m.retry.until):
		m.recheck = false
		return m.wantRestart()
	case len(m.wanted) > 0:
		m.callers, m.wanted = m.wanted, nil
		first := m.callers[0]
		// Every caller that is waiting now asked for what is on disk now; rollbacks go alone.
		if i := slices.IndexFunc(m.callers, func(r request) bool { return r.kind != first.kind }); i > 0 {
			m.wanted, m.callers = m.callers[i:], m.callers[:i]
		}
		if first.kind == kindRollback {
			return m.rollback()
		}
		return m.reload()
	case d.healthy:
		return m.healed()
	case d.reopen != "" && m.applied != nil:
		if until := m.retry.until; v.now.Before(until) {
			d.look(until)
			return nil
		}
		m.retry.next(v.now)
		m.event(journal.ListenerReopened).Warn("clients do not reach a listener; opening it, with new workers", "unit", d.reopen, "why", d.why)
		return m.heal()
	case m.recheck:
		d.look(m.retry.until)
	}
	return nil
}

// happen moves the rollout by one event: the new step is durable before anything is done about it.
func (m *Master) happen(e Event, cause error) error {
	state, to, err := after(m.state, m.step, e, cause)
	if err != nil {
		return err
	}
	if err := m.save(state); err != nil {
		if m.state.Applied != 0 || e != Failed && e != TakenBack {
			return err
		}
		// Nothing serves, so there is nothing that the next master has to know.
		m.log.Warn("the state cannot be written", "error", err)
		m.state = state
	}
	m.step = to
	m.log.Debug("rollout", "event", e.String(), "step", to.String(), "generation", max(m.state.Pending, m.state.Applied))
	switch {
	case e == Retired:
		return m.applyDone()
	case e == TakenBack:
		return m.takenBack()
	case e == Stopped:
		m.pending, m.instead = nil, ""
		m.answer(0, ErrStopping)
	case e == Failed:
		m.failure = cause
		m.event(journal.ReloadFailed).Error("the new generation cannot serve and is taken back",
			"generation", m.state.Pending, "error", cause)
	}
	return nil
}

func (m *Master) save(state snapshot.State) error {
	if err := m.opt.Run.WriteState(state); err != nil {
		return err
	}
	m.state = state
	return nil
}

// begin finds out where things are, at the master's start and after a stop that was overtaken by a start.
func (m *Master) begin(overtaken bool) error {
	// Before there is anything to stop: a stop that comes while fdt.service is still starting needs the
	// stopper to be active, and by itself it would start only afterwards.
	if err := m.sd.start(m.opt.Service.Stopper(), "ignore-dependencies"); err != nil {
		return err
	}
	state, err := m.opt.Run.ReadState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("the state of the last master is lost", "error", err)
	}
	if err != nil {
		state = snapshot.State{}
	}
	gens, err := m.opt.Run.Generations()
	if err != nil {
		return err
	}
	m.state, m.step, m.applied, m.pending = state, Idle, nil, nil
	v, err := m.read()
	if err != nil {
		return err
	}
	m.last = v
	// Numbers are never used twice, even if the state was lost.
	for _, gen := range gens {
		m.state.Next = max(m.state.Next, gen+1)
	}
	serving := false
	for _, w := range v.workers {
		m.state.Next = max(m.state.Next, w.gen+1)
		if w.phase != draining && (w.gen == m.state.Applied || w.gen == m.state.Pending) {
			serving = true
		}
	}
	m.state.Next = max(m.state.Next, 1)
	if !serving || overtaken || !m.adopt() {
		return m.cold(v)
	}
	m.event(journal.Adopted).Info("took over what the last master left", "generation", m.state.Applied, "pending", m.state.Pending, "step", m.step.String())
	return m.wantRestart()
}

// adopt takes over the generations in the state. It reports false if they cannot be understood.
func (m *Master) adopt() bool {
	step, ok := ParseStep(m.state.Step)
	if !ok {
		return false
	}
	load := func(gen int) *target {
		if gen == 0 {
			return nil
		}
		cfg, err := m.opt.Run.Load(gen)
		if err != nil {
			ok = false
			m.log.Error("a generation's snapshot cannot be read", "generation", gen, "error", err)
			return nil
		}
		return targetOf(m.opt.Service, gen, cfg)
	}
	m.applied, m.pending = load(m.state.Applied), load(m.state.Pending)
	if !ok || (m.pending == nil) != (step == Idle) {
		return false
	}
	m.step = step
	if step == TakingBack {
		m.failure = errors.New(m.state.Rejected)
		if m.state.Healing {
			m.failure = errors.New(m.state.Degraded)
		}
	}
	if step != Idle {
		// The last master may not have come to it.
		if err := m.daemonReload(); err != nil {
			m.log.Warn("systemd could not read the units again", "error", err)
		}
	}
	return true
}

// path of a worker's control socket.
func (m *Master) controlPath(gen, slot int) string {
	return fmt.Sprintf("%s/worker/%s.sock", m.opt.Run, service.Instance(gen, slot))
}
