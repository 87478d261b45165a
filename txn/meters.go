package txn

import (
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
)

// meters count what a Manager does.
type meters struct {
	ends      [EndUnknown + 1]atomic.Uint64
	decided   meter.Counts // by decision
	hazards   atomic.Uint64
	forces    meter.Histogram
	exhausted map[string]*atomic.Uint64 // by resource
	scanned   atomic.Int64              // Unix time in nanoseconds, 0: not yet
}

func (c *meters) init(resources []Resource) {
	c.exhausted = make(map[string]*atomic.Uint64, len(resources))
	for _, r := range resources {
		c.exhausted[r.Name()] = new(atomic.Uint64)
	}
}

// ended counts how a transaction ended, if it used a resource and was no rehearsal.
func (c *meters) ended(t *transaction, e Ending) {
	if !t.gid.IsZero() && !t.rehearsal {
		c.ends[e].Add(1)
	}
}

// Stats is what a Manager counted since it was opened, with the numbers of one moment.
type Stats struct {
	Counts
	Transactions map[Ending]uint64  // of its sessions, that used a resource
	Decisions    map[string]uint64  // of its sessions, on prepared transactions, by decision
	Hazards      uint64             // outcomes that nothing proves, or that went against the decision
	Forces       meter.Distribution // how long its records took to be on disk
	Scanned      time.Time          // end of its last recovery; zero: none yet, others may have
	Resources    map[string]ResourceStats
}

// ResourceStats is one resource's part of it.
type ResourceStats struct {
	InUse, Limit int    // connections of branches; Limit is 0 where they have none
	Waiting      int    // branches that wait for one of them, or for the end of a pause
	Exhausted    uint64 // branches that found no free connection in time
	InDoubt      int    // transactions of all workers that wait for a decision with a branch here, as Counts.InDoubt
	Untold       int    // branches of which this process is yet to tell it what was decided
}

// Stats returns the counts; it reads memory only.
func (m *Manager) Stats() Stats {
	s := Stats{
		Counts: m.Counts(), Transactions: map[Ending]uint64{}, Decisions: m.meters.decided.Read(), Hazards: m.meters.hazards.Load(),
		Forces: m.meters.forces.Read(), Resources: make(map[string]ResourceStats, len(m.resources)),
	}
	if ns := m.meters.scanned.Load(); ns != 0 {
		s.Scanned = time.Unix(0, ns)
	}
	for e := EndCommitted; e <= EndUnknown; e++ {
		s.Transactions[e] = m.meters.ends[e].Load()
	}
	for name, r := range m.resources {
		rs := ResourceStats{Exhausted: m.meters.exhausted[name].Load(), InDoubt: m.ledger.InDoubtOn(name), Untold: m.pending.CountOn(name)}
		if p, ok := r.(Pooled); ok {
			rs.InUse, rs.Limit, rs.Waiting = p.Pool()
			rs.Waiting += int(m.gates[name].waiting.Load())
		}
		s.Resources[name] = rs
	}
	return s
}
