package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is what an operator can say about the store behind a resource, where branches wait for one that nobody finds any more: that
// the present one carries it on, or that it is lost.

// holds tells whether resource r, which is now store is, holds branch b.
func (m *Manager) holds(r Resource, is string, b BranchID) (bool, error) {
	if sameStore(r, is, b.Identity) {
		return true, nil
	}
	carried, _, err := m.ledger.Succeeded(b, is)
	return carried, err
}

// givenUp is what becomes of a branch that its resource does not hold, for the reason why: nothing yet, unless its store is lost.
func (m *Manager) givenUp(b BranchID, d Decision, why error) (hazard string, err error) {
	_, lost, err := m.ledger.Succeeded(b, "")
	if err != nil || !lost {
		return "", errors.Join(why, err)
	}
	return fmt.Sprintf("resource %s: an operator gave up the store of the branch, its outcome is unknown (wanted %s)", b.Resource, d), nil
}

// Rebind says that the store which a resource is now carries on those that open transactions have branches on and that cannot be found: a
// database that was moved, or whose container was made anew. What is true of the branches there is found as ever, and an outcome that is
// not the one decided is reported as heuristic. It returns the identities of those stores. An error says that the resource cannot be asked,
// or that nothing waits for another store.
func (m *Manager) Rebind(ctx context.Context, who Principal, resource string) ([]string, error) {
	return m.succeed(ctx, who, resource, true)
}

// GiveUp says that the stores of a resource which open transactions have branches on and that cannot be found are lost for good. Those
// transactions end without them, with a heuristic outcome; should the store come back, its branches keep their locks until they are ended
// by hand. It returns the identities of those stores. A resource that cannot be asked may be that store, so its is not given up.
func (m *Manager) GiveUp(ctx context.Context, who Principal, resource string) ([]string, error) {
	return m.succeed(ctx, who, resource, false)
}

func (m *Manager) succeed(ctx context.Context, who Principal, resource string, carried bool) (stores []string, err error) {
	if !who.Operator {
		return nil, ErrNotOwner
	}
	var is string
	r := m.resources[resource]
	switch {
	case r == nil && carried:
		return nil, m.noResource(resource)
	case r != nil:
		asked, cancel := m.asking(ctx)
		defer cancel()
		if is, err = r.Identity(asked); err != nil {
			return nil, fmt.Errorf("%w: resource %q does not say which store it is: %w", ErrUnreachable, resource, err)
		}
	}
	err = m.ledger.Succeed(ctx, func() (said []ledger.Succession, err error) {
		stores, err = m.missed(ctx, r, resource, is)
		switch {
		case err != nil || len(stores) > 0:
		case r == nil:
			err = m.noResource(resource)
		default:
			err = fmt.Errorf("no open transaction has a branch on another store than resource %q is now", resource)
		}
		if !carried {
			is = ""
		}
		for _, was := range stores {
			said = append(said, ledger.Succession{Resource: resource, Was: was, Is: is, At: time.Now(), User: who.User, By: who.By})
		}
		return said, err
	})
	if m.host != nil && err != nil {
		return m.host.succeed(ctx, who, resource, carried)
	}
	if err != nil {
		return nil, err
	}
	m.log.LogAttrs(ctx, slog.LevelInfo, "an operator decided about a store that is not found", who.attrs(eventStore,
		slog.String("resource", resource), slog.Any("stores", stores), slog.Bool("carried_on", carried))...)
	return stores, nil
}

// noResource names those that there are.
func (m *Manager) noResource(name string) error {
	return fmt.Errorf("%w: %q, only %s", ErrNoResource, name, some(slices.Sorted(maps.Keys(m.resources))))
}

// missed returns the stores on which open transactions have branches of the resource that r, which is now store is, does not hold; r may be
// nil.
func (m *Manager) missed(ctx context.Context, r Resource, resource, is string) (stores []string, err error) {
	all, err := m.list(ctx)
	for _, t := range all {
		for _, b := range t.Branches {
			if t.Phase.Terminal() || b.Resource != resource || slices.Contains(stores, b.Identity) {
				continue
			}
			held := false
			if r != nil {
				var herr error
				held, herr = m.holds(r, is, b)
				err = errors.Join(err, herr)
			}
			if !held {
				stores = append(stores, b.Identity)
			}
		}
	}
	return stores, err
}
