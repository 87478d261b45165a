package master

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/neighbour"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// A reload from its request to its answer: reload reads the configuration and prepare makes it pending; plan
// (plan.go) takes it from Opening to Retiring; applyDone or takenBack end it.

// ErrNothingToServe ends Run: no configuration, or no worker that can start, and no old generation. The listeners are
// closed: better refused than hanging.
var ErrNothingToServe = errors.New("nothing to serve")

// ErrMisconfigured is ErrNothingToServe for faults of the configuration alone, with no worker left to be looked after: another start does
// not help before somebody has mended them.
var ErrMisconfigured = errors.New("the configuration is at fault")

// misconfigured marks a cause as ErrMisconfigured.
type misconfigured struct{ error }

func (e misconfigured) Unwrap() error        { return e.error }
func (e misconfigured) Is(target error) bool { return target == ErrMisconfigured }

// targetOf is what plan needs to know of a configuration.
func targetOf(svc service.Service, gen int, cfg *config.Config) *target {
	t := &target{
		gen: gen, count: cfg.Workers.Count, surge: cfg.Reload.Surge.Workers(cfg.Workers.Count),
		paths: map[string]string{}, listeners: map[string]unit.Listening{}, generations: cfg.Drain.Generations, ready: cfg.Reload.ReadyTimeout, settle: cfg.Reload.Settle,
		recycle: cfg.Workers.Recycle, backoff: cfg.Workers.Backoff,
	}
	for _, l := range unit.Listeners(cfg) {
		name := unit.SocketName(svc, l.Address)
		t.sockets = append(t.sockets, name)
		t.listeners[name] = l
		if l.Address.Network == "unix" {
			t.paths[name] = l.Address.Address
		}
	}
	for _, w := range cfg.Warnings() {
		t.warnings = append(t.warnings, w.String())
	}
	if a := cfg.Metrics.Address; a != nil {
		t.metrics = unit.MetricsName(svc, *a)
	}
	return t
}

// reload begins a rollout of what is in /etc/fdt. A configuration that does not hold changes nothing.
func (m *Master) reload() error {
	cfg, places, err := config.LoadPlaced(m.opt.Etc)
	if err == nil {
		err = m.changeable(cfg)
	}
	if err == nil {
		err = m.seen(cfg, places)
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

// heal begins a rollout of what serves, for something that it should have and does not.
func (m *Master) heal() error {
	m.instead = m.state.Rejected // what serves stays the same, and so does why
	m.state.Healing = true
	err := m.again(m.opt.Run.Path(m.state.Applied))
	m.state.Healing = m.state.Healing && m.step != Idle
	return err
}

// reject answers a reload whose configuration is not even begun.
func (m *Master) reject(reason error) error {
	m.event(journal.ReloadRejected).Error("the configuration is rejected; what served goes on serving", "error", config.Detail(reason))
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
	m.pending, m.failure = targetOf(m.opt.Service, gen, cfg), nil
	clear(m.memos)
	if m.applied == nil {
		m.pending.outdated = m.openedEarlier(cfg)
	}
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
	if !m.untidy || m.step != Idle || time.Now().Before(m.tidied.until) {
		return
	}
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
		m.log.Warn("the rollout is over, but not everything about it could be put in order", "error", err, "again", m.tidied.next(time.Now()))
		return
	}
	m.untidy, m.tidied = false, backoff{}
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
		same, err := snapshot.Same(m.opt.Etc, m.opt.LastGood)
		if lost := m.startable(m.opt.LastGood); err == nil && !same && lost == nil { // else the cause is what there is to tell
			m.coldSource = m.opt.LastGood
			m.event(journal.LastGood).Error("serving the last good configuration instead", "error", config.Detail(cause))
			m.instead = "the last good configuration serves, for " + cause.Error()
			return m.first(m.opt.LastGood)
		}
	}
	m.answer(0, cause)
	return fmt.Errorf("%w: %w", ErrNothingToServe, cause)
}

// cold starts from nothing: at boot, after a stop, or when what is there cannot be taken over.
func (m *Master) cold(v view) error {
	state := m.state.Cold(v.generations())
	err := m.nothing(v)
	m.applied, m.pending, m.step = nil, nil, Idle
	m.coldSource = m.opt.Etc
	if err != nil {
		m.state = state
		return m.happen(Failed, err)
	}
	err = m.startable(m.opt.Etc)
	if err == nil {
		return m.first(m.opt.Etc)
	}
	m.event(journal.LastGood).Error("the configuration is broken; trying the last good one", "error", config.Detail(err))
	m.coldSource = m.opt.LastGood
	if lost := m.startable(m.opt.LastGood); lost != nil {
		// Better refused than hanging.
		if faulty(err) && faulty(lost) && len(v.workers) == 0 {
			err = misconfigured{err}
		}
		return m.happen(Failed, err)
	}
	m.instead = "the last good configuration serves, for " + err.Error()
	return m.first(m.opt.LastGood)
}

// faulty tells whether err is of what a configuration says, and not of what it meets on the host.
func faulty(err error) bool {
	_, ok := errors.AsType[config.Faults](err)
	return ok
}

// startable tells what keeps the configuration in a directory from being the first one.
func (m *Master) startable(dir string) error {
	cfg, err := config.Load(dir)
	if err != nil {
		return err
	}
	return errors.Join(m.contested(cfg)...)
}

