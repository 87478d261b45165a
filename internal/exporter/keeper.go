package exporter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
)

const (
	// forgotten is how long after a worker was seen last its counts can not grow any more: what it left is told until then.
	forgotten = meter.Kept + time.Minute
	// mostKept bounds the workers whose counts are told apart, and mostNames the names of one kind that are counted: who writes
	// counts is another user, who talks to the network.
	mostKept, mostNames = 1024, 4096
	// mostBounds are those of one distribution, likewise.
	mostBounds = 512
)

// keeper adds up what workers have counted, those that have ended among them. A sum never falls: it has the last that is known of each
// worker, whether that answers or not.
type keeper struct {
	mu    sync.Mutex // guards what follows
	read  bool       // the file was
	state kept
}

// kept is the content of the file.
type kept struct {
	Since   time.Time       `json:"since"`   // when the sums were zero
	Ended   meter.Worker    `json:"ended"`   // of those that are forgotten
	Workers map[string]seen `json:"workers"` // the others, by [identity]
}

// seen is what is known of a worker.
type seen struct {
	At     time.Time    `json:"at"` // when it was seen
	Counts meter.Worker `json:"counts"`
}

// identity names one life of a worker.
func identity(w meter.Worker) string {
	return fmt.Sprintf("%s%d", placeOf(w.Generation, w.Slot), w.Started.UnixNano())
}

// placeOf begins the identities of all lives in a place.
func placeOf(generation, slot int) string { return fmt.Sprintf("%d-%d@", generation, slot) }

// total is the sum of all counts until now, and since when. It outlives the exporter in a file, unless that has no name. The error is that of the file: the sum is right all the same, until the
// exporter ends.
func (k *keeper) total(file string, f facts, now time.Time) (sum meter.Worker, since time.Time, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.read {
		err = k.load(file)
		k.read = true
	}
	st := &k.state
	if st.Workers == nil {
		st.Since, st.Workers = now, map[string]seen{}
		for _, w := range slices.Concat(f.live, f.left) {
			st.Since = earliest(st.Since, w.Started)
		}
	}
	for _, w := range slices.Concat(f.live, f.left) {
		counts := st.Workers[identity(w)].Counts
		larger.take(&counts, w) // another scrape, or who has left since it answered, may have told more
		st.Workers[identity(w)] = seen{now, counts}
	}
	for _, p := range f.silent {
		for id, s := range st.Workers {
			if strings.HasPrefix(id, placeOf(p.Generation, p.Slot)) {
				st.Workers[id] = seen{now, s.Counts}
			}
		}
	}
	for id, s := range st.Workers {
		if now.Sub(s.At) > forgotten || len(st.Workers) > mostKept {
			sums.take(&st.Ended, s.Counts)
			delete(st.Workers, id)
		}
	}
	sums.take(&sum, st.Ended)
	for _, s := range st.Workers {
		sums.take(&sum, s.Counts)
	}
	return sum, st.Since, errors.Join(err, k.save(file))
}

// earliest prefers a time that is known.
func earliest(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// load reads what an exporter before this one has kept. What cannot be read is begun anew.
func (k *keeper) load(file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var st kept
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil {
		return fmt.Errorf("totals: %w", err)
	}
	k.state = st
	return nil
}

// save keeps the sums for the next exporter. They need not outlive the host's boot, so nothing is forced to disk.
func (k *keeper) save(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(k.state)
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("totals: %w", err)
	}
	return nil
}

// how two counts become one.
type how struct {
	counts  func(a, b uint64) uint64
	seconds func(a, b float64) float64
}

// Of two workers, and of one worker at two moments.
var (
	sums   = how{func(a, b uint64) uint64 { return a + b }, func(a, b float64) float64 { return a + b }}
	larger = how{func(a, b uint64) uint64 { return max(a, b) }, func(a, b float64) float64 { return max(a, b) }}
)

// take takes what one worker has counted, and nothing else of it, into what was counted so far.
func (h how) take(all *meter.Worker, w meter.Worker) {
	all.Drained = h.counts(all.Drained, w.Drained)
	all.Cut = h.counts(all.Cut, w.Cut)
	all.Hazards = h.counts(all.Hazards, w.Hazards)
	all.Forces = h.durations(all.Forces, w.Forces)
	all.Fatal = merged(all.Fatal, w.Fatal, h.counts)
	all.Transactions = merged(all.Transactions, w.Transactions, h.counts)
	all.Decisions = merged(all.Decisions, w.Decisions, h.counts)
	all.Spans = merged(all.Spans, w.Spans, h.counts)
	all.Listeners = merged(all.Listeners, w.Listeners, func(a, b meter.Listener) meter.Listener {
		return meter.Listener{Accepted: h.counts(a.Accepted, b.Accepted)}
	})
	all.Resources = merged(all.Resources, w.Resources, func(a, b meter.Resource) meter.Resource {
		return meter.Resource{Exhausted: h.counts(a.Exhausted, b.Exhausted)}
	})
	all.Calls = merged(all.Calls, w.Calls, func(a, b meter.Calls) meter.Calls {
		return meter.Calls{Classes: merged(a.Classes, b.Classes, h.counts), Duration: h.durations(a.Duration, b.Duration)}
	})
}

// merged has what both count by name. Beyond mostNames no further name is taken.
func merged[T any](all, counts map[string]T, one func(a, b T) T) map[string]T {
	out := make(map[string]T, len(all))
	maps.Copy(out, all)
	for name, n := range counts {
		if is, known := out[name]; known || len(out) < mostNames {
			out[name] = one(is, n)
		}
	}
	return out
}

// durations is one distribution of two, by the bounds of both. Where these get to be more than workers have of themselves, what is up to
// a bound that the first does not know is counted up to the next one that it knows.
func (h how) durations(a, b meter.Distribution) meter.Distribution {
	bounds := slices.Concat(a.Bounds, b.Bounds)
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	if len(bounds) > mostBounds && len(a.Counts) > 0 {
		bounds = a.Bounds
	}
	out := meter.Distribution{Bounds: bounds, Counts: fitted(bounds, a), Sum: h.seconds(a.Sum, b.Sum)}
	for i, n := range fitted(bounds, b) {
		out.Counts[i] = h.counts(out.Counts[i], n)
	}
	return out
}

// fitted are a distribution's counts by the given bounds.
func fitted(bounds []float64, d meter.Distribution) []uint64 {
	counts := make([]uint64, len(bounds)+1)
	for i, n := range d.Counts {
		at := len(bounds)
		if i < len(d.Bounds) {
			at, _ = slices.BinarySearch(bounds, d.Bounds[i])
		}
		counts[at] += n
	}
	return counts
}
