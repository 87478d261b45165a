package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// Settled is what ResolveAll found or did about one transaction.
type Settled struct {
	Transaction        // as it stands now
	Left        string `json:"left,omitempty"` // why it is still open; empty once it has ended
}

// ResolveAll does at once what recovery does in time, with or without workers:
// it rolls back what dead workers left undecided, and tells every decision to
// the resources that are yet to know it. What is in doubt it leaves to its
// coordinator, unless rest is a decision, an operator's then as by Decide. It
// returns every transaction that was open, in the order of List. The error
// tells what recovery could not do; the rest was done.
func (m *Manager) ResolveAll(ctx context.Context, who Principal, rest Decision) ([]Settled, error) {
	if !who.Operator {
		return nil, ErrNotOwner
	}
	before, unread := m.List(ctx)
	if before == nil {
		return nil, unread
	}
	scanned := m.scanNow(ctx)
	m.retry(ctx, nil)
	if m.host != nil {
		scanned = errors.Join(scanned, m.host.scanNow(ctx))
		m.host.retry(ctx, nil)
	}
	all, err := m.List(ctx)
	if all == nil {
		return nil, errors.Join(scanned, err)
	}
	why := m.resolveEach(ctx, who, all, rest)
	after, err := m.List(ctx)
	if after == nil {
		return nil, errors.Join(scanned, err)
	}
	err = cmp.Or(err, unread) // as a rule the same
	now := map[GID]Transaction{}
	for _, t := range after {
		now[t.GID] = t
	}
	settled := []Settled{}
	for _, t := range before {
		if _, kept := now[t.GID]; t.Phase.Terminal() || t.Phase == Prepared && !kept {
			continue // it is not ours to tell how a coordinator ended it meanwhile
		}
		s := Settled{Transaction: t}
		is, kept := now[t.GID]
		switch {
		case kept:
			s.Transaction = is
		case t.Phase == Committing:
			s.Phase = Committed // an end that nobody asks for is not kept
		default:
			s.Phase = Aborted // likewise
		}
		s.Left = leftOpen(&s.Transaction, why[t.GID])
		settled = append(settled, s)
	}
	return settled, errors.Join(scanned, err)
}

// atOnce is how many transactions are settled at once: their forces are one
// then, and it bounds what a resource is asked at a time.
const atOnce = 32

// severally calls f for each of n, so many at once, and returns when all have returned.
func severally(n int, f func(i int)) {
	next := atomic.Int64{}
	var workers sync.WaitGroup
	for range min(n, atOnce) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	workers.Wait()
}

// resolveEach carries all on as far as each may be, and tells why one could not
// be carried further.
func (m *Manager) resolveEach(ctx context.Context, who Principal, all []Transaction, rest Decision) map[GID]error {
	errs := make([]error, len(all))
	severally(len(all), func(i int) { errs[i] = m.resolve(ctx, who, &all[i], rest) })
	why := make(map[GID]error, len(all))
	for i := range all {
		why[all[i].GID] = errs[i]
	}
	return why
}

// resolve carries one transaction on as far as it may. The error tells why it
// could not be carried further.
func (m *Manager) resolve(ctx context.Context, who Principal, t *Transaction, rest Decision) error {
	switch t.Phase {
	case Committing:
		return m.settleAll(ctx, who, ledger.ClaimName(t), Commit, true)
	case Aborting:
		return m.settleAll(ctx, who, ledger.ClaimName(t), Abort, true)
	case Prepared:
		if rest != 0 {
			return m.settleAll(ctx, who, ledger.ClaimName(t), rest, true)
		}
	case Preparing, Committed, Aborted:
	}
	return nil
}

// leftOpen tells why the transaction is still open, err being the last refusal.
func leftOpen(t *Transaction, err error) string {
	switch {
	case t.Phase.Terminal():
		return ""
	case err != nil:
		return err.Error()
	case t.HandsOff != "":
		return "left to an operator: " + t.HandsOff
	case t.Phase == Preparing:
		return "its worker collects the votes"
	case t.Phase == Prepared:
		return fmt.Sprintf("waits for the decision of its coordinator, user %s", t.Owner)
	}
	return "a worker is telling its resources"
}
