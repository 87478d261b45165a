// Package fleet is what systemd says of fdt's units, as everybody may ask on the system bus. Asking starts nothing and changes
// nothing.
package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/service"
)

// Unit is one unit as ListUnitsByPatterns of org.freedesktop.systemd1(5) returns it, in its order.
type Unit struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// List asks systemd for the units of a service, on the system bus: its private socket is for root alone. Asking starts
// nothing.
func List(ctx context.Context, svc service.Service) ([]Unit, error) {
	out := []Unit{}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err == nil {
		defer conn.Close()
		err = conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").CallWithContext(ctx,
			"org.freedesktop.systemd1.Manager.ListUnitsByPatterns", dbus.FlagNoAutoStart, []string{},
			[]string{svc.Master(), svc.Stopper(), svc.WorkerPattern(), svc.SocketPattern()}).Store(&out)
	}
	if err != nil {
		return nil, fmt.Errorf("ask systemd for units: %w", err)
	}
	return out, nil
}

// States are those of a worker's unit, as fdtctl(8) names them.
var States = []string{"starting", "ready", "draining", "failed"}

// State is the state of a worker's unit; empty if it is only a name.
func State(u Unit) string {
	switch {
	case u.Active == "active", u.Active == "reloading", u.Active == "refreshing":
		return "ready"
	case u.Active == "deactivating":
		return "draining"
	case u.Active == "failed", u.Sub == "auto-restart", u.Sub == "auto-restart-queued":
		return "failed"
	case u.Active == "activating", u.JobType == "start":
		return "starting"
	}
	return ""
}

// Line is the answer of Ready in one line, with the resources that an operator has paused: whoever needs one of them waits.
func Line(why string, ready bool, paused []string) string {
	if !ready {
		return "not ready: " + why
	}
	if len(paused) > 0 {
		return "ready; paused: " + strings.Join(paused, ", ")
	}
	return "ready"
}

// Ready judges whether a balancer should send clients here, and says why not. It should while a worker accepts on a listener that is
// open, and nobody has asked fdt to stop. A master that died or a worker that fails is no reason: the others serve.
func Ready(svc service.Service, units []Unit) (why string, ready bool) {
	listens, serves := false, false
	for _, u := range units {
		_, _, isWorker := svc.ParseWorker(u.Name)
		switch {
		case (u.Name == svc.Master() || u.Name == svc.Stopper()) && u.JobType == "stop": // the latter alone where the master is dead
			return svc.String() + " is being stopped", false
		case isWorker:
			serves = serves || State(u) == "ready" && u.JobType != "stop"
		case svc.IsSocket(u.Name):
			listens = listens || u.Active == "active"
		}
	}
	switch {
	case !serves:
		return "no worker accepts connections", false
	case !listens:
		return "no listener is open", false
	}
	return "", true
}
