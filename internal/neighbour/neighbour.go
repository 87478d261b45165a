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
	return look(root, own).lost(c)
}

// Won returns what a configuration of a service has by the rule of [Lost] and another one, which does not run, is configured to have too.
func Won(root string, own service.Service, c *config.Config) []Wanted {
	h := look(root, own)
	lost := h.lost(c)
	all := h.compare(c, func(_ place, other one) (theirs []place, hint string) {
		return other.idle, other.String() + " does not get it: "
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

// one is a service of the host, and what it has and wants.
type one struct {
	service.Service
	serving []place // it has open
	idle    []place // it would have at its start; none of one that serves: what that would like to have at a reload is its own affair
}

// neighbourhood is a service and the others of its host, as their files are at one time.
type neighbourhood struct {
	own    one
	others []one // in the order of their names, the default service first
}

func look(root string, own service.Service) neighbourhood {
	h := neighbourhood{own: read(root, own)}
	for _, s := range service.Known(root) {
		if s != own {
			h.others = append(h.others, read(root, s))
		}
	}
	return h
}

// read looks at the files of a service. A configuration that cannot be read wants nothing: whoever may not read it finds out when systemd
// cannot listen.
func read(root string, s service.Service) one {
	is := one{Service: s}
	dir := snapshot.Dir(filepath.Join(root, s.Run()))
	state, _ := dir.ReadState() // without one it serves nothing
	serves := false
	for _, gen := range []int{state.Applied, state.Pending} {
		c, err := dir.Load(gen)
		if err != nil { // after an upgrade
			c, err = dir.LoadResolved(gen)
		}
		if err == nil {
			serves, is.serving = true, append(is.serving, places(c)...)
		}
	}
	for _, dir := range []string{s.Etc(), s.LastGood()} { // a fault is told where that service is looked at
		if c, err := config.Load(filepath.Join(root, dir)); err == nil && !serves {
			is.idle = places(c)
			break
		}
	}
	return is
}

// lost is [Lost].
func (h neighbourhood) lost(c *config.Config) []Wanted {
	return h.compare(c, func(p place, other one) (theirs []place, hint string) {
		theirs = other.serving
		if has := func(q place) bool { return q.String() == p.String() }; !slices.ContainsFunc(h.own.serving, has) && other.Name() < h.own.Name() {
			theirs = slices.Concat(theirs, other.idle)
		}
		return theirs, ""
	})
}

// compare returns each place of a configuration that is another service's, once. has tells what of a service counts, and what its hint
// begins with.
func (h neighbourhood) compare(c *config.Config, has func(p place, other one) (theirs []place, hint string)) (all []Wanted) {
	for _, p := range places(c) {
		for _, other := range h.others {
			theirs, hint := has(p, other)
			hint += p.hint()
			theirOwn := p.address.Network == "unix" && strings.HasPrefix(p.address.Address, other.Run()+"/")
			if theirOwn {
				hint = "say address: " + filepath.Join(h.own.Run(), filepath.Base(p.address.Address))
			}
			if i := slices.IndexFunc(theirs, p.meets); i >= 0 {
				at := p.String()
				if q := theirs[i].String(); q != at {
					at += " and " + q
				}
				all = append(all, Wanted{p.path, p.address, fmt.Sprintf("two services want %s: %s (%s) and %s (%s)", at, h.own, p.path, other, theirs[i].path), hint})
				break
			}
			if theirOwn {
				all = append(all, Wanted{p.path, p.address, fmt.Sprintf("%s is in the directory of %s, and not of %s", p, other, h.own), hint})
				break
			}
		}
	}
	return all
}
