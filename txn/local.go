package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// transaction is the open transaction of one session.
type transaction struct {
	m          *Manager
	who        Principal
	gid        GID        // zero until a resource is used
	log        ledger.Log // in which that was given away; no other has a record of its vote or decision by this process
	named      bool       // its client may ask how it ended
	opt        TxOptions
	began      time.Time
	branches   []*enlisted
	savepoints []savepoint
	savepointN int
	failure    error           // of the statement that made it fail
	taken      atomic.Bool     // a resource held a branch of its gid already
	rehearsal  bool            // of Manager.Rehearse
	told       <-chan struct{} // closed when a phase two beside the answer is over; nil without one
	deciding   *enlisted       // whose commit is the decision; nil: the log's record is
	observer   Observer        // nil: nobody
	before     []func(context.Context) error
	after      []func(Ending)
}

// enlisted is a branch and what is known of its progress.
type enlisted struct {
	resource Resource
	branch   Branch
	id       BranchID
	prepared bool // voted VotePrepared
	asked    bool // may have voted before the transaction was to be committed: see Session.ExecLast
	over     bool // ended, needs nothing more
}

// known is the branch and all that is known of it by now.
func (e *enlisted) known() BranchID {
	e.id.Proof = e.branch.Proof()
	return e.id
}

// each runs f for every branch that is not over, in parallel, the last one in
// the caller's goroutine, and returns when all have returned.
func (t *transaction) each(f func(*enlisted) error) error { return t.eachBut(nil, f) }

// eachBut is each without one of them.
func (t *transaction) eachBut(but *enlisted, f func(*enlisted) error) error {
	open := make([]*enlisted, 0, len(t.branches))
	for _, e := range t.branches {
		if !e.over && e != but {
			open = append(open, e)
		}
	}
	errs := make([]error, len(open))
	run := func(i int) {
		if err := f(open[i]); err != nil {
			errs[i] = failedAt(open[i].id.Resource, "", err)
		}
	}
	var others sync.WaitGroup
	for i := range open {
		if i < len(open)-1 {
			others.Go(func() { run(i) })
		} else {
			run(i)
		}
	}
	others.Wait()
	return together(errs...)
}

func (t *transaction) branchIDs() []BranchID {
	ids := make([]BranchID, len(t.branches))
	for i, e := range t.branches {
		ids[i] = e.known()
	}
	return ids
}

// detached is Manager.detached. A rehearsal is called off with who wants it.
func (t *transaction) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.rehearsal {
		return context.WithCancel(ctx)
	}
	return t.m.detached(ctx)
}

// prepare is phase one on all branches. It runs to its end though the client
// be gone. It returns the branches that voted to be prepared.
func (t *transaction) prepare(ctx context.Context, gid GID) ([]BranchID, error) {
	ctx, cancel := t.detached(ctx)
	defer cancel()
	if !t.rehearsal {
		var leave func()
		ctx, leave = t.attended(ctx)
		defer leave()
	}
	phase := begin(t.observer, PartVote, "")
	err := t.eachBut(t.deciding, func(e *enlisted) error {
		if e.prepared {
			return nil
		}
		part := phase.Begin(PartPrepare, e.id.Resource)
		vote, err := e.branch.Prepare(ctx, gid)
		part.End(err)
		if ClassOf(err) == NotOurs {
			t.taken.Store(true)
		}
		if err != nil {
			return err
		}
		e.prepared, e.over = vote == VotePrepared, vote == VoteReadOnly
		t.m.reach(ctx, e.id.Resource, nil)
		return nil
	})
	phase.End(err)
	var ids []BranchID
	for _, e := range t.branches {
		if e.prepared {
			ids = append(ids, e.known())
		}
	}
	return ids, err
}

// attendant sees to it that nobody waits for the answers of resources that stand still: one that is slow has its time,
// Limits.Phase, while one that does not answer at all is found by another question, within Limits.Tell.
type attendant struct {
	t      *transaction
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	asking sync.WaitGroup
}

