package master

import (
	"fmt"
	"slices"
	"time"
)

// tellPatience is how long a worker that was sent SIGTERM may take to say STOPPING=1 before it is stopped
// through systemd all the same. Programs that never say it only lose this time.
const tellPatience = 2 * time.Second

// verb is one kind of effect.
type verb int

const (
	doStart   verb = iota // StartUnit
	doStop                // StopUnit
	doReset               // forget a socket's failure; its unit is then gone
	doTell                // KillUnit SIGTERM, main process only
	doRelease             // StopUnit on a worker, for its ban on automatic restarts; the job is cancelled later
	doCancel              // cancel the unit's job: everything about sockets would wait behind it
	doHurry               // shorten the deadline of a generation's drain
	doForget              // remove a generation's snapshot: its last worker is gone
	doFinal               // tell every worker that serves that all of them stop: nobody will accept after it
	doCheck               // have a new worker prove that it can serve
	doProve               // ask a worker for a sign of life
	doKill                // SIGKILL to a worker that is to go and gives none
	doBackOff             // a worker crashes again and again: StopUnit, and start none for a while
)

// action is one effect on one unit or generation. Each is safe to repeat.
type action struct {
	verb verb
	unit string
	gen  int
}

// decision is what plan wants done.
type decision struct {
	actions []action
	event   Event
	err     error     // why, with Failed
	reopen  string    // Idle only: a listener of the applied generation that no client reaches
	why     string    // with reopen
	healthy bool      // Idle only: the applied generation has all that it should have
	wake    time.Time // look again at this time at the latest; zero: at the next prompt
}

func (d *decision) do(v verb, unit string) {
	d.actions = append(d.actions, action{verb: v, unit: unit})
}

func (d *decision) look(at time.Time) {
	if d.wake.IsZero() || at.Before(d.wake) {
		d.wake = at
	}
}

func (d *decision) fail(format string, args ...any) {
	d.event, d.err = Failed, fmt.Errorf(format, args...)
}

// plan is one look at a rollout: what to do, and whether its step is over. It has no side effects. The
// steps stand in the order in which a reload passes them.
func plan(v view) decision {
	var d decision
	if v.stopping {
		// The stopper works on the same units; hands off.
		if !v.step.Terminal() {
			d.event = Stopped
		}
		return d
	}
	release(v, &d)
	prod(v, &d)
	switch v.step {
	case Idle:
		steady(v, &d)

	case Opening:
		closed := false
		opened := 0
		for _, name := range v.pending.sockets {
			s := v.sockets[name]
			switch {
			case s.open && s.lost:
				if s.job == "" {
					d.do(doStop, name)
				}
				closed = true
			case s.open:
				opened++
				if !s.served && s.companionJob == "" {
					// Not waited for: it is ordered after fdt.service, which may be starting.
					d.do(doStart, companionOf(v.svc, name))
				}
			case s.job != "":
				closed = true
			case s.served || s.companionJob != "":
				// A socket can start only while its service is inactive.
				d.do(doStop, companionOf(v.svc, name))
				closed = true
			case !s.asked && v.pending.paths[name] == "" && v.serves(name) && len(v.holding(s)) > 0:
				// It was closed under workers that hold its port: systemd cannot bind that before they have let go.
				for _, w := range v.holding(s) {
					tell(v, &d, w)
				}
				closed = true
			case !s.asked:
				d.do(doStart, name)
				closed = true
			case v.cold() && len(v.pending.sockets) > 1:
				// At boot one bad address must not take the others down; steady tries it again.
			default:
				d.fail("%s cannot listen: %s", name, s.words)
				return d
			}
		}
		if name := v.pending.metrics; name != "" {
			switch s := v.metrics[name]; {
			case s.open:
			case s.job != "":
				closed = true
			case !s.asked:
				d.do(doStart, name)
				closed = true
			case v.cold(): // clients come first
			default:
				d.fail("%s cannot listen: %s", name, s.words)
				return d
			}
		}
		switch {
		case closed:
		case opened == 0 && len(v.pending.sockets) > 0:
			d.fail("no listener can be opened: %s", v.sockets[v.pending.sockets[0]].words)
		default:
			d.event = Opened
		}

	case Starting:
		t := v.pending
		if bad := v.of(t.gen, crashed); len(bad) > 0 {
			d.fail("%s", bad[0].words)
			return d
		}
		live := v.of(t.gen, starting, ready)
		for _, w := range live {
			if w.phase != starting {
				continue
			}
			if deadline := w.asked.Add(t.ready); w.asked.IsZero() {
				d.look(v.now.Add(t.ready))
			} else if v.now.Before(deadline) {
				d.look(deadline)
			} else {
				d.fail("%s did not say READY=1 within %s (reload.ready_timeout)", w.unit, t.ready)
				return d
			}
		}
		// Capacity never goes below the smaller of the two counts, nor above the larger plus surge.
		room := max(t.count, v.capacity()) + t.surge - len(live) - len(v.old(t.gen))
		batch := min(t.count-len(live), max(0, room))
		for _, slot := range v.freeSlots(t.gen, max(0, batch)) {
			d.do(doStart, v.svc.WorkerName(t.gen, slot))
		}
		if batch <= 0 && len(live) == len(v.of(t.gen, ready)) {
			d.event = Ready
		}

	case Settling:
		t := v.pending
		var last time.Time
		for _, w := range v.of(t.gen, starting, ready, crashed) {
			if w.phase == crashed {
				d.fail("%s", w.words)
				return d
			}
			if w.restarts > 0 || w.phase == starting {
				d.fail("%s died within reload.settle (%s) and was restarted: %s", w.unit, t.settle, w.words)
				return d
			}
			if w.ready.After(last) {
				last = w.ready
			}
		}
		if v.cold() {
			d.event = Settled // nobody could take over
			return d
		}
		checking := false
		for _, w := range v.of(t.gen, ready) {
			switch w.verdict {
			case unasked:
				d.do(doCheck, w.unit)
				checking = true
			case asked:
				checking = true
			case failed:
				d.fail("%s", w.words)
				return d
			case passed:
			}
		}
		if until := last.Add(t.settle); v.now.Before(until) {
			d.look(until)
		} else if !checking && alive(v, &d, t.gen) {
			d.event = Settled
		}

	case Telling:
		t := v.pending
		fresh := len(v.of(t.gen, ready))
		all := len(v.of(t.gen, starting, ready, crashed)) >= t.count
		if all && !closeSockets(v, &d, t) {
			return d // those who accept last serve the queue, if systemd does not hold it open any more
		}
		old := v.old(t.gen)
		for _, w := range v.of(t.gen, crashed) {
			if w.restarts >= crashesByMaster {
				fresh++ // not waited for: it has settled once, and has its back-off now
			}
		}
		keep := max(0, min(t.count, v.capacity())-fresh)
		waiting := false
		for _, w := range old[:max(0, len(old)-keep)] {
			tell(v, &d, w)
			waiting = true
		}
		switch {
		case waiting:
		case !all:
			d.event = Batch
		case len(old) == 0:
			d.event = Told
		}

	case Retiring:
		for _, w := range v.old(v.pending.gen) {
			tell(v, &d, w)
		}
		if closeSurplus(v, &d, v.pending) && v.releasedAll(v.pending.gen) {
			d.event = Retired
		}

	case TakingBack:
		gone := true
		if a := v.applied; a != nil {
			// Workers that an earlier batch told do not come back; new ones of their generation do.
			missing := a.count - len(v.staying(a.gen))
			for _, slot := range v.freeSlots(a.gen, max(0, missing)) {
				d.do(doStart, v.svc.WorkerName(a.gen, slot))
			}
			soon := slices.ContainsFunc(v.of(a.gen, starting, crashed), func(w worker) bool { return w.restarts < crashesByMaster })
			if missing > 0 || soon {
				return d
			}
		}
		if !closeSockets(v, &d, v.applied) {
			return d
		}
		for _, w := range v.old(v.appliedGen()) {
			tell(v, &d, w)
			gone = false
		}
		if closeSurplus(v, &d, v.applied) && gone && v.releasedAll(v.appliedGen()) {
			d.event = TakenBack
		}
	}
	return d
}

