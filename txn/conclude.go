package txn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// conclude ends the claims of transactions that have ended, by what the logs
// say or no longer say, where whoever carried them on died before the claim
// said so too; and drops those of outcomes that are no longer kept. Nobody else
// would: the logs leave nothing to do.
func (r *recovery) conclude() {
	for gid, st := range r.held {
		h := r.s.histories[gid]
		if !r.over(&st, h) {
			continue
		}
		c, err := r.m.claims.tryTake(claimName(&st.Transaction))
		switch {
		case errors.Is(err, errHeld):
			r.m.left.look(gid, claimName(&st.Transaction)) // somebody works on it, and may leave it as it was
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // somebody did
		case err != nil:
		case c.GID != gid || c.Phase != st.Phase || c.Claimant != st.Claimant:
			err = c.release()
		case c.Phase.Terminal():
			err = c.remove()
		case h == nil:
			err = r.m.concluded(c, "")
		default:
			err = r.m.concluded(c, h.tx.Hazard)
		}
		if err != nil {
			r.add(fmt.Errorf("conclude %s: %w", gid, err))
		}
		delete(r.held, gid)
	}
}

// over tells whether a claim is behind the logs, which h is taken from.
func (r *recovery) over(st *claimState, h *history) bool {
	switch {
	case st.Phase == Prepared, st.Phase.Terminal() && st.operatorOnly():
		return false
	case h == nil: // never noted, or done and dropped
		return r.gone(st.Claimant)
	case st.Phase.Terminal():
		return r.m.done(h)
	}
	return h.ended && r.gone(st.Claimant)
}

// gone tells whether all that the incarnation had to say was in the logs when
// they were read: it was sealed before, or its log was needed no longer.
func (r *recovery) gone(n uint64) bool {
	if r.s.records[n] != nil {
		return r.dead[n]
	}
	_, err := os.Stat(r.m.home.path(logName(n)))
	return errors.Is(err, fs.ErrNotExist)
}
