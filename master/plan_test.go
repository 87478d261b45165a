package master

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/service"
)

var noon = time.Unix(1e9, 0)

func k(gen, slot int, p phase) worker {
	return worker{unit: service.Default.WorkerName(gen, slot), gen: gen, slot: slot, phase: p}
}

func goal(gen, count int, sockets ...string) *target {
	return &target{gen: gen, count: count, surge: count, generations: 1, ready: 30 * time.Second, settle: 2 * time.Second, sockets: sockets}
}

// living is w with what is known of its sign of life.
func living(w worker, life verdict) worker {
	w.life = life
	return w
}

// leaving is an old worker that was first seen to go some time ago, and asked for a sign of life ten seconds later.
func leaving(since time.Duration, life verdict) worker {
	w := living(k(1, 1, draining), life)
	w.released, w.leaving = true, noon.Add(-since)
	w.proved = w.leaving.Add(leavePatience)
	if life == passed {
		w.proved = w.leaving.Add(3 * leavePatience)
	}
	return w
}

// metricsA is a socket of metrics.
const metricsA = "fdt-metrics@tcp4-127.0.0.1-9432.socket"

// measured is a target with metrics.
func measured(t *target) *target {
	t.metrics = metricsA
	return t
}

func opened(names ...string) map[string]socket {
	m := map[string]socket{}
	for _, n := range names {
		m[n] = socket{unit: n, companion: companionOf(service.Default, n), open: true, served: true}
	}
	return m
}

