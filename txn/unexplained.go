package txn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Unexplained is a branch that a resource holds though nothing explains it: no
// session that lives is at it, and no log has its transaction open. Recovery
// settles what it may; what is left is told here.
type Unexplained struct {
	GID      GID       `json:"gid"`
	Resource string    `json:"resource"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since"`             // when a scan met it first
	Scans    int       `json:"scans"`             // that have met it, at least; one may be settled as soon as the first has
	Alone    bool      `json:"alone"`             // it is left to an operator
	Foreign  bool      `json:"foreign,omitempty"` // its log is not here: it is another machine's, or lost
	Service  string    `json:"service,omitempty"` // of this machine, which has its log, and how that is settled: see Options.Neighbours
}

// stays tells whether the branch is not just about to be settled.
func (u *Unexplained) stays() bool { return u.Alone || u.Scans > 1 && !u.Foreign }

// mostUnexplained is how many are told: where there are so many, a log is lost,
// and their names help nobody.
const mostUnexplained = 1000

// Unexplained returns the branches that nothing explains and that recovery could
// not settle, as of the last scans; of very many the first.
func (m *Manager) Unexplained() ([]Unexplained, error) {
	all, err := m.readUnexplained()
	all = slices.DeleteFunc(all, func(u Unexplained) bool { return !u.stays() })
	if m.host != nil {
		own, bad := m.host.Unexplained()
		all, err = append(all, own...), errors.Join(err, bad)
	}
	return all, err
}

// unexplainedName is the shared fact that has them.
const unexplainedName = "unexplained"

func (m *Manager) readUnexplained() (all []Unexplained, err error) {
	raw, _, err := m.ledger.Shared(unexplainedName)
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(m.opt.ClaimDir, unexplainedName), err)
	}
	return all, nil
}

// countUnexplained takes over how many there are.
func (m *Manager) countUnexplained() error {
	all, err := m.readUnexplained()
	if err == nil {
		all = slices.DeleteFunc(all, func(u Unexplained) bool { return !u.stays() || u.Service != "" }) // those that a service has, it tells of
		m.unexplained.Store(int64(len(all)))
	}
	return err
}

// unexplained tells everybody which branches this scan could not explain. Of
// those that it could not judge it passes on what an earlier one has told.
func (r *recovery) unexplained(ctx context.Context, actions []action, own uint64) error {
	was, err := r.m.readUnexplained()
	known := make(map[string]Unexplained, len(was))
	for _, w := range was {
		known[w.Resource+" "+w.GID.String()] = w
	}
	var is []Unexplained
	met := func(u Unexplained) *Unexplained {
		u.Since = time.Now()
		if w, before := known[u.Resource+" "+u.GID.String()]; before {
			u.Since, u.Scans = w.Since, w.Scans
		}
		u.Scans++
		is = append(is, u)
		return &is[len(is)-1]
	}
	for _, a := range actions {
		if a.resource == "" || len(is) == mostUnexplained {
			continue
		}
		u := met(Unexplained{GID: a.gid, Resource: a.resource, Why: a.why, Alone: a.verb == verbAlarm})
		if !u.Alone {
			u.Why = fmt.Sprintf("no log knows of it, or its transaction has ended: it is to %s", a.decision)
		}
	}
	if err == nil {
		err = r.foreign(ctx, met)
	}
	for _, w := range was {
		n := w.GID.Incarnation
		_, asked := r.found[w.Resource]
		others := !w.Foreign && r.s.Has(n) && !r.dead[n] && n != own && !w.Alone
		if !asked || others {
			is = append(is, w)
		}
	}
	if len(was)+len(is) == 0 {
		return err
	}
	text, _ := json.Marshal(is) // never fails: there is no value of a field that has no text
	return r.m.ledger.Share(unexplainedName, append(text, '\n'))
}

// foreign meets the branches of logs that are not here. Such a log is another machine's, which is at work and soon ends what it has
// prepared, or is lost: what has been prepared for Limits.Doubt is left to an operator. A log that was put aside is told by itself. That
// of another service of this machine is settled by that one.
func (r *recovery) foreign(ctx context.Context, met func(Unexplained) *Unexplained) error {
	asides, err := r.m.files.Asides()
	left := mostUnexplained
	for _, name := range slices.Sorted(maps.Keys(r.other)) {
		for _, b := range r.other[name] {
			if slices.Contains(asides, b.GID.Log) || b.GID.Log == r.m.kin || left == 0 {
				continue
			}
			left--
			u := met(r.m.ofAnother(b.GID, name))
			since := u.Since
			if !b.Since.IsZero() && b.Since.Before(since) {
				since = b.Since
			}
			if u.Alone = time.Since(since) >= r.m.opt.Limits.Doubt; u.Alone && u.Service == "" {
				r.m.alarm(ctx, action{gid: u.GID, resource: name, why: u.Why})
			}
		}
	}
	return err
}

// ofAnother is a branch whose log is not here.
func (m *Manager) ofAnother(gid GID, resource string) Unexplained {
	u := Unexplained{GID: gid, Resource: resource, Why: "its log is not here: it is another machine's, or lost", Foreign: true}
	others := m.opt.Neighbours()
	for _, dir := range slices.Sorted(maps.Keys(others)) {
		own, aside, _ := m.files.Elsewhere(dir, gid.Log) // one that cannot be read does not explain it
		switch {
		case own:
			u.Service, u.Why = others[dir], "its log is that of another service of this machine, which settles it: "+others[dir]
		case aside:
			u.Service, u.Why = others[dir], "its log was put aside by another service of this machine, where it is to be adopted or abandoned: "+others[dir]
		}
	}
	return u
}
