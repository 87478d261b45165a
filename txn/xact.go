package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

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
	if s.tx.outside() {
		return 0, s.m.errOutside()
	}
	if !s.tx.named {
		if err := j.Force(ledger.Record{Kind: ledger.KindNamed, GID: s.tx.gid}); err != nil {
			return 0, err
		}
		s.tx.named = true
	}
	return s.tx.gid.XID(), nil
}

// number makes sure that the open transaction has a gid.
func (s *Session) number(ctx context.Context) (ledger.Log, error) {
	if s.tx.log != nil {
		return s.tx.log, nil
	}
	j, err := s.m.logOf(ctx)
	if err == nil {
		if s.tx.gid, err = j.Number(RoleLocal); err == nil {
			s.tx.log = j
			s.m.work.begin(s.tx.gid)
			if s.numbered != nil {
				s.numbered(s.tx.gid)
			}
		}
	}
	return j, err
}

// undone notes that a transaction somebody may ask for is rolled back. Without
// that it would count as in progress while this process lives.
func (t *transaction) undone(ctx context.Context) error {
	if !t.named {
		return nil
	}
	j, err := t.m.ledger.Log(ctx)
	if err == nil {
		_, err = j.Note(ledger.Record{Kind: ledger.KindEnd, GID: t.gid})
	}
	return err
}

// XactStatus tells how the transaction stands that Session.XID named, of this
// process or of another, alive or dead. The answer is kept for Limits.Retain;
// after Session.Acknowledge until the log is next shortened. Committed and
// aborted are final. ErrFutureXID if the id was never given away.
func (m *Manager) XactStatus(ctx context.Context, id XID) (status XactStatus, err error) {
	home := id.GID(m.ledger.ID(), RoleLocal).Incarnation
	alive, err := m.ledger.Alive(home)
	if err != nil {
		return "", err
	}
	s, err := m.ledger.LookUp(ctx, home, id.GID(m.ledger.ID(), RoleLocal), id.GID(m.ledger.ID(), RoleExternal))
	if err != nil {
		return "", err
	}
	switch gid := s.Named(id.GID(m.ledger.ID(), RoleLocal)); {
	case s.Damaged[home] != nil && s.Histories[gid] == nil:
		return "", fmt.Errorf("%w: %w", ErrUnknownOutcome, s.Damaged[home])
	case !s.Given(home) || s.Has(home) && gid.Sequence > s.Reserved[home] && s.Damaged[home] == nil:
		return "", fmt.Errorf("%w: %d", ErrFutureXID, id)
	case s.Histories[gid] == nil || !s.Histories[gid].Whole():
		return XactUnknown, nil
	case s.Histories[gid].State(s).HandsOff != "":
		return "", fmt.Errorf("%w: %w", ErrUnknownOutcome, leftAlone(s.Histories[gid].State(s).HandsOff))
	default:
		return m.status(ctx, s.Histories[gid], alive)
	}
}

// status is how a transaction stands of which the logs know all. A record of a
// living process may not be durable yet, while what the claim says always is.
func (m *Manager) status(ctx context.Context, h *ledger.History, alive bool) (XactStatus, error) {
	phase := h.Phase()
	if !h.Ended {
		st, err := m.ledger.Peek(ctx, ledger.ClaimName(&h.Tx))
		switch {
		case err == nil && st.GID == h.Tx.GID:
			phase = st.Phase
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		case alive:
			return XactInProgress, nil
		case h.Decision == 0 && !h.Prepared:
			return XactAborted, nil // presumed
		}
	}
	switch phase {
	case Committing, Committed:
		return XactCommitted, nil
	case Aborting, Aborted:
		if h.Decision == 0 && !h.EndNoted() {
			return XactUnknown, nil // only acknowledged, under its coordinator's name
		}
		return XactAborted, nil
	case Preparing, Prepared:
	}
	return XactInProgress, nil
}
