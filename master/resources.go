package master

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/control"
)

// gravity orders the states of a resource: of what several workers have found the worst is told.
var gravity = []string{
	control.ResourceReachable, control.ResourceUnknown, control.ResourceUnfit, control.ResourceUnreachable, control.ResourcePaused, control.ResourcePausing,
}

// opinions are what the workers of a generation say of one resource.
type opinions []control.Resource

// together is what they say of it as one. How long a state has lasted is as the first has seen it, and how fast the resource
// answers as the slowest.
func (all opinions) together() control.Resource {
	worst := slices.MaxFunc(all, func(a, b control.Resource) int {
		return slices.Index(gravity, a.State) - slices.Index(gravity, b.State)
	})
	out, alike := worst, 0
	out.Latency, out.InUse, out.Limit, out.Waiting, out.InDoubt, out.Untold, out.Warnings = 0, 0, 0, 0, 0, 0, nil
	for _, r := range all {
		if r.State == out.State {
			alike++
			out.Since = earlier(out.Since, r.Since)
		}
		out.Latency, out.InDoubt = max(out.Latency, r.Latency), max(out.InDoubt, r.InDoubt)
		out.InUse += r.InUse
		out.Limit += r.Limit
		out.Waiting += r.Waiting
		out.Untold += r.Untold
		out.Warnings = append(out.Warnings, r.Warnings...)
	}
	slices.Sort(out.Warnings)
	out.Warnings = slices.Compact(out.Warnings)
	if alike < len(all) && out.Fault != "" {
		out.Fault = fmt.Sprintf("for %d of %d workers: %s", alike, len(all), out.Fault)
	}
	return out
}

// resourcesOf are the resources of a generation, by name, as its workers tell. What older ones still use of them counts, too.
func resourcesOf(generations []Generation, gen int) []control.Resource {
	of, older := map[string]opinions{}, map[string]control.Resource{}
	for _, g := range generations {
		for _, w := range g.Workers {
			if w.Live == nil {
				continue
			}
			for _, r := range w.Live.Resources {
				if g.Generation == gen {
					of[r.Name] = append(of[r.Name], r)
					continue
				}
				o := older[r.Name]
				o.InUse += r.InUse
				o.Waiting += r.Waiting
				o.Untold += r.Untold
				older[r.Name] = o
			}
		}
	}
	var out []control.Resource
	for _, name := range slices.Sorted(maps.Keys(of)) {
		r := of[name].together()
		r.InUse += older[name].InUse
		r.Waiting += older[name].Waiting
		r.Untold += older[name].Untold
		out = append(out, r)
	}
	return out
}

// unserviceable tells which resources transactions cannot use, by state, for the headline.
func unserviceable(all []control.Resource) (parts []string) {
	for _, state := range []string{control.ResourcePausing, control.ResourcePaused, control.ResourceUnreachable, control.ResourceUnfit} {
		var names []string
		for _, r := range all {
			if r.State == state {
				names = append(names, r.Name)
			}
		}
		switch {
		case len(names) == 1:
			parts = append(parts, fmt.Sprintf("resource %s %s", names[0], state))
		case len(names) > 1:
			parts = append(parts, fmt.Sprintf("resources %s %s", strings.Join(names, ", "), state))
		}
	}
	return parts
}
