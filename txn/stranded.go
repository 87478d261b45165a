package txn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// identifyWithin bounds how long Stranded waits for a resource to say which
// store it is.
const identifyWithin = 5 * time.Second

// Stranded tells whether transactions are open with branches that this
// manager's resources do not hold: on a resource that is not configured, or
// whose name has come to mean another store. The error names them, by resource.
// A resource that cannot be reached is given the benefit of the doubt.
func (m *Manager) Stranded(ctx context.Context) (strays error) {
	all, err := m.list(ctx)
	if err != nil {
		return err
	}
	if m.host != nil {
		defer func(ctx context.Context) { strays = errors.Join(strays, m.host.Stranded(ctx)) }(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, identifyWithin)
	defer cancel()
	known := map[string]string{} // identity by resource
	missing := map[string][]string{}
	for i, t := range all {
		if t.Phase.Terminal() {
			continue
		}
		for _, b := range t.Branches {
			if why := m.strange(ctx, known, b); why != "" {
				missing[why] = append(missing[why], all[i].Name())
			}
		}
	}
	var errs []error
	keepers, err := m.ledger.Deciders()
	for at := range keepers {
		if why := m.strange(ctx, known, at); why != "" {
			errs = append(errs, fmt.Errorf("%s, and keeps decisions of workers that run, or are yet to be recovered: take transaction.decider out first, and the resource when those have gone", why))
		}
	}
	errs = append(errs, err)
	for _, why := range slices.Sorted(maps.Keys(missing)) {
		errs = append(errs, fmt.Errorf("%s, and transactions wait there: %s; see fdtctl txn list, settle them first", why, some(missing[why])))
	}
	return errors.Join(errs...)
}

// strange tells why a branch cannot be reached by its resource; empty if it
// can, or if nobody knows.
func (m *Manager) strange(ctx context.Context, known map[string]string, b BranchID) string {
	if _, lost, err := m.ledger.Succeeded(b, ""); lost && err == nil {
		return ""
	}
	r := m.resources[b.Resource]
	if r == nil {
		return fmt.Sprintf("resource %q is not configured", b.Resource)
	}
	is, asked := known[b.Resource]
	if !asked {
		is, _ = r.Identity(ctx) // down: not another
		known[b.Resource] = is
	}
	if held, err := m.holds(r, is, b); is != "" && (!held || err != nil) {
		return fmt.Sprintf("resource %q is %s now, it was %s", b.Resource, is, b.Identity)
	}
	return ""
}

// some shows the first of many names, quoted.
func some(names []string) string {
	const most = 3
	var shown []string
	for _, n := range names[:min(most, len(names))] {
		shown = append(shown, fmt.Sprintf("%q", n))
	}
	text := strings.Join(shown, ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
