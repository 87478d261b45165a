package master

import (
	"reflect"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/control"
)

// TestResources has workers of two generations say what they know of resources: the newest generation's word counts, the worst of it,
// and what all use.
func TestResources(t *testing.T) {
	worker := func(resources ...control.Resource) Worker { return Worker{Live: &control.Status{Resources: resources}} }
	bank := func(state string, age time.Duration, use int, fault string, warnings ...string) control.Resource {
		return control.Resource{Name: "bank", Type: "postgres", State: state, Since: noon.Add(-age), Latency: age.Seconds(), Fault: fault,
			Warnings: warnings, InUse: use, Limit: 16, Waiting: 1, InDoubt: use, Untold: 1}
	}
	s := Status{Generation: 2, Generations: []Generation{
		{Generation: 2, Workers: []Worker{
			worker(bank("reachable", time.Hour, 3, "", "b", "a")),
			worker(bank("unreachable", time.Minute, 1, "gone"), control.Resource{Name: "outbox", State: "unfit", Fault: "full"}),
			worker(bank("unreachable", 2*time.Minute, 0, "gone", "b")),
			{},
		}},
		{Generation: 1, Workers: []Worker{worker(bank("reachable", 5*time.Hour, 4, ""), control.Resource{Name: "left", State: "reachable"})}},
	}}
	s.count(counts{})
	want := []control.Resource{
		{Name: "bank", Type: "postgres", State: "unreachable", Since: noon.Add(-2 * time.Minute), Latency: 3600, Fault: "for 2 of 3 workers: gone",
			Warnings: []string{"a", "b"}, InUse: 8, Limit: 48, Waiting: 4, InDoubt: 3, Untold: 4},
		{Name: "outbox", State: "unfit", Fault: "full"},
	}
	if !reflect.DeepEqual(s.Resources, want) {
		t.Errorf("got  %+v\nwant %+v", s.Resources, want)
	}
}

// TestUnserviceable holds what the headline says of resources.
func TestUnserviceable(t *testing.T) {
	of := func(state string, names ...string) (all []control.Resource) {
		for _, name := range names {
			all = append(all, control.Resource{Name: name, State: state})
		}
		return all
	}
	for want, all := range map[string][]control.Resource{
		"no workers":                         of("reachable", "a", "b"),
		"no workers; resource a unreachable": append(of("unreachable", "a"), of("unknown", "b")...),
		"no workers; resources a, b unreachable; resource c unfit": append(of("unfit", "c"), of("unreachable", "a", "b")...),
	} {
		if got := (Status{Resources: all}).Line(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestQueues has workers tell of the queues that all of them share, and since when they drain.
func TestQueues(t *testing.T) {
	s := Status{
		Listeners:   []Listener{{Unit: "fdt-listen@tcp4-127.0.0.1-7432.socket"}, {Unit: "fdt-listen@tcp6-::1-7432.socket"}},
		Generations: []Generation{{Generation: 1, State: "draining", Workers: []Worker{{Unit: "a"}, {Unit: "b"}, {Unit: "c"}}}},
	}
	s.count(counts{
		"a": {Status: control.Status{Queues: map[string]int{"tcp4-127.0.0.1-7432": 3}, Draining: noon, Deadline: noon.Add(time.Minute)}},
		"b": {Status: control.Status{Queues: map[string]int{"tcp4-127.0.0.1-7432": 4, "tcp6-__1-7432": 1}, Draining: noon.Add(-time.Second), Oldest: noon.Add(-time.Hour)}},
		"c": {Status: control.Status{Draining: noon, Deadline: noon.Add(time.Second), Oldest: noon.Add(-time.Minute)}},
	})
	if s.Listeners[0].Queue != 4 || s.Listeners[1].Queue != 1 {
		t.Errorf("%+v", s.Listeners)
	}
	if g := s.Generations[0]; !g.Since.Equal(noon.Add(-time.Second)) || !g.Deadline.Equal(noon.Add(time.Minute)) || !g.Oldest.Equal(noon.Add(-time.Hour)) {
		t.Errorf("%+v", g)
	}
}
