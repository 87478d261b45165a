package unit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
)

// stopMargin is what a worker has beyond its longest drain before systemd kills it.
const stopMargin = 30 * time.Second

// Listening is one address together with the listener that it belongs to.
type Listening struct {
	Listener config.Listener
	Address  config.Address
}

// Listeners returns every address of the configurations once, sorted by the names of the units. Where several
// have an address, the first one's listener rules.
func Listeners(configs ...*config.Config) []Listening {
	found := make(map[string]Listening)
	for _, c := range configs {
		for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
			l := c.Listen[name]
			for _, a := range l.Addresses {
				if _, taken := found[SocketName(a)]; !taken {
					found[SocketName(a)] = Listening{Listener: l, Address: a}
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

// RenderWorker is the drop-in of fdt-worker@.service for all configurations that are live at once: the sockets of
// those that serve, and of all, the leaving ones too, the longest drain and what their resources need beyond the
// template's sandbox. A socket of the leaving ones alone is not named: Sockets= implies Wants=, so the next worker
// to start would open it again.
//
// TimeoutStopSec= covers the longest drain because a daemon-reload starts a draining unit's timer anew.
func RenderWorker(serving, leaving []*config.Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	var stop time.Duration
	tcp := false
	spools := make(map[string]bool)
	for _, c := range slices.Concat(serving, leaving) {
		stop = max(stop, c.Drain.Timeout, c.Drain.Shutdown)
		for _, r := range c.Resources {
			tcp = tcp || r.DialsTCP()
			if r.Type == config.TypeSpool {
				spools[r.Directory] = true
			}
		}
	}
	b.WriteString(header)
	line("[Service]")
	for _, l := range Listeners(serving...) {
		line("Sockets=%s", SocketName(l.Address))
	}
	line("TimeoutStopSec=%d", int64((stop+stopMargin+time.Second-1)/time.Second))
	for _, dir := range slices.Sorted(maps.Keys(spools)) {
		line("ReadWritePaths=%s", quoted("-"+dir)) // absent: the worker says so better than systemd
	}
	if tcp {
		line("PrivateNetwork=no")
		line("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX")
		line("IPAddressDeny=")
	}
	return b.String()
}
