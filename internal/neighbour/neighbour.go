// Package neighbour finds what two services of one host want at once, and says whose it is. It reads files, and asks nobody.
package neighbour

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// Wanted is a place of a configuration that another service of the host wants as well.
type Wanted struct {
	Path    string         // in the configuration: listen.local.address
	Address config.Address // the zero value for a directory
	What    string         // the fault, which names both services
	Hint    string         // what to do
}

// Error is the fault in one line.
func (w Wanted) Error() string { return w.Path + ": " + w.What + ": " + w.Hint }

// place is an address of a configuration, or the directory of a spool, whose messages one log of transactions knows of.
type place struct {
	path      string
	address   config.Address
	directory string
}

func (p place) String() string { return p.address.String() + p.directory }

// meets reports whether two services cannot both have their places.
func (p place) meets(q place) bool {
	if p.directory == "" || q.directory == "" {
		return p.directory == q.directory && p.address.Covers(q.address)
	}
	mine, theirs := strings.TrimSuffix(p.directory, "/")+"/", strings.TrimSuffix(q.directory, "/")+"/"
	return strings.HasPrefix(mine, theirs) || strings.HasPrefix(theirs, mine)
}

// hint is what to do.
func (p place) hint() string {
	if p.directory != "" {
		return "give one of them another directory"
	}
	return "give one of them another address"
}

func places(c *config.Config) (all []place) {
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		for _, a := range c.Listen[name].Addresses {
			all = append(all, place{path: "listen." + name + ".address", address: a})
		}
	}
	if a := c.Metrics.Address; a != nil {
		all = append(all, place{path: "metrics.address", address: *a})
	}
	for _, n := range c.Named() {
		if n.Directory {
			all = append(all, place{path: n.Path, directory: n.Name})
		}
	}
	return all
}

// Lost returns what a configuration of a service wants and another one, on the host with a root directory, has: a service that serves has
// what it serves, and what it has no place for any more it closes; what nobody serves is the first one's whose configuration names it, the
// default service before the others and these by name. So nobody takes what another only does not use at the moment. A path in the
// directory of another service is that one's whatever its configuration says.
func Lost(root string, own service.Service, c *config.Config) []Wanted {
	has := placesOf(serving(root, own))
	return compare(root, own, c, func(p place, other service.Service) (theirs []place, hint string) {
		theirs = placesOf(serving(root, other))
		if !slices.ContainsFunc(has, func(h place) bool { return h.String() == p.String() }) && other.Name() < own.Name() {
			theirs = append(theirs, idle(root, other)...)
		}
		return theirs, p.hint()
	})
}

// Won returns what a configuration of a service has by the rule of [Lost] and another one, which does not run, is configured to have too.
func Won(root string, own service.Service, c *config.Config) []Wanted {
	lost := Lost(root, own, c)
	all := compare(root, own, c, func(p place, other service.Service) (theirs []place, hint string) {
		return idle(root, other), other.String() + " does not get it: " + p.hint()
	})
	return slices.DeleteFunc(all, func(w Wanted) bool {
		return slices.ContainsFunc(lost, func(l Wanted) bool { return l.Path == w.Path && l.Address == w.Address })
	})
}

// Refuse is the error of what a configuration of a service cannot have, where it serves nothing yet.
func Refuse(root string, own service.Service, c *config.Config) error {
	var errs []error
	for _, w := range Lost(root, own, c) {
		errs = append(errs, w)
	}
	return errors.Join(errs...)
}

func placesOf(configs []*config.Config) (all []place) {
	for _, c := range configs {
		all = append(all, places(c)...)
	}
	return all
}

// serving are the configurations of what a service has open. One that cannot be read wants nothing: whoever may not read it finds out when
// systemd cannot listen.
func serving(root string, s service.Service) (all []*config.Config) {
	dir := snapshot.Dir(filepath.Join(root, s.Run()))
	state, _ := dir.ReadState() // without one it serves nothing
	for _, gen := range []int{state.Applied, state.Pending} {
		c, err := dir.Load(gen)
		if err != nil { // after an upgrade
			c, err = dir.LoadResolved(gen)
		}
		if err == nil {
			all = append(all, c)
		}
	}
	return all
}

// idle is what a service that does not serve would have at its start. What one that serves would like to have when it is reloaded is its
// own affair.
func idle(root string, s service.Service) []place {
	if len(serving(root, s)) > 0 {
		return nil
	}
	for _, dir := range []string{s.Etc(), s.LastGood()} { // a fault is told where that service is looked at
		if c, err := config.Load(filepath.Join(root, dir)); err == nil {
			return places(c)
		}
	}
	return nil
}

// compare returns each place of a configuration that is another service's, once.
func compare(root string, own service.Service, c *config.Config, has func(p place, other service.Service) (theirs []place, hint string)) (all []Wanted) {
	for _, p := range places(c) {
		for _, other := range service.Known(root) {
			if other == own {
				continue
			}
			theirs, hint := has(p, other)
			theirOwn := p.address.Network == "unix" && strings.HasPrefix(p.address.Address, other.Run()+"/")
			if theirOwn {
				hint = "say address: " + filepath.Join(own.Run(), filepath.Base(p.address.Address))
			}
			if i := slices.IndexFunc(theirs, p.meets); i >= 0 {
				at := p.String()
				if q := theirs[i].String(); q != at {
					at += " and " + q
				}
				all = append(all, Wanted{p.path, p.address, fmt.Sprintf("two services want %s: %s (%s) and %s (%s)", at, own, p.path, other, theirs[i].path), hint})
				break
			}
			if theirOwn {
				all = append(all, Wanted{p.path, p.address, fmt.Sprintf("%s is in the directory of %s, and not of %s", p, other, own), hint})
				break
			}
		}
	}
	return all
}
