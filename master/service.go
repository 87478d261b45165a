package master

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// The master's object on the system bus, at the name that its service says; who may call what is in the policy file of the interface.
const (
	BusPath      = dbus.ObjectPath("/org/fdtserver/Master1")
	BusInterface = "org.fdtserver.Master1"
)

// The errors that callers can tell apart by name; the text is the reason in full.
const (
	errorFailed  = BusInterface + ".Error.Failed"
	errorStopped = BusInterface + ".Error.Stopping"
	// ErrorLeaving is for ErrLeaving: what becomes of the request shows when the next master is there.
	ErrorLeaving = BusInterface + ".Error.Leaving"
)

// kind is what a request asks for.
type kind int

const (
	kindReload kind = iota
	kindRollback
	kindDrain
	kindStatus
)

// request is one caller's wish. The owner answers every one exactly once; reply has room for it.
type request struct {
	kind   kind
	gen    int
	within time.Duration
	reply  chan answer
}

type answer struct {
	gen    int
	status Status
	err    error
}

// handle takes one request in. Rollouts queue; the rest is answered at once.
func (m *Master) handle(r request) {
	switch r.kind {
	case kindReload, kindRollback:
		if m.wasStopping {
			r.reply <- answer{err: ErrStopping}
			return
		}
		m.wanted = append(m.wanted, r)
	case kindDrain:
		if len(m.last.of(r.gen, draining)) == 0 {
			r.reply <- answer{err: fmt.Errorf("generation %d: %w", r.gen, ErrUnknownGeneration)}
			return
		}
		m.hurried[r.gen] = true
		m.hurry(r.gen, r.within)
		r.reply <- answer{gen: r.gen}
	case kindStatus:
		r.reply <- answer{status: m.status()}
	}
}

// answer ends the requests that the rollout in progress was for.
func (m *Master) answer(gen int, err error) {
	for _, r := range m.callers {
		m.answers = append(m.answers, func() { r.reply <- answer{gen: gen, err: err} })
	}
	m.callers = nil
}

// flush sends the answers.
func (m *Master) flush() {
	for _, send := range m.answers {
		send()
	}
	m.answers = nil
}

// refuse ends the requests that no rollout has begun for.
func (m *Master) refuse(err error) {
	for _, r := range m.wanted {
		r.reply <- answer{err: err}
	}
	m.wanted = nil
}

// Reload asks Run for what the bus method of the same name does, without an answer: SIGHUP.
func (m *Master) Reload(ctx context.Context) {
	_, err := m.ask1(ctx, request{kind: kindReload})
	if err != nil && ctx.Err() == nil {
		m.log.Error("the reload asked for by SIGHUP failed", "error", err)
	}
}

func (m *Master) ask1(ctx context.Context, r request) (answer, error) {
	r.reply = make(chan answer, 1)
	select {
	case m.requests <- r:
	case <-ctx.Done():
		return answer{}, ErrLeaving
	}
	select {
	case a := <-r.reply:
		return a, a.err
	case <-ctx.Done():
		return answer{}, ErrLeaving
	}
}
