package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// XID names a transaction of one log directory in 63 bits, for a client that
// may have to ask how it ended: SQL's pg_current_xact_id(). Like a gid it is
// never used again, but for a log that is lost: PostgreSQL's begins anew with
// its cluster, too.
type XID uint64

// sequenceBits of an XID are the sequence number, those above the incarnation.
const sequenceBits = 36

func (g GID) xid() XID { return XID(g.Incarnation<<sequenceBits | g.Sequence) }

func (x XID) gid(log LogID, r Role) GID {
	return GID{Log: log, Incarnation: uint64(x >> sequenceBits), Sequence: uint64(x) & maxSequence, Role: r}
}

// XactStatus is how a transaction stands, in the words of SQL's
// pg_xact_status().
type XactStatus string

// The answers. InProgress is also that of a transaction in doubt, and of one
// whose commit is under way; it never lasts longer than the worker that runs
// it, or than the doubt.
const (
	XactUnknown    XactStatus = "" // never asked for by Session.XID, or too long ago
	XactInProgress XactStatus = "in progress"
	XactCommitted  XactStatus = "committed" // decided and durable, though a resource may be yet to follow
	XactAborted    XactStatus = "aborted"
)

// XID returns the open transaction's id, with which any process can tell by
// Manager.XactStatus how it ended: for a client that loses the answer to
// COMMIT. It begins to use the transaction, so it has the errors of Branch, and
// costs a forced write the first time; a commit is always in two phases then,
// with a record in the log, also if only one resource takes part.
func (s *Session) XID(ctx context.Context) (XID, error) {
	if err := s.step(EventUse); err != nil {
		return 0, err
	}
	if err := s.late(); err != nil {
		return 0, err
	}
	j, err := s.number(ctx)
	if err != nil {
		return 0, err
	}
	if !s.tx.named {
		if err := j.force(record{Kind: kindNamed, GID: s.tx.gid}); err != nil {
			return 0, err
		}
		s.tx.named = true
	}
	return s.tx.gid.xid(), nil
}

// number makes sure that the open transaction has a gid.
func (s *Session) number(ctx context.Context) (*journal, error) {
	j, err := s.m.ours(ctx)
	if err == nil && s.tx.gid.IsZero() {
		s.tx.gid, err = j.gid(RoleLocal)
	}
	return j, err
}

// undone notes that a transaction somebody may ask for is rolled back. Without
// that it would count as in progress while this process lives.
func (t *transaction) undone(ctx context.Context) error {
	if !t.named {
		return nil
	}
	j, err := t.m.ours(ctx)
	if err == nil {
		_, err = j.note(record{Kind: kindEnd, GID: t.gid})
	}
	return err
}

// XactStatus tells how the transaction stands that Session.XID named, of this
// process or of another, alive or dead. The answer is kept for Limits.Retain;
// after Session.Acknowledge until the log is next shortened. Committed and
// aborted are final. ErrFutureXID if the id was never given away.
func (m *Manager) XactStatus(ctx context.Context, id XID) (status XactStatus, err error) {
	if err := m.rebuild(ctx); err != nil {
		return "", err
	}
	home := id.gid(m.home.id, RoleLocal).Incarnation
	alive, err := m.home.alive(home)
	if err != nil {
		return "", err
	}
	unlock, err := m.home.lock(ctx, "seal")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if !alive {
		if err := m.home.seal(home); err != nil { // only what is durable counts
			return "", fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		}
	}
	s, err := m.home.survey(home)
	if err == nil && s.named(id.gid(m.home.id, RoleExternal)).Role == RoleExternal {
		s, err = m.home.survey() // another may have decided it
	}
	if err != nil {
		return "", err
	}
	switch gid := s.named(id.gid(m.home.id, RoleLocal)); {
	case s.damaged[home] != nil && s.histories[gid] == nil:
		return "", fmt.Errorf("%w: %w", ErrUnknownOutcome, s.damaged[home])
	case home > s.highest || s.records[home] != nil && gid.Sequence > s.reserved[home] && s.damaged[home] == nil:
		return "", fmt.Errorf("%w: %d", ErrFutureXID, id)
	case s.histories[gid] == nil || !s.histories[gid].whole():
		return XactUnknown, nil
	case s.histories[gid].claim(s).HandsOff != "":
		return "", fmt.Errorf("%w: %s", ErrUnknownOutcome, s.histories[gid].claim(s).HandsOff)
	default:
		return m.status(s.histories[gid], alive)
	}
}

// whole tells whether all records of the transaction are still there: those of
// its first moment go first.
func (h *history) whole() bool {
	for _, s := range h.seen {
		if s.low == kinds[kindNamed].rank {
			return true
		}
	}
	return false
}

// status is how a transaction stands of which the logs know all. A record of a
// living process may not be durable yet, while what the claim says always is.
func (m *Manager) status(h *history, alive bool) (XactStatus, error) {
	phase := h.phase()
	if !h.ended {
		st, err := readClaim(m.claims.path(claimName(&h.tx)))
		switch {
		case err == nil && st.GID == h.tx.GID:
			phase = st.Phase
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		case alive:
			return XactInProgress, nil
		case h.decision == 0 && !h.prepared:
			return XactAborted, nil // presumed
		}
	}
	switch phase {
	case Committing, Committed:
		return XactCommitted, nil
	case Aborting, Aborted:
		if h.decision == 0 && !slices.ContainsFunc(h.seen, func(s seen) bool { return s.end }) {
			return XactUnknown, nil // only acknowledged, under its coordinator's name
		}
		return XactAborted, nil
	case Preparing, Prepared:
	}
	return XactInProgress, nil
}
