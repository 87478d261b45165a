package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/godbus/dbus/v5/prop"

	"github.com/fdtserver/fdt/config"
)

// serveBus is on the system bus whenever that is there, until ctx ends.
func (m *Master) serveBus(ctx context.Context) {
	delay := backoff{}
	for ctx.Err() == nil {
		err := m.serveOnce(ctx)
		if ctx.Err() != nil {
			return
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
			a.status.count(m.gather(ctx, a.status.workers()))
			text, failed := json.Marshal(a.status)
			return string(text), busError(errors.Join(err, failed))
		},
	}
	shown, err := prop.Export(conn, BusPath, prop.Map{BusInterface: properties(Status{})})
	if err == nil {
		node := introspect.Node{Name: string(BusPath), Interfaces: []introspect.Interface{
			introspect.IntrospectData, prop.IntrospectData, description(shown.Introspection(BusInterface))}}
		err = errors.Join(
			conn.ExportMethodTable(methods, BusPath, BusInterface),
			conn.Export(introspect.NewIntrospectable(&node), BusPath, "org.freedesktop.DBus.Introspectable"),
		)
		_, named := conn.RequestName(m.opt.Service.BusName(), dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement) // last; its queue will do, too
		err = errors.Join(err, named)
	}
	if err != nil {
		return fmt.Errorf("offer %s: %w", m.opt.Service.BusName(), err)
	}
	was := properties(Status{})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Context().Done():
			return errors.New("the system bus is gone")
		case s := <-m.shows:
			is := properties(s)
			for name, p := range is {
				if !reflect.DeepEqual(p.Value, was[name].Value) {
					shown.SetMust(BusInterface, name, p.Value)
				}
			}
			was = is
		}
	}
}

func busError(err error) *dbus.Error {
	if err == nil {
		return nil
	}
	name := errorFailed
	switch {
	case errors.Is(err, ErrStopping):
		name = errorStopped
	case errors.Is(err, ErrLeaving):
		name = ErrorLeaving
	}
	return dbus.NewError(name, []any{config.Detail(err)}) // to root alone, who asked for it, and may read the files
}

// publish hands the newest status to the bus; one that nobody has fetched is replaced.
func (m *Master) publish(s Status) {
	select {
	case <-m.shows:
	default:
	}
	m.shows <- s
}

// The records of the properties Generations, Workers and Listeners.
type (
	busGeneration struct {
		Generation              uint32
		State                   string
		Configured, Ready, Open uint32
	}
	busWorker struct {
		Generation, Slot uint32
		State            string
	}
	busListener struct {
		Unit string
		Open bool
	}
)

// properties are what is on the bus of a status. PropertiesChanged tells of each.
func properties(s Status) map[string]*prop.Prop {
	generations, workers, listeners := []busGeneration{}, []busWorker{}, []busListener{}
	for _, g := range s.Generations {
		generations = append(generations, busGeneration{uint32(g.Generation), g.State, uint32(g.Configured), uint32(g.Ready), uint32(g.Open)})
		for _, w := range g.Workers {
			workers = append(workers, busWorker{uint32(g.Generation), uint32(w.Slot), w.State})
		}
	}
	for _, l := range s.Listeners {
		listeners = append(listeners, busListener{l.Unit, l.Open})
	}
	out := map[string]*prop.Prop{}
	for name, value := range map[string]any{
		"Version": s.Version, "Generation": uint32(s.Generation), "Pending": uint32(s.Pending), "Step": s.Step,
		"StatusText": s.Line(), "Rejected": s.Rejected, "InDoubt": uint32(s.InDoubt),
		"Generations": generations, "Workers": workers, "Listeners": listeners,
	} {
		out[name] = &prop.Prop{Value: value, Emit: prop.EmitTrue}
	}
	return out
}

// description is the interface for busctl(1) and others.
func description(properties []introspect.Property) introspect.Interface {
	return introspect.Interface{
		Name: BusInterface,
		Methods: []introspect.Method{
			{Name: "Reload", Args: []introspect.Arg{{Name: "generation", Type: "u", Direction: "out"}}},
			{Name: "Rollback", Args: []introspect.Arg{{Name: "generation", Type: "u", Direction: "out"}}},
			{Name: "Drain", Args: []introspect.Arg{
				{Name: "generation", Type: "u", Direction: "in"}, {Name: "within", Type: "s", Direction: "in"}}},
			{Name: "Status", Args: []introspect.Arg{{Name: "json", Type: "s", Direction: "out"}}},
		},
		Properties: properties,
	}
}
