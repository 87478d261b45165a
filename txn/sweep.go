package txn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// sweeper remembers which committed transactions a resource still keeps a
// proof of, and which outcomes are forgotten and still have their claims. The
// proof may go once the END is on disk, the claim once the FORGET is.
type sweeper struct {
	mu      sync.Mutex
	pending map[GID]proofs
	forgot  map[GID]forgotten
	wake    chan struct{}
	busy    atomic.Bool
}

// forgotten is an outcome that this process has noted to be forgotten.
type forgotten struct {
	claim string
	noted ledger.Mark
}

func (s *sweeper) init() { s.wake = make(chan struct{}, 1) }

func (s *sweeper) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)+len(s.forgot) == 0
}

// woken receives after something came into an empty sweeper.
func (s *sweeper) woken() <-chan struct{} { return s.wake }

// proofs is what waits to be dropped about one transaction: the decision that
// the decider keeps, then the proofs of resources.
type proofs struct {
	resources []string
	end       ledger.Mark // of the record that must be durable before the proofs go, if there is one
	decision  bool
}

func (s *sweeper) add(gid GID, p proofs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		s.pending = map[GID]proofs{}
		s.signal()
	}
	p.decision = p.decision || s.pending[gid].decision
	s.pending[gid] = p
}

// forget has the claim of a forgotten outcome removed once that is durable.
func (s *sweeper) forget(gid GID, f forgotten) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgot == nil {
		s.forgot = map[GID]forgotten{}
		s.signal()
	}
	s.forgot[gid] = f
}

func (s *sweeper) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// did tells whether no resource keeps a proof on our account.
func (s *sweeper) did(gid GID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.pending[gid]
	return !waits
}

// dispensable tells whether no resource needs the decision any more: none keeps
// a proof on our account, or has brought its branch back.
func (m *Manager) dispensable(gid GID) bool { return m.swept.did(gid) && !m.pending.Has(gid) }

func (s *sweeper) take() (map[GID]proofs, map[GID]forgotten) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, forgot := s.pending, s.forgot
	s.pending, s.forgot = nil, nil
	return all, forgot
}

// noteEnd notes that every resource knows the decision.
func (m *Manager) noteEnd(j ledger.Log, gid GID, hazard string, branches []BranchID, d Decision) error {
	n, err := j.Note(ledger.Record{Kind: ledger.KindEnd, GID: gid, Hazard: hazard})
	if err != nil {
		return err
	}
	if keepers := m.keepers(branches); d == Commit && len(keepers) > 0 {
		m.swept.add(gid, proofs{resources: keepers, end: n})
	}
	return nil
}

// keepers are the resources that keep a proof of a commit of these branches.
func (m *Manager) keepers(branches []BranchID) (names []string) {
	for _, b := range branches {
		f, ok := m.resources[b.Resource].(Forgetter)
		if k, asked := f.(interface{ KeepsProofs() bool }); asked {
			ok = k.KeepsProofs()
		}
		if ok {
			names = append(names, b.Resource)
		}
	}
	return names
}

// sweep forces the ends and what was forgotten, drops the decisions that a
// decider keeps, lets the resources drop their proofs, and removes the claims. A
// decision goes before the proofs: who finds it, and no end, asks for them.
func (m *Manager) sweep(ctx context.Context) error {
	all, forgot := m.swept.take()
	if len(all)+len(forgot) == 0 {
		return nil
	}
	j, err := m.ledger.Log(ctx)
	if err == nil {
		// What was noted in a log that is no longer ours is for who recovers, which drops proofs, too.
		maps.DeleteFunc(all, func(gid GID, p proofs) bool {
			return p.decision && gid.Incarnation != j.Incarnation() || p.end != (ledger.Mark{}) && !j.Wrote(p.end)
		})
		maps.DeleteFunc(forgot, func(_ GID, f forgotten) bool { return !j.Wrote(f.noted) })
		var last ledger.Mark
		for _, p := range all {
			last = last.Later(p.end)
		}
		for _, f := range forgot {
			last = last.Later(f.noted)
		}
		if last != (ledger.Mark{}) {
			err = j.Forced(last)
		}
	}
	removed := m.removeForgotten(ctx, forgot, err == nil)
	if err != nil {
		for gid, p := range all {
			m.swept.add(gid, p)
		}
		return errors.Join(err, removed)
	}
	undropped := m.dropDecisions(ctx, all)
	of := map[GID][]string{}
	for gid, p := range all {
		if p.decision && undropped != nil {
			m.swept.add(gid, p)
			continue
		}
		of[gid] = p.resources
	}
	kept, err := m.dropProofs(ctx, of)
	for gid, resources := range kept {
		m.swept.add(gid, proofs{resources: resources, end: all[gid].end})
	}
	return errors.Join(undropped, err, removed)
}

// dropDecisions has the decider forget decisions that nobody needs any more.
func (m *Manager) dropDecisions(ctx context.Context, all map[GID]proofs) error {
	var gids []GID
	for gid, p := range all {
		if p.decision {
			gids = append(gids, gid)
		}
	}
	if len(gids) == 0 {
		return nil
	}
	ctx, cancel := m.within(ctx)
	defer cancel()
	return failedAt(m.opt.Decider, "drop decisions", m.decider.DropDecisions(ctx, gids...))
}

// removeForgotten removes the claims of outcomes that are durably forgotten. Those that are not, or on which somebody is
// at work, are the next sweep's.
func (m *Manager) removeForgotten(ctx context.Context, forgot map[GID]forgotten, durable bool) error {
	var errs []error
	for gid, f := range forgot {
		if !durable {
			m.swept.forget(gid, f)
			continue
		}
		err := m.ledger.RemoveForgotten(ctx, f.claim, gid)
		if err != nil {
			m.swept.forget(gid, f)
		}
		if !errors.Is(err, ledger.ErrHeld) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepBeside sweeps beside the caller, unless that is under way.
func (m *Manager) sweepBeside(ctx context.Context, wg *sync.WaitGroup) {
	if m.swept.busy.CompareAndSwap(false, true) {
		wg.Go(func() {
			defer m.swept.busy.Store(false)
			m.warn(ctx, "drop proofs", m.sweep(ctx))
		})
	}
}

// forgetWithin bounds how long a resource may take to drop one proof, which may
// hang though all else goes on, as in MariaDB under a backup's lock.
const forgetWithin = 5 * time.Second

// dropProofs lets resources drop their proofs, and returns those that were kept.
// One that cannot is left alone until the next time.
func (m *Manager) dropProofs(ctx context.Context, of map[GID][]string) (kept map[GID][]string, err error) {
	by := map[string][]GID{}
	for gid, resources := range of {
		for _, name := range resources {
			by[name] = append(by[name], gid)
		}
	}
	kept = map[GID][]string{}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for name, gids := range by {
		f, ok := m.resources[name].(Forgetter)
		if !ok {
			continue
		}
		wg.Go(func() {
			done, err := forget(ctx, f, gids)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			for _, gid := range gids[done:] {
				kept[gid] = append(kept[gid], name)
			}
		})
	}
	wg.Wait()
	return kept, errors.Join(errs...)
}

// forget tells how many proofs were dropped, of the first on.
func forget(ctx context.Context, f Forgetter, gids []GID) (done int, err error) {
	for _, gid := range gids {
		within, cancel := context.WithTimeoutCause(ctx, forgetWithin, fmt.Errorf("it has not dropped a proof within %s", forgetWithin))
		err := f.Forget(within, gid)
		cancel()
		if err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}
