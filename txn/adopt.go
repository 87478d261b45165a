package txn

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is what an operator can do about a log that was put aside: make it
// the directory's own again, or give it up.

// ErrNotAdopted: something speaks against adopting a log. With force only what
// cannot be forced does.
var ErrNotAdopted = ledger.ErrNotAdopted

// ErrInPlace: the log that took its place must stay for now, whatever the operator knows of other copies.
var ErrInPlace = ledger.ErrInPlace

// Watcher is a Resource that can tell whether sessions of an incarnation are
// open, without ending them as Fence does.
type Watcher interface {
	// Sessions counts the sessions that branches of these incarnations of log id have, or may still use.
	Sessions(ctx context.Context, id LogID, incarnations []uint64) (int, error)
}

// Adopt makes a log that was put aside the directory's own again, so that what
// it holds in doubt can be decided and recovery goes on from it. The log that
// took its place is put aside, and must hold nothing open. No process may have
// begun an incarnation here: workers must be stopped. The Manager is of no use
// afterwards but to be closed.
//
// Two copies of one log that both go on would decide the same transactions
// differently. So Adopt refuses with ErrNotAdopted if a resource shows that the
// other copy lives or went on after this one was taken, or cannot be asked.
// With force it adopts in spite of that, but for a copy that another service of
// this machine has as its own: that is certain.
func (m *Manager) Adopt(ctx context.Context, who Principal, id LogID, force bool) (err error) {
	if !who.Operator {
		return ErrNotOwner
	}
	if m.host != nil {
		return m.host.Adopt(ctx, who, id, force)
	}
	_, s, err := m.readAside(id)
	if err != nil {
		return err
	}
	if err := m.usedElsewhere(id); err != nil {
		return err
	}
	if against := m.speaksAgainst(ctx, id, s); len(against) > 0 && !force {
		return fmt.Errorf("%w: %s", ErrNotAdopted, strings.Join(against, "; "))
	}
	if err := m.files.Adopt(ctx, id, func(s *ledger.Contents) error { return m.replaceable(ctx, s) }); err != nil {
		return err
	}
	m.log.LogAttrs(ctx, slog.LevelInfo, "an operator adopted a transaction log", who.attrs(eventAdopted,
		slog.String("log", id.String()), slog.Bool("forced", force))...)
	return nil
}

// usedElsewhere tells whether another service of this machine has the log as its own.
func (m *Manager) usedElsewhere(id LogID) error {
	others := m.opt.Neighbours()
	for _, dir := range slices.Sorted(maps.Keys(others)) {
		switch own, _, err := m.files.Elsewhere(dir, id); {
		case err != nil:
			return fmt.Errorf("%w: whether it is the log of another service cannot be read: %w", ErrNotAdopted, err)
		case own:
			return fmt.Errorf("%w: it is the log of another service of this machine, in %s, which settles what it holds (%s): abandon this copy, or stop that service for good and delete %s",
				ErrNotAdopted, dir, others[dir], filepath.Join(dir, "id"))
		}
	}
	return nil
}

// replaceable tells why the log that is in place, which says s, must stay; nil if it may go.
func (m *Manager) replaceable(ctx context.Context, s *ledger.Contents) error {
	for n, err := range s.Damaged {
		return fmt.Errorf("%w, %w: its log %d is damaged: %w", ErrNotAdopted, ErrInPlace, n, err)
	}
	for _, h := range s.Histories {
		if !h.Ended && !h.Bare() {
			return fmt.Errorf("%w, %w: it holds %q open, fdtctl txn resolve --all", ErrNotAdopted, ErrInPlace, h.Tx.Name())
		}
	}
	for name, r := range m.resources {
		asked, cancel := m.asking(ctx)
		list, _ := r.InDoubt(asked, m.ledger.ID()) // one that is down is told of by speaksAgainst
		cancel()
		if len(list) > 0 {
			return fmt.Errorf("%w, %w: resource %q holds %d branches of it, fdtctl txn resolve --all", ErrNotAdopted, ErrInPlace, name, len(list))
		}
	}
	return nil
}

