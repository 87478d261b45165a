package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// leftover is a decision that some resource has not been told yet. This
// process tries for ever; when it ends, its log hands the rest over.
type leftover struct {
	gid      GID
	decision Decision   // 0: somebody worked on it when recovery came by, so what is to be done is not known
	branches []BranchID // still to be told; guarded by leftovers.mu
	hazard   string     // likewise
	notYet   time.Time  // likewise: its claim was held, or could not be read
	claim    string     // its claim's name; empty: a local transaction that was never decided
}

// leftovers is the queue of one process, and how each resource fares.
type leftovers struct {
	mu    sync.Mutex
	queue map[GID]*leftover
	pause map[string]backoff // per resource
	busy  map[string]bool    // queues at work
	added chan struct{}      // something came in, or a queue ended
}

// backoff is when to ask a resource again that could not be reached.
type backoff struct {
	until time.Time
	wait  time.Duration
	err   error // why
}

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 30 * time.Second
)

func (l *leftovers) init() {
	l.queue = map[GID]*leftover{}
	l.pause = map[string]backoff{}
	l.busy = map[string]bool{}
	l.added = make(chan struct{}, 1)
}

func (l *leftovers) add(lo *leftover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue[lo.gid] = lo
	l.signal()
}

// look has a dead incarnation's transaction looked at once its claim is free.
func (l *leftovers) look(gid GID, claim string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue[gid] == nil {
		l.queue[gid] = &leftover{gid: gid, claim: claim}
		l.signal()
	}
}

// missing returns the branches still to be told.
func (l *leftovers) missing(lo *leftover) []BranchID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lo.branches
}

// told notes which branches are still to be told, and returns all hazards.
func (l *leftovers) told(lo *leftover, missing []BranchID, hazard string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lo.branches, lo.hazard = missing, joinHazards(lo.hazard, hazard)
	return lo.hazard
}

func (l *leftovers) drop(lo *leftover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue[lo.gid] == lo { // another may have come in its place
		delete(l.queue, lo.gid)
	}
}

func (l *leftovers) has(gid GID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue[gid] != nil
}

func (l *leftovers) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// due lists what can be tried now: some resource it needs is not paused. The
// caller holds mu.
func (l *leftovers) due(now time.Time) []*leftover {
	var list []*leftover
	for _, lo := range l.queue {
		if !l.busy[lo.queue()] && !now.Before(lo.notYet) && (len(lo.branches) == 0 ||
			slices.ContainsFunc(lo.branches, func(b BranchID) bool { return !now.Before(l.pause[b.Resource].until) })) {
			list = append(list, lo)
		}
	}
	slices.SortFunc(list, func(a, b *leftover) int {
		return cmp.Or(cmp.Compare(a.gid.Incarnation, b.gid.Incarnation), cmp.Compare(a.gid.Sequence, b.gid.Sequence))
	})
	return list
}

// wait returns how long until something can be tried; false if nothing is left.
func (l *leftovers) wait(now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var soonest time.Time
	any := false
	for _, lo := range l.queue {
		if l.busy[lo.queue()] {
			continue // its end wakes us
		}
		at := lo.notYet
		if len(lo.branches) > 0 {
			first := slices.MinFunc(lo.branches, func(a, b BranchID) int { return l.pause[a.Resource].until.Compare(l.pause[b.Resource].until) })
			if until := l.pause[first.Resource].until; until.After(at) {
				at = until
			}
		}
		if !any || at.Before(soonest) {
			soonest, any = at, true
		}
	}
	return max(soonest.Sub(now), backoffFirst/10), any
}

// later puts off what could not be tried for a reason of its own.
func (l *leftovers) later(lo *leftover, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lo.notYet = time.Now().Add(pause)
}

func (l *leftovers) paused(resource string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.pause[resource].until)
}

// fared notes whether a resource answered, and returns how it had fared before.
// Each failure doubles the pause, to which chance adds up to as much again.
func (l *leftovers) fared(resource string, now time.Time, err error) (was error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pause[resource]
	was = p.err
	if err == nil {
		delete(l.pause, resource)
		return was
	}
	if now.Before(p.until) {
		return was // one failure of several at once
	}
	p.err = err
	p.wait = min(max(2*p.wait, backoffFirst), backoffMost)
	p.until = now.Add(p.wait/2 + rand.N(p.wait))
	l.pause[resource] = p
	return was
}

// tell tells the branches a decision, in parallel. It returns those that could
// not be told, with why, and what went against the decision.
func (m *Manager) tell(ctx context.Context, gid GID, d Decision, branches []BranchID) (missing []BranchID, hazard string, err error) {
	errs := make([]error, len(branches))
	hazards := make([]string, len(branches))
	var wg sync.WaitGroup
	for i, b := range branches {
		if m.left.paused(b.Resource, time.Now()) {
			errs[i] = fmt.Errorf("%w: resource %s did not answer a moment ago", ErrUnreachable, b.Resource)
			continue
		}
		wg.Go(func() {
			hazards[i], errs[i] = m.tellOne(ctx, gid, d, b)
			m.reach(ctx, b.Resource, errs[i])
		})
	}
	wg.Wait()
	for i, b := range branches {
		if errs[i] != nil {
			missing = append(missing, b)
		}
		hazard = joinHazards(hazard, hazards[i])
	}
	return missing, hazard, errors.Join(errs...)
}