// cold reports whether the rollout has nothing to fall back to.
func (v view) cold() bool { return v.applied == nil }

// capacity is the number of workers that the applied generation is configured to have.
func (v view) capacity() int {
	if v.applied == nil {
		return 0
	}
	return v.applied.count
}

func (v view) appliedGen() int {
	if v.applied == nil {
		return 0
	}
	return v.applied.gen
}

// tell makes one worker stop accepting: SIGTERM to a serving one, a stop for any other.
func tell(v view, d *decision, w worker) {
	switch {
	case w.phase != ready:
		if !w.released {
			d.do(doRelease, w.unit)
		}
	case w.told.IsZero():
		d.do(doTell, w.unit)
		d.look(v.now.Add(tellPatience))
	case v.now.Before(w.told.Add(tellPatience)):
		d.look(w.told.Add(tellPatience))
	case !w.released && !slices.Contains(d.actions, action{verb: doRelease, unit: w.unit}):
		d.do(doRelease, w.unit)
	}
}

// release bars systemd from reviving what is draining, and frees the way for other jobs: the stop's job
// lasts as long as the drain, and a socket's job would wait behind it. Who was told follows through. A stop that
// somebody else asked for bars by itself; it is theirs to wait for until a rollout needs the way.
func release(v view, d *decision) {
	for _, w := range v.workers {
		switch {
		case w.phase == ready && !w.told.IsZero():
			tell(v, d, w)
		case w.phase != draining:
		case v.step == Idle && !w.released && w.told.IsZero() && w.job == "stop":
		case !w.released:
			d.do(doRelease, w.unit)
		case w.job == "stop" && w.jobRuns:
			d.do(doCancel, w.unit)
		}
	}
}

// releasedAll reports whether every worker outside the generation is released and without a job.
func (v view) releasedAll(gen int) bool {
	for _, w := range v.workers {
		if w.gen != gen && (w.phase != draining || !w.released || w.job == "stop") {
			return false
		}
	}
	return true
}

// closeSockets closes the sockets that keep does not have. It reports whether systemd holds none of them any more.
func closeSockets(v view, d *decision, keep *target) bool {
	done := true
	for _, s := range v.surplus(keep) {
		switch {
		case s.job == "stop":
			done = false
		case s.listens():
			d.do(doStop, s.unit)
			done = false
		}
	}
	return done
}

// closeSurplus closes the sockets that keep does not have, companions after them (a companion stopped first
// would let the socket listen again). It reports whether nothing is left to close.
func closeSurplus(v view, d *decision, keep *target) bool {
	done := closeSockets(v, d, keep)
	for _, s := range v.surplus(keep) {
		switch {
		case s.listens() || s.companionJob == "stop": // the job is not waited for: at host shutdown it waits for the stopper
		case s.failed:
			d.do(doReset, s.unit)
		case s.served || s.companionJob != "":
			d.do(doStop, s.companion)
			done = false
		}
	}
	return done
}
