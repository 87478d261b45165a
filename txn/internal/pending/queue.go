package pending

import (
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/xa"
)

// Outcome is a transaction of which some resource is yet to be told what
// becomes of its branch. This process tries for ever; when it ends, its log
// hands the rest over, and what no log knows is found by those who recover.
type Outcome struct {
	GID      xa.GID
	Decision xa.Decision     // 0: somebody worked on it when recovery came by, so what is to be done is not known
	Claim    string          // its claim's name; empty: it has none
	Asking   *ledger.Record  // the decision that is to be asked for at the decider, which did not answer; nil for all else
	Unnamed  *xa.Transaction // what ends without a claim that another of its name has; nil for all else
	Open     bool            // a one-phase commit whose answer was lost: what has not ended is to end, and may have committed
	open     int             // branches still to be told; guarded by Queue.mu
	hazard   string          // likewise

	Claiming sync.Mutex // held by the call that works on the claim, so that none finds it held by another of ours
}

// Queue is what one process is yet to tell, and the executors that tell it.
type Queue struct {
	mu        sync.Mutex
	queue     map[xa.GID]*Outcome
	executors map[string]*executor // by resource; of claims under ""
	added     chan struct{}        // something came in, or an executor ended
}

// NewQueue returns one in which nothing waits.
func NewQueue() *Queue {
	return &Queue{queue: map[xa.GID]*Outcome{}, executors: map[string]*executor{}, added: make(chan struct{}, 1)}
}

// Added receives after something came in, or a call has ended.
func (q *Queue) Added() <-chan struct{} { return q.added }

// Add has branches told, in place of what was to be told of the transaction.
func (q *Queue) Add(o *Outcome, branches []xa.BranchID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue[o.GID] = o
	o.open = len(branches)
	if o.open == 0 {
		branches = []xa.BranchID{{}}
	}
	for _, b := range branches {
		e := q.of(b.Resource)
		e.fresh = append(e.fresh, &Obligation{Of: o, Branch: b})
	}
	q.signal()
}

// Look has a dead incarnation's transaction looked at once its claim is free.
func (q *Queue) Look(gid xa.GID, claim string) {
	if !q.Has(gid) {
		q.Add(&Outcome{GID: gid, Claim: claim}, nil)
	}
}

// SettleClaim has the claim of a transaction seen to, of which all branches are
// told.
func (q *Queue) SettleClaim(o *Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due := &Obligation{Of: o}
	due.due = grow(&due.wait, backoffMost, time.Now())
	q.of("").later(due)
}

// Hazard adds to what went against the decision.
func (q *Queue) Hazard(o *Outcome, what string) (all string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o.hazard = xa.JoinHazards(o.hazard, what)
	return o.hazard
}

// Drop forgets what was to be told of a transaction, unless other things have come in its place.
func (q *Queue) Drop(o *Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue[o.GID] == o { // another may have come in its place
		delete(q.queue, o.GID)
	}
}

// Has tells whether something is yet to be told of the transaction.
func (q *Queue) Has(gid xa.GID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queue[gid] != nil
}

// Count returns of how many transactions something is yet to be told.
func (q *Queue) Count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// CountOn returns how many branches a resource is yet to be told of.
func (q *Queue) CountOn(resource string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.executors[resource]
	if e == nil {
		return 0
	}
	return len(e.fresh) + len(e.failed) + e.taken
}

// Wait returns how long until something can be tried; false if nothing waits.
func (q *Queue) Wait(now time.Time) (time.Duration, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var soonest time.Time
	any := false
	for _, e := range q.executors {
		if at, waits := e.next(); waits && (!any || at.Before(soonest)) {
			soonest, any = at, true
		}
	}
	return max(soonest.Sub(now), backoffFirst/10), any
}

func (q *Queue) signal() {
	select {
	case q.added <- struct{}{}:
	default:
	}
}

// Resume has everything told now, whatever it waits for.
func (q *Queue) Resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.executors {
		e.pause = backoff{}
		e.fresh = append(e.fresh, e.failed...)
		e.failed = nil
	}
}

// Pause has a resource be left alone until then, because of err.
func (q *Queue) Pause(resource string, until time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(resource).pause = backoff{until: until, wait: time.Until(until), err: err}
}