func joinHazards(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func (m *Manager) tellOne(ctx context.Context, gid GID, d Decision, b BranchID) (hazard string, err error) {
	r, err := m.resource(ctx, b)
	if err != nil {
		return "", err
	}
	how, err := r.Resolve(ctx, gid, d, b.Proof)
	if err != nil {
		return "", fmt.Errorf("resource %s: %w", b.Resource, err)
	}
	switch how {
	case ResolvedUnknown:
		return fmt.Sprintf("resource %s: the branch is gone, its outcome unknown (wanted %s)", b.Resource, d), nil
	case ResolvedAgainst:
		return fmt.Sprintf("resource %s: the branch has the opposite outcome (wanted %s)", b.Resource, d), nil
	case ResolvedDone:
	}
	return "", nil
}

// retry tries once what is due: one queue for each set of resources that is
// waited for, so that a resource that hangs holds up no other. With a wait
// group it does not wait for the queues, and leaves those at work alone.
func (m *Manager) retry(ctx context.Context, background *sync.WaitGroup) {
	wg := background
	if wg == nil {
		wg = new(sync.WaitGroup)
		defer wg.Wait()
	}
	for name, list := range m.left.begin(time.Now()) {
		wg.Go(func() {
			defer m.left.end(name)
			for i := 0; i < len(list) && ctx.Err() == nil && m.Err() == nil; i++ {
				if err := m.retryOne(ctx, list[i]); err != nil {
					m.warn(ctx, "tell a decision", fmt.Errorf("%s %s: %w", list[i].decision, list[i].gid, err))
				}
			}
		})
	}
}

// queue names the resources that are still to be told.
func (lo *leftover) queue() string {
	var names []string
	for _, b := range lo.branches {
		names = append(names, b.Resource)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// begin takes what is due, by queues, which are busy until end.
func (l *leftovers) begin(now time.Time) map[string][]*leftover {
	l.mu.Lock()
	defer l.mu.Unlock()
	queues := map[string][]*leftover{}
	for _, lo := range l.due(now) {
		name := lo.queue()
		queues[name] = append(queues[name], lo)
		l.busy[name] = true
	}
	return queues
}

func (l *leftovers) end(queue string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, queue)
	l.signal()
}

func (l *leftovers) signal() {
	select {
	case l.added <- struct{}{}:
	default:
	}
}

func (m *Manager) retryOne(ctx context.Context, lo *leftover) error {
	if lo.decision == 0 {
		m.warn(ctx, "look at a transaction again", m.lookAgain(ctx, lo))
		return nil
	}
	c, err := m.stillOurs(lo)
	if err != nil || c == nil && lo.claim != "" {
		return err
	}
	within, cancel := m.within(ctx)
	defer cancel()
	missing, hazard, err := m.tell(within, lo.gid, lo.decision, m.left.missing(lo))
	hazard = m.left.told(lo, missing, hazard)
	if err != nil {
		return errors.Join(err, closeClaim(c))
	}
	m.left.drop(lo)
	m.log.InfoContext(ctx, "told all resources the decision",
		slog.String("gid", lo.gid.String()), slog.String("decision", lo.decision.String()))
	if c == nil {
		return nil
	}
	j, err := m.ours(ctx)
	if err == nil {
		err = m.noteEnd(j, lo.gid, hazard, c.Branches, lo.decision)
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	m.hazard(ctx, &c.Transaction, lo.decision, hazard)
	return m.concluded(c, hazard)
}

// lookAgain adopts what recovery found at work, if its claim is free by now and
// it was left as it was. What cannot be looked at is the next scan's.
func (m *Manager) lookAgain(ctx context.Context, lo *leftover) error {
	c, err := m.claims.tryTake(lo.claim)
	if errors.Is(err, errHeld) {
		m.left.later(lo, backoffFirst)
		return nil
	}
	m.left.drop(lo)
	if err != nil {
		return ignoreNotExist(err)
	}
	return m.takeOver(ctx, c, lo.gid, m.lastWords(ctx))
}

// stillOurs takes the claim of what is left over. Without an error it returns
// none if there is nothing to do now: another works on it, or took it over, and
// then it is no longer ours.
func (m *Manager) stillOurs(lo *leftover) (*claim, error) {
	if lo.claim == "" {
		return nil, nil
	}
	c, err := m.claims.tryTake(lo.claim)
	switch {
	case errors.Is(err, errHeld):
		m.left.later(lo, backoffFirst)
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		m.left.drop(lo)
		return nil, nil
	case err != nil:
		m.left.later(lo, backoffMost)
		return nil, err
	}
	if c.GID != lo.gid || c.Phase.Terminal() || c.Claimant != 0 && c.Claimant != m.incarnation() {
		m.left.drop(lo)
		return nil, c.release()
	}
	return c, nil
}
