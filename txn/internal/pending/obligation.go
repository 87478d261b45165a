package pending

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fdtserver/fdt/txn/xa"
)

// An executor makes the calls by which one resource is told what it is yet to
// be told, each with a deadline of its own. Its width bounds how many are under
// way at once; those that failed before may take but a part of it, so that the
// branches which hang never keep out one that would not.
const (
	Width          = 4
	executorTrying = 2
)

// Obligation is one thing that a resource is yet to be told: what becomes of a
// transaction's branch, prepared or not. Without a resource it is what is to be
// done about the transaction's claim.
type Obligation struct {
	Of     *Outcome
	Branch xa.BranchID
	wait   time.Duration // its last pause; 0: it has not failed
	due    time.Time     // after a failure
	trying bool          // it had failed before it was taken
}

// executor is the obligations of one resource. Guarded by Queue.mu.
type executor struct {
	fresh   []*Obligation // that have not failed, or only since the resource did
	failed  []*Obligation // by when they are due
	running int           // calls that were begun and have not ended
	taken   int           // obligations that they have in hand
	trying  int           // of those
	pause   backoff
}

// later puts an obligation among those that failed.
func (e *executor) later(o *Obligation) {
	at, _ := slices.BinarySearchFunc(e.failed, o, func(a, b *Obligation) int { return a.due.Compare(b.due) })
	e.failed = slices.Insert(e.failed, at, o)
}

// backoff is when to ask a resource again that could not be reached.
type backoff struct {
	until time.Time
	wait  time.Duration
	err   error // why
}

// The pauses grow from backoffFirst to backoffMost for a branch, which is asked for beside others, and to pauseMost for a
// resource: what is decided keeps its locks until the resource is found to be back, and one question at a time costs it little.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 30 * time.Second
	pauseMost    = 5 * time.Second
)

// grow doubles the pause, to which chance adds up to as much again, and returns
// the time of its end.
func grow(wait *time.Duration, most time.Duration, now time.Time) time.Time {
	*wait = min(max(2**wait, backoffFirst), most)
	return now.Add(*wait/2 + rand.N(*wait))
}

// next returns when something can be taken; false if nothing waits, or only for
// calls that are under way.
func (e *executor) next() (at time.Time, any bool) {
	switch {
	case e.running >= Width:
		return at, false // the end of one wakes us
	case len(e.fresh) > 0:
		return e.pause.until, true
	case len(e.failed) > 0 && e.trying < executorTrying:
		at = e.failed[0].due
		if e.pause.until.After(at) {
			at = e.pause.until
		}
		return at, true
	}
	return at, false
}

// of returns the executor of a resource. The caller holds mu.
func (q *Queue) of(resource string) *executor {
	e := q.executors[resource]
	if e == nil {
		e = &executor{}
		q.executors[resource] = e
	}
	return e
}

// Begin returns the executors that have something to do now, each once for
// every call that it may begin, which ends with end.
func (q *Queue) Begin(now time.Time) (names []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, e := range q.executors {
		coming := e.running - e.taken // calls that are yet to take one, or to end; one that hangs has its own
		for ready := len(e.fresh) + len(e.failed) - coming; ready > 0; ready-- {
			if at, any := e.next(); !any || now.Before(at) {
				break
			}
			e.running++
			names = append(names, name)
		}
	}
	return names
}

func (q *Queue) End(resource string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.executors[resource].running--
	q.signal()
}

// Take returns what to tell the resource next, nil if there is nothing now.
func (q *Queue) Take(resource string, now time.Time) *Obligation {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.executors[resource]
	if now.Before(e.pause.until) {
		return nil
	}
	for len(e.fresh) > 0 {
		o := e.fresh[0]
		e.fresh = e.fresh[1:]
		if q.queue[o.Of.GID] == o.Of {
			e.taken++
			return o
		}
	}
	for e.trying < executorTrying && len(e.failed) > 0 && !now.Before(e.failed[0].due) {
		o := e.failed[0]
		e.failed = e.failed[1:]
		if q.queue[o.Of.GID] == o.Of {
			o.trying = true
			e.taken++
			e.trying++
			return o
		}
	}
	return nil
}

// Back takes note that a call has returned, and returns how many are still to
// be told of its transaction. After an error it is made again: soon where the
// resource cannot be reached, which is not the branch's fault.
func (q *Queue) Back(o *Obligation, now time.Time, class xa.Class, err error) (open int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.executors[o.Branch.Resource]
	e.taken--
	if o.trying {
		o.trying = false
		e.trying--
	}
	switch {
	case err == nil:
		o.Of.open--
	case class == xa.Unreachable:
		e.fresh = append(e.fresh, o)
	default:
		o.due = grow(&o.wait, backoffMost, now)
		e.later(o)
	}
	return o.Of.open
}

// Struggles tells whether some branch on the resource has failed and waits.
func (q *Queue) Struggles(resource string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.executors[resource]
	return len(e.failed) > 0 || e.pause.err != nil
}

func (q *Queue) Paused(resource string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Before(q.of(resource).pause.until)
}

// Fared notes whether a resource could be reached, and returns how it had fared
// before. One that is back is told at once all that waits for it.
func (q *Queue) Fared(resource string, now time.Time, err error) (was error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.of(resource)
	p := &e.pause
	was = p.err
	switch {
	case err == nil && was == nil:
		return nil
	case err == nil:
		*p = backoff{}
		for _, o := range e.failed {
			o.due = now
		}
		q.signal()
		return was
	}
	if now.Before(p.until) {
		return was // one failure of several at once
	}
	p.err = err
	p.until = grow(&p.wait, pauseMost, now)
	return was
}
