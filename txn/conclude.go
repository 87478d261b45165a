package txn

import (
	"errors"
	"io/fs"
	"os"
)

// conclude ends the claim of a transaction that has ended, by what the logs say
// or no longer say, where whoever carried it on died before the claim said so
// too; and drops that of an outcome that is no longer kept. Nobody else would:
// the logs leave nothing to do.
func (r *recovery) conclude(st *claimState, h *history) error {
	c, err := r.m.claims.tryTake(claimName(&st.Transaction))
	switch {
	case errors.Is(err, errHeld):
		r.m.left.look(st.GID, claimName(&st.Transaction)) // somebody works on it, and may leave it as it was
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil // somebody did
	case err != nil:
		return err
	case c.GID != st.GID || c.Phase != st.Phase || c.Claimant != st.Claimant:
		return c.release()
	case c.Phase.Terminal():
		return c.remove()
	case h == nil:
		return r.m.concluded(c, "")
	}
	return r.m.concluded(c, h.tx.Hazard)
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
