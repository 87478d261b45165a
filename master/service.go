package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// The master's name on the system bus; who may call what is in the policy file of that name.
const (
	BusName      = "org.fdtserver.Master1"
	BusPath      = dbus.ObjectPath("/org/fdtserver/Master1")
	BusInterface = "org.fdtserver.Master1"
)

// The errors that callers can tell apart by name; the text is the reason in full.
const (
	errorFailed  = BusName + ".Error.Failed"
	errorStopped = BusName + ".Error.Stopping"
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
		r.reply <- answer{gen: gen, err: err}
	}
	m.callers = nil
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
		return answer{}, context.Cause(ctx)
	}
	select {
	case a := <-r.reply:
		return a, a.err
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
}

// serveBus is on the system bus whenever that is there, until ctx ends.
func (m *Master) serveBus(ctx context.Context) {
	delay := backoff{}
	for ctx.Err() == nil {
		began := time.Now()
		err := m.serveOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			delay = backoff{}
		}
		m.log.Warn("fdtctl cannot reach the master for the moment", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(delay.next(time.Now())):
		}
	}
}

func (m *Master) serveOnce(ctx context.Context) error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	methods := map[string]any{
		"Reload": func() (uint32, *dbus.Error) {
			a, err := m.ask1(ctx, request{kind: kindReload})
			return uint32(a.gen), busError(err)
		},
		"Rollback": func() (uint32, *dbus.Error) {
			a, err := m.ask1(ctx, request{kind: kindRollback})
			return uint32(a.gen), busError(err)
		},
		"Drain": func(gen uint32, within string) *dbus.Error {
			d, err := time.ParseDuration(within)
			if err == nil {
				_, err = m.ask1(ctx, request{kind: kindDrain, gen: int(gen), within: d})
			}
			return busError(err)
		},
		"Status": func() (string, *dbus.Error) {
			a, err := m.ask1(ctx, request{kind: kindStatus})
			if err != nil {
				return "", busError(err)
			}
			a.status.count(m.gather(ctx, a.status.workers()))
			text, err := json.Marshal(a.status)
			return string(text), busError(err)
		},
	}
	err = errors.Join(
		conn.ExportMethodTable(methods, BusPath, BusInterface),
		conn.Export(introspect.NewIntrospectable(&node), BusPath, "org.freedesktop.DBus.Introspectable"),
	)
	if err != nil {
		return err
	}
	reply, err := conn.RequestName(BusName, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement)
	if err != nil {
		return fmt.Errorf("take the name %s: %w", BusName, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner && reply != dbus.RequestNameReplyInQueue {
		return fmt.Errorf("take the name %s: %v", BusName, reply)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-conn.Context().Done():
		return errors.New("the system bus is gone")
	}
}

func busError(err error) *dbus.Error {
	if err == nil {
		return nil
	}
	name := errorFailed
	if errors.Is(err, ErrStopping) {
		name = errorStopped
	}
	return dbus.NewError(name, []any{err.Error()})
}

// node describes the object to busctl(1) and others.
var node = introspect.Node{
	Name: string(BusPath),
	Interfaces: []introspect.Interface{
		introspect.IntrospectData,
		{
			Name: BusInterface,
			Methods: []introspect.Method{
				{Name: "Reload", Args: []introspect.Arg{{Name: "generation", Type: "u", Direction: "out"}}},
				{Name: "Rollback", Args: []introspect.Arg{{Name: "generation", Type: "u", Direction: "out"}}},
				{Name: "Drain", Args: []introspect.Arg{
					{Name: "generation", Type: "u", Direction: "in"}, {Name: "within", Type: "s", Direction: "in"}}},
				{Name: "Status", Args: []introspect.Arg{{Name: "json", Type: "s", Direction: "out"}}},
			},
		},
	},
}
