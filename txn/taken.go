package txn

import (
	"context"
	"errors"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// A gid is given away once. If a resource holds a branch of it already, the log
// is an older copy, as after a virtual machine was set back to a snapshot, and
// that branch may be the vote of a transaction which only the lost log knows.
// So may be any other that this log does not know. Nothing is resolved by such
// a gid, and nothing is presumed of any: an operator decides.

// giveAway gives up a transaction whose gid is another's. Its sessions undo what
// they have not prepared. The log says so, durably, before this process ends:
// its successors presume nothing any more.
func (m *Manager) giveAway(ctx context.Context, t *transaction, gid GID) error {
	_, err := t.untold(func(e *enlisted) error {
		if e.prepared {
			return nil
		}
		return e.branch.Rollback(ctx)
	})
	return errors.Join(err, m.taken(ctx, gid))
}

// taken notes that a gid is another's, and ends this process's part.
func (m *Manager) taken(ctx context.Context, gid GID) error {
	j, err := m.ledger.Log(ctx)
	if err == nil {
		err = j.Force(ledger.Record{Kind: ledger.KindTaken, GID: gid})
	}
	m.alarm(ctx, action{gid: gid, why: ledger.OlderCopy(gid)})
	m.ledger.Fail(errors.New(ledger.OlderCopy(gid)))
	return err
}