// TestPlan holds single looks that the model seldom or never comes to.
func TestPlan(t *testing.T) {
	late := k(2, 1, starting)
	late.asked = noon.Add(-30 * time.Second)
	early := k(2, 1, starting)
	early.asked = noon.Add(-29 * time.Second)
	settled := k(2, 1, ready)
	settled.ready = noon.Add(-time.Second)
	settled.verdict = passed
	checking, unfit := settled, settled
	checking.verdict, checking.ready = asked, noon.Add(-2*time.Second)
	unfit.verdict, unfit.words = failed, "a resource fails"
	fit := settled
	fit.ready = noon.Add(-2 * time.Second)
	alien := fit
	alien.alien = "it does not go by auth"
	dead, never := leaving(time.Minute, failed), leaving(time.Minute, unasked)
	dead.killed, never.unready = true, true
	fresh := checking
	fresh.verdict = unasked
	restarted := settled
	restarted.restarts = 1
	looping := k(1, 1, crashed)
	looping.restarts = crashesByMaster
	loopingNew := k(2, 1, crashed)
	loopingNew.restarts = crashesByMaster
	attempt := k(1, 1, crashed)
	attempt.asked = noon
	old := k(1, 1, ready)
	old.expired = true
	byHand := k(1, 1, draining)
	byHand.job, byHand.jobRuns = "stop", true
	deaf := k(1, 1, ready)
	deaf.told = noon.Add(-tellPatience)
	refused := map[string]socket{socketA: {unit: socketA, asked: true, failed: true, words: "in use"}, socketB: opened(socketB)[socketB]}
	half := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), served: true}}
	gone := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), failed: true}}

	stale := k(1, 1, ready)
	stale.began = 5
	newer := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), open: true, served: true, since: 7}}
	away := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), open: true, served: true, lost: true}}
	awayStopping := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), open: true, served: true, lost: true, job: "stop"}}
	shut := map[string]socket{socketA: {unit: socketA, companion: companionOf(service.Default, socketA), since: 7}}
	unixGoal := goal(2, 1, socketA)
	unixGoal.paths = map[string]string{socketA: "/run/s"}

	for _, c := range []struct {
		name  string
		v     view
		want  []action
		event Event
		err   string
		wake  time.Time
	}{
		{name: "somebody stops a worker by hand, and waits for that",
			v: view{step: Idle, applied: goal(1, 1), workers: []worker{byHand, k(1, 2, ready)}}},
		{name: "a rollout needs the way",
			v:    view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{byHand, checking}},
			want: []action{{verb: doRelease, unit: byHand.unit}}},
		{name: "a worker that is not READY in time",
			v:     view{step: Starting, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{late}},
			event: Failed, err: "did not say READY=1 within 30s"},
		{name: "a worker that still has time",
			v:    view{step: Starting, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{early}},
			wake: noon.Add(time.Second)},
		{name: "a worker that another master started",
			v:    view{step: Starting, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{k(2, 1, starting)}},
			wake: noon.Add(30 * time.Second)},
		{name: "settling goes on",
			v:    view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{settled}},
			wake: noon.Add(time.Second)},
		{name: "settled, but not asked yet",
			v:    view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{fresh}},
			want: []action{{verb: doCheck, unit: fresh.unit}}},
		{name: "settled, but no answer yet",
			v: view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{checking}}},
		{name: "settled, and not proved alive",
			v:    view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{fit}},
			want: []action{{verb: doProve, unit: fit.unit}}},
		{name: "settled, and asked for a sign of life",
			v: view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{living(fit, asked)}}},
		{name: "settled and alive",
			v: view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{living(fit, passed)}}, event: Settled},
		{name: "another program for whose listeners it is not",
			v:     view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{alien}},
			event: Failed, err: "does not go by auth"},
		{name: "a new worker that stands still",
			v:     view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{living(fit, failed)}},
			event: Failed, err: "stands still"},
		{name: "who is to go has its time",
			v: view{applied: goal(2, 1), workers: []worker{leaving(9*time.Second, unasked), k(2, 1, ready)}}, wake: noon.Add(time.Second)},
		{name: "then it is asked for a sign of life",
			v:    view{applied: goal(2, 1), workers: []worker{leaving(10*time.Second, unasked), k(2, 1, ready)}},
			want: []action{{verb: doProve, unit: service.Default.WorkerName(1, 1)}}},
		{name: "and waited for",
			v: view{applied: goal(2, 1), workers: []worker{leaving(20*time.Second, asked), k(2, 1, ready)}}},
		{name: "and asked again and again",
			v: view{applied: goal(2, 1), workers: []worker{leaving(40*time.Second, passed), k(2, 1, ready)}}, wake: noon.Add(20 * time.Second)},
		{name: "and killed if it gives none",
			v:    view{applied: goal(2, 1), workers: []worker{leaving(30*time.Second, failed), k(2, 1, ready)}},
			want: []action{{verb: doKill, unit: service.Default.WorkerName(1, 1)}}},
		{name: "once",
			v: view{applied: goal(2, 1), workers: []worker{dead, k(2, 1, ready)}}},
		{name: "who was never READY is not asked",
			v:    view{applied: goal(2, 1), workers: []worker{never, k(2, 1, ready)}},
			want: []action{{verb: doKill, unit: service.Default.WorkerName(1, 1)}}},
		{name: "a self-check that fails",
			v:     view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{unfit}},
			event: Failed, err: "a resource fails"},
		{name: "at a cold start nobody could take over, so nothing settles",
			v: view{step: Settling, pending: goal(2, 1), workers: []worker{settled}}, event: Settled},
		{name: "a death that nobody saw",
			v:     view{step: Settling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{restarted}},
			event: Failed, err: "died within reload.settle"},
		{name: "a socket that cannot listen fails a reload",
			v:     view{step: Opening, applied: goal(1, 1, socketB), pending: goal(2, 1, socketA, socketB), sockets: refused},
			event: Failed, err: "cannot listen: in use"},
		{name: "but not a boot, as long as another one can",
			v: view{step: Opening, pending: goal(2, 1, socketA, socketB), sockets: refused}, event: Opened},
		{name: "none can",
			v: view{step: Opening, pending: goal(2, 1, socketA, socketB), sockets: map[string]socket{
				socketA: refused[socketA], socketB: refused[socketA]}}, event: Failed, err: "no listener can be opened: in use"},
		{name: "a companion is stopped before its socket starts",
			v:    view{step: Opening, applied: goal(1, 1), pending: goal(2, 1, socketA), sockets: half},
			want: []action{{verb: doStop, unit: companionOf(service.Default, socketA)}}},
		{name: "workers let go of a port that was closed under them, before it is opened",
			v:    view{step: Opening, applied: goal(1, 1, socketA), pending: goal(2, 1, socketA), sockets: shut, workers: []worker{stale}},
			want: []action{{verb: doTell, unit: stale.unit}}, wake: noon.Add(tellPatience)},
		{name: "a port that those who serve have never had is none of theirs",
			v:    view{step: Opening, applied: goal(1, 1), pending: goal(2, 1, socketA), sockets: shut, workers: []worker{stale}},
			want: []action{{verb: doStart, unit: socketA}}},
		{name: "one that was started since does not hold it",
			v:    view{step: Opening, applied: goal(1, 1, socketA), pending: goal(2, 1, socketA), sockets: shut, workers: []worker{{unit: "w", gen: 1, phase: ready, began: 8}}},
			want: []action{{verb: doStart, unit: socketA}}},
		{name: "a unix socket is opened at once",
			v:    view{step: Opening, applied: goal(1, 1, socketA), pending: unixGoal, sockets: shut, workers: []worker{stale}},
			want: []action{{verb: doStart, unit: socketA}}},
		{name: "one whose file is gone is closed first",
			v:    view{step: Opening, applied: goal(1, 1, socketA), pending: unixGoal, sockets: away},
			want: []action{{verb: doStop, unit: socketA}}},
		{name: "and waited for",
			v: view{step: Opening, applied: goal(1, 1, socketA), pending: unixGoal, sockets: awayStopping}},
		{name: "a failed socket that nobody wants is forgotten",
			v: view{step: Idle, sockets: gone}, want: []action{{verb: doReset, unit: socketA}}},
		{name: "a program that never says STOPPING=1 is stopped",
			v:    view{step: Telling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{deaf, settled}},
			want: []action{{verb: doRelease, unit: deaf.unit}}},
		{name: "steady: a lost companion comes back",
			v:    view{applied: goal(1, 1, socketA), workers: []worker{k(1, 1, ready)}, sockets: map[string]socket{socketA: {unit: socketA, open: true}}},
			want: []action{{verb: doStart, unit: companionOf(service.Default, socketA)}}},
		{name: "steady: a generation that is gone is forgotten, one too many is hurried",
			v: view{applied: goal(4, 1), draining: []int{1, 2, 3}, hurried: map[int]bool{},
				workers: []worker{{unit: "a", gen: 2, phase: draining, released: true}, {unit: "b", gen: 3, phase: draining, released: true}, k(4, 1, ready)}},
			want: []action{{verb: doForget, gen: 1}, {verb: doHurry, gen: 2}}},
		{name: "steady: who crashes again and again is taken from systemd",
			v: view{applied: goal(1, 1), workers: []worker{looping}}, want: []action{{verb: doBackOff, unit: looping.unit}}},
		{name: "an attempt after a back-off is one",
			v: view{applied: goal(1, 1), resume: noon, workers: []worker{attempt}}, want: []action{{verb: doBackOff, unit: attempt.unit}}},
		{name: "steady: back-off",
			v: view{applied: goal(1, 1), resume: noon.Add(time.Second)}, wake: noon.Add(time.Second)},
		{name: "steady: back-off is over",
			v: view{applied: goal(1, 1), resume: noon}, want: []action{{verb: doStart, unit: service.Default.WorkerName(1, 1)}}},
		{name: "recycling: new before old",
			v: view{applied: goal(1, 1), workers: []worker{old}}, want: []action{{verb: doStart, unit: service.Default.WorkerName(1, 2)}}},
		{name: "recycling: the new one is there",
			v:    view{applied: goal(1, 1), workers: []worker{old, k(1, 2, ready)}},
			want: []action{{verb: doTell, unit: old.unit}}, wake: noon.Add(tellPatience)},
		{name: "metrics are opened with the other sockets",
			v:    view{step: Opening, applied: goal(1, 1), pending: measured(goal(2, 1)), metrics: map[string]socket{}},
			want: []action{{verb: doStart, unit: metricsA}}},
		{name: "and waited for",
			v: view{step: Opening, applied: goal(1, 1), pending: measured(goal(2, 1)), metrics: map[string]socket{metricsA: {job: "start", asked: true}}}},
		{name: "metrics are open",
			v: view{step: Opening, applied: goal(1, 1), pending: measured(goal(2, 1)), metrics: map[string]socket{metricsA: {open: true}}}, event: Opened},
		{name: "metrics that cannot listen fail a reload",
			v:     view{step: Opening, applied: goal(1, 1), pending: measured(goal(2, 1)), metrics: map[string]socket{metricsA: {asked: true, words: "in use"}}},
			event: Failed, err: metricsA + " cannot listen: in use"},
		{name: "but not a boot",
			v: view{step: Opening, pending: measured(goal(2, 1)), metrics: map[string]socket{metricsA: {asked: true, words: "in use"}}}, event: Opened},
		{name: "steady: metrics that nobody wants are closed",
			v: view{applied: measured(goal(1, 1)), workers: []worker{k(1, 1, ready)}, metrics: map[string]socket{
				metricsA: {open: true}, "b": {open: true}, "c": {open: true, job: "stop"}, "d": {failed: true}}},
			want: []action{{verb: doStop, unit: "b"}, {verb: doReset, unit: "d"}}},
		{name: "steady: metrics that somebody stopped stay so",
			v: view{applied: measured(goal(1, 1)), workers: []worker{k(1, 1, ready)}, metrics: map[string]socket{}}},
		{name: "telling does not wait for a new worker that crashes again and again",
			v:    view{step: Telling, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{loopingNew, k(1, 1, ready)}},
			want: []action{{verb: doTell, unit: service.Default.WorkerName(1, 1)}}, wake: noon.Add(tellPatience)},
		{name: "retiring: an old worker that systemd has revived goes again",
			v:    view{step: Retiring, applied: goal(1, 1), pending: goal(2, 1), workers: []worker{k(1, 1, starting), k(2, 1, ready)}},
			want: []action{{verb: doRelease, unit: service.Default.WorkerName(1, 1)}}},
		{name: "steady: likewise",
			v:    view{applied: goal(2, 1), workers: []worker{k(1, 1, starting), k(2, 1, ready)}},
			want: []action{{verb: doRelease, unit: service.Default.WorkerName(1, 1)}}},
		{name: "nothing is applied", v: view{metrics: map[string]socket{"b": {open: true}}}},
	} {
		v := c.v
		v.now = noon
		d := plan(v)
		if !slices.Equal(d.actions, c.want) || d.event != c.event || !d.wake.Equal(c.wake) ||
			(d.err == nil) != (c.err == "") || d.err != nil && !strings.Contains(d.err.Error(), c.err) {
			t.Errorf("%s:\ngot  %+v\nwant %+v %s %q %s", c.name, d, c.want, c.event, c.err, c.wake)
		}
	}
	for why, sockets := range map[string]map[string]socket{"is closed": nil, "is gone": away, "opened anew": newer} {
		if d := plan(view{now: noon, applied: goal(1, 1, socketA), workers: []worker{stale}, sockets: sockets}); d.reopen != socketA || !strings.Contains(d.why, why) || d.healthy {
			t.Errorf("a listener that %s is not noticed: %+v", why, d)
		}
	}
	busy := view{now: noon, applied: goal(1, 1, socketA), workers: []worker{stale}, sockets: map[string]socket{socketA: {job: "start"}}}
	if d := plan(busy); d.reopen != "" {
		t.Errorf("what systemd is at is disturbed: %+v", d)
	}
	well := view{now: noon, applied: goal(1, 1, socketA), workers: []worker{k(1, 1, ready)}, sockets: opened(socketA)}
	if d := plan(well); !d.healthy {
		t.Errorf("all is as it should be: %+v", d)
	}
}

