package master

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/unit"
)

// phase is what matters about a worker's unit.
type phase int

const (
	starting phase = iota // has a start job, or is activating
	ready                 // active: said READY=1
	crashed               // failed, or waits for systemd's automatic restart
	draining              // deactivating, or about to
)

var phaseNames = [...]string{"starting", "ready", "failed", "draining"}

// String is what fdtctl status shows.
func (p phase) String() string { return phaseNames[p] }

// worker is one worker's unit, as read, with what this master remembers of it.
type worker struct {
	unit      string
	gen, slot int
	phase     phase
	job       string // type of the unit's job; empty: none
	jobRuns   bool   // the job is being carried out, no longer queued
	began     moment // when its process was started, and handed the sockets as they were then

	asked    time.Time // when this master started it; zero: an earlier one did
	ready    time.Time // when this master first saw it ready
	told     time.Time // when this master sent SIGTERM
	released bool      // StopUnit was asked, so systemd will not revive it
	restarts int       // automatic restarts by systemd
	expired  bool      // too old or too big, by workers.recycle
	verdict  verdict   // of a new one's self-check
	alien    string    // with a self-check that was passed: why its listeners are not for another program, which it is
	leaving  time.Time // when this master first saw it draining
	unready  bool      // it had not said READY=1 by then
	killed   bool      // since it stood still
	life     verdict   // of the question for a sign of life
	proved   time.Time // when that was asked
	words    string    // of a crashed one: what it said last; of one that fails its self-check: why
}

// socket is one listener's unit and its companion.
type socket struct {
	unit, companion string
	open            bool   // systemd listens
	since           moment // when it was opened, or, if it is not open, closed
	lost            bool   // open, but it has to be opened anew: its path leads elsewhere, or it is another configuration's
	failed          bool
	job             string
	served          bool   // the companion is active
	companionJob    string // type of the companion's job
	asked           bool   // this rollout has tried to start it
	words           string // of a failed one: why
}

// moment is a time by CLOCK_MONOTONIC in microseconds, as systemd tells when a unit changed; 0 is not known.
type moment uint64

// outdated reports whether the worker was started before systemd opened the socket anew, or closed it. It then
// accepts on one that no client reaches, or holds an address that systemd cannot bind again.
func (w worker) outdated(s socket) bool { return w.began != 0 && w.began < s.since }

// holding returns the workers that may still accept on what was closed when s.since was.
func (v view) holding(s socket) []worker {
	return slices.DeleteFunc(slices.Clone(v.workers), func(w worker) bool { return w.phase == draining || !w.outdated(s) })
}

// serves reports whether the socket is one of the generation's that serves: its workers cannot hold another.
func (v view) serves(name string) bool {
	return v.applied != nil && slices.Contains(v.applied.sockets, name)
}

// listens reports whether systemd has the socket open, or is about to.
func (s socket) listens() bool { return s.open || s.job != "" }

// target is what a generation's snapshot asks for.
type target struct {
	gen         int
	count       int
	surge       int
	generations int
	ready       time.Duration // deadline for READY=1
	settle      time.Duration
	sockets     []string          // unit names
	paths       map[string]string // of those that are unix sockets
	outdated    map[string]moment // those that were opened by an earlier configuration, with nobody to serve them: since when
	metrics     string            // unit name; empty: none
	listeners   map[string]unit.Listening
	warnings    []string
	recycle     config.Recycle
	backoff     config.Backoff
}

// view is everything that plan decides by. It is read afresh for each decision.
type view struct {
	svc      service.Service
	now      time.Time
	step     Step
	stopping bool    // a stop of fdt.service is under way
	active   bool    // fdt.service is active
	resting  bool    // it does not run, and nobody has asked it to
	stopper  string  // type of the job of fdt-stop.service; empty: none
	target   bool    // fdt-sockets.target is active and has no job
	applied  *target // nil: none
	pending  *target // nil: none
	workers  []worker
	sockets  map[string]socket // by unit name
	metrics  map[string]socket // of metrics, likewise; they have no companion
	draining []int             // generations with a snapshot whose workers may still be draining
	hurried  map[int]bool      // generations that were told to hurry
	resume   time.Time         // no worker is started before this: back-off
}

// of returns the generation's workers that have one of the phases.
func (v view) of(gen int, phases ...phase) []worker {
	var out []worker
	for _, w := range v.workers {
		if w.gen == gen && slices.Contains(phases, w.phase) {
			out = append(out, w)
		}
	}
	return out
}

// worker returns the worker of that name.
func (v view) worker(name string) worker {
	i := slices.IndexFunc(v.workers, func(w worker) bool { return w.unit == name })
	return v.workers[i]
}

// stays reports whether the worker serves and was not told to go.
func (w worker) stays() bool { return w.phase == ready && w.told.IsZero() }

// staying returns the workers of a generation that serve or are about to, without those told to go.
func (v view) staying(gen int) []worker {
	return slices.DeleteFunc(v.of(gen, starting, ready, crashed), func(w worker) bool { return !w.told.IsZero() })
}

// old returns the workers of every generation but gen that still accept or may come to.
func (v view) old(gen int) []worker {
	var out []worker
	for _, w := range v.workers {
		if w.gen != gen && w.phase != draining {
			out = append(out, w)
		}
	}
	// Those that do not serve, or not for long, go first; then the oldest generation.
	slices.SortStableFunc(out, func(a, b worker) int {
		if a.stays() != b.stays() {
			if a.stays() {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.gen, b.gen), cmp.Compare(a.slot, b.slot))
	})
	return out
}

// freeSlots returns the n lowest slots, from 1, that no unit of the generation occupies.
func (v view) freeSlots(gen, n int) []int {
	used := map[int]bool{}
	for _, w := range v.workers {
		if w.gen == gen {
			used[w.slot] = true
		}
	}
	var out []int
	for slot := 1; len(out) < n; slot++ {
		if !used[slot] {
			out = append(out, slot)
		}
	}
	return out
}

// surplus returns the sockets that are open, or being opened, and in none of the targets, sorted.
func (v view) surplus(keep ...*target) []socket {
	var out []socket
	for _, name := range sortedKeys(v.sockets) {
		kept := slices.ContainsFunc(keep, func(t *target) bool { return t != nil && slices.Contains(t.sockets, name) })
		if !kept {
			out = append(out, v.sockets[name])
		}
	}
	return out
}

// companionOf returns the companion of one of our own socket units.
func companionOf(svc service.Service, socket string) string {
	companion, _ := svc.CompanionOf(socket)
	return companion
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
