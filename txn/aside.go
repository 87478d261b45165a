package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/xa"
)

// Aside is a log that was put aside: it had been written on another machine, or
// was a copy. As long as it holds something open that nobody has adopted or
// abandoned, the names of its transactions are answered by ErrPutAside.
type Aside struct {
	ID        LogID     `json:"id"`
	Directory string    `json:"directory"`
	Open      int       `json:"open"`              // transactions without an end: in doubt, or decided and not carried out everywhere
	Since     time.Time `json:"since,omitzero"`    // of the oldest of them
	Damage    string    `json:"damage,omitempty"`  // why it cannot be read to its end: more may be open
	Machine   string    `json:"machine,omitempty"` // machine-id(5) of where it was written
}

// Waits tells whether somebody has to decide what becomes of it.
func (a *Aside) Waits() bool { return a.Open > 0 || a.Damage != "" }

// aside is such a log, read once: nothing is written there.
type aside struct {
	Aside

	claims map[string]ledger.State // what its outcome may still be asked for, by the claims' names
}

// asides are those of this directory that this process has read.
type asides struct {
	mu    sync.Mutex
	known map[LogID]*aside
	some  bool // there are any; they do not come while a process lives
}

// readAside reads a log that was put aside.
func (m *Manager) readAside(id LogID) (*aside, *ledger.Contents, error) {
	s, dir, machine, err := m.files.ReadAside(id)
	if err != nil {
		return nil, nil, err
	}
	a := &aside{Aside: Aside{ID: id, Directory: dir, Machine: machine}, claims: map[string]ledger.State{}}
	for n, err := range s.Damaged {
		a.Damage = xa.JoinHazards(a.Damage, fmt.Sprintf("log %d: %v", n, err))
	}
	for _, h := range s.Histories {
		if h.Bare() || m.ledger.Done(h) {
			continue
		}
		st := h.State(s)
		if !h.Unnamed {
			a.claims[ledger.ClaimName(&st.Transaction)] = st
		}
		if st.Phase.Terminal() {
			continue
		}
		a.Open++
		if a.Since.IsZero() || st.Since.Before(a.Since) {
			a.Since = st.Since
		}
	}
	return a, s, nil
}

// asides returns the logs that were put aside and not abandoned, each read once.
func (m *Manager) asides() ([]*aside, error) {
	if m.host != nil {
		return m.host.asides()
	}
	m.aside.mu.Lock()
	defer m.aside.mu.Unlock()
	if !m.aside.some {
		return nil, nil
	}
	ids, err := m.files.Asides()
	if err != nil {
		return nil, err
	}
	known := map[LogID]*aside{}
	var all []*aside
	for _, id := range ids {
		a := m.aside.known[id]
		if a == nil {
			if a, _, err = m.readAside(id); err != nil {
				return nil, fmt.Errorf("log %s, which was put aside: %w", id, err)
			}
		}
		known[id] = a
		all = append(all, a)
	}
	m.aside.known = known
	m.waiting.Store(int64(len(slices.DeleteFunc(slices.Clone(all), func(a *aside) bool { return !a.Waits() }))))
	return all, nil
}

// Asides returns the logs that were put aside and not abandoned, by their names.
func (m *Manager) Asides() ([]Aside, error) {
	all, err := m.asides()
	if err != nil {
		return nil, err
	}
	list := []Aside{}
	for _, a := range all {
		list = append(list, a.Aside)
	}
	return list, nil
}

// reportAside tells the operator of logs that wait for a word.
func (m *Manager) reportAside(ctx context.Context) {
	all, _ := m.asides() // whose error was told
	for _, a := range all {
		if a.Waits() && m.once("aside "+a.ID.String()) {
			m.log.WarnContext(ctx, "a transaction log that was put aside holds open transactions: fdtctl txn adopt, or abandon",
				slog.String("log", a.ID.String()), slog.String("file", a.Directory), slog.Int("open", a.Open),
				slog.String("damage", a.Damage), event(eventAside))
		}
	}
}

// elsewhere is the answer about a transaction that has no claim here: that of a
// log which was put aside, if it may know the name; ErrDamaged if a log of our
// own may have known it; ErrUnknownGID otherwise.
func (m *Manager) elsewhere(ctx context.Context, who Principal, name string, d Decision) error {
	all, err := m.asides()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPutAside, err)
	}
	if m.host != nil {
		return m.host.elsewhere(ctx, who, name, d)
	}
	answer := error(ErrUnknownGID)
	for _, a := range all {
		st, ok := a.claims[name]
		switch {
		case !ok && a.Damage != "":
			answer = fmt.Errorf("%w: if it is in log %s, which is damaged", ErrPutAside, a.ID)
		case !ok:
		case !who.Operator && who.User != st.Owner:
			answer = ErrNotOwner
		case !st.Phase.Terminal():
			return fmt.Errorf("%w: log %s", ErrPutAside, a.ID)
		default:
			return verdict(factsOf(&st).verdict(d), st.Hazard)
		}
	}
	if errors.Is(answer, ErrUnknownGID) {
		switch damage := m.ledger.Damaged(ctx); {
		case damage != nil && who.Operator:
			return fmt.Errorf("%w: %w", ErrDamaged, damage)
		case damage != nil: // the journal has the rest
			return ErrDamaged
		}
	}
	return answer
}

// openElsewhere tells whether a log that was put aside has an open transaction
// of that name, which must not be given away a second time.
func (m *Manager) openElsewhere(ctx context.Context, name string) (bool, error) {
	if m.host != nil {
		before, err := m.host.open(ctx, name)
		if before || err != nil {
			return before, err
		}
		return m.host.openElsewhere(ctx, name)
	}
	all, err := m.asides()
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrPutAside, err)
	}
	return slices.ContainsFunc(all, func(a *aside) bool {
		st, ok := a.claims[name]
		return ok && !st.Phase.Terminal()
	}), nil
}
