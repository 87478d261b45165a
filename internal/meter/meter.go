// Package meter counts what happens on paths that must not wait: adding is atomic and takes no lock. What it
// returns when read is not of one moment: a sum may lag behind its counts by what is being added.
package meter

import (
	"sync"
	"sync/atomic"
	"time"
)

// Latencies are the bounds for what a client waits for: from an embedded resource's fraction of a millisecond to the
// limits of a transaction.
var Latencies = []time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

// Histogram counts durations by [Latencies]. The zero value is ready for use.
type Histogram struct {
	counts [13]atomic.Uint64 // one more than Latencies, for what is above them all
	sum    atomic.Int64      // nanoseconds
}

// Observe adds one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Latencies) && d > Latencies[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Read returns what was counted.
func (h *Histogram) Read() Distribution {
	d := Distribution{Sum: time.Duration(h.sum.Load()).Seconds(), Counts: make([]uint64, len(h.counts))}
	for i := range h.counts {
		d.Counts[i] = h.counts[i].Load()
	}
	for _, b := range Latencies {
		d.Bounds = append(d.Bounds, b.Seconds())
	}
	return d
}

// Distribution is a histogram as it was read. It brings its bounds along: who reads it may be of another version.
type Distribution struct {
	Bounds []float64 `json:"bounds"` // inclusive upper bounds in seconds, ascending
	Counts []uint64  `json:"counts"` // of each bound alone, and one more for what is above them all
	Sum    float64   `json:"sum"`    // seconds
}

// Cumulative returns how many durations there are, and how many up to each bound.
func (d Distribution) Cumulative() (count uint64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(d.Bounds))
	for i, n := range d.Counts {
		count += n
		if i < len(d.Bounds) {
			upTo[d.Bounds[i]] = count
		}
	}
	return count, upTo
}

// Counts counts by key; there must be few keys, as none is ever dropped. The zero value is ready for use.
type Counts struct{ byKey sync.Map }

// Add adds one to a key.
func (c *Counts) Add(key string) {
	n, ok := c.byKey.Load(key)
	if !ok {
		n, _ = c.byKey.LoadOrStore(key, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1) //nolint:errcheck // nothing else is ever stored
}

// Read returns what was counted.
func (c *Counts) Read() map[string]uint64 {
	all := map[string]uint64{}
	c.byKey.Range(func(key, n any) bool {
		all[key.(string)] = n.(*atomic.Uint64).Load() //nolint:errcheck // nothing else is ever stored
		return true
	})
	return all
}
