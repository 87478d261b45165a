package master

import (
	"slices"
)

// crashesByMaster is after how many automatic restarts of one worker the master takes its starting over
// from systemd, whose delay on version 252 never grows.
const crashesByMaster = 3

// steady keeps what is applied as it should be while no rollout goes on.
func steady(v view, d *decision) {
	for _, w := range v.old(v.appliedGen()) {
		tell(v, d, w)
	}
	closeSurplus(v, d, v.applied)
	var finished, busy []int
	for _, gen := range v.draining {
		if len(v.of(gen, starting, ready, crashed, draining)) == 0 {
			finished = append(finished, gen)
		} else {
			busy = append(busy, gen)
		}
	}
	for _, gen := range finished {
		d.actions = append(d.actions, action{verb: doForget, gen: gen})
	}
	t := v.applied
	if t == nil {
		return
	}
	closeMetrics(v, d, t)
	for _, gen := range busy[:max(0, len(busy)-t.generations)] {
		if !v.hurried[gen] {
			d.actions = append(d.actions, action{verb: doHurry, gen: gen})
		}
	}
	for _, name := range t.sockets {
		s := v.sockets[name]
		switch {
		case s.job != "":
		case !s.open:
			d.reopen, d.why = name, "it is closed"
		case s.lost:
			d.reopen, d.why = name, "its file is gone"
		case slices.ContainsFunc(v.staying(t.gen), func(w worker) bool { return w.phase == ready && w.outdated(s) }):
			d.reopen, d.why = name, "it was opened anew, and workers accept on the closed one"
		case !s.served && s.companionJob == "":
			d.do(doStart, companionOf(v.svc, name))
		}
	}
	capacity(v, d, t)
	d.healthy = d.reopen == "" && len(v.of(t.gen, ready)) == t.count && len(v.staying(t.gen)) == t.count && !slices.ContainsFunc(v.of(t.gen, ready), func(w worker) bool { return w.expired })
}

// closeMetrics closes the sockets of metrics that t does not have; the service of one goes with it. One that somebody
// has stopped stays stopped.
func closeMetrics(v view, d *decision, t *target) {
	for _, name := range sortedKeys(v.metrics) {
		switch s := v.metrics[name]; {
		case name == t.metrics:
		case s.listens() && s.job != "stop":
			d.do(doStop, name)
		case s.failed:
			d.do(doReset, name)
		}
	}
}

// capacity starts what is missing, backs off from what crashes, and replaces what is too old, new before
// old and one at a time.
func capacity(v view, d *decision, t *target) {
	for _, w := range v.of(t.gen, crashed) {
		// One that was started after a back-off is an attempt, and gets no others from systemd.
		attempt := !v.resume.IsZero() && !w.asked.Before(v.resume)
		if (attempt || w.restarts >= crashesByMaster) && !w.released {
			d.do(doBackOff, w.unit)
		}
	}
	live := v.staying(t.gen)
	serving := slices.DeleteFunc(slices.Clone(live), func(w worker) bool { return w.phase != ready })
	want := t.count
	expired := slices.IndexFunc(serving, func(w worker) bool { return w.expired })
	if expired >= 0 {
		want++
	}
	if missing := want - len(live); missing > 0 {
		if v.now.Before(v.resume) {
			d.look(v.resume)
			return
		}
		for _, slot := range v.freeSlots(t.gen, missing) {
			d.do(doStart, v.svc.WorkerName(t.gen, slot))
		}
		return
	}
	if len(serving) > t.count {
		tell(v, d, serving[max(0, expired)])
	}
}
