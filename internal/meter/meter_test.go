package meter

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestHistogram: each bound counts what is equal to it, and nothing is lost however many add at once.
func TestHistogram(t *testing.T) {
	var h Histogram
	var all sync.WaitGroup
	want := 0.0
	for i, b := range Latencies {
		if i > 0 && b <= Latencies[i-1] {
			t.Errorf("%s does not ascend", b)
		}
		want += 2*b.Seconds() + 1e-9
		all.Go(func() { h.Observe(b) })
		all.Go(func() { h.Observe(b + 1) })
	}
	all.Wait()
	d := h.Read()
	if len(bounds) != len(h.counts)-1 || len(bounds) != len(nanoseconds) || d.Sum < want-1e-6 || d.Sum > want+1e-6 {
		t.Fatalf("%d bounds, %d counts; %+v, want a sum of %v", len(bounds), len(h.counts), d, want)
	}
	if !slices.IsSorted(d.Bounds) || len(d.Counts) != len(d.Bounds)+1 {
		t.Errorf("%+v", d)
	}
	count, upTo := d.Cumulative()
	if count != uint64(2*len(Latencies)) || upTo[0.0005] != 1 || upTo[0.001] != 3 || upTo[10] != count-1 || len(upTo) != len(Latencies) {
		t.Errorf("%d, %v", count, upTo)
	}
	if n, upTo := (Distribution{}).Cumulative(); n != 0 || len(upTo) != len(Latencies) {
		t.Error(n, upTo)
	}
}

// TestNative: each duration is in the bucket in which Prometheus has it, and all are in one.
func TestNative(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1 map[]", 61 * time.Microsecond: "1 map[]", 62 * time.Microsecond: "0 map[-111:1]", time.Second: "0 map[0:1]", time.Second + 1: "0 map[1:1]",
		time.Second - 1: "0 map[0:1]", 2 * time.Second: "0 map[8:1]", 3 * time.Second: "0 map[13:1]", 500 * time.Microsecond: "0 map[-87:1]",
		490 * time.Microsecond: "0 map[-87:1]", 1024 * time.Second: "0 map[80:1]", 1025 * time.Second: "0 map[81:1]", 24 * time.Hour: "0 map[81:1]",
	} {
		var h Histogram
		h.Observe(d)
		zero, buckets := h.Read().Native()
		if got := fmt.Sprint(zero, buckets); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	for i, b := range bounds { // a duration of a bound is within it
		var h Histogram
		h.Observe(nanoseconds[i])
		if _, all := h.Read().Native(); len(all) != 1 && b > Zero {
			t.Errorf("%v: %v", b, all)
		}
		for at := range all(h.Read().Native()) {
			if upper := math.Exp2(float64(at) / 8); b > upper*(1+1e-9) || b < upper/math.Exp2(1./8) {
				t.Errorf("%v is in bucket %d, up to %v", b, at, upper)
			}
		}
	}
}

func all(_ uint64, buckets map[int]uint64) map[int]uint64 { return buckets }

func TestCounts(t *testing.T) {
	var c Counts
	if got := c.Read(); len(got) != 0 {
		t.Error(got)
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { c.Add("00"); c.Add("23") })
	}
	all.Wait()
	c.Add("23")
	if got := c.Read(); !maps.Equal(got, map[string]uint64{"00": 100, "23": 101}) {
		t.Error(got)
	}
}

// BenchmarkObserve is what a call pays.
func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(3 * time.Millisecond)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var c Counts
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Add("00")
		}
	})
}