func TestPlanStop(t *testing.T) {
	v := view{now: noon, target: true, workers: []worker{k(1, 1, ready), k(1, 2, crashed)}}
	actions, done := planStop(v)
	if want := []action{{verb: doStop, unit: service.Default.Sockets()}, {verb: doFinal}}; done || !slices.Equal(actions, want) {
		t.Errorf("%v %t", actions, done)
	}
	v.target = false
	// At host shutdown the job is there already, and waits.
	v.workers[0].phase, v.workers[0].job = draining, "stop"
	if actions, done = planStop(v); done || !slices.Equal(actions, []action{{verb: doFinal}}) {
		t.Errorf("%v %t", actions, done)
	}
	v.workers[0].phase, v.workers[0].job = ready, ""
	v.workers[0].told = noon
	actions, done = planStop(v)
	if want := []action{{verb: doRelease, unit: v.workers[0].unit}, {verb: doRelease, unit: v.workers[1].unit}}; done || !slices.Equal(actions, want) {
		t.Errorf("%v %t", actions, done)
	}
	v.workers = []worker{{unit: "a", gen: 2, phase: draining, released: true, job: "stop", jobRuns: true}, {unit: "b", gen: 2, phase: draining, released: true}}
	actions, done = planStop(v)
	if want := []action{{verb: doCancel, unit: "a"}}; done || !slices.Equal(actions, want) {
		t.Errorf("%v %t", actions, done)
	}
	if gens := v.generations(); !slices.Equal(gens, []int{2}) {
		t.Error(gens)
	}
	if actions, done = planStop(view{}); !done || len(actions) > 0 {
		t.Errorf("%v %t", actions, done)
	}
}