// speaksAgainst lists what shows that another copy of the log lives, or that it
// went on after this one was taken, and what cannot be known.
func (m *Manager) speaksAgainst(ctx context.Context, id LogID, s *ledger.Contents) (against []string) {
	for n, err := range s.Damaged {
		against = append(against, fmt.Sprintf("its log %d is damaged: %v", n, err))
	}
	for _, b := range openBranches(s) {
		asked, cancel := m.asking(ctx)
		_, err := m.resource(asked, b)
		cancel()
		if err != nil {
			against = append(against, err.Error())
		}
	}
	// Incarnations that a living copy began after this one was taken are just above the highest.
	var incarnations []uint64
	for n := max(s.Highest+later, most) - most + 1; n <= s.Highest+later; n++ {
		incarnations = append(incarnations, n)
	}
	for name, r := range m.resources {
		asked, cancel := m.asking(ctx)
		why, err := copyOf(asked, r, id, s, incarnations)
		cancel()
		if err != nil {
			why = "it cannot be asked: " + err.Error()
		}
		if why != "" {
			against = append(against, fmt.Sprintf("resource %q: %s", name, why))
		}
	}
	slices.Sort(against)
	return against
}

// Of another copy's incarnations the last ones are looked for: later above the
// highest that this one knows, most in all.
const (
	later = 64
	most  = 256
)

// copyOf tells what a resource knows of another copy of a log.
func copyOf(ctx context.Context, r Resource, id LogID, s *ledger.Contents, incarnations []uint64) (string, error) {
	found, err := r.InDoubt(ctx, id)
	if err != nil {
		return "", err
	}
	unknown := 0
	for _, b := range found {
		if h := s.Histories[s.Named(b.GID)]; h == nil || h.Ended {
			unknown++
		}
	}
	if unknown > 0 {
		return fmt.Sprintf("it holds %d branches that this copy does not know, or knows to have ended: another copy went on, or a worker was killed",
			unknown), nil
	}
	w, ok := r.(Watcher)
	if !ok {
		return "", nil
	}
	n, err := w.Sessions(ctx, id, incarnations)
	if n > 0 {
		return fmt.Sprintf("it has %d sessions of workers that write another copy", n), err
	}
	return "", err
}

// openBranches returns the branches of what has not ended, one of each store.
func openBranches(s *ledger.Contents) []BranchID {
	seen := map[BranchID]bool{}
	var list []BranchID
	for _, h := range s.Histories {
		if h.Ended {
			continue
		}
		for _, b := range h.Tx.Branches {
			b.Proof = ""
			if !seen[b] {
				seen[b] = true
				list = append(list, b)
			}
		}
	}
	return list
}

// Abandon gives up a log that was put aside: its transactions are unknown here
// from now on, and no resource is told anything. That is for a clone, whose
// original goes on and settles its own. It returns how many branches of that log
// each resource still holds, or why it cannot tell; where nobody else settles
// them, they keep their locks.
func (m *Manager) Abandon(ctx context.Context, who Principal, id LogID) (left map[string]string, err error) {
	if !who.Operator {
		return nil, ErrNotOwner
	}
	if m.host != nil {
		return m.host.Abandon(ctx, who, id)
	}
	if _, err := m.files.AsideDir(id); err != nil {
		return nil, err
	}
	left = map[string]string{}
	for name, r := range m.resources {
		asked, cancel := m.asking(ctx)
		list, err := r.InDoubt(asked, id)
		cancel()
		switch {
		case err != nil:
			left[name] = "cannot be asked: " + err.Error()
		case len(list) > 0:
			left[name] = fmt.Sprintf("holds %d branches of it", len(list))
		}
	}
	raw, _ := json.Marshal(map[string]any{"at": time.Now(), "user": who.User, "by": who.By}) // never fails: texts
	if err := m.files.Abandon(id, raw); err != nil {
		return nil, fmt.Errorf("abandon log %s: %w", id, err)
	}
	m.log.LogAttrs(ctx, slog.LevelInfo, "an operator abandoned a transaction log", who.attrs(eventAbandoned,
		slog.String("log", id.String()))...)
	return left, nil
}
