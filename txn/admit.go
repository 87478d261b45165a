package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// admission is when this process counted the claims last.
type admission struct {
	mu      sync.Mutex
	counted time.Time
}

// recountEvery bounds what refusals cost: whoever is refused more often is by the numbers alone.
const recountEvery = time.Second

// admit tells whether one more transaction of owner may be prepared.
func (m *Manager) admit(ctx context.Context, owner string) error {
	if err := m.ledger.Room(ctx); err != nil {
		return m.noRoom(ctx, err)
	}
	refusal := m.full(owner)
	if refusal == nil {
		return nil
	}
	m.admitted.mu.Lock()
	defer m.admitted.mu.Unlock()
	if time.Since(m.admitted.counted) > recountEvery {
		if err := m.ledger.Recount(); err != nil {
			return m.noRoom(ctx, err)
		}
		m.admitted.counted = time.Now()
		refusal = m.full(owner)
	}
	if more, tell := m.floods.pass("refused"); refusal != nil && tell {
		m.log.WarnContext(ctx, "prepared transactions are refused", slog.String("owner", owner), slog.Any("error", refusal), slog.Int("more", more),
			event(eventRefused))
	}
	return refusal
}

// full tells by the numbers whether a limit is reached.
func (m *Manager) full(owner string) error {
	all, mine, known := m.ledger.Counted(owner)
	if most := m.opt.Limits.Prepared; known && most > 0 && all >= int64(most) {
		return fmt.Errorf("%w: %d, transaction.prepared in the configuration", ErrTooMany, most)
	}
	if most := m.opt.Limits.PreparedPerUser; known && most > 0 && mine >= int64(most) {
		return fmt.Errorf("%w: %d, transaction.prepared_per_user in the configuration", ErrTooManyOfUser, most)
	}
	return nil
}

// noRoom is what a client is told if there is no space for a claim, or for the log: not
// where that is. The journal is told that. Any other error stays as it is.
func (m *Manager) noRoom(ctx context.Context, err error) error {
	if InDoubt(err) || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	if more, tell := m.floods.pass("room"); tell {
		m.log.ErrorContext(ctx, "no room for prepared transactions", slog.Any("error", err), slog.Int("more", more), event(eventNoRoom))
	}
	if errors.Is(err, ErrLogFull) {
		return ErrLogFull
	}
	return ErrNoRoom
}

// floods are lines of the journal of which one a minute is enough.
type floods struct {
	mu    sync.Mutex
	kinds map[string]*flood
}

type flood struct {
	next   time.Time
	untold int
}

const floodPause = time.Minute

// pass tells whether to write a line of that kind, and how many were not since the last.
func (f *floods) pass(kind string) (untold int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	is := f.kinds[kind]
	if is == nil {
		if f.kinds == nil {
			f.kinds = map[string]*flood{}
		}
		is = &flood{}
		f.kinds[kind] = is
	}
	now := time.Now()
	if now.Before(is.next) {
		is.untold++
		return 0, false
	}
	untold, is.untold, is.next = is.untold, 0, now.Add(floodPause)
	return untold, true
}

// trim has outcomes forgotten beyond Limits.Kept, the oldest first. Those that an operator has to look at
// stay.
func (m *Manager) trim(ctx context.Context) error {
	most := int64(m.opt.Limits.Kept)
	if n, err := m.ledger.Kept(); err != nil || most == 0 || n <= most {
		return err
	}
	if err := m.ledger.Recount(); err != nil {
		return err
	}
	type outcome struct {
		name string
		at   time.Time
	}
	var list []outcome
	kept := int64(0)
	if _, err := m.ledger.Each(ctx, func(st *ledger.State) {
		if !st.Phase.Terminal() || st.Forgotten() {
			return
		}
		kept++
		if !st.OperatorOnly() {
			list = append(list, outcome{ledger.ClaimName(&st.Transaction), endOf(&st.Transaction)})
		}
	}); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b outcome) int { return a.at.Compare(b.at) })
	over := min(max(kept-most, 0), int64(len(list)))
	var errs []error
	for _, o := range list[:over] {
		errs = append(errs, ignoreBusy(m.forget(o.name, false)))
	}
	if over > 0 {
		m.log.WarnContext(ctx, "outcomes that nobody acknowledged are forgotten early: transaction.kept",
			slog.Int64("count", over), slog.Int64("limit", most), event(eventTrimmed))
	}
	return errors.Join(errs...)
}
