package txn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is what recovery asks the Deciders. A branch of an incarnation whose
// decisions they keep, and of which no log knows, is not to be presumed aborted:
// its transaction may be decided there.
//
// The order: what the dead incarnation has begun on its decider is ended, so that
// no decision of it is on its way; then the resources list their branches; then
// the decisions are read, and where there is none one to roll back is made, which
// keeps a late one out. Decisions before branches would not do: one that is dropped
// in between, since all know it, would look as if there had never been one.

// blind tells that a decider cannot be asked, and what an operator has to do about
// that; empty if it will answer in time.
type blind map[uint64]string

// decided is what the deciders know.
type decided struct {
	of    map[GID]Decision // with RoleLocal
	blind blind
	kept  map[uint64][]GID // of dead incarnations that can be cleared, what the decider has of them
	at    map[uint64]Decider
}

// local is the gid by which a decider knows a transaction.
func local(gid GID) GID {
	gid.Role = RoleLocal
	return gid
}

// askDeciders asks about what is to be known of the dead and of our own.
func (r *recovery) askDeciders(ctx context.Context, own uint64, atWork map[uint64]bool) {
	r.decided = decided{of: map[GID]Decision{}, blind: blind{}, kept: map[uint64][]GID{}, at: map[uint64]Decider{}}
	for n := range r.s.Deciders {
		if n != own && !r.dead[n] {
			continue // who lives answers for its own
		}
		d, why, err := r.deciderOf(ctx, n, n != own)
		if err != nil {
			r.decided.blind[n] = why
			r.add(fmt.Errorf("ask for decisions of incarnation %d: %w", n, err))
			continue
		}
		r.decided.at[n] = d
	}
	asks := func(b PreparedBranch) bool {
		n := b.GID.Incarnation
		h := r.s.Histories[r.s.Named(b.GID)]
		return r.decided.at[n] != nil && (h == nil || h.Bare()) && (n != own || !atWork[b.GID.Sequence] && !r.m.pending.Has(local(b.GID)))
	}
	r.listAgain(ctx, own, func(b PreparedBranch) bool {
		return asks(b) || own != 0 && b.GID.Incarnation == own && !atWork[b.GID.Sequence] && !r.m.pending.Has(r.s.Named(b.GID))
	})
	for n, d := range r.decided.at {
		if err := r.ask(ctx, n, d, n == own, asks); err != nil {
			r.decided.blind[n] = ""
			r.add(failedAt(d.Name(), fmt.Sprintf("ask for decisions of incarnation %d", n), err))
		}
	}
}

// deciderOf returns who keeps an incarnation's decisions, when nothing can be
// decided by it any more. why is as in blind.
func (r *recovery) deciderOf(ctx context.Context, n uint64, dead bool) (d Decider, why string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, min(fenceWithin, r.m.opt.Limits.Phase), fmt.Errorf("no answer within %s", fenceWithin))
	defer cancel()
	for _, at := range r.s.Deciders[n] {
		res, err := r.m.resource(ctx, at)
		if err != nil {
			if c := ClassOf(err); c == Refused || c == NotOurs {
				why = fmt.Sprintf("resource %q keeps decisions of incarnation %d: %v", at.Resource, n, err)
			}
			return nil, why, err
		}
		var ok bool
		if d, ok = res.(Decider); !ok {
			err = fmt.Errorf("resource %q keeps decisions of incarnation %d, and is of a type now that cannot", at.Resource, n)
			return nil, err.Error(), err
		}
	}
	if dead && !r.m.fences.has(d.Name(), n) {
		if err := d.Fence(ctx, r.m.ledger.ID(), n); err != nil {
			return nil, "", failedAt(d.Name(), fmt.Sprintf("fence incarnation %d", n), err)
		}
		r.m.fences.add(d.Name(), n)
	}
	return d, "", nil
}

