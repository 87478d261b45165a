package master

import (
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// memo is what this master remembers of one unit that the unit itself does not tell.
type memo struct {
	asked, ready, told time.Time
	began              moment // of a worker
	released           bool
	expired            bool
	verdict            verdict
	leaving            time.Time // when it was first seen to go
	unready, killed    bool
	life               verdict // of the question for a sign of life
	proved             time.Time
	faults             string // with verdict failed
	alien              string
	words              string
	wordsFor           int    // restarts at which words was read, plus one
	invocation         string // of the process whose words those are
}

// read makes the view of this moment from systemd's facts and what this master remembers.
func (m *Master) read() (view, error) {
	units, err := m.sd.units(m.opt.Service.WorkerPattern(), m.opt.Service.SocketPattern(), m.opt.Service.CompanionPattern(), m.opt.Service.MetricsPattern(), m.opt.Service.Master(), m.opt.Service.Stopper(), m.opt.Service.Sockets())
	if err != nil {
		return view{}, err
	}
	v := view{
		svc: m.opt.Service, now: time.Now(), step: m.step, applied: m.applied, pending: m.pending, sockets: map[string]socket{}, metrics: map[string]socket{},
		draining: m.state.Draining, hurried: m.hurried, resume: m.backoff.until, resting: true,
	}
	m.jobs = map[string]uint32{}
	seen := m.reached
	m.reached = map[string]reached{}
	listed := map[string]bool{}
	for _, u := range units {
		if u.JobID != 0 {
			m.jobs[u.Name] = u.JobID
		}
		switch u.Name {
		case m.opt.Service.Master():
			v.stopping, v.active = u.JobType == "stop", u.Active == "active"
			v.resting = u.JobType == "" && (u.Active == "inactive" || u.Active == "failed")
			continue
		case m.opt.Service.Stopper():
			v.stopper = u.JobType
			continue
		case m.opt.Service.Sockets():
			v.target = u.Active == "active" && u.JobType == ""
			continue
		}
		if gen, slot, ok := m.opt.Service.ParseWorker(u.Name); ok {
			w, there, err := m.worker(u, gen, slot)
			if err != nil {
				return view{}, err
			}
			if there {
				listed[u.Name] = true
				v.workers = append(v.workers, w)
			}
			continue
		}
		if m.opt.Service.IsMetrics(u.Name) {
			m.socket(u, v.metrics)
			continue
		}
		m.socket(u, v.sockets)
		if m.living != nil && m.opt.Service.IsSocket(u.Name) { // a stop closes it whatever it is
			r, err := m.reach(u, seen[u.Name])
			if err != nil {
				return view{}, err
			}
			m.reached[u.Name] = r
			s := v.sockets[u.Name]
			s.since, s.lost = r.since, r.lost || m.pending != nil && r.open && r.since == m.pending.outdated[u.Name]
			v.sockets[u.Name] = s
		}
	}
	for _, all := range []map[string]socket{v.sockets, v.metrics} {
		for name, s := range all {
			s.asked = m.memos[name] != nil && !m.memos[name].asked.IsZero()
			if s.failed || s.asked && !s.open && s.job == "" {
				s.words = m.socketWords(name)
			}
			all[name] = s
		}
	}
	for name, memo := range m.memos {
		gen, slot, ok := m.opt.Service.ParseWorker(name)
		switch {
		case !ok || listed[name]:
		case m.pending != nil && gen == m.pending.gen && m.step == Starting && !memo.asked.IsZero():
			// With CollectMode= a unit that fails for good is gone before anybody can look.
			v.workers = append(v.workers, worker{unit: name, gen: gen, slot: slot, phase: crashed, released: true,
				words: fmt.Sprintf("%s ended before it was READY: %s", name, m.journalWords(name, ""))})
		default:
			delete(m.memos, name)
		}
	}
	return v, nil
}

// phaseOf reads a worker's phase from its unit, by the states of systemd's org.freedesktop.systemd1(5).
// there is false for a unit that is only a name.
func phaseOf(active, sub, job string) (p phase, there bool) {
	switch {
	case job == "stop" && active != "inactive" && active != "failed":
		return draining, true
	case active == "deactivating":
		return draining, true
	case active == "activating" && sub != "auto-restart" && sub != "auto-restart-queued":
		return starting, true
	case active == "activating":
		return crashed, true
	case active == "active" || active == "reloading" || active == "refreshing":
		return ready, true
	case job == "start" || job == "restart":
		return starting, true
	case active == "failed":
		return crashed, true
	}
	return crashed, false
}

func (m *Master) worker(u found, gen, slot int) (w worker, there bool, err error) {
	p, there := phaseOf(u.Active, u.Sub, u.JobType)
	if !there {
		return worker{}, false, nil
	}
	k := m.memo(u.Name)
	if p == ready && k.ready.IsZero() {
		k.ready = time.Now()
	}
	if p == starting || p == crashed {
		k.ready, k.told, k.expired, k.verdict = time.Time{}, time.Time{}, false, unasked // another process
		k.began, k.leaving, k.life, k.killed, k.alien = 0, time.Time{}, unasked, false, ""
	}
	if p == ready && k.began == 0 && m.living != nil {
		if k.began, err = m.sd.moment(u.Path, serviceInterface, "ExecMainStartTimestampMonotonic"); err != nil {
			return worker{}, false, unlessGone(err)
		}
	}
	if p == draining && k.leaving.IsZero() {
		k.leaving = time.Now()
	}
	if p != draining {
		k.unready = p == starting
	}
	w = worker{unit: u.Name, gen: gen, slot: slot, phase: p, job: u.JobType, began: k.began,
		asked: k.asked, ready: k.ready, told: k.told, released: k.released, expired: k.expired, verdict: k.verdict, alien: k.alien, words: k.words,
		leaving: k.leaving, unready: k.unready, killed: k.killed, life: k.life, proved: k.proved}
	if p == ready && k.verdict == failed {
		w.words = k.faults
	}
	if u.JobType == "stop" {
		if w.jobRuns, err = m.sd.running(u.JobPath); err != nil {
			return w, true, err
		}
	}
	if p == crashed || m.step == Settling && m.pending != nil && gen == m.pending.gen {
		if err := m.inspect(u, k, &w); err != nil {
			return w, true, err
		}
	}
	return w, true, nil
}

// inspect reads what only a crash makes interesting, while it is there: the next start overwrites it.
func (m *Master) inspect(u found, k *memo, w *worker) error {
	if w.phase != crashed {
		// One property alone: every look of reload.settle asks, and all of them are what costs systemd and the decoder.
		restarts, err := m.sd.get(u.Path, serviceInterface, "NRestarts")
		n, _ := restarts.Value().(uint32)
		w.restarts = int(n)
		m.missed(k, w)
		return unlessGone(err)
	}
	service, err := m.sd.all(u.Path)
	if err != nil {
		return unlessGone(err)
	}
	w.restarts = int(property[uint32](service, "NRestarts"))
	if property[string](service, "Result") == "success" {
		w.phase = starting // systemd was quicker: this is the next process already
		m.missed(k, w)
		return nil
	}
	// One that is about to be started again is the same death, though that start is counted already.
	if id := fmt.Sprintf("%x", property[[]byte](service, "InvocationID")); k.wordsFor == 0 || id != k.invocation {
		k.wordsFor, k.invocation = w.restarts+1, id
		other, pid := failedCommand(service)
		k.words = lastWords(u.Name, property[string](service, "Result"), property[int32](service, "ExecMainStatus"), m.missing(), other,
			property[string](service, "StatusText"), m.journalWords(u.Name, id, property[uint32](service, "ExecMainPID"), pid))
		m.noteCrash(u.Name, k.words)
	}
	w.words = k.words
	return nil
}

// missed has the journal tell of a death that could not be looked at: the next process had been started already.
func (m *Master) missed(k *memo, w *worker) {
	if k.wordsFor < w.restarts {
		k.wordsFor = w.restarts
		k.words = "the journal has" + quoted(lastLines(m.journalctl("_SYSTEMD_UNIT="+w.unit, "+", "UNIT="+w.unit), 8))
		w.words = k.words
	}
}

// failedCommand returns which of the commands beside its main process made a unit fail, with its exit status, and
// its process number; nothing if none did.
func failedCommand(service map[string]dbus.Variant) (what string, pid uint32) {
	for _, list := range []string{"ExecStartPre", "ExecStartPost"} {
		commands, _ := service[list].Value().([][]any)
		for _, c := range commands { // signature sasbttttuii: the path first; process, code and status last
			if status, _ := c[len(c)-1].(int32); status != 0 {
				pid, _ = c[len(c)-3].(uint32)
				return fmt.Sprintf("%s=%v: exit status %d", list, c[0], status), pid
			}
		}
	}
	return "", 0
}

func property[T any](all map[string]dbus.Variant, name string) T {
	v, _ := all[name].Value().(T)
	return v
}

func (m *Master) socket(u found, sockets map[string]socket) {
	name, companion := u.Name, false
	if s, ok := m.opt.Service.SocketOf(u.Name); ok {
		name, companion = s, true
	}
	s := sockets[name]
	s.unit, s.companion = name, companionOf(m.opt.Service, name)
	if companion {
		s.served = u.Active == "active" || u.Active == "activating" || u.Active == "deactivating"
		s.companionJob = u.JobType
	} else {
		s.open = u.Active == "active" || u.Active == "deactivating"
		s.failed = u.Active == "failed"
		s.job = u.JobType
		if u.Active == "activating" && s.job == "" {
			s.job = "start"
		}
	}
	sockets[name] = s
}

func (m *Master) memo(name string) *memo {
	k := m.memos[name]
	if k == nil {
		k = new(memo)
		m.memos[name] = k
	}
	return k
}
