package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// transaction is the open transaction of one session.
type transaction struct {
	m          *Manager
	who        Principal
	gid        GID  // zero until a resource is used
	named      bool // its client may ask how it ended
	opt        TxOptions
	began      time.Time
	branches   []*enlisted
	savepoints []savepoint
	savepointN int
	failure    error // of the statement that made it fail
	rehearsal  bool  // of Manager.Rehearse
	before     []func(context.Context) error
	after      []func(Ending)
}

// enlisted is a branch and what is known of its progress.
type enlisted struct {
	resource Resource
	branch   Branch
	id       BranchID
	prepared bool // voted VotePrepared
	over     bool // ended, needs nothing more
}

// each runs f for every branch that is not over, in parallel, the last one in
// the caller's goroutine, and returns when all have returned.
func (t *transaction) each(f func(*enlisted) error) error {
	errs := make([]error, len(t.branches))
	run := func(i int) {
		if e := t.branches[i]; !e.over {
			if err := f(e); err != nil {
				errs[i] = fmt.Errorf("resource %s: %w", e.id.Resource, err)
			}
		}
	}
	var others sync.WaitGroup
	for i := range t.branches {
		if i < len(t.branches)-1 {
			others.Go(func() { run(i) })
		} else {
			run(i)
		}
	}
	others.Wait()
	return errors.Join(errs...)
}

func (t *transaction) branchIDs() []BranchID {
	ids := make([]BranchID, len(t.branches))
	for i, e := range t.branches {
		ids[i] = e.id
	}
	return ids
}

// prepare is phase one on all branches. It runs to its end though the client
// be gone. It returns the branches that voted to be prepared.
func (t *transaction) prepare(ctx context.Context, gid GID) ([]BranchID, error) {
	ctx, cancel := t.m.detached(ctx)
	defer cancel()
	err := t.each(func(e *enlisted) error {
		vote, err := e.branch.Prepare(ctx, gid)
		if err != nil {
			return err
		}
		e.prepared, e.over = vote == VotePrepared, vote == VoteReadOnly
		e.id.Proof = e.branch.Proof()
		return nil
	})
	var ids []BranchID
	for _, e := range t.branches {
		if e.prepared {
			ids = append(ids, e.id)
		}
	}
	return ids, err
}

// rollback undoes branches of which none was told to prepare.
func (t *transaction) rollback(ctx context.Context) error {
	ctx, cancel := t.m.detached(ctx)
	defer cancel()
	err := t.each(func(e *enlisted) error {
		e.over = true
		return e.branch.Rollback(ctx)
	})
	return errors.Join(err, t.undone(ctx))
}

// rollbackPrepared undoes branches that were told to prepare, and returns
// those that could not be told. A branch that voted for an outside coordinator
// has left its session and is reached through its resource.
func (t *transaction) rollbackPrepared(ctx context.Context, gid GID) (missing []BranchID) {
	var mu sync.Mutex
	err := t.each(func(e *enlisted) error {
		var err error
		if e.prepared && gid.Role == RoleExternal {
			_, err = e.resource.Resolve(ctx, gid, Abort, e.id.Proof)
		} else {
			err = e.branch.RollbackPrepared(ctx, gid)
		}
		e.over = true
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, e.id)
		}
		return err
	})
	if err != nil {
		t.m.log.WarnContext(ctx, "cannot roll back a branch yet",
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

// commit decides the transaction here. Warnings tell which resource follows
// later.
func (m *Manager) commit(ctx context.Context, t *transaction) (warning, err error) {
	writers := len(t.branches)
	if !t.named && (t.opt.ReadOnly || writers <= 1) {
		return nil, t.onePhase(ctx)
	}
	detached, cancel := m.detached(ctx)
	defer cancel()
	branches, err := t.prepare(ctx, t.gid)
	m.at("commit: prepared")
	if err != nil {
		return nil, errors.Join(ErrRolledBack, err, m.giveUp(detached, t))
	}
	if len(branches) == 0 && !t.named {
		return nil, nil
	}
	j, err := m.ours(ctx)
	if err == nil {
		err = j.force(record{
			Kind: kindCommit, GID: t.gid, Owner: t.who.User, Addr: t.who.Addr, Database: t.who.Database,
			Decider: t.who.User, Branches: branches,
		})
	}
	switch {
	case InDoubt(err):
		t.left() // recovery decides
		return nil, err
	case err != nil:
		return nil, errors.Join(ErrRolledBack, err, m.giveUp(detached, t))
	}
	m.at("commit: durable")
	return m.carryOut(detached, t, j, branches), nil
}

// giveUp rolls back after a phase one without a decision: no log needs to
// know (presumed abort).
func (m *Manager) giveUp(ctx context.Context, t *transaction) error {
	if missing := t.rollbackPrepared(ctx, t.gid); len(missing) > 0 {
		m.left.add(&leftover{gid: t.gid, decision: Abort, branches: missing})
	}
	return t.undone(ctx)
}

// carryOut is phase two of a transaction that was decided here. What a
// resource cannot be told now is told later.
func (m *Manager) carryOut(ctx context.Context, t *transaction, j *journal, branches []BranchID) (warning error) {
	var mu sync.Mutex
	var missing []BranchID
	err := t.each(func(e *enlisted) error {
		e.over = true
		err := e.branch.CommitPrepared(ctx, t.gid)
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, e.id)
		}
		return err
	})
	m.at("commit: told")
	if err != nil {
		tx := Transaction{
			GID: t.gid, Phase: Committing, Owner: t.who.User, Addr: t.who.Addr, Database: t.who.Database,
			Since: time.Now(), Decider: t.who.User, Branches: branches,
		}
		return errors.Join(fmt.Errorf("committed, but %w", err), m.leave(ctx, j, tx, missing))
	}
	return m.noteEnd(j, t.gid, "", branches, Commit)
}

// leave queues what a local transaction left over, for all to see.
func (m *Manager) leave(ctx context.Context, j *journal, tx Transaction, missing []BranchID) error {
	err := m.rebuild(ctx)
	var c *claim
	if err == nil {
		c, err = m.claims.create(claimState{Transaction: tx, Claimant: j.incarnation, Decision: Commit})
	}
	lo := &leftover{gid: tx.GID, decision: Commit, branches: missing}
	if err == nil {
		lo.claim = claimName(&tx) // without one it is told all the same, and ended by a successor
		err = c.release()
	}
	m.left.add(lo)
	return err
}

// onePhase commits without a log: at most one branch has written.
func (t *transaction) onePhase(ctx context.Context) error {
	ctx, cancel := t.m.detached(ctx)
	defer cancel()
	return t.each(func(e *enlisted) error {
		e.over = true
		err := e.branch.Commit(ctx)
		if !InDoubt(err) {
			return err
		}
		return t.m.outcome(ctx, e, t.gid, err)
	})
}

// outcome asks a resource how a one-phase commit ended whose answer was lost.
func (m *Manager) outcome(ctx context.Context, e *enlisted, gid GID, lost error) error {
	p, ok := e.resource.(Prover)
	if !ok {
		return lost
	}
	d, err := p.Outcome(ctx, gid, e.branch.Proof())
	switch {
	case err != nil:
		return errors.Join(lost, err)
	case d == Abort:
		return fmt.Errorf("%w: the resource lost the connection and rolled back", ErrRolledBack)
	}
	return nil
}