// listAgain lists once more what resources hold of which deciders are asked, and
// what they hold of our own that nobody is at: it may have ended since they were
// asked, and to tell it again would end a session that is another's by now. What
// came since then is somebody's who is at work, but for what the dead prepared.
func (r *recovery) listAgain(ctx context.Context, own uint64, asks func(PreparedBranch) bool) {
	var wg sync.WaitGroup
	for name, was := range maps.Clone(r.found) { // which is written to meanwhile
		if !slices.ContainsFunc(was, asks) {
			continue
		}
		wg.Go(func() {
			if !r.list(ctx, name, r.m.resources[name]) {
				r.mu.Lock()
				defer r.mu.Unlock()
				delete(r.found, name)
				return
			}
			known := map[GID]bool{}
			for _, b := range was {
				known[b.GID] = true
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.found[name] = slices.DeleteFunc(r.found[name], func(b PreparedBranch) bool {
				return !known[b.GID] && (b.GID.Incarnation == own || r.decided.at[b.GID.Incarnation] == nil)
			})
		})
	}
	wg.Wait()
}

// ask reads an incarnation's decisions, and has the decider decide about what
// resources hold and nobody has decided. Commits are taken over into our own log,
// and go then: from there on they are as any other.
func (r *recovery) ask(ctx context.Context, n uint64, d Decider, own bool, asks func(PreparedBranch) bool) error {
	ctx, cancel := r.m.within(ctx)
	defer cancel()
	var commits []NotedDecision
	if !own {
		list, err := d.Decisions(ctx, r.m.ledger.ID(), n)
		if err != nil {
			return err
		}
		for _, noted := range list {
			r.decided.of[noted.GID] = noted.Decision
			r.decided.kept[n] = append(r.decided.kept[n], noted.GID)
			if noted.Decision == Commit {
				commits = append(commits, noted)
			}
		}
	}
	open := map[GID]bool{}
	for _, list := range r.found {
		for _, b := range list {
			if gid := local(b.GID); gid.Incarnation == n && r.decided.of[gid] == 0 && asks(b) {
				open[gid] = true
			}
		}
	}
	if len(open) > 0 {
		stand, err := d.Decide(ctx, Abort, slices.Collect(maps.Keys(open))...)
		if err != nil {
			return err
		}
		for gid, decision := range stand {
			r.decided.of[gid] = decision
			r.decided.kept[n] = append(r.decided.kept[n], gid)
		}
	}
	return r.takeIn(ctx, d, commits)
}

// takeIn notes commits in our log, durably, has them carried out, and drops them
// from the decider.
func (r *recovery) takeIn(ctx context.Context, d Decider, commits []NotedDecision) error {
	if len(commits) == 0 {
		return nil
	}
	var fresh []ledger.Record
	var gids []GID
	for _, c := range commits {
		gids = append(gids, c.GID)
		if h := r.s.Histories[c.GID]; h != nil && h.Decision == Commit {
			continue // all knew it, or somebody took it in before
		}
		rec, err := ledger.Decode(c.Note)
		if err != nil || rec.GID != c.GID {
			return fmt.Errorf("the decision of %s cannot be read: its note is of %s: %w", c.GID, rec.GID, err)
		}
		fresh = append(fresh, rec)
	}
	errs := make([]error, len(fresh))
	taken := make([]bool, len(fresh))
	severally(len(fresh), func(i int) { taken[i], errs[i] = r.m.takeIn(ctx, &fresh[i]) })
	err := errors.Join(errs...)
	for i, was := range taken {
		if was {
			r.s.Add(r.m.ledger.Incarnation(), fresh[i])
		}
	}
	if err != nil {
		return err
	}
	return d.DropDecisions(ctx, gids...)
}

// clear drops what the deciders still have of dead incarnations that can change
// nothing any more, and of which nobody holds a branch that nothing else explains.
func (r *recovery) clear(ctx context.Context, everywhere func(uint64) bool) {
	waits := map[uint64]bool{}
	for _, list := range r.found {
		for _, b := range list {
			if h := r.s.Histories[r.s.Named(b.GID)]; h == nil || h.Bare() {
				waits[b.GID.Incarnation] = true
			}
		}
	}
	for n, d := range r.decided.at {
		_, isBlind := r.decided.blind[n]
		if !r.dead[n] || isBlind || waits[n] || !everywhere(n) || len(r.found) < len(r.m.resources) {
			continue
		}
		within, cancel := r.m.within(ctx)
		err := d.DropDecisions(within, r.decided.kept[n]...)
		cancel()
		r.add(failedAt(d.Name(), "drop decisions", err))
		if err == nil {
			r.s.Cleared(n)
		}
	}
}

// clearOwn drops what the decider still has of our own incarnation, all of which is
// known to everybody.
func (m *Manager) clearOwn(ctx context.Context) error {
	n := m.ledger.Incarnation()
	if n == 0 || m.decider == nil {
		return nil
	}
	j, err := m.ledger.Log(ctx)
	if err != nil || !j.Decider() {
		return err
	}
	ctx, cancel := m.within(ctx)
	defer cancel()
	list, err := m.decider.Decisions(ctx, m.ledger.ID(), n)
	var gids []GID
	for _, noted := range list {
		gids = append(gids, noted.GID)
	}
	if err == nil && len(gids) > 0 {
		err = m.decider.DropDecisions(ctx, gids...)
	}
	return failedAt(m.opt.Decider, "drop decisions", err)
}
