package txn

import (
	"context"
	"errors"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// behind does what there is to do about a claim that is behind the logs, of which h is what they say.
func (r *recovery) behind(ctx context.Context, st *ledger.State, h *ledger.History) (bool, error) {
	what, some := planClaim(factsOf(st), h, r.gone, r.m.ledger.Done)
	if !some {
		return false, nil
	}
	w := &errand{m: r.m, name: ledger.ClaimName(&st.Transaction), found: st, last: r.last}
	if h != nil {
		w.hazard = h.Tx.Hazard
	}
	err := w.run(ctx, job{task: what, gid: st.GID, hazard: w.hazard != ""})
	if errors.Is(w.absent, ledger.ErrHeld) {
		r.m.pending.Look(st.GID, w.name) // somebody works on it, and may leave it as it was
	}
	return what == taskConclude, err
}

// gone tells whether all that the incarnation had to say was in the logs when
// they were read: it was sealed before, or its log was needed no longer.
func (r *recovery) gone(n uint64) bool {
	if r.s.Has(n) {
		return r.dead[n]
	}
	return r.m.ledger.Gone(n)
}

// finishUnnamed has a transaction carried out that is decided and has no claim, as its name is another's.
func (r *recovery) finishUnnamed(h *ledger.History) {
	if !r.m.pending.Has(h.Tx.GID) {
		r.m.pending.Add(&pending.Outcome{GID: h.Tx.GID, Decision: h.Decision, Unnamed: &h.Tx}, h.Tx.Branches)
	}
}

// restate notes once more that what is superseded has ended and is forgotten, before the proof of it may go.
func (r *recovery) restate(ctx context.Context) error {
	var lost []GID
	for gid, h := range r.s.Histories {
		if h.Superseded && h.Within(r.dead) {
			lost = append(lost, gid)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	j, err := r.m.ledger.Log(ctx)
	for _, gid := range lost {
		if err == nil {
			_, err = j.Note(ledger.Record{Kind: ledger.KindEnd, GID: gid})
		}
		if err == nil {
			err = j.Force(ledger.Record{Kind: ledger.KindForget, GID: gid})
		}
	}
	return err
}
