package master

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// world is a model of systemd and of what the master writes down: units that change by chance within the
// rules of systemd.service(5) and systemd.socket(5), and a master that plans and can die at any time.
type world struct {
	t   *testing.T
	rng *rand.Rand
	log []string

	now     time.Time
	workers map[string]*worker
	sockets map[string]*socket
	state   snapshot.State
	step    Step
	targets map[int]*target
	memos   map[string]*memo
	hurried map[int]bool

	stopping bool
	bad      map[int]bool // generations whose workers cannot start
	unfit    map[int]bool // generations whose workers fail their self-check
	crashes  bool         // workers of serving generations may die
	silent   bool         // workers that never say STOPPING=1
	freezes  bool         // workers may come to stand still
	frozen   map[string]bool
	callers  int
	answered int
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0),
		workers: map[string]*worker{}, sockets: map[string]*socket{}, targets: map[int]*target{},
		memos: map[string]*memo{}, hurried: map[int]bool{}, frozen: map[string]bool{}, bad: map[int]bool{}, unfit: map[int]bool{}, state: snapshot.State{Next: 1},
	}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.log[max(0, len(w.log)-60):] {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

func (w *world) view() view {
	v := view{
		now: w.now, step: w.step, stopping: w.stopping, sockets: map[string]socket{},
		applied: w.targets[w.state.Applied], pending: w.targets[w.state.Pending],
		draining: w.state.Draining, hurried: w.hurried,
	}
	for _, name := range sortedKeys(w.workers) {
		k := w.workers[name]
		m := w.memo(name)
		if k.phase == ready && m.ready.IsZero() {
			m.ready = w.now
		}
		if k.phase == draining && m.leaving.IsZero() {
			m.leaving = w.now
		}
		k.asked, k.ready, k.told, k.released, k.verdict = m.asked, m.ready, m.told, m.released, m.verdict
		k.leaving, k.life, k.proved, k.killed = m.leaving, m.life, m.proved, m.killed
		v.workers = append(v.workers, *k)
	}
	for name, s := range w.sockets {
		s.asked = w.memos[name] != nil
		v.sockets[name] = *s
	}
	return v
}

func (w *world) memo(name string) *memo {
	if w.memos[name] == nil {
		w.memos[name] = new(memo)
	}
	return w.memos[name]
}

// accepting counts the ready workers of the generations.
func (w *world) accepting(gens ...int) int {
	n := 0
	for _, k := range w.workers {
		if k.phase == ready && k.told.IsZero() && slices.Contains(gens, k.gen) {
			n++
		}
	}
	return n
}

// begin is what reload does before plan: a snapshot that becomes pending.
func (w *world) begin(count, surge int, sockets ...string) {
	gen := w.state.Next
	w.state.Next++
	w.targets[gen] = &target{gen: gen, count: count, surge: surge, generations: 3, ready: 30 * time.Second,
		settle: time.Duration(w.rng.IntN(3)) * time.Second, sockets: sockets}
	w.state.Pending = gen
	clear(w.memos)
	w.callers++
	w.happen(Begun, nil)
}

func (w *world) happen(e Event, cause error) {
	state, to, err := after(w.state, w.step, e, cause)
	if err != nil {
		w.failf("%v", err)
	}
	w.note("%s: %s → %s", e, w.step, to)
	w.state, w.step = state, to
	if to == Idle {
		w.answered = w.callers
	}
}

// look is one turn of the master.
func (w *world) look() {
	v := w.view()
	floor := 0
	if v.applied != nil && !w.crashes {
		floor = v.applied.count
		if v.pending != nil {
			floor = min(floor, v.pending.count)
		}
	}
	before := w.accepting(w.state.Applied, w.state.Pending)
	d := plan(v)
	for _, a := range d.actions {
		w.do(a)
	}
	if now := w.accepting(w.state.Applied, w.state.Pending); !w.stopping && now < before && now < floor {
		w.failf("%d workers accept in %s, the floor is %d", now, w.step, floor)
	}
	if d.event != None {
		w.happen(d.event, d.err)
	}
}

func (w *world) do(a action) {
	w.note("  do %d %s %d", a.verb, a.unit, a.gen)
	gen, slot, isWorker := service.Default.ParseWorker(a.unit)
	switch a.verb {
	case doStart:
		w.memos[a.unit] = &memo{asked: w.now}
		if isWorker {
			if w.workers[a.unit] != nil {
				w.failf("%s is started over a unit that is there", a.unit)
			}
			w.workers[a.unit] = &worker{unit: a.unit, gen: gen, slot: slot, phase: starting}
			return
		}
		if s, ok := service.Default.SocketOf(a.unit); ok {
			w.sockets[s].served = true
			return
		}
		s := w.socket(a.unit)
		if s.served {
			w.failf("%s cannot start while its companion is active", a.unit)
		}
		s.job = "start"
	case doStop:
		if s, ok := service.Default.SocketOf(a.unit); ok {
			if w.sockets[s].open {
				w.failf("%s stops before its socket: the next client starts fdt", a.unit)
			}
			w.sockets[s].served = false
			return
		}
		w.sockets[a.unit].job = "stop"
	case doTell:
		w.memo(a.unit).told = w.now
		if k := w.workers[a.unit]; k != nil {
			k.told = w.now
		}
	case doCheck:
		w.memo(a.unit).verdict = asked
	case doProve:
		w.memo(a.unit).life, w.memo(a.unit).proved = asked, w.now
	case doKill:
		if !w.frozen[a.unit] {
			w.failf("%s is killed, and works", a.unit)
		}
		delete(w.frozen, a.unit)
		delete(w.workers, a.unit)
	case doFinal:
		for name, k := range w.workers {
			if k.phase == ready && k.told.IsZero() {
				w.memo(name).told = w.now
				k.told = w.now
			}
		}
	case doRelease, doBackOff:
		w.memo(a.unit).released = true
		if k := w.workers[a.unit]; k != nil {
			if k.phase == ready || k.phase == draining {
				k.phase, k.job = draining, "stop"
			} else {
				delete(w.workers, a.unit)
			}
		}
	case doCancel:
		if k := w.workers[a.unit]; k != nil {
			k.job, k.jobRuns = "", false
		}
	case doReset:
		w.sockets[a.unit].failed = false
	case doHurry:
		w.hurried[a.gen] = true
	case doForget:
		w.state.Draining = slices.DeleteFunc(slices.Clone(w.state.Draining), func(g int) bool { return g == a.gen })
	}
}

func (w *world) socket(name string) *socket {
	if w.sockets[name] == nil {
		w.sockets[name] = &socket{unit: name, companion: companionOf(service.Default, name)}
	}
	return w.sockets[name]
}

// chance changes something outside of the master.
func (w *world) chance() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	for _, name := range sortedKeys(w.sockets) {
		s := w.sockets[name]
		if s.job != "" && w.rng.IntN(2) == 0 {
			s.open, s.job = s.job == "start", ""
		}
	}
	for _, name := range sortedKeys(w.workers) {
		k := w.workers[name]
		if w.rng.IntN(2) == 0 {
			continue
		}
		if m := w.memo(name); m.verdict == asked && w.rng.IntN(2) == 0 {
			m.verdict = passed
			if w.unfit[k.gen] {
				m.verdict, k.words = failed, name+": unfit"
			}
		}
		if m := w.memo(name); m.life == asked && w.rng.IntN(2) == 0 {
			m.life = passed
			if w.frozen[name] {
				m.life = failed
			}
		}
		switch {
		case k.job == "stop" && !k.jobRuns:
			k.jobRuns = true
		case w.frozen[name]:
		case k.phase == ready && w.freezes && w.rng.IntN(20) == 0:
			w.note("  %s stands still", name)
			w.frozen[name] = true
		case k.phase == draining && w.rng.IntN(4) == 0:
			w.note("  %s is gone", name)
			delete(w.workers, name)
			delete(w.memos, name)
		case k.phase == starting:
			k.phase = ready
			if w.bad[k.gen] && w.rng.IntN(3) == 0 {
				k.phase, k.words = crashed, name+": dead"
			}
		case k.phase == ready && !k.told.IsZero() && !w.silent:
			k.phase = draining
		case k.phase == ready && (w.crashes && w.rng.IntN(20) == 0 || w.bad[k.gen] && k.gen == w.state.Pending && w.step == Settling):
			k.phase, k.words = crashed, name+": dead"
			k.restarts++
			w.memo(name).ready, w.memo(name).told, k.told = time.Time{}, time.Time{}, time.Time{}
			w.memo(name).verdict, w.memo(name).life = unasked, unasked
		case k.phase == crashed:
			k.phase = starting
		}
	}
}

