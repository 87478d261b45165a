package master

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/unit"
)

// apply carries a decision out. It goes on after an error: one unit that cannot be told must not keep the
// others from it.
func (m *Master) apply(actions []action) error {
	var errs []error
	for _, a := range actions {
		if err := m.do(a); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Master) do(a action) error {
	now := time.Now()
	switch a.verb {
	case doStart:
		m.memos[a.unit] = &memo{asked: now}
		if m.last.sockets[a.unit].failed {
			if err := m.sd.resetFailed(a.unit); err != nil {
				return err
			}
		}
		mode := "replace"
		if _, companion := m.opt.Service.SocketOf(a.unit); companion {
			mode = "fail" // it wants fdt.service: a stop of that which was asked for since the look would be cancelled
		}
		if err := m.sd.start(a.unit, mode); !isContrary(err) {
			return err
		}
		return nil // the next look sees what was asked for
	case doStop:
		return m.sd.stop(a.unit, m.stopMode())
	case doReset:
		return m.sd.resetFailed(a.unit)
	case doTell:
		m.memo(a.unit).told = now
		if closed := m.closed(m.last.worker(a.unit)); len(closed) > 0 {
			m.tellLast(a.unit, closed)
			return nil
		}
		return m.sd.terminate(a.unit)
	case doRelease:
		m.memo(a.unit).released = true
		return m.sd.stop(a.unit, m.stopMode())
	case doCancel:
		return m.sd.cancel(m.jobs[a.unit])
	case doCheck:
		m.check(m.living, m.last.worker(a.unit))
		return nil
	case doProve:
		m.prove(m.asker, m.last.worker(a.unit))
		return nil
	case doKill:
		return m.kill(a.unit)
	case doHurry:
		m.hurried[a.gen] = true
		m.hurry(a.gen, hurryWithin)
		return nil
	case doForget:
		return m.forget(a.gen)
	case doFinal:
		m.final()
	case doBackOff:
		m.memo(a.unit).released = true
		m.backoff.limits = m.applied.backoff // only the applied generation's workers are kept from starting
		m.backoff.next(now)
		return m.sd.stop(a.unit, m.stopMode())
	}
	return nil
}

// stopMode is how jobs are asked for that stop something. What the stopper stops must not wait for it, which its order
// has them do, so that it is the first at host shutdown.
func (m *Master) stopMode() string {
	if m.living == nil {
		return "ignore-dependencies"
	}
	return "replace"
}

// closed returns the listeners, by the names that workers know, on which this worker is among the last to accept:
// systemd has closed them, and nobody else will be handed them.
func (m *Master) closed(w worker) []string {
	from, keep := m.applied, m.pending
	if m.step == TakingBack {
		from, keep = keep, from
	}
	if m.step == Idle || from == nil || keep == nil {
		return nil
	}
	var names []string
	for _, s := range from.sockets {
		if now := m.last.sockets[s]; !now.listens() || w.outdated(now) {
			names = append(names, unit.FDNameOf(s))
		}
	}
	return names
}

// tellLast makes a worker leave that is among the last to accept from some listeners, so that it serves their
// queues. Who does not understand it gets SIGTERM.
func (m *Master) tellLast(name string, listeners []string) {
	gen, slot, _ := m.opt.Service.ParseWorker(name)
	path, sd := m.controlPath(gen, slot), m.sd
	m.helpers.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if control.Call(ctx, path, control.OpDrain, control.Drain{FinalOn: listeners}, nil) == nil {
			return
		}
		if err := sd.terminate(name); err != nil {
			m.log.Warn("a worker cannot be told to go yet", "error", err)
		}
	})
}

// hurryWithin is what is left to the oldest generation when there are more than drain.generations.
const hurryWithin = 10 * time.Second

