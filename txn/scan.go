package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// recovery is one scan at work.
type recovery struct {
	m     *Manager
	dead  map[uint64]bool
	found map[string][]PreparedBranch
	s     *survey
	index map[uint64]map[*history][]int64 // of the logs that words was asked about
	doubt doubt                           // of the claims that say no more than that they are prepared
	held  map[GID]claimState              // the others that are open, as they were

	mu   sync.Mutex
	errs []error
}

func (r *recovery) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (m *Manager) scan(ctx context.Context) error {
	if err := m.rebuild(ctx); err != nil {
		return err
	}
	r := &recovery{m: m, found: map[string][]PreparedBranch{}, index: map[uint64]map[*history][]int64{}, held: map[GID]claimState{}}
	if err := r.locked(ctx, func() (err error) {
		r.dead, err = m.sealDead(ctx)
		return err
	}); err != nil {
		return err
	}
	r.fenceAndFind(ctx)
	// Read the logs after the resources: what is decided by then is not
	// presumed to be aborted.
	if err := r.locked(ctx, func() (err error) {
		r.s, err = m.home.survey()
		return err
	}); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	r.apply(ctx, plan(r.s, findings{dead: r.dead, found: r.found, fenced: r.fenced}))
	r.tell(ctx)
	r.add(r.compact(ctx))
	m.meters.scanned.Store(time.Now().UnixNano())
	return errors.Join(r.errs...)
}

// look reads all claims, and keeps those that something may be done about. One
// that cannot be read is reported, and the scan goes on with the others.
func (r *recovery) look(ctx context.Context) error {
	bad, err := r.m.claims.each(func(st *claimState) {
		h := r.s.histories[st.GID]
		switch {
		case r.over(st, h):
			if err := r.conclude(st, h); err != nil {
				r.add(fmt.Errorf("conclude %s: %w", st.GID, err))
			}
		case st.Phase == Prepared && st.Deciding == 0:
			r.count(ctx, st)
			if h != nil {
				h.published = true
			}
		case !st.Phase.Terminal():
			r.held[st.GID] = *st
		}
	})
	r.add(bad)
	return err
}

// count counts what is in doubt, and reports what has been for long.
func (r *recovery) count(ctx context.Context, st *claimState) {
	r.doubt.add(&st.Transaction)
	r.m.waitsLong(ctx, &st.Transaction)
}

// tell tells everybody how many are in doubt.
func (r *recovery) tell(ctx context.Context) {
	for _, st := range r.held {
		r.count(ctx, &st)
	}
	r.m.doubt(r.doubt)
	r.add(r.m.writeCount(r.doubt))
}