// die is the death of the master: what it remembers is gone, what it wrote is not.
func (w *world) die() {
	w.note("the master dies in %s", w.step)
	clear(w.memos)
	clear(w.hurried)
	for _, k := range w.workers {
		k.told, k.released, k.ready, k.asked = time.Time{}, false, time.Time{}, time.Time{}
	}
}

// settle lets the world go on, without further misfortune, until nothing is left to do.
func (w *world) settle() {
	for range 2000 {
		w.look()
		w.chance()
		if w.step == Idle && w.quiet() {
			return
		}
	}
	w.failf("no end: step %s, workers %d", w.step, len(w.workers))
}

func (w *world) quiet() bool {
	for _, k := range w.workers {
		if k.gen != w.state.Applied || k.phase != ready {
			return false
		}
	}
	t := w.targets[w.state.Applied]
	return t == nil || len(w.workers) == t.count && len(w.state.Draining) == 0
}

func (w *world) check() {
	if w.answered != w.callers {
		w.failf("%d of %d callers are answered", w.answered, w.callers)
	}
	t := w.targets[w.state.Applied]
	for name, s := range w.sockets {
		wanted := t != nil && slices.Contains(t.sockets, name)
		if s.open != wanted || s.served != wanted {
			w.failf("%s: wanted %t, open %t, served %t", name, wanted, s.open, s.served)
		}
	}
	if t != nil && w.accepting(t.gen) != t.count {
		w.failf("%d of %d workers accept", w.accepting(t.gen), t.count)
	}
}

