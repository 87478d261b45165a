package master

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// A reload from its request to its answer: reload reads the configuration and prepare makes it pending; plan
// (plan.go) takes it from Opening to Retiring; applyDone or takenBack end it.

// errNothingToServe ends Run: no configuration, or no worker that can start, and no old generation.
var errNothingToServe = errors.New("nothing to serve")

// targetOf is what plan needs to know of a configuration.
func targetOf(gen int, cfg *config.Config) *target {
	t := &target{
		gen: gen, count: cfg.Workers.Count, surge: cfg.Reload.Surge.Workers(cfg.Workers.Count),
		generations: cfg.Drain.Generations, ready: cfg.Reload.ReadyTimeout, settle: cfg.Reload.Settle,
		recycle: cfg.Workers.Recycle, backoff: cfg.Workers.Backoff,
	}
	for _, l := range unit.Listeners(cfg) {
		t.sockets = append(t.sockets, unit.SocketName(l.Address))
	}
	if a := cfg.Metrics.Address; a != nil {
		t.metrics = unit.MetricsName(*a)
	}
	return t
}

// reload begins a rollout of what is in /etc/fdt. A configuration that does not hold changes nothing.
func (m *Master) reload() error {
	cfg, err := config.Load(m.opt.Etc)
	if err == nil {
		err = m.changeable(cfg)
	}
	if err != nil {
		return m.reject(err)
	}
	if err := m.prepare(m.opt.Etc); err != nil {
		return m.reject(err)
	}
	return nil
}

// rollback begins a rollout of the configuration that served before the applied one.
func (m *Master) rollback() error {
	previous := m.previous()
	if previous == 0 {
		m.answer(0, ErrNoPrevious)
		return nil
	}
	m.instead = fmt.Sprintf("rolled back to the configuration of generation %d", previous)
	if err := m.prepare(m.opt.Run.Path(previous)); err != nil {
		return m.reject(err)
	}
	return nil
}

// again begins a rollout that nobody asked for, of the configuration in a directory.
func (m *Master) again(dir string) error {
	m.callers = nil
	return m.prepare(dir)
}

// reject answers a reload whose configuration is not even begun.
func (m *Master) reject(reason error) error {
	m.event(journal.ReloadRejected).Error("the configuration is rejected; what served goes on serving", "error", reason)
	state := m.state
	m.instead = ""
	state.Rejected = reason.Error()
	state.Rollouts.Rejected++
	err := m.save(state)
	m.answer(0, reason)
	return err
}

// prepare makes a directory's configuration the pending generation: snapshot, state, units.
func (m *Master) prepare(dir string) error {
	gen := m.state.Next
	m.state.Next++ // kept with what is saved next; a snapshot that is left tells another master
	if err := m.opt.Run.Take(gen, dir); err != nil {
		return err
	}
	cfg, err := m.opt.Run.Load(gen)
	if err != nil {
		return errors.Join(err, m.opt.Run.Remove(gen))
	}
	before := m.state
	m.state.Pending = gen
	m.state.PendingUnit, m.state.PendingBinary = m.hashes()
	if err := m.happen(Begun, nil); err != nil {
		m.state = before
		return errors.Join(err, m.opt.Run.Remove(gen))
	}
	m.pending, m.failure = targetOf(gen, cfg), nil
	clear(m.memos)
	if err := m.daemonReload(); err != nil {
		return m.happen(Failed, err)
	}
	return nil
}

// applyDone is the end of a rollout that went well.
func (m *Master) applyDone() error {
	m.applied, m.pending = m.pending, nil
	m.retry, m.backoff, m.crash = backoff{}, backoff{}, ""
	state := m.state
	state.Rejected, state.RestartWanted = m.instead, false
	m.instead = ""
	m.event(journal.ReloadDone).Info("the new generation serves", "generation", m.applied.gen)
	m.answer(m.applied.gen, nil)
	m.untidy = true
	return m.save(state)
}

