package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// This file does what the rules say of a transaction that is decided here, beside what is in drive.go.

// errDeciderLost is a commit of which the decider knows nothing.
var errDeciderLost = errors.New("the decider lost the connection, and rolled back")

// commit decides the transaction here. Warnings tell which resource follows later.
func (m *Manager) commit(ctx context.Context, t *transaction) (warning, err error) {
	w := &errand{m: m, t: t, who: t.who}
	j := job{task: taskCommit, gid: t.gid, named: t.named, early: m.opt.AnswerDecided}
	switch {
	case !t.named && len(t.branches) == 0:
		return nil, nil
	case !t.named && (t.opt.ReadOnly || len(t.branches) == 1 && !t.branches[0].asked):
		j.way = inOnePhase
	case t.outside():
		return nil, errors.Join(m.errOutside(), t.rollback(ctx))
	default:
		if t.deciding = m.deciding(t); t.deciding != nil {
			j.way, w.at = byDecider, t.deciding.id
		}
	}
	err = w.run(ctx, j)
	return w.warning, err
}

// deciding returns the branch whose commit is to be the decision; nil if that is the log's record, which takes a quarter of
// the time of a row that is written for it alone. A client may ask the log for what it has named.
func (m *Manager) deciding(t *transaction) *enlisted {
	if m.decider == nil || t.named {
		return nil
	}
	for _, e := range t.branches {
		if _, ok := e.branch.(DecidingBranch); ok && e.id.Resource == m.opt.Decider {
			return e
		}
	}
	return nil
}

// askAgain asks once more for a decision whose answer was lost, and has it carried out.
func (m *Manager) askAgain(ctx context.Context, o *pending.Obligation) error {
	within, cancel := m.within(ctx)
	defer cancel()
	w := &errand{m: m, at: o.Branch, record: o.Of.Asking}
	err := w.run(within, job{task: taskAsk, gid: o.Of.GID, way: byDecider})
	m.pending.Back(o, time.Now(), m.fared(ctx, o.Branch.Resource, w.unasked), w.unasked)
	return errors.Join(err, w.warning)
}

// takeIn notes a commit that a decider has in our own log, durably, and has it carried out. It tells whether the decider
// may drop it.
func (m *Manager) takeIn(ctx context.Context, commit *ledger.Record) (dropped bool, err error) {
	w := &errand{m: m, record: commit}
	err = w.run(ctx, job{task: taskTakeIn, gid: commit.GID, way: byDecider})
	return w.dropped, errors.Join(err, w.warning)
}

// decision is the record of a commit.
func (t *transaction) decision(branches []BranchID) *ledger.Record {
	return &ledger.Record{
		Kind: ledger.KindCommit, At: time.Now(), GID: t.gid, Owner: t.who.User, Addr: t.who.Addr, Database: t.who.Database,
		Decider: t.who.User, Branches: branches,
	}
}

// decidedHere tells whether a task is about a transaction that no outside coordinator decides, until it has a claim.
func (s *job) decidedHere() bool {
	return s.task == taskCommit || s.task == taskRehearse || s.task == taskAsk || s.task == taskTakeIn
}

// lost is branches that may have committed in one phase, and how their answers were lost.
type lost struct {
	mu       sync.Mutex
	branches []*enlisted
	errs     []error
}

func (l *lost) add(e *enlisted, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.branches = append(l.branches, e)
	l.errs = append(l.errs, failedAt(e.id.Resource, "", err))
}

// commit commits in one phase. An error for which InDoubt holds says that some may have committed. From a resource that
// stands still nobody waits for that any longer, and no more is asked of it.
func (w *errand) commit() error {
	w.detach()
	var leave func()
	w.ctx, leave = w.t.attended(w.ctx)
	defer leave()
	err := w.t.each(func(e *enlisted) error {
		e.over = true
		part := begin(w.t.observer, PartCommit, e.id.Resource)
		err := e.branch.Commit(w.ctx)
		part.End(err)
		switch {
		case err == nil:
			w.m.reach(w.ctx, e.id.Resource, nil)
		case InDoubt(err):
			w.lost.add(e, err)
			return nil
		default:
			if untold := e.branch.Rollback(w.ctx); untold != nil {
				w.m.abortLater(w.t.gid, []BranchID{e.known()})
			}
		}
		return err
	})
	if len(w.lost.branches) == 0 {
		return err
	}
	if err != nil {
		w.errs = append(w.errs, err)
	}
	for _, e := range w.lost.branches {
		w.missing = append(w.missing, e.known())
	}
	return together(w.lost.errs...)
}

