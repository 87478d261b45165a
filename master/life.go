package master

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
)

// A process that stands still, as by SIGSTOP, a frozen cgroup or a disk that never answers, is all well to systemd: it has
// said READY=1, and its SIGTERM is on its way. What tells it from one that works is that it answers.

const (
	// leavePatience is what a worker that was told to go has before it must show that it does.
	leavePatience = 10 * time.Second
	// silence is how long a worker may take to answer, however busy the machine, before it counts as standing still.
	silence = 2 * control.Timeout
	// proveEvery is how long an answer is good for.
	proveEvery = 30 * time.Second
)

// lived is the outcome of one question for a sign of life.
type lived struct {
	unit   string
	silent bool
}

// prod has those that are to go show that they do. One that stands still would be there until TimeoutStopSec=, which is as
// long as the longest drain, and a stop would wait for it; so would one that was never READY, and has nobody to drain.
func prod(v view, d *decision) {
	for _, w := range v.workers {
		if w.phase != draining || w.leaving.IsZero() || w.killed {
			continue
		}
		due := w.leaving.Add(leavePatience)
		if w.life == passed {
			due = w.proved.Add(proveEvery)
		}
		switch {
		case v.now.Before(due):
			d.look(due)
		case w.unready, w.life == failed:
			d.do(doKill, w.unit)
		case w.life != asked:
			d.do(doProve, w.unit)
		}
	}
}

// alive has each new worker give a sign of life at the end of reload.settle, before old ones are told to go. It reports
// whether all have. Not before does another program fail for its listeners: a worker of our own that dies looks like one for a
// moment.
func alive(v view, d *decision, gen int) bool {
	all := true
	for _, w := range v.of(gen, ready) {
		if w.alien != "" {
			d.fail("%s", w.alien)
			return false
		}
		switch w.life {
		case passed:
			continue
		case failed:
			d.fail("%s stands still: it is READY, but has not answered for %s at the end of reload.settle", w.unit, silence)
			return false
		case unasked:
			d.do(doProve, w.unit)
		case asked:
		}
		all = false
	}
	return all
}

// prove asks a worker for a sign of life. The answer comes to Run or Stop; there is always one, unless ctx ends.
func (m *Master) prove(ctx context.Context, w worker) {
	k := m.memo(w.unit)
	k.life, k.proved = asked, time.Now()
	path := m.controlPath(w.gen, w.slot)
	m.helpers.Go(func() {
		silent := !answers(ctx, path, silence)
		select {
		case m.lives <- lived{w.unit, silent}:
		case <-ctx.Done():
		}
	})
}

// answers reports whether a worker gives a sign of life within a time. Nothing else is silence: a program that has no control
// socket cannot answer and is left in peace, and one that refuses lives.
func answers(ctx context.Context, path string, within time.Duration) bool {
	// No deadline: what looks at one by itself, as net.Dialer, may fail before the context ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(within, cancel).Stop()
	_ = control.Call(ctx, path, control.OpStatus, nil, nil)
	return ctx.Err() == nil
}

// heard takes a sign of life in, or its absence.
func (m *Master) heard(l lived) {
	k := m.memos[l.unit]
	if k == nil || k.life != asked {
		return // another process by now
	}
	k.life = passed
	if l.silent {
		k.life = failed
	}
}

// kill ends a worker that stands still. Its open transactions are recovered by others, as after any crash.
func (m *Master) kill(unit string) error {
	m.memo(unit).killed = true
	m.event(journal.WorkerFailed).Error("a worker that was told to go stands still, and is killed", "unit", unit)
	return m.sd.kill(unit)
}
