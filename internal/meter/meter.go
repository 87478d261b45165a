// Package meter counts what happens on paths that must not wait: adding is atomic and takes no lock. What it
// returns when read is not of one moment: a sum may lag behind its counts by what is being added.
package meter

import (
	"math"
	"slices"
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

// Of the buckets of a native histogram of Prometheus: Schema says that there are eight between two powers of two, and so each reaches
// nine percent further than the one before. Those from Zero to Longest seconds are counted.
const (
	Schema  = 3
	Zero    = 1.0 / (1 << 14) // 61 µs
	Longest = 1 << 10         // 17 min
)

// steps is how many buckets there are between two powers of two.
const steps = 1 << Schema

// bounds are those of Latencies and of the native buckets, ascending, in seconds and in whole nanoseconds: so both kinds of a histogram
// are exact.
var bounds, nanoseconds = func() (bounds []float64, ns []time.Duration) {
	for i := range 24*steps + 1 {
		bounds = append(bounds, math.Ldexp(math.Exp2(float64(i%steps)/steps), i/steps-14))
	}
	for _, l := range Latencies {
		bounds = append(bounds, l.Seconds())
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds) // both have 250 ms and a second
	for _, b := range bounds {
		ns = append(ns, time.Duration(math.Floor(b*1e9+1e-6))) // of Latencies they are whole, but for the last bit of the seconds
	}
	return bounds, ns
}()

// Histogram counts durations by [Latencies] and by the buckets of a native histogram. The zero value is ready for use.
type Histogram struct {
	counts [buckets]atomic.Uint64 // one more than bounds, for what is above them all
	sum    atomic.Int64           // nanoseconds
}

// buckets is one more than there are bounds.
const buckets = 24*steps + 1 + 12 - 2 + 1

// Observe adds one duration.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(nanoseconds, d)
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Read returns what was counted. Of the bounds of native buckets it has those of which there is something, as most have nothing.
func (h *Histogram) Read() Distribution {
	d := Distribution{Sum: time.Duration(h.sum.Load()).Seconds()}
	latencies := Latencies
	for i, b := range bounds {
		n := h.counts[i].Load()
		known := len(latencies) > 0 && latencies[0] == nanoseconds[i]
		if known {
			latencies = latencies[1:]
		}
		if known || n > 0 {
			d.Bounds, d.Counts = append(d.Bounds, b), append(d.Counts, n)
		}
	}
	d.Counts = append(d.Counts, h.counts[len(bounds)].Load())
	return d
}

// Distribution is a histogram as it was read. It brings its bounds along: who reads it may be of another version.
type Distribution struct {
	Bounds []float64 `json:"bounds"` // inclusive upper bounds in seconds, ascending
	Counts []uint64  `json:"counts"` // of each bound alone, and one more for what is above them all
	Sum    float64   `json:"sum"`    // seconds
}

// Cumulative returns how many durations there are, and how many up to each of Latencies.
func (d Distribution) Cumulative() (count uint64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(Latencies))
	at := 0
	for _, l := range Latencies {
		for ; at < len(d.Bounds) && at < len(d.Counts) && d.Bounds[at] <= l.Seconds(); at++ {
			count += d.Counts[at]
		}
		upTo[l.Seconds()] = count
	}
	for ; at < len(d.Counts); at++ {
		count += d.Counts[at]
	}
	return count, upTo
}

// Native returns how many durations there are up to Zero, and in each further bucket of Schema, by its number: bucket n is up to
// 2^(n/8) seconds. What took longer than Longest is in the bucket behind that.
func (d Distribution) Native() (zero uint64, buckets map[int]uint64) {
	buckets = map[int]uint64{}
	for i, n := range d.Counts {
		bound := math.Inf(1)
		if i < len(d.Bounds) {
			bound = d.Bounds[i]
		}
		switch {
		case n == 0:
		case bound <= Zero:
			zero += n
		default:
			exact := math.Log2(min(bound, 2*Longest)) * steps
			at := int(math.Ceil(exact - 1e-6)) // a bound of a bucket is in it
			buckets[min(at, 10*steps+1)] += n
		}
	}
	return zero, buckets
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
