package exporter

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
)

// called is a worker in a life that has counted so many calls.
func called(generation, slot int, life time.Duration, n uint64) meter.Worker {
	return meter.Worker{Generation: generation, Slot: slot, Started: noon.Add(life), Calls: map[string]meter.Calls{"p": {Classes: map[string]uint64{"00": n}}}}
}

// TestTotals has workers come and go in all ways: the sum has every call that was ever told, and never falls, also over the exporter's own
// end.
func TestTotals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totals.json")
	k := new(keeper)
	now, was := noon, uint64(0)
	look := func(what string, f facts, want uint64) {
		t.Helper()
		sum, since, err := k.total(file, f, now)
		if got := sum.Calls["p"].Classes["00"]; err != nil || got != want || got < was || !since.Equal(noon.Add(-time.Hour)) {
			t.Errorf("%s: %d calls since %s, want %d: %v", what, got, since, want, err)
		}
		was = want
		now = now.Add(15 * time.Second)
	}
	first, second := called(1, 1, -time.Hour, 10), called(1, 2, -time.Minute, 5)
	look("two workers", facts{live: []meter.Worker{first, second}}, 15)
	look("one does not answer", facts{live: []meter.Worker{first}, silent: []place{{Generation: 1, Slot: 2}}}, 15)
	look("older counts of a scrape that took longer", facts{live: []meter.Worker{called(1, 1, -time.Hour, 9), second}}, 15)
	look("one has left more", facts{live: []meter.Worker{first}, left: []meter.Worker{called(1, 2, -time.Minute, 7)}}, 17)
	look("one was killed, and lives again in its place", facts{live: []meter.Worker{called(1, 1, time.Minute, 3)}, left: []meter.Worker{called(1, 2, -time.Minute, 7)}}, 20)
	k = new(keeper)
	look("another exporter", facts{live: []meter.Worker{called(1, 1, time.Minute, 4)}}, 21)
	now = now.Add(forgotten)
	look("long after", facts{silent: []place{{Generation: 1, Slot: 1}}}, 21)
	if len(k.state.Workers) != 2 { // either life of that place may be the one that does not answer
		t.Errorf("%d workers are kept apart", len(k.state.Workers))
	}
	now = now.Add(forgotten)
	look("all have gone", facts{}, 21)
	if len(k.state.Workers) != 0 {
		t.Errorf("%d workers are kept apart", len(k.state.Workers))
	}
	var crowd facts
	for slot := range mostKept + 10 {
		crowd.live = append(crowd.live, called(2, slot, 0, 1))
	}
	look("more than anybody has", crowd, 21+mostKept+10)
	if len(k.state.Workers) != mostKept {
		t.Errorf("%d workers are kept apart", len(k.state.Workers))
	}
}

// TestTotalsAmiss: what the file cannot hold is said, and the sums are right all the same.
func TestTotalsAmiss(t *testing.T) {
	dir := t.TempDir()
	f := facts{live: []meter.Worker{called(1, 1, 0, 3)}}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{broken: "totals: unexpected end of JSON input", filepath.Join(dir, "none", "x"): "no such file or directory", dir: "is a directory"} {
		k := new(keeper)
		sum, _, err := k.total(file, f, noon)
		if err == nil || !strings.Contains(err.Error(), says) || sum.Calls["p"].Classes["00"] != 3 {
			t.Errorf("%s: %v, %+v", file, err, sum.Calls)
		}
	}
	if _, _, err := new(keeper).total(broken, f, noon); err != nil {
		t.Errorf("it was written anew: %v", err)
	}
}

// TestNames: who makes up names does not fill the memory.
func TestNames(t *testing.T) {
	many := map[string]uint64{}
	for i := range mostNames + 10 {
		many[strconv.Itoa(i)] = 1
	}
	if all := merged(map[string]uint64{"0": 1}, many, sums.counts); len(all) != mostNames || all["0"] != 2 {
		t.Error(len(all), all["0"])
	}
}

// TestDurations adds distributions of workers of two versions.
func TestDurations(t *testing.T) {
	a := meter.Distribution{Bounds: []float64{1, 4}, Counts: []uint64{1, 2, 3}, Sum: 5}
	b := meter.Distribution{Bounds: []float64{1, 2, 8}, Counts: []uint64{1, 1, 1, 1, 7}, Sum: 2}
	if got, want := sums.durations(a, b), (meter.Distribution{Bounds: []float64{1, 2, 4, 8}, Counts: []uint64{2, 1, 2, 1, 11}, Sum: 7}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := sums.durations(meter.Distribution{}, a); !reflect.DeepEqual(got, a) {
		t.Errorf("%+v", got)
	}
	if got, want := larger.durations(a, meter.Distribution{Bounds: a.Bounds, Counts: []uint64{2, 1, 3}, Sum: 4}), (meter.Distribution{Bounds: a.Bounds, Counts: []uint64{2, 2, 3}, Sum: 5}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	many := meter.Distribution{}
	for i := range mostBounds {
		many.Bounds, many.Counts = append(many.Bounds, float64(i)+0.5), append(many.Counts, 1)
	}
	if got, want := sums.durations(a, many), (meter.Distribution{Bounds: a.Bounds, Counts: []uint64{2, 5, 3 + mostBounds - 4}, Sum: 5}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
