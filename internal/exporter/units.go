package exporter

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/unit"
)

// found is one unit as ListUnitsByPatterns of org.freedesktop.systemd1(5) returns it, in its order.
type found struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// listUnits asks systemd for fdt's units, on the system bus: its private socket is for root alone. Asking starts
// nothing.
func listUnits(ctx context.Context) ([]found, error) {
	out := []found{}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err == nil {
		defer conn.Close()
		err = conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").CallWithContext(ctx,
			"org.freedesktop.systemd1.Manager.ListUnitsByPatterns", dbus.FlagNoAutoStart, []string{},
			[]string{unit.Master, unit.WorkerPattern, unit.SocketPattern}).Store(&out)
	}
	if err != nil {
		return nil, fmt.Errorf("ask systemd for units: %w", err)
	}
	return out, nil
}

// The states of a worker's unit, as fdtctl(8) names them.
var states = []string{"starting", "ready", "draining", "failed"}

// stateOf is the state of a worker's unit; empty if it is only a name.
func stateOf(u found) string {
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
