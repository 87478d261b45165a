// Package neighbour finds what two services of one host want at once. It reads files, and asks nobody.
package neighbour

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// Wanted is an address of a configuration that another service of the host wants as well.
type Wanted struct {
	Path    string // in the configuration: listen.local.address
	Address config.Address
	What    string // the fault, which names both services
}

// Hint is what to do.
const Hint = "give one of them another address"

// place is an address of a configuration.
type place struct {
	path    string
	address config.Address
}

func places(c *config.Config) (all []place) {
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		for _, a := range c.Listen[name].Addresses {
			all = append(all, place{"listen." + name + ".address", a})
		}
	}
	if a := c.Metrics.Address; a != nil {
		all = append(all, place{"metrics.address", *a})
	}
	return all
}

// Serving returns what a configuration of a service wants and another one, on the host with a root directory, serves or is about to.
// What the other would like to have when it is reloaded is its own affair.
func Serving(root string, own service.Service, c *config.Config) []Wanted {
	return wanted(root, own, c, serving)
}

// All is [Serving], and what another service that does not run is configured to have.
func All(root string, own service.Service, c *config.Config) []Wanted {
	return wanted(root, own, c, func(root string, s service.Service) []*config.Config {
		if all := serving(root, s); all != nil {
			return all
		}
		c, err := config.Load(filepath.Join(root, s.Etc()))
		if err != nil {
			return nil // it is told where that service is looked at
		}
		return []*config.Config{c}
	})
}

// serving are the configurations of what a service has open; what it has no place for any more it closes. One that cannot be read wants
// nothing: whoever may not read it finds out when systemd cannot listen.
func serving(root string, s service.Service) (all []*config.Config) {
	dir := snapshot.Dir(filepath.Join(root, s.Run()))
	state, _ := dir.ReadState() // without one it serves nothing
	for _, gen := range []int{state.Applied, state.Pending} {
		if c, err := dir.Load(gen); err == nil {
			all = append(all, c)
		}
	}
	return all
}

func wanted(root string, own service.Service, c *config.Config, has func(root string, s service.Service) []*config.Config) (all []Wanted) {
	for _, other := range service.Known(root) {
		if other == own {
			continue
		}
		for _, theirs := range has(root, other) {
			for _, p := range places(c) {
				for _, q := range places(theirs) {
					if !p.address.Covers(q.address) || slices.ContainsFunc(all, func(w Wanted) bool { return w.Address == p.address }) {
						continue
					}
					at := p.address.String()
					if q.address != p.address {
						at += " and " + q.address.String()
					}
					all = append(all, Wanted{p.path, p.address, fmt.Sprintf("two services want %s: %s (%s) and %s (%s)", at, own, p.path, other, q.path)})
				}
			}
		}
	}
	return all
}
