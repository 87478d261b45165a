package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// recovery is one scan at work.
type recovery struct {
	m     *Manager
	dead  map[uint64]bool
	found map[string][]PreparedBranch
	other map[string][]PreparedBranch // of logs that are not here
	s     *ledger.Contents
	last  ledger.DeadLog       // of what the dead have noted
	since int64                // when the oldest in doubt was prepared, in nanoseconds since 1970; 0: there is none
	held  map[GID]ledger.State // the others that are open, as they were

	decided decided

	mu   sync.Mutex
	errs []error
}

func (r *recovery) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (m *Manager) scan(ctx context.Context) error {
	r := &recovery{m: m, found: map[string][]PreparedBranch{}, other: map[string][]PreparedBranch{}, held: map[GID]ledger.State{}}
	var err error
	if r.dead, err = m.ledger.SealDead(ctx); err != nil {
		return err
	}
	r.find(ctx)
	// What is listed is prepared by then, and its transaction at work; so who is
	// at work is looked at after that. Read the logs last: what is decided by
	// then is not presumed to be aborted.
	own, atWork := r.m.working()
	if r.s, err = m.ledger.Read(ctx); err != nil {
		return err
	}
	r.s.Supersede(r.dead)
	r.last = m.ledger.DeadLogsOf(ctx, r.s, r.dead)
	r.decidedTogether(own)
	r.askDeciders(ctx, own, atWork)
	if err := r.look(ctx); err != nil {
		return err
	}
	actions := plan(r.s, findings{dead: r.dead, found: r.found, fenced: r.fenced, own: own, atWork: atWork, decided: r.decided.of, blind: r.decided.blind})
	r.apply(ctx, actions)
	r.help(ctx, own)
	r.add(r.unexplained(ctx, actions, own))
	r.tell(ctx)
	err = r.restate(ctx)
	if err == nil {
		err = r.compact(ctx)
	}
	r.add(err)
	m.meters.scanned.Store(time.Now().UnixNano())
	return errors.Join(r.errs...)
}

// look reads all claims, and keeps those that something may be done about. One
// that cannot be read is reported, and the scan goes on with the others.
func (r *recovery) look(ctx context.Context) error {
	again, err := r.m.ledger.NewRecount()
	if err != nil {
		return err
	}
	bad, err := r.m.ledger.Each(ctx, func(st *ledger.State) {
		again.Add(st)
		h := r.s.Histories[st.GID]
		if h != nil {
			h.Claimed = true
		}
		ended, err := r.behind(ctx, st, h)
		if err != nil {
			r.add(fmt.Errorf("conclude %s: %w", st.GID, err))
		}
		switch {
		case ended:
		case st.Phase == Prepared && st.Deciding == 0:
			r.count(ctx, st)
			if h != nil {
				h.Published = true
			}
		case !st.Phase.Terminal():
			r.held[st.GID] = *st
		}
	})
	if err == nil {
		again.Done()
	}
	r.add(bad)
	r.missed(ctx)
	return err
}

// missed has claims made anew that were deleted by hand, one by one, of what others carry on or wait for.
func (r *recovery) missed(ctx context.Context) {
	for _, h := range r.s.Histories {
		if h.Claimed || h.Unnamed || h.Ended || h.Tx.GID.Role != RoleExternal || r.dead[r.s.Responsible(h)] {
			continue
		}
		within, cancel := r.m.asking(ctx)
		_, err := r.m.ledger.Peek(within, ledger.ClaimName(&h.Tx))
		cancel()
		r.add(ignoreNotExist(err))
	}
}

// count takes note of what is in doubt, and reports what has been for long.
func (r *recovery) count(ctx context.Context, st *ledger.State) {
	older(&r.since, &st.Transaction)
	r.m.waitsLong(ctx, &st.Transaction)
}

// tell tells everybody since when the oldest is in doubt.
func (r *recovery) tell(ctx context.Context) {
	for _, st := range r.held {
		r.count(ctx, &st)
	}
	r.add(errors.Join(r.m.writeCounted(r.since), r.m.countUnexplained()))
}