// tidy does what a rollout leaves to do and nobody has to wait for.
func (m *Master) tidy() {
	if !m.untidy || m.step != Idle {
		return
	}
	m.untidy = false
	var err error
	if m.applied != nil {
		// The copy serves the next boot if the configuration is broken then.
		err = snapshot.Save(m.opt.Run.Path(m.applied.gen), m.opt.LastGood)
	}
	if gone := os.Remove(m.restartMark()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	// Closed sockets must not be wanted by fdt-sockets.target any more.
	if err = errors.Join(err, m.daemonReload()); err != nil {
		m.log.Warn("the rollout is over, but not everything about it could be put in order", "error", err)
	}
}

// takenBack is the end of one that did not. Without an older generation there is nothing left to do but to
// try the last good configuration, once.
func (m *Master) takenBack() error {
	cause := m.failure
	m.pending, m.failure, m.instead = nil, nil, ""
	if m.applied != nil {
		m.answer(0, cause)
		m.retry.next(time.Now())
		m.untidy = true
		return nil
	}
	if m.coldSource == m.opt.Etc {
		if same, err := snapshot.Same(m.opt.Etc, m.opt.LastGood); err == nil && !same {
			m.coldSource = m.opt.LastGood
			m.event(journal.LastGood).Error("serving the last good configuration instead", "error", cause)
			m.instead = "the last good configuration serves, for " + cause.Error()
			return m.prepare(m.opt.LastGood)
		}
	}
	m.answer(0, cause)
	return fmt.Errorf("%w: %w", errNothingToServe, cause)
}

// cold starts from nothing: at boot, after a stop, or when what is there cannot be taken over.
func (m *Master) cold() error {
	gens, err := m.opt.Run.Generations()
	if err != nil {
		return err
	}
	state := m.state
	if state.Applied != 0 {
		state.Previous = state.Applied
	}
	state.Applied, state.Pending, state.Step, state.Draining, state.RestartWanted = 0, 0, "", gens, false
	if err := m.save(state); err != nil {
		return err
	}
	m.applied, m.pending, m.step = nil, nil, Idle
	m.coldSource = m.opt.Etc
	_, err = config.Load(m.opt.Etc)
	if err == nil {
		return m.prepare(m.opt.Etc)
	}
	m.event(journal.LastGood).Error("the configuration is broken; trying the last good one", "error", err)
	m.coldSource = m.opt.LastGood
	if _, lost := config.Load(m.opt.LastGood); lost != nil {
		// Better refused than hanging.
		return m.happen(Failed, err)
	}
	m.instead = "the last good configuration serves, for " + err.Error()
	return m.prepare(m.opt.LastGood)
}

// wantRestart begins a rollout if the master was restarted on purpose, or if the workers' program or units
// are not those that the applied generation was started from.
func (m *Master) wantRestart() error {
	if m.step != Idle {
		m.recheck = true // when it is over: its workers may be older than the program is now
		return nil
	}
	units, binary := m.hashes()
	_, err := os.Stat(m.restartMark())
	marked := err == nil || m.state.RestartWanted
	if !marked && units == m.state.UnitHash && binary == m.state.BinaryHash {
		return nil
	}
	m.log.Info("rolling the workers", "restart", marked, "program", binary != m.state.BinaryHash, "units", units != m.state.UnitHash)
	cfg, err := config.Load(m.opt.Etc)
	if err == nil {
		err = m.changeable(cfg)
	}
	if err == nil {
		return m.again(m.opt.Etc)
	}
	m.event(journal.ReloadRejected).Error("the configuration is rejected; the one that served goes on serving", "error", err)
	m.instead = err.Error()
	return m.again(m.opt.Run.Path(m.state.Applied))
}

// restartMark is left by the stopper when its unit is restarted.
func (m *Master) restartMark() string { return filepath.Join(string(m.opt.Run), "restart") }

// changeable refuses what a reload cannot do: a socket that stays open keeps the mode, group and backlog
// that it was opened with.
func (m *Master) changeable(cfg *config.Config) error {
	if m.applied == nil {
		return nil
	}
	served, err := m.opt.Run.Load(m.applied.gen)
	if err != nil {
		return fmt.Errorf("%w: the copy of what serves is lost: systemctl restart fdt starts from /etc/fdt again", err)
	}
	now := map[string]unit.Listening{}
	for _, l := range unit.Listeners(served) {
		now[unit.SocketName(l.Address)] = l
	}
	var errs []error
	for _, l := range unit.Listeners(cfg) {
		old, open := now[unit.SocketName(l.Address)]
		l.Listener.Name, old.Listener.Name = "", "" // a description only
		if open && unit.RenderSocket(l.Listener, l.Address) != unit.RenderSocket(old.Listener, old.Address) {
			errs = append(errs, fmt.Errorf("%s is open, and its mode, group or backlog cannot change while it is: systemctl stop fdt, then start it", l.Address.Address))
		}
	}
	return errors.Join(errs...)
}

// previous is the generation that served before the applied one, if its snapshot is kept; 0 if not.
func (m *Master) previous() int {
	gens, err := m.opt.Run.Generations()
	if err != nil {
		m.log.Warn("snapshots cannot be listed", "error", err)
	}
	if !slices.Contains(gens, m.state.Previous) {
		return 0
	}
	return m.state.Previous
}

// daemonReload makes systemd read the generated units again, if they are not what it has.
func (m *Master) daemonReload() error {
	same, err := m.unitsCurrent()
	if err != nil {
		m.log.Warn("generated units cannot be compared", "error", err)
	}
	if same {
		return nil
	}
	return m.sd.reload()
}