// hurry shortens the deadline of a generation's drain. A worker that does not answer has its own deadline.
func (m *Master) hurry(gen int, within time.Duration) {
	m.log.Warn("an old generation is told to end sooner", "generation", gen, "within", within)
	for _, w := range m.last.of(gen, draining) {
		path := m.controlPath(w.gen, w.slot)
		m.helpers.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), control.Timeout)
			defer cancel()
			if err := control.Call(ctx, path, control.OpDrain, control.Drain{Within: within.String()}, nil); err != nil {
				m.log.Warn("a worker cannot be told to end sooner", "socket", path, "error", err)
			}
		})
	}
}

// forget ends a generation whose last worker is gone. The newest of them is kept for a rollback.
func (m *Master) forget(gen int) error {
	state := m.state
	state.Draining = nil
	for _, g := range m.state.Draining {
		if g != gen {
			state.Draining = append(state.Draining, g)
		}
	}
	if err := m.save(state); err != nil {
		return err
	}
	delete(m.hurried, gen)
	m.log.Info("the last worker of an old generation has ended", "generation", gen)
	return m.prune()
}

// prune removes the snapshots that nobody needs. What drains, serves or starts stays, and what served before, for a
// rollback.
func (m *Master) prune() error {
	keep := append(m.state.Live(), m.previous())
	gens, err := m.opt.Run.Generations()
	for _, g := range gens {
		if !slices.Contains(keep, g) {
			err = errors.Join(err, m.opt.Run.Remove(g))
		}
	}
	return err
}

// nothing makes the state that in which nothing serves. Of what was there only the generations remain that still have
// workers: the sockets of any other would be written among the units again, and opened by a start that is under way.
func (m *Master) nothing(v view) error {
	if err := m.save(m.state.Cold(v.generations())); err != nil {
		return err
	}
	return m.prune()
}

// unitsCurrent reports whether systemd has what the generator would write now.
func (m *Master) unitsCurrent() (bool, error) {
	var serving, leaving []*config.Config
	for _, gen := range m.state.Live() {
		cfg, err := m.opt.Run.Load(gen)
		switch {
		case err != nil:
			return false, err
		case gen == m.state.Applied || gen == m.state.Pending:
			serving = append(serving, cfg)
		default:
			leaving = append(leaving, cfg)
		}
	}
	have, err := m.unitFiles(m.opt.Generated)
	return maps.Equal(have, unit.Files(m.opt.Service, serving, leaving)), err
}

// unitFiles reads the service's files and drop-ins from a directory of units, by path below it. Templates are left out: they change with
// the package, which has systemd read all units.
func (m *Master) unitFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case name == ".":
			return nil
		case !m.opt.Service.Owns(name):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.Type().IsRegular() && !strings.HasSuffix(name, "@.service"):
			text, err := fs.ReadFile(root, name)
			files[name] = string(text)
			return err
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return files, err
}

// hashes identify the workers' units and program as systemd would start them now. What the generator writes
// is left out: it changes with every configuration.
func (m *Master) hashes() (units, binary string) {
	path, err := m.sd.load(m.opt.Service.WorkerName(0, 0))
	var all map[string]dbus.Variant
	if err == nil {
		all, err = m.sd.all(path)
	}
	if err != nil {
		m.log.Warn("the workers' unit cannot be read", "error", err)
		return "", ""
	}
	files := append([]string{property[string](all, "FragmentPath")}, property[[]string](all, "DropInPaths")...)
	if of := m.opt.Service.WorkerTemplate(); files[0] == filepath.Join(m.opt.Generated, of) { // written anew each time, of what changes with the package
		files[0] = filepath.Join(unit.Packaged, service.Default.WorkerTemplate())
	}
	for _, file := range files {
		if file != "" && !strings.HasPrefix(file, m.opt.Generated+"/") {
			units += identity(file)
		}
	}
	for _, command := range property[[][]any](all, "ExecStart") { // signature sasbttttuii: the path first
		program, _ := command[0].(string)
		binary += identity(program)
	}
	return units, binary
}