// locked runs f under the lock "seal".
func (r *recovery) locked(ctx context.Context, f func() error) error {
	unlock, err := r.m.home.lock(ctx, "seal")
	if err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// fenceAndFind fences every dead incarnation at every resource, then asks it
// for its branches: resources in parallel, so that one that hangs delays only
// the end of this scan.
func (r *recovery) fenceAndFind(ctx context.Context) {
	ctx, cancel := r.m.within(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for name, res := range r.m.resources {
		wg.Go(func() {
			for n := range r.dead {
				if r.m.fences.has(name, n) {
					continue
				}
				if err := res.Fence(ctx, r.m.home.id, n); err != nil {
					r.add(fmt.Errorf("resource %s: fence incarnation %d: %w", name, n, err))
					continue
				}
				r.m.fences.add(name, n)
			}
			list, err := res.InDoubt(ctx, r.m.home.id)
			r.mu.Lock()
			defer r.mu.Unlock()
			if err != nil {
				r.errs = append(r.errs, fmt.Errorf("resource %s: list branches in doubt: %w", name, err))
				return
			}
			r.found[name] = list
		})
	}
	wg.Wait()
}

// fenced tells whether the incarnation can no longer change the resource. A
// log goes only after that, so an incarnation without one was fenced.
func (r *recovery) fenced(resource string, n uint64) bool {
	return r.s.records[n] == nil || r.m.fences.has(resource, n)
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
	presumed := map[string][]action{}
	var claimed []action
	for _, a := range actions {
		switch a.verb {
		case verbAlarm:
			r.m.alarm(ctx, a)
		case verbPresume:
			presumed[a.resource] = append(presumed[a.resource], a)
		case verbPublish, verbFinish, verbAbandon:
			claimed = append(claimed, a)
		}
	}
	detached, cancel := r.m.within(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for name, list := range presumed {
		wg.Go(func() { r.presume(detached, name, list) })
	}
	for batch := range slices.Chunk(claimed, 256) {
		r.adopt(ctx, batch)
	}
	wg.Wait()
}

// presume tells branches of dead incarnations what follows from the log
// knowing nothing of them.
func (r *recovery) presume(ctx context.Context, name string, list []action) {
	for _, a := range list {
		how, err := r.m.resources[name].Resolve(ctx, a.gid, a.decision, r.proof(a.gid, name))
		if err != nil {
			r.add(fmt.Errorf("resource %s: %s %s: %w", name, a.decision, a.gid, err))
			return // it is down: the others wait for the next scan
		}
		r.m.log.InfoContext(ctx, "finished a branch that a dead worker left",
			slog.String("gid", a.gid.String()), slog.String("resource", name),
			slog.String("decision", a.decision.String()), slog.Bool("done", how == ResolvedDone))
	}
}

func (r *recovery) proof(gid GID, resource string) Proof {
	if h := r.s.histories[gid]; h != nil {
		for _, b := range h.tx.Branches {
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
	var fresh []*claim
	for _, a := range batch {
		h := r.s.histories[a.gid]
		c, err := r.m.claims.tryTake(claimName(&h.tx))
		switch {
		case errors.Is(err, errHeld):
			r.m.left.look(a.gid, claimName(&h.tx)) // somebody works on it, and may leave it as it was
			continue
		case errors.Is(err, fs.ErrNotExist):
			if c, err = r.m.claims.create(h.claim(r.s)); err == nil {
				fresh = append(fresh, c)
				continue
			}
		case err == nil:
			err = r.takeOver(ctx, c, a.gid)
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
func (r *recovery) confirm(ctx context.Context, fresh []*claim) error {
	now := newSurvey()
	if err := r.locked(ctx, func() error {
		living, err := r.m.home.logs() // also of those that began meanwhile
		living = slices.DeleteFunc(living, func(n uint64) bool { return r.dead[n] })
		if err == nil && len(living) > 0 {
			now, err = r.m.home.survey(living...)
		}
		return err
	}); err != nil {
		return errors.Join(err, removeAll(fresh))
	}
	var errs []error
	for _, c := range fresh {
		if h := now.histories[c.GID]; h != nil && (h.ended || h.decision != 0) {
			errs = append(errs, c.remove())
			continue
		}
		errs = append(errs, r.takeOver(ctx, c, c.GID))
	}
	return errors.Join(errs...)
}

func removeAll(list []*claim) error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.remove())
	}
	return errors.Join(errs...)
}

// takeOver is Manager.takeOver as far as the survey knows.
func (r *recovery) takeOver(ctx context.Context, c *claim, gid GID) error {
	err := r.m.takeOver(ctx, c, gid, r.words(ctx))
	if h := r.s.histories[gid]; c.GID == gid && !h.published {
		r.held[gid] = c.claimState
	}
	return err
}

// takeOver makes a dead incarnation's transaction ours, if there is something
// to do for it. It gives the claim back.
func (m *Manager) takeOver(ctx context.Context, c *claim, gid GID, last words) error {
	if c.GID != gid {
		return c.release() // the name was given to a later transaction
	}
	if err := m.catchUp(c, last); err != nil {
		return errors.Join(err, c.release())
	}
	abandoned := c.Phase == Preparing && c.Claimant == 0
	if !abandoned && c.Phase != Committing && c.Phase != Aborting || m.left.has(c.GID) {
		return c.release()
	}
	j, err := m.ours(ctx)
	if err != nil {
		return errors.Join(err, c.release())
	}
	if !abandoned && c.Claimant != j.incarnation {
		if alive, err := m.home.alive(c.Claimant); alive || err != nil {
			return errors.Join(err, c.release())
		}
	}
	st := c.claimState
	st.Claimant = j.incarnation
	d := st.Decision
	if abandoned {
		d = Abort
	}
	if err := c.set(st); err != nil {
		return errors.Join(err, c.release())
	}
	m.left.add(&leftover{gid: c.GID, decision: d, branches: c.Branches, claim: claimName(&c.Transaction)})
	return c.release()
}

// words answers from the survey where that is final, else from the log itself.
func (r *recovery) words(ctx context.Context) words {
	last := r.m.lastWords(ctx)
	return func(n uint64, gid GID) (*history, error) {
		if !r.dead[n] || r.s.damaged[n] != nil {
			return last(n, gid)
		}
		only := newSurvey()
		for payload, err := range r.m.home.again(n, r.places(n)[r.s.histories[gid]]...) {
			var rec record
			var known bool
			if err == nil {
				rec, known, err = decodeRecord(payload)
			}
			if err != nil {
				return nil, err
			}
			only.add(n, rec, known)
		}
		return only.histories[gid], nil
	}
}

// places sorts the places of a log's records by transaction, once.
func (r *recovery) places(n uint64) map[*history][]int64 {
	if r.index[n] == nil {
		r.index[n] = map[*history][]int64{}
		for _, rec := range r.s.records[n] {
			if rec.of != nil {
				r.index[n][rec.of] = append(r.index[n][rec.of], rec.offset)
			}
		}
	}
	return r.index[n]
}

// compact drops what nobody needs from the logs of the dead.
func (r *recovery) compact(ctx context.Context) error {
	swept := map[GID]bool{}
	for gid, h := range r.s.histories {
		if !h.ended || h.decision != Commit || !r.endIsDurable(h) {
			continue
		}
		var names []string
		for _, b := range h.tx.Branches {
			names = append(names, b.Resource)
		}
		if err := r.m.dropProofs(ctx, gid, names); err != nil {
			r.add(err)
			continue
		}
		swept[gid] = true
	}
	clean := func(gid GID) bool { return swept[gid] || r.s.histories[gid].decision != Commit }
	everywhere := func(n uint64) bool {
		for name := range r.m.resources {
			if !r.m.fences.has(name, n) {
				return false
			}
		}
		return true
	}
	return r.m.compact(ctx, r.s, r.dead, clean, everywhere)
}

func (r *recovery) endIsDurable(h *history) bool {
	return slices.ContainsFunc(h.seen, func(s seen) bool { return s.end && r.dead[s.log] }) // sealed logs are durable
}