// attended returns a context that ends where a resource of the transaction does not answer at all. Nobody asks any more when
// leave has returned; the context lives on as it is.
func (t *transaction) attended(ctx context.Context) (_ context.Context, leave func()) {
	a := &attendant{t: t}
	a.ctx, a.cancel = context.WithCancel(ctx)
	a.asking.Add(1)
	a.timer = time.AfterFunc(t.m.opt.Limits.Tell/2, a.ask)
	return a.ctx, a.leave
}

func (a *attendant) leave() {
	if !a.timer.Stop() {
		a.asking.Wait()
	}
}

func (a *attendant) ask() {
	defer a.asking.Done()
	m := a.t.m
	ctx, cancel := context.WithTimeoutCause(a.ctx, m.opt.Limits.Tell/2, silence(m.opt.Limits.Tell/2))
	defer cancel()
	for _, e := range a.t.branches {
		_, err := e.resource.Identity(ctx)
		if a.ctx.Err() == nil && classOfSilence(err) == Unreachable {
			m.reach(ctx, e.id.Resource, err)
			a.cancel()
			return
		}
	}
}

// rollback undoes branches of which none was told to prepare, but for those that voted unsolicited. Those whose
// resource could not be told are told later.
func (t *transaction) rollback(ctx context.Context) error {
	ctx, cancel := t.detached(ctx)
	defer cancel()
	ctx, late := t.m.telling(ctx)
	defer late()
	if t.taken.Load() {
		return t.m.giveAway(ctx, t, t.gid)
	}
	missing, err := t.untold(func(e *enlisted) error {
		end := e.branch.Rollback
		if e.asked {
			end = func(ctx context.Context) error { return e.branch.RollbackPrepared(ctx, t.gid) }
		}
		part := begin(t.observer, PartRollback, e.id.Resource)
		err := end(ctx)
		part.End(err)
		if ClassOf(err) == NotOurs {
			t.taken.Store(true)
		}
		return err
	})
	if t.taken.Load() {
		return errors.Join(err, t.m.taken(ctx, t.gid))
	}
	t.m.abortLater(t.gid, missing)
	return errors.Join(err, t.undone(ctx))
}

// untold ends every branch by f, and returns those of which that failed.
func (t *transaction) untold(f func(*enlisted) error) (missing []BranchID, err error) {
	var mu sync.Mutex
	err = t.each(func(e *enlisted) error {
		err := f(e)
		e.over = true
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, e.known())
		}
		return err
	})
	return missing, err
}

// abortLater has branches rolled back of which no log needs to know (presumed
// abort). By a branch's proof its resource ends the session, too, that could
// not be told, and would keep its locks.
func (m *Manager) abortLater(gid GID, missing []BranchID) {
	if len(missing) > 0 {
		m.pending.Add(&pending.Outcome{GID: gid, Decision: Abort}, missing)
	}
}

// rollbackPrepared undoes branches that were told to prepare, and returns
// those that could not be told. A branch that voted for an outside coordinator
// has left its session and is reached through its resource.
func (t *transaction) rollbackPrepared(ctx context.Context, gid GID) (missing []BranchID) {
	ctx, cancel := t.m.telling(ctx)
	defer cancel()
	missing, err := t.untold(func(e *enlisted) (err error) {
		part := begin(t.observer, PartRollback, e.id.Resource)
		defer func() { part.End(err) }()
		switch {
		case t.m.pending.Paused(e.id.Resource, time.Now()):
			err = notAMomentAgo(e.id.Resource)
		case e == t.deciding:
			err = e.branch.Rollback(ctx)
		case e.prepared && gid.Role == RoleExternal:
			_, err = e.resource.Resolve(ctx, gid, Abort, e.known().Proof)
		default:
			err = e.branch.RollbackPrepared(ctx, gid)
		}
		return err
	})
	if err != nil {
		t.m.log.WarnContext(ctx, "a resource cannot roll back its part yet; recovery tries again",
			slog.String("gid", gid.String()), slog.Any("error", err))
	}
	return missing
}

// left says that the branches no longer belong to the session.
func (t *transaction) left() {
	for _, e := range t.branches {
		e.over = true
	}
}