// find asks every resource for its branches, and fences every dead incarnation
// there: resources in parallel, so that one that hangs delays only the end of
// this scan. What the living began is listed before what the dead began is
// fenced, or a session that does not end would keep it from being seen.
func (r *recovery) find(ctx context.Context) {
	var wg sync.WaitGroup
	for name, res := range r.m.resources {
		wg.Go(func() {
			if !r.list(ctx, name, res) {
				return
			}
			if r.fence(ctx, name, res) {
				r.list(ctx, name, res) // what was prepared late
			}
			r.listOthers(ctx, name, res)
		})
	}
	wg.Wait()
}

// list tells whether the resource answered.
func (r *recovery) list(ctx context.Context, name string, res Resource) bool {
	ctx, cancel := r.m.within(ctx)
	defer cancel()
	list, err := res.InDoubt(ctx, r.m.ledger.ID())
	if err != nil {
		r.add(failedAt(name, "list branches in doubt", err))
		return false
	}
	r.m.reach(ctx, name, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found[name] = list
	return true
}

// listOthers lists what a resource holds of logs that are not here.
func (r *recovery) listOthers(ctx context.Context, name string, res Resource) {
	l, ok := res.(Lister)
	if !ok {
		return
	}
	ctx, cancel := r.m.asking(ctx)
	defer cancel()
	list, err := l.InDoubtOfOthers(ctx, r.m.ledger.ID())
	r.add(failedAt(name, "list branches of other logs", err))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.other[name] = list
}

// fenceWithin bounds how long a scan waits for the sessions of one dead
// incarnation to end. The next one tells them again.
const fenceWithin = 5 * time.Second

// fence fences the dead incarnations that are not fenced yet, and tells whether
// there was one.
func (r *recovery) fence(ctx context.Context, name string, res Resource) bool {
	var wg sync.WaitGroup
	var any atomic.Bool
	turn := make(chan struct{}, pending.Width)
	for n := range r.dead {
		if r.m.fences.has(name, n) {
			continue
		}
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			within, cancel := context.WithTimeoutCause(ctx, min(fenceWithin, r.m.opt.Limits.Phase),
				fmt.Errorf("its sessions have not ended within %s", fenceWithin))
			defer cancel()
			if err := res.Fence(within, r.m.ledger.ID(), n); err != nil {
				r.add(failedAt(name, fmt.Sprintf("fence incarnation %d", n), err))
				return
			}
			r.m.fences.add(name, n)
			any.Store(true)
		})
	}
	wg.Wait()
	return any.Load()
}

// fenced tells whether the incarnation can no longer change the resource. A
// log goes only after that, so an incarnation without one was fenced.
func (r *recovery) fenced(resource string, n uint64) bool {
	return !r.s.Has(n) || r.m.fences.has(resource, n)
}

// fences is what this process knows to be fenced.
type fences struct {
	mu   sync.Mutex
	done map[string]map[uint64]bool
}

func (f *fences) has(resource string, n uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done[resource][n]
}

func (f *fences) add(resource string, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = map[string]map[uint64]bool{}
	}
	if f.done[resource] == nil {
		f.done[resource] = map[uint64]bool{}
	}
	f.done[resource][n] = true
}

// apply carries out a plan. No action holds up another.
func (r *recovery) apply(ctx context.Context, actions []action) {
	var claimed []action
	for _, a := range actions {
		switch a.verb {
		case verbAlarm:
			r.m.alarm(ctx, a)
		case verbPresume: // see presume
		case verbPublish, verbFinish, verbAbandon:
			claimed = append(claimed, a)
		}
	}
	r.presume(ctx, actions)
	for batch := range slices.Chunk(claimed, 256) {
		r.adopt(ctx, batch)
	}
}

// presume has branches told what follows from the log knowing nothing of them,
// or knowing their end.
func (r *recovery) presume(ctx context.Context, actions []action) {
	branches := map[GID][]BranchID{}
	decisions := map[GID]Decision{}
	for _, a := range actions {
		if a.verb == verbPresume {
			branches[a.gid] = append(branches[a.gid], BranchID{Resource: a.resource, Proof: r.proof(a.gid, a.resource)})
			decisions[a.gid] = a.decision
		}
	}
	for gid, list := range branches {
		if r.m.pending.Has(gid) {
			continue // it is being told
		}
		r.m.pending.Add(&pending.Outcome{GID: gid, Decision: decisions[gid]}, list)
		if h := r.s.Histories[gid]; h != nil && h.Ended {
			r.m.log.WarnContext(ctx, "a resource holds a branch of a transaction that has ended, and is told again",
				slog.String("gid", gid.String()), slog.String("decision", decisions[gid].String()))
		}
	}
}

