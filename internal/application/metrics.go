package application

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

// meters are the parts of a worker that count.
type meters struct {
	place   place
	cfg     *config.Config
	server  *drain.Server
	manager *txn.Manager
	wire    *pgwire.Server
	health  *health
	paused  *pauses
	began   time.Time

	deadline *atomic.Pointer[time.Time] // of the drain
	ends     map[string]time.Time       // of certificates, by listener
}

// tell answers on a socket of its own with the counts, and to nothing else, until stop is called.
func (m meters) tell(l net.Listener, log *slog.Logger) (stop func()) {
	socket := &control.Server{Handlers: control.Handlers{
		control.OpMetrics: func(context.Context, json.RawMessage) (any, error) { return m.read(), nil },
	}}
	var all sync.WaitGroup
	all.Go(func() {
		if err := socket.Serve(l); !errors.Is(err, control.ErrServerClosed) {
			log.Error("the socket of the metrics has failed", "error", err)
		}
	})
	return func() {
		_ = socket.Close() // the socket's file may be gone, with its directory
		all.Wait()
	}
}

// read is all that this worker counted.
func (m meters) read() meter.Worker {
	c, t, w := m.server.Counts(), m.manager.Stats(), m.wire.Stats()
	out := meter.Worker{
		Generation: m.place.gen, Slot: m.place.slot, Started: m.began, Memory: resident(), CPU: cpu(),
		Threads: c.Threads, Reserve: c.Reserve, Drained: c.Drained, Cut: c.Cut, Fatal: w.Fatal, Calls: w.Calls,
		Transactions: map[string]uint64{}, Open: t.Active, Decisions: t.Decisions, Pending: t.Pending, Hazards: t.Hazards, Forces: t.Forces,
		InDoubt: t.InDoubt, Oldest: t.Oldest, Aside: t.Aside, Unexplained: t.Unexplained, Scanned: t.Scanned,
		Listeners: map[string]meter.Listener{}, Resources: map[string]meter.Resource{},
	}
	if tracer := m.wire.Tracer; tracer != nil {
		sent, dropped := tracer.Counts()
		out.Spans = map[string]uint64{"sent": sent, "dropped": dropped}
	}
	queues := m.server.Queues()
	for name, l := range m.cfg.Listen {
		sum := meter.Listener{Expires: m.ends[name]}
		for _, a := range l.Addresses {
			n := c.Listeners[unit.FDName(a)]
			sum.Accepted += n.Accepted
			sum.Busy += n.Busy
			sum.Idle += n.Open - n.Busy
			sum.Queue += queues[unit.FDName(a)]
		}
		out.Listeners[name] = sum
	}
	for e, n := range t.Transactions {
		out.Transactions[strings.ReplaceAll(e.String(), " ", "_")] = n
	}
	health := m.known()
	for name, r := range t.Resources {
		h := health[name]
		out.Resources[name] = meter.Resource{
			InUse: r.InUse, Limit: r.Limit, Waiting: r.Waiting, Exhausted: r.Exhausted, InDoubt: r.InDoubt, Untold: r.Untold,
			State: h.State, Since: h.Since, Latency: h.Latency, Warnings: len(h.Warnings),
		}
	}
	return out
}

// known is how each resource fares: as it was found, or as an operator has it.
func (m meters) known() map[string]control.Resource {
	known := m.health.known()
	for name, p := range m.paused.known() {
		r := known[name]
		known[name] = control.Resource{Name: r.Name, Type: r.Type, State: stateOf(p), Since: p.Since, Warnings: r.Warnings}
	}
	return known
}

// resources is what is known of each resource, by name.
func (m meters) resources() []control.Resource {
	stats, known := m.manager.Stats().Resources, m.known()
	var out []control.Resource
	for _, name := range slices.Sorted(maps.Keys(known)) {
		r, s := known[name], stats[name]
		r.InUse, r.Limit, r.Waiting, r.InDoubt, r.Untold = s.InUse, s.Limit, s.Waiting, s.InDoubt, s.Untold
		out = append(out, r)
	}
	return out
}

// cpu is how many seconds of processor time this process has used.
func cpu() float64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // getrusage(2) fails on bad arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
