package main

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
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
	began   time.Time
}

// read is all that this worker counted.
func (m meters) read() meter.Worker {
	c, t, w := m.server.Counts(), m.manager.Stats(), m.wire.Stats()
	out := meter.Worker{
		Generation: m.place.gen, Slot: m.place.slot, Started: m.began, Memory: resident(), CPU: cpu(),
		Threads: c.Threads, Reserve: c.Reserve, Drained: c.Drained, Cut: c.Cut, Fatal: w.Fatal, Calls: w.Calls,
		Transactions: map[string]uint64{}, Open: t.Active, Decisions: t.Decisions, Pending: t.Leftover, Hazards: t.Hazards, Forces: t.Forces,
		InDoubt: t.InDoubt, Oldest: t.Oldest, Scanned: t.Scanned,
		Listeners: map[string]meter.Listener{}, Resources: map[string]meter.Resource{},
	}
	queues := m.server.Queues()
	for name, l := range m.cfg.Listen {
		var sum meter.Listener
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
	for name, r := range t.Resources {
		out.Resources[name] = meter.Resource{InUse: r.InUse, Limit: r.Limit, Exhausted: r.Exhausted}
	}
	return out
}

// cpu is how many seconds of processor time this process has used.
func cpu() float64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // getrusage(2) fails on bad arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
