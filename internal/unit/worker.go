package unit

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

// stopMargin is what a worker has beyond its longest drain before systemd kills it.
const stopMargin = 30 * time.Second

// mostMemory is the largest limit that can be doubled.
const mostMemory = math.MaxInt64 / 2

// Listening is one address together with the listener that it belongs to.
type Listening struct {
	Listener config.Listener
	Address  config.Address
}

// Listeners returns every address of the configurations once, sorted by their canonical names. Where several
// have an address, the first one's listener rules.
func Listeners(configs ...*config.Config) []Listening {
	found := make(map[string]Listening)
	for _, c := range configs {
		for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
			l := c.Listen[name]
			for _, a := range l.Addresses {
				if _, taken := found[a.Canonical()]; !taken {
					found[a.Canonical()] = Listening{Listener: l, Address: a}
				}
			}
		}
	}
	sorted := make([]Listening, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		sorted = append(sorted, found[name])
	}
	return sorted
}

// Needs is what the resources of configurations need beyond a sandbox without any.
type Needs struct {
	Writable []string // directories, sorted
	Network  bool
}

// NeedsOf returns what all of the configurations need together.
func NeedsOf(configs ...*config.Config) Needs {
	var needs Needs
	writable := make(map[string]bool)
	for _, c := range configs {
		needs.Network = needs.Network || c.Trace.Endpoint != ""
		for _, r := range c.Resources {
			needs.Network = needs.Network || r.DialsTCP()
		}
		for _, n := range c.Named() {
			if n.Directory {
				writable[n.Name] = true
			}
		}
	}
	needs.Writable = slices.Sorted(maps.Keys(writable))
	return needs
}

// RenderWorker is the drop-in of fdt-worker@.service for all configurations that are live at once: the sockets of
// those that serve, and of all, the leaving ones too, the longest drain and what their resources need beyond the
// template's sandbox. A socket of the leaving ones alone is not named: Sockets= implies Wants=, so the next worker
// to start would open it again.
//
// TimeoutStopSec= covers the longest drain because a daemon-reload starts a draining unit's timer anew. The limits of
// memory leave room above workers.recycle.memory, at which the master replaces a worker in order; without that limit
// there are none here.
func RenderWorker(svc service.Service, serving, leaving []*config.Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	var stop time.Duration
	var memory int64
	unlimited := false
	for _, c := range slices.Concat(serving, leaving) {
		stop = max(stop, c.Drain.Timeout, c.Drain.Shutdown)
		memory = max(memory, c.Workers.Recycle.Memory)
		unlimited = unlimited || c.Workers.Recycle.Memory == 0 || c.Workers.Recycle.Memory > mostMemory
	}
	needs := NeedsOf(slices.Concat(serving, leaving)...)
	b.WriteString(header)
	line("[Service]")
	for _, l := range Listeners(serving...) {
		line("Sockets=%s", SocketName(svc, l.Address))
	}
	line("TimeoutStopSec=%d", int64((stop+stopMargin+time.Second-1)/time.Second))
	if unlimited {
		line("MemoryHigh=infinity\nMemoryMax=infinity")
	} else if memory > 0 {
		line("MemoryHigh=%d\nMemoryMax=%d", memory/2*3, memory*2)
	}
	for _, dir := range needs.Writable {
		line("ReadWritePaths=%s", quoted("-"+dir)) // absent: the worker says so better than systemd
	}
	if needs.Network {
		line("PrivateNetwork=no")
		line("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX")
		line("IPAddressDeny=")
	}
	return b.String()
}