const (
	socketA = "fdt-listen@tcp4-127.0.0.1-1.socket"
	socketB = "fdt-listen@tcp4-127.0.0.1-2.socket"
)

// TestModel plays random orders of events: workers that get ready, fail, die; sockets that come and go; the
// death of the master in every step; reloads one after the other. Capacity never goes below the floor, the
// rules of systemd are kept, and at the end one generation accepts, all of it, and every caller has its answer.
func TestModel(t *testing.T) {
	for seed := range uint64(1000) {
		w := newWorld(t, seed)
		w.silent, w.freezes = seed%5 == 0, seed%3 == 0
		w.begin(1+w.rng.IntN(5), 1+w.rng.IntN(5), socketA)
		w.settle()
		w.check()
		for range 3 {
			sockets := [][]string{{socketA}, {socketB}, {socketA, socketB}}[w.rng.IntN(3)]
			count := 1 + w.rng.IntN(5)
			w.bad[w.state.Next] = w.rng.IntN(3) == 0
			w.unfit[w.state.Next] = w.rng.IntN(4) == 0
			w.begin(count, 1+w.rng.IntN(count), sockets...)
			dies := w.rng.IntN(2) == 0
			w.crashes = w.rng.IntN(3) == 0
			for range w.rng.IntN(60) {
				w.look()
				w.chance()
				if dies && w.rng.IntN(10) == 0 {
					w.die()
				}
			}
			w.crashes = false
			w.bad[w.state.Applied] = false
			w.settle()
			w.check()
		}
	}
}

// TestModelStop stops in the middle of a reload. The master takes its hands off; planStop does the rest.
func TestModelStop(t *testing.T) {
	for seed := range uint64(1000) {
		w := newWorld(t, seed)
		w.begin(3, 3, socketA)
		w.settle()
		w.freezes = seed%3 == 0
		w.begin(2, 1, socketA, socketB)
		for range w.rng.IntN(40) {
			w.look()
			w.chance()
		}
		w.stopping = true
		w.look()
		if w.step != Idle || w.answered != w.callers {
			w.failf("a stop leaves the rollout in %s, %d of %d callers answered", w.step, w.answered, w.callers)
		}
		if d := plan(w.view()); len(d.actions) > 0 {
			w.failf("the master interferes with a stop: %v", d.actions)
		}
		clear(w.memos) // the stopper is another process
		done := false
		for range 1000 {
			v := w.view()
			var actions []action
			if actions, done = planStop(v); done {
				break
			}
			for _, a := range actions {
				if a.verb == doRelease && slices.ContainsFunc(sortedKeys(w.sockets), func(s string) bool { return w.sockets[s].open }) {
					w.failf("a worker is told while a socket listens")
				}
				w.do(a)
			}
			w.chance()
		}
		if !done || len(w.workers) > 0 {
			w.failf("the stop does not end: %d workers", len(w.workers))
		}
	}
}

var errTest = errors.New("test")

// TestModelCold takes everything back when the first generation cannot start.
func TestModelCold(t *testing.T) {
	w := newWorld(t, 1)
	w.bad[1] = true
	w.begin(2, 2, socketA, socketB)
	for range 500 {
		w.look()
		if w.step == Starting {
			w.happen(Failed, errTest)
		}
		w.chance()
		if w.step == Idle {
			break
		}
	}
	if w.step != Idle || w.state.Applied != 0 || w.state.Rejected != "test" {
		t.Errorf("%s, %+v", w.step, w.state)
	}
	for name, s := range w.sockets {
		if s.open || s.served {
			t.Errorf("%s is left open: better refused than hanging", name)
		}
	}
}
