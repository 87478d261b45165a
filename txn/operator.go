package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// attrs are what the journal keeps of an operator's act, beside what is given:
// nobody else keeps that once the outcome is forgotten.
func (p *Principal) attrs(id string, more ...slog.Attr) []slog.Attr {
	for _, a := range [][2]string{{"user", p.User}, {"uid", p.By.UID}, {"login_uid", p.By.LoginUID}, {"terminal", p.By.Terminal}} {
		if a[1] != "" {
			more = append(more, slog.String(a[0], a[1]))
		}
	}
	return append(more, event(id))
}

// Show returns one transaction by its coordinator's name or our own, its
// branches with the state that each resource reports; all are asked at once, and
// one that does not answer within Limits.Ask is told as unreachable.
// ErrUnknownGID.
func (m *Manager) Show(ctx context.Context, name string) (Transaction, error) {
	t, err := m.find(ctx, name)
	if err != nil {
		return Transaction{}, err
	}
	var all sync.WaitGroup
	for i := range t.Branches {
		all.Go(func() {
			asked, cancel := m.asking(ctx)
			defer cancel()
			t.Branches[i].State = m.branchState(asked, &t, t.Branches[i])
		})
	}
	all.Wait()
	return t, nil
}

// find looks for a transaction by its coordinator's name, or by our own: of one
// that has both, that is in no claim's name.
func (m *Manager) find(ctx context.Context, name string) (Transaction, error) {
	st, err := m.known(ctx, ledger.ClientName(name))
	gid, gerr := ParseGID(name)
	if errors.Is(err, fs.ErrNotExist) && gerr == nil {
		st, err = m.known(ctx, gid.String())
		if errors.Is(err, fs.ErrNotExist) && gid.Role == RoleExternal {
			var all []Transaction
			all, err = m.list(ctx)
			if i := slices.IndexFunc(all, func(t Transaction) bool { return t.GID == gid }); i >= 0 {
				return all[i], nil
			}
			if err == nil {
				err = fs.ErrNotExist
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) && m.host != nil {
		return m.host.find(ctx, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err := m.elsewhere(ctx, Principal{Operator: true}, ledger.ClientName(name), Commit)
		if errors.Is(err, ErrPutAside) || errors.Is(err, ErrDamaged) {
			return Transaction{}, err
		}
		return Transaction{}, fmt.Errorf("%w: %q", ErrUnknownGID, name)
	}
	return shown(&st), err
}

// known reads a claim, if its outcome is not forgotten.
func (m *Manager) known(ctx context.Context, name string) (ledger.State, error) {
	st, err := m.ledger.Peek(ctx, name)
	if err == nil && st.Forgotten() {
		err = fs.ErrNotExist
	}
	return st, err
}

func (m *Manager) branchState(ctx context.Context, t *Transaction, b BranchID) string {
	var list []PreparedBranch
	r, err := m.resource(ctx, b)
	if err == nil {
		list, err = r.InDoubt(ctx, t.GID.Log)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return "unreachable: " + context.Cause(ctx).Error()
	case err != nil:
		return "unreachable: " + err.Error()
	case slices.ContainsFunc(list, func(p PreparedBranch) bool { return p.GID.Same(t.GID) }):
		return "prepared"
	}
	return unprepared(t, b.Resource)
}

// unprepared is how a branch stands that its resource does not hold prepared.
func unprepared(t *Transaction, resource string) string {
	switch {
	case t.Phase == Preparing, t.Phase == Prepared:
		return "not prepared"
	case strings.Contains(t.Hazard, "resource "+resource+":"):
		return "gone, see the hazard"
	case slices.Contains(t.Waits, resource):
		return "gone, and yet to be told the decision"
	case t.Phase == Committing, t.Phase == Committed:
		return "committed"
	}
	return "rolled back"
}

// asking is the context of a question that an operator waits for.
func (m *Manager) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.opt.Limits.Ask, silence(m.opt.Limits.Ask))
}

// Decide is an operator's decision on a transaction that is in doubt, by the
// coordinator's name or our own. It is recorded as heuristic: a coordinator
// that decides otherwise later is told so, and only Forget drops it.
func (m *Manager) Decide(ctx context.Context, who Principal, name string, d Decision) error {
	t, err := m.find(ctx, name)
	if err != nil {
		return err
	}
	if !who.Operator {
		return ErrNotOwner
	}
	if err := m.settleAll(ctx, who, ledger.ClaimName(&t), d, true); err != nil {
		return err
	}
	return nil
}

// Forget drops the outcome of a finished transaction, heuristic ones included.
// ErrBusyGID if it has not finished.
func (m *Manager) Forget(ctx context.Context, who Principal, name string) error {
	t, err := m.find(ctx, name)
	if err != nil {
		return err
	}
	if !who.Operator {
		return ErrNotOwner
	}
	if !t.Phase.Terminal() {
		return fmt.Errorf("%w: it is %s, and only what is over can be forgotten", ErrBusyGID, t.Phase)
	}
	if err := m.forgetAll(ledger.ClaimName(&t), true); err != nil {
		return err
	}
	m.log.LogAttrs(ctx, slog.LevelInfo, "an operator had an outcome forgotten", who.attrs(eventForgotten,
		slog.String("gid", t.Name()), slog.String("outcome", t.Phase.String()))...)
	return nil
}

// ForgetAll drops every outcome of a transaction that had ended before that time,
// heuristic ones included, and returns how many. What cannot be read is left,
// and told by the error.
func (m *Manager) ForgetAll(ctx context.Context, who Principal, before time.Time) (n int, err error) {
	if !who.Operator {
		return 0, ErrNotOwner
	}
	var over []string
	bad, err := m.ledger.Each(ctx, func(st *ledger.State) {
		if st.Phase.Terminal() && !st.Forgotten() && endOf(&st.Transaction).Before(before) {
			over = append(over, ledger.ClaimName(&st.Transaction))
		}
	})
	errs := []error{err, bad}
	for _, name := range over {
		if err := m.forget(name, true); err != nil {
			errs = append(errs, fmt.Errorf("forget %s: %w", name, err))
			continue
		}
		n++
	}
	if m.host != nil {
		own, err := m.host.ForgetAll(ctx, who, before)
		n, errs = n+own, append(errs, err)
	}
	if n > 0 {
		m.log.LogAttrs(ctx, slog.LevelInfo, "an operator had outcomes forgotten", who.attrs(eventForgotten,
			slog.Int("count", n), slog.Time("before", before))...)
	}
	return n, errors.Join(errs...)
}

// endOf is when the transaction ended, or the latest time that is known before.
func endOf(t *Transaction) time.Time {
	if t.Ended.IsZero() {
		return t.Since
	}
	return t.Ended
}