// prove asks resources how a one-phase commit ended whose answer was lost.
func (w *errand) prove(in *input) error {
	for _, e := range w.lost.branches {
		r, err := w.m.resource(w.ctx, e.id) // a proof means something in its own store only
		if err != nil {
			return err
		}
		p, ok := r.(Prover)
		if !ok {
			return fmt.Errorf("%w: resource %s cannot tell", ErrUnknownOutcome, e.id.Resource)
		}
		d, err := p.Outcome(w.ctx, w.t.gid, e.branch.Proof())
		if err != nil {
			return err
		}
		if in.stands != Abort {
			in.stands = d
		}
	}
	w.errs = w.errs[:len(w.errs)-1] // its answer is known now
	switch {
	case len(w.errs) > 0: // another has refused
		in.stands = Abort
	case in.stands == Abort:
		w.errs = append(w.errs, errors.New("the resource lost the connection and rolled back"))
	}
	return nil
}

// decide commits the deciding branch.
func (w *errand) decide(j *job) error {
	w.detach()
	var leave func()
	w.ctx, leave = w.t.attended(w.ctx)
	defer leave()
	w.record = w.t.decision(w.voted)
	b, _ := w.t.deciding.branch.(DecidingBranch) // see Manager.deciding
	w.m.at("commit: deciding")
	part := begin(w.t.observer, PartDecide, w.at.Resource)
	err := b.CommitDeciding(w.ctx, j.gid, w.record.Encode())
	part.End(err)
	w.t.deciding.over = err == nil
	return err
}

// ask asks the decider how the transaction is decided.
func (w *errand) ask(j *job, in *input) error {
	_, err := w.m.resource(w.ctx, w.at) // another store knows nothing of it
	if err == nil {
		var stand map[GID]Decision
		stand, err = w.m.decider.Decide(w.ctx, Abort, j.gid)
		err, in.stands = failedAt(w.at.Resource, "ask for the decision", err), stand[j.gid]
	}
	if err != nil {
		w.unasked = err
		return err
	}
	w.errs = nil // the answer is known now
	switch {
	case in.stands == Abort && w.t != nil:
		w.errs = []error{errDeciderLost}
	case w.t != nil:
		w.t.deciding.over = true
	}
	return nil
}

// tellHere tells the branches that they are committed. Who has heard it has ended.
func (w *errand) tellHere(j *job, in *input) {
	within, cancel := w.m.telling(w.ctx)
	defer cancel()
	phase := begin(w.t.observer, PartTell, "")
	var err error
	w.missing, err = w.t.untold(func(e *enlisted) error {
		part := phase.Begin(PartCommit, e.id.Resource)
		err := e.branch.CommitPrepared(within, j.gid)
		part.End(err)
		return err
	})
	phase.End(err)
	if in.missing = err != nil; in.missing {
		w.errs = append(w.errs, fmt.Errorf("committed, but %w", err))
	}
}

// createHere makes the claim of what is committed and that some are yet to be told.
func (w *errand) createHere(f facts) (err error) {
	st := ledger.State{Transaction: w.record.Transaction(), Claimant: f.claimant, Decision: f.decision}
	for _, b := range st.Branches {
		if w.t != nil && !slices.ContainsFunc(w.missing, func(m BranchID) bool { return m.Resource == b.Resource }) {
			st.Told = append(st.Told, b.Resource)
		}
	}
	w.name = ledger.ClaimName(&st.Transaction)
	w.c, err = w.m.ledger.Create(w.ctx, st)
	return err
}

// sweep has removed what is needed no more once that is durable.
func (w *errand) sweep(j *job) {
	switch {
	case j.task == taskForget:
		w.m.swept.forget(w.c.GID, forgotten{claim: w.name, noted: w.noted})
	case j.task == taskTakeIn:
		w.dropped = true
	case j.at == atEnding: // all know it
		p := proofs{resources: w.m.keepers(w.record.Branches), decision: true}
		if len(p.resources) > 0 {
			p.end = w.noted
		}
		w.m.swept.add(j.gid, p)
	default:
		w.m.swept.add(j.gid, proofs{decision: true})
	}
}

// answerHere is what the client is told of a commit.
func (w *errand) answerHere(e effect) error {
	err := together(w.errs...)
	switch {
	case e.sure:
		w.warning = err
		return nil
	case e.err != nil && err != nil:
		return fmt.Errorf("%w: %w", e.err, err)
	case e.err != nil:
		return e.err
	}
	return err
}
