package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
	"github.com/fdtserver/fdt/txn/xa"
)

// tell tells the branches a decision, in parallel. It returns the resources that
// did as told, the branches that could not be told, with why, and what went
// against the decision.
func (m *Manager) tell(ctx context.Context, gid GID, d Decision, branches []BranchID) (told []string, missing []BranchID, hazard string, err error) {
	errs := make([]error, len(branches))
	hazards := make([]string, len(branches))
	phase := begin(observerOf(ctx), PartTell, "")
	each := PartCommit
	if d == Abort {
		each = PartRollback
	}
	var wg sync.WaitGroup
	for i, b := range branches {
		if m.pending.Paused(b.Resource, time.Now()) {
			errs[i] = notAMomentAgo(b.Resource)
			continue
		}
		wg.Go(func() {
			within, cancel := m.telling(ctx)
			defer cancel()
			part := phase.Begin(each, b.Resource)
			defer func() { part.End(errs[i]) }()
			hazards[i], errs[i] = m.tellOne(within, gid, d, b, true)
			m.fared(ctx, b.Resource, errs[i])
		})
	}
	wg.Wait()
	for i, b := range branches {
		switch {
		case errs[i] != nil:
			missing = append(missing, b)
		case hazards[i] == "": // else a successor is to meet the hazard, too
			told = append(told, b.Resource)
		}
		hazard = xa.JoinHazards(hazard, hazards[i])
	}
	err = together(errs...)
	phase.End(err)
	return told, missing, hazard, err
}

func notAMomentAgo(resource string) error {
	return fmt.Errorf("%w: resource %s did not answer a moment ago", ErrUnreachable, resource)
}

// tellOne tells one branch a decision, and returns what went against that. Of a transaction that nobody waits for it is no
// matter that a branch is gone: nothing but a decision, of which there was none, or a person would have committed it.
func (m *Manager) tellOne(ctx context.Context, gid GID, d Decision, b BranchID, awaited bool) (hazard string, err error) {
	r, err := m.resource(ctx, b)
	if err != nil {
		if hazard, err = m.givenUp(b, d, err); !awaited {
			hazard = ""
		}
		return hazard, err
	}
	how, err := r.Resolve(ctx, gid, d, b.Proof)
	switch {
	case err != nil:
		return "", failedAt(b.Resource, "", err)
	case how == ResolvedUnknown && awaited:
		return fmt.Sprintf("resource %s: the branch is gone, its outcome unknown (wanted %s)", b.Resource, d), nil
	case how == ResolvedAgainst:
		return fmt.Sprintf("resource %s: the branch has the opposite outcome (wanted %s)", b.Resource, d), nil
	}
	return "", nil
}

// noteTold keeps in a decided transaction's claim that a resource did as told.
func (m *Manager) noteTold(ctx context.Context, o *pending.Outcome, resource string) error {
	if o.Claim == "" {
		return nil // a rollback, harmless to tell again, or the claim could not be made
	}
	o.Claiming.Lock()
	defer o.Claiming.Unlock()
	c, err := m.ledger.Take(ctx, o.Claim)
	if err != nil {
		return ignoreNotExist(err)
	}
	return ledger.With(c, func(c *ledger.Claim) error {
		if !m.isOurs(o, &c.State) || c.Decision != o.Decision {
			return nil
		}
		return c.Acknowledge(resource)
	})
}

// settleClaim does what is to be done about a transaction's claim: looks at one
// that was at work before, or ends one of which all resources know the outcome.
func (m *Manager) settleClaim(ctx context.Context, o *pending.Outcome) error {
	if o.Decision == 0 {
		return m.lookAgain(ctx, o)
	}
	return m.finish(ctx, o)
}

// lookAgain adopts what recovery found at work, if its claim is free by now and
// it was left as it was. What cannot be looked at is the next scan's.
func (m *Manager) lookAgain(ctx context.Context, o *pending.Outcome) error {
	c, err := m.ledger.TryTake(ctx, o.Claim)
	if errors.Is(err, ledger.ErrHeld) {
		return err
	}
	m.pending.Drop(o)
	if err == nil {
		err = ledger.With(c, func(c *ledger.Claim) error { return m.takeOver(ctx, c, o.GID, m.ledger.DeadLogs(ctx)) })
	}
	m.warn(ctx, "look at a transaction again", ignoreNotExist(err))
	return nil
}

// finish notes the end of a transaction of which all resources know the
// outcome.
func (m *Manager) finish(ctx context.Context, o *pending.Outcome) error {
	if o.Claim == "" {
		err := m.endUnnamed(ctx, o)
		if err == nil {
			m.toldAll(ctx, o)
		}
		return err
	}
	o.Claiming.Lock()
	defer o.Claiming.Unlock()
	w := &errand{m: m, name: o.Claim, of: o, hazard: m.pending.Hazard(o, "")}
	err := w.run(ctx, job{task: taskFinish, gid: o.GID, hazard: w.hazard != ""})
	switch {
	case errors.Is(w.absent, ledger.ErrHeld):
		return w.absent
	case err == nil:
		m.pending.Drop(o) // also where it is another's by now
	}
	return err
}

// endUnnamed notes the end of a transaction whose name is another's. Others that have no claim need no end.
func (m *Manager) endUnnamed(ctx context.Context, o *pending.Outcome) error {
	hazard := m.pending.Hazard(o, "")
	if o.Open && hazard != "" {
		m.log.InfoContext(ctx, "a commit whose answer was lost has committed", slog.String("gid", o.GID.String()))
		return nil
	}
	if o.Unnamed == nil {
		m.hazard(ctx, &Transaction{GID: o.GID}, o.Decision, hazard)
		return nil
	}
	j, err := m.ledger.Log(ctx)
	if err == nil {
		err = m.noteEnd(j, o.GID, hazard, o.Unnamed.Branches, o.Decision)
	}
	if err == nil {
		m.hazard(ctx, o.Unnamed, o.Decision, hazard)
	}
	return err
}

// toldAll takes note that nothing is pending any more.
func (m *Manager) toldAll(ctx context.Context, o *pending.Outcome) {
	m.pending.Drop(o)
	if m.pending.Hazard(o, "") == "" {
		m.log.InfoContext(ctx, "all resources have carried out the decision",
			slog.String("gid", o.GID.String()), slog.String("decision", o.Decision.String()))
	}
}

// stillOurs tells whether it is still this process that has to tell the
// decision; what is not is dropped. The claim is only read: another that works
// on it can but tell the same, and its end is noted under its lock.
func (m *Manager) stillOurs(ctx context.Context, o *pending.Outcome) (bool, error) {
	if o.Claim == "" {
		return true, nil
	}
	st, err := m.ledger.Peek(ctx, o.Claim)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	ours := err == nil && m.isOurs(o, &st)
	if !ours {
		m.pending.Drop(o)
	}
	return ours, nil
}

func (m *Manager) isOurs(o *pending.Outcome, st *ledger.State) bool {
	return st.GID == o.GID && !st.Phase.Terminal() && (st.Claimant == 0 || st.Claimant == m.ledger.Incarnation())
}