func (r *recovery) proof(gid GID, resource string) Proof {
	if h := r.s.Histories[gid]; h != nil {
		for _, b := range h.Tx.Branches {
			if b.Resource == resource {
				return b.Proof
			}
		}
	}
	return ""
}

// adopt takes over transactions of dead incarnations: it brings their claims
// up to date and queues the decided ones. A claim that is missing was dropped
// when its transaction ended after the logs were read, or never made; the logs
// of the living tell which.
func (r *recovery) adopt(ctx context.Context, batch []action) {
	var fresh []*ledger.Claim
	for _, a := range batch {
		h := r.s.Histories[a.gid]
		if h.Unnamed && h.Decision != 0 {
			r.finishUnnamed(h)
			continue
		}
		c, err := r.m.ledger.TryTake(ctx, ledger.ClaimName(&h.Tx))
		switch {
		case errors.Is(err, ledger.ErrHeld):
			r.m.pending.Look(a.gid, ledger.ClaimName(&h.Tx)) // somebody works on it, and may leave it as it was
			continue
		case errors.Is(err, fs.ErrNotExist):
			if c, err = r.m.ledger.Create(ctx, h.State(r.s)); err == nil {
				fresh = append(fresh, c)
				continue
			}
		case err == nil:
			err = ledger.With(c, func(c *ledger.Claim) error { return r.takeOver(ctx, c, a.gid) })
		}
		if err != nil {
			r.add(fmt.Errorf("adopt %s: %w", a.gid, err))
		}
	}
	if len(fresh) > 0 {
		r.add(r.confirm(ctx, fresh))
	}
}

// confirm takes over transactions whose claims were missing, unless they
// ended meanwhile.
func (r *recovery) confirm(ctx context.Context, fresh []*ledger.Claim) error {
	now, err := r.m.ledger.ReadLiving(ctx, r.dead)
	if err != nil {
		return errors.Join(err, removeAll(fresh))
	}
	var errs []error
	for _, c := range fresh {
		if h := now.Histories[c.GID]; h != nil && (h.Ended || h.Decision != 0) {
			errs = append(errs, c.Remove())
			continue
		}
		errs = append(errs, ledger.With(c, func(c *ledger.Claim) error { return r.takeOver(ctx, c, c.GID) }))
	}
	return errors.Join(errs...)
}

func removeAll(list []*ledger.Claim) error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Remove())
	}
	return errors.Join(errs...)
}

// takeOver is Manager.takeOver by what was read of the logs.
func (r *recovery) takeOver(ctx context.Context, c *ledger.Claim, gid GID) error {
	err := r.m.takeOver(ctx, c, gid, r.last)
	if h := r.s.Histories[gid]; c.GID == gid && !h.Published {
		r.held[gid] = c.State
	}
	return err
}

// compact drops what nobody needs from the logs of the dead.
func (r *recovery) compact(ctx context.Context) error {
	proven := map[GID][]string{}
	back := r.back()
	for gid, h := range r.s.Histories {
		if _, unread := r.decided.blind[gid.Incarnation]; unread || !h.Ended || h.Decision != Commit || !h.EndIn(r.dead) || back[gid] {
			continue
		}
		proven[gid] = []string{}
		for _, b := range h.Tx.Branches {
			proven[gid] = append(proven[gid], b.Resource)
		}
	}
	kept, err := r.m.dropProofs(ctx, proven)
	r.add(err)
	clean := func(gid GID) bool {
		_, was := proven[gid]
		_, is := kept[gid]
		return was && !is || r.s.Histories[gid].Decision != Commit
	}
	everywhere := func(n uint64) bool {
		for name := range r.m.resources {
			if !r.m.fences.has(name, n) {
				return false
			}
		}
		_, unread := r.decided.blind[n]
		return !unread
	}
	r.clear(ctx, everywhere)
	return r.m.ledger.Compact(ctx, r.s, r.dead, clean, everywhere)
}

// back returns the transactions that have ended and of which a resource holds a
// branch all the same. Until it is told, their decision is needed.
func (r *recovery) back() map[GID]bool {
	back := map[GID]bool{}
	for _, list := range r.found {
		for _, b := range list {
			if gid := r.s.Named(b.GID); r.s.Histories[gid] != nil && r.s.Histories[gid].Ended {
				back[gid] = true
			}
		}
	}
	return back
}