// first begins the rollout of a configuration where nothing serves. What cannot even begin, as with a full /run, is taken
// back like what fails later: the listeners are closed.
func (m *Master) first(dir string) error {
	if err := m.prepare(dir); err != nil {
		return m.happen(Failed, err)
	}
	return nil
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
	m.log.Info("new workers take over, as the program, the unit or a restart asks for it", "restart", marked, "program", binary != m.state.BinaryHash, "units", units != m.state.UnitHash)
	cfg, err := config.Load(m.opt.Etc)
	if err == nil {
		err = m.changeable(cfg)
	}
	dir := m.opt.Etc
	if err != nil {
		m.event(journal.ReloadRejected).Error("the configuration is rejected; the one that served goes on serving", "error", config.Detail(err))
		m.instead = err.Error()
		dir = m.opt.Run.Path(m.state.Applied)
	}
	if err := m.again(dir); err != nil {
		m.recheck = true // as soon as there is room again
		wait := m.retry.next(time.Now())
		m.event(journal.ReloadFailed).Error("new workers cannot take over yet; what served goes on serving", "error", err, "again", wait)
	}
	return nil
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
		return fmt.Errorf("%w: the copy of what serves is lost: systemctl restart %s starts from %s again", err, m.opt.Service, m.opt.Etc)
	}
	if len(served.Procedures) > 0 && len(cfg.Procedures) == 0 && !config.Says(m.opt.Etc, "procedures") {
		return fmt.Errorf("%s has no procedures: any more, and would drop all that are served (%d): if that is meant, say procedures: {}",
			m.opt.Etc, len(served.Procedures))
	}
	now := map[string]unit.Listening{}
	for _, l := range unit.Listeners(served) {
		now[unit.SocketName(m.opt.Service, l.Address)] = l
	}
	errs := m.contested(cfg)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, l := range unit.Listeners(cfg) {
		if l.Address.Network == "unix" && !m.last.sockets[unit.SocketName(m.opt.Service, l.Address)].listens() {
			if err := unit.Free(l.Address.Address); err != nil {
				errs = append(errs, fmt.Errorf("listen.%s: %w", l.Listener.Name, err))
			}
		}
		old, open := now[unit.SocketName(m.opt.Service, l.Address)]
		l.Listener.Name, old.Listener.Name = "", "" // a description only
		if open && unit.RenderSocket(m.opt.Service, l.Listener, l.Address) != unit.RenderSocket(m.opt.Service, old.Listener, old.Address) {
			errs = append(errs, fmt.Errorf("%s is open, and its mode, group or backlog cannot change while it is: systemctl stop %s, then start it", l.Address.Address, m.opt.Service))
		}
	}
	return errors.Join(errs...)
}

// contested refuses what is another service's of the host. What this one has open it keeps, whoever else wants it.
func (m *Master) contested(cfg *config.Config) (errs []error) {
	for _, w := range neighbour.Lost(m.opt.Root, m.opt.Service, cfg) {
		if !m.last.sockets[unit.SocketName(m.opt.Service, w.Address)].open && !m.last.metrics[unit.MetricsName(m.opt.Service, w.Address)].open {
			errs = append(errs, w)
		}
	}
	return errs
}

// seen refuses files and directories in place of which workers have others: that they are missing would be no help.
func (m *Master) seen(cfg *config.Config, places config.Places) error {
	everywhere := config.Sandbox{PrivateTmp: true, ProtectHome: true}
	if len(places.Hidden(cfg, everywhere)) == 0 {
		return nil
	}
	path, err := m.sd.load(m.opt.Service.WorkerName(0, 0))
	var all map[string]dbus.Variant
	if err == nil {
		all, err = m.sd.all(path)
	}
	if err != nil {
		return err
	}
	home := property[string](all, "ProtectHome")
	if faults := places.Hidden(cfg, config.Sandbox{PrivateTmp: property[bool](all, "PrivateTmp"), ProtectHome: home == "yes" || home == "tmpfs"}); len(faults) > 0 {
		return faults
	}
	return nil
}

// previous is the generation that served before the applied one, if its snapshot is kept; 0 if not.
func (m *Master) previous() int {
	gens, err := m.opt.Run.Generations()
	if err != nil {
		m.log.Warn("the copies of earlier configurations cannot be listed", "error", err)
	}
	if !slices.Contains(gens, m.state.Previous) {
		return 0
	}
	return m.state.Previous
}

// openedEarlier returns the sockets that systemd holds for an earlier configuration, and since when, where this one
// has the address with another mode, group or backlog: they were waiting for a first connection while it changed.
func (m *Master) openedEarlier(cfg *config.Config) map[string]moment {
	have, err := m.unitFiles(m.opt.Generated)
	if err != nil {
		m.log.Warn("generated units cannot be read", "error", err)
	}
	earlier := map[string]moment{}
	for _, l := range unit.Listeners(cfg) {
		name := unit.SocketName(m.opt.Service, l.Address)
		if text := have[name]; text != "" && text != unit.RenderSocket(m.opt.Service, l.Listener, l.Address) && m.last.sockets[name].open {
			earlier[name] = m.reached[name].since
		}
	}
	return earlier
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
