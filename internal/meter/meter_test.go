package meter

import (
	"maps"
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
	if len(d.Counts) != len(Latencies)+1 || len(d.Bounds) != len(Latencies) || d.Sum < want-1e-6 || d.Sum > want+1e-6 {
		t.Fatalf("%+v, want a sum of %v", d, want)
	}
	for i, n := range d.Counts {
		if expect := map[bool]uint64{true: 1, false: 2}[i == 0 || i == len(Latencies)]; n != expect {
			t.Errorf("bucket %d has %d", i, n)
		}
	}
	count, upTo := d.Cumulative()
	if count != uint64(2*len(Latencies)) || upTo[0.0005] != 1 || upTo[0.001] != 3 || upTo[10] != count-1 || len(upTo) != len(Latencies) {
		t.Errorf("%d, %v", count, upTo)
	}
}

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
