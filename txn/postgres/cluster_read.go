package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/xa"
)

// Read reads the logs of all incarnations, or only of those named, as they are at one time.
func (c *cluster) Read(ctx context.Context, only ...uint64) (*ledger.Contents, error) {
	if len(only) == 0 {
		return c.contents(ctx, "")
	}
	return c.contents(ctx, "WHERE i.number = ANY ($1)", numbers(only))
}

// ReadLiving reads the logs of all but the dead.
func (c *cluster) ReadLiving(ctx context.Context, dead map[uint64]bool) (*ledger.Contents, error) {
	var list []uint64
	for n := range dead {
		list = append(list, n)
	}
	return c.contents(ctx, "WHERE i.number <> ALL ($1)", numbers(list))
}

func numbers(list []uint64) []int64 {
	out := make([]int64, len(list))
	for i, n := range list {
		out[i] = int64(n) //nolint:gosec // at most xa.MaxIncarnation
	}
	return out
}

// contents reads what where selects, in the order in which it was written.
func (c *cluster) contents(ctx context.Context, where string, args ...any) (s *ledger.Contents, err error) {
	err = c.r.privileged(ctx, func(on *conn) error {
		s = ledger.NewContents()
		if err := on.given(ctx, s); err != nil {
			return err
		}
		rows, err := on.pg.Query(ctx, "SELECT i.number, r.place, r.record FROM fdt_txn.incarnation i LEFT JOIN fdt_txn.record r ON r.incarnation = i.number "+
			where+" ORDER BY i.number, r.place", args...)
		if err != nil {
			return err
		}
		var n int64
		var place *int64
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&n, &place, &raw}, func() error {
			add(s, uint64(n), place, raw) //nolint:gosec // not negative
			return nil
		})
		return err
	})
	if err != nil {
		return nil, c.silence(err)
	}
	return s, nil
}

// add adds a row of a log; place is nil if that has none.
func add(s *ledger.Contents, n uint64, place *int64, raw []byte) {
	if !s.Has(n) {
		s.Begin(n)
		s.Reserved[n] = xa.MaxSequence
	}
	if place != nil {
		s.Decoded(n, *place, raw)
	}
}

// given tells s which incarnations were given away.
func (c *conn) given(ctx context.Context, s *ledger.Contents) error {
	rows, err := c.pg.Query(ctx, "SELECT highest, first, last FROM fdt_txn.cluster LEFT JOIN fdt_txn.skipped ON true")
	if err != nil {
		return err
	}
	var highest int64
	var first, last *int64
	_, err = pgx.ForEachRow(rows, []any{&highest, &first, &last}, func() error {
		s.Highest = uint64(highest) //nolint:gosec // not negative
		if first != nil {
			s.Skipped(uint64(*first), uint64(*last)) //nolint:gosec // likewise
		}
		return nil
	})
	return err
}

// LookUp returns what the log of one incarnation says of these transactions; of those that were given to an outside coordinator, what all
// logs say.
func (c *cluster) LookUp(ctx context.Context, began uint64, of ...txn.GID) (*ledger.Contents, error) {
	alive, err := c.Alive(began)
	if err == nil && !alive {
		err = c.sealed(ctx, began)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", txn.ErrUnknownOutcome, err)
	}
	var names []string
	for _, gid := range of {
		names = append(names, gid.String())
	}
	s, err := c.contents(ctx, "AND r.gid = ANY ($2) WHERE i.number = $1", int64(began), names) //nolint:gosec // at most xa.MaxIncarnation
	if err != nil || !slices.ContainsFunc(of, func(g txn.GID) bool { return g.Role == txn.RoleExternal && s.Histories[g] != nil }) {
		return s, err
	}
	return c.contents(ctx, "AND r.gid = ANY ($1) WHERE r.gid IS NOT NULL OR i.number = $2", names, int64(began)) //nolint:gosec // likewise
}

// DeadLogs reads the log of a dead incarnation.
func (c *cluster) DeadLogs(ctx context.Context) ledger.DeadLog {
	return func(n uint64, gid txn.GID) (*ledger.History, error) {
		if err := c.sealed(ctx, n); err != nil {
			return nil, err
		}
		s, err := c.contents(ctx, "AND r.gid = $2 WHERE i.number = $1", int64(n), gid.String()) //nolint:gosec // at most xa.MaxIncarnation
		if err != nil {
			return nil, err
		}
		return s.Histories[gid], s.Damaged[n]
	}
}

// DeadLogsOf is DeadLogs: the server finds one transaction's records faster than they are sorted here.
func (c *cluster) DeadLogsOf(ctx context.Context, _ *ledger.Contents, _ map[uint64]bool) ledger.DeadLog {
	return c.DeadLogs(ctx)
}

// Deciders returns the stores that keep decisions of any incarnation.
func (c *cluster) Deciders() (map[txn.BranchID]bool, error) {
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	s, err := c.contents(ctx, "AND r.kind = $1", string(ledger.KindDecider))
	if err != nil {
		return nil, err
	}
	all := map[txn.BranchID]bool{}
	for _, list := range s.Deciders {
		for _, at := range list {
			all[at] = true
		}
	}
	return all, nil
}

// Damaged returns what a newer version has written of no transaction.
func (c *cluster) Damaged(ctx context.Context) error {
	var known []string
	for _, k := range ledger.Kinds() {
		known = append(known, string(k))
	}
	s, err := c.contents(ctx, "AND r.gid IS NULL AND r.kind <> ALL ($1)", known)
	if err != nil {
		return err
	}
	var damage []error
	for n, err := range s.Damaged {
		damage = append(damage, fmt.Errorf("log of incarnation %d: %w", n, err))
	}
	return errors.Join(damage...)
}

// Done tells whether nobody will ever ask for the transaction again.
func (c *cluster) Done(h *ledger.History) bool { return h.Done(time.Now(), c.opt.Retain) }

// forget drops an incarnation and its log, of which nothing is needed.
func (c *cluster) forget(ctx context.Context, n uint64) error {
	return c.keep(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM fdt_txn.record WHERE incarnation = $1", int64(n)) //nolint:gosec // at most xa.MaxIncarnation
		if err == nil {
			_, err = tx.Exec(ctx, "DELETE FROM fdt_txn.incarnation WHERE number = $1", int64(n)) //nolint:gosec // likewise
		}
		return err
	})
}

// shorten drops all of a log but what is at these places, through the last that was read.
func (c *cluster) shorten(ctx context.Context, n uint64, needed []int64, through int64) error {
	return c.keep(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM fdt_txn.record WHERE incarnation = $1 AND place <= $3 AND place <> ALL ($2)", int64(n), append([]int64{}, needed...), through) //nolint:gosec // at most xa.MaxIncarnation
		return err
	})
}

// Compact drops from the logs of the dead what nobody needs.
func (c *cluster) Compact(ctx context.Context, s *ledger.Contents, dead map[uint64]bool, forgotten func(txn.GID) bool, fenced func(uint64) bool) error {
	var errs []error
	for n := range dead {
		if s.Damaged[n] != nil || !fenced(n) {
			continue
		}
		needed := s.Needed(n, c.Done, forgotten)
		switch all := s.Count(n); {
		case len(needed) == 0:
			errs = append(errs, c.forget(ctx, n))
		case 2*len(needed) < all:
			errs = append(errs, c.shorten(ctx, n, needed, s.Last(n)))
		}
	}
	return errors.Join(errs...)
}

// recordSize is what a record takes in bytes, as a rule.
const recordSize = 512

// Rotate drops from our own log what nobody needs, if it has grown.
func (c *cluster) Rotate(ctx context.Context, from int64, dispensable func(txn.GID) bool) error {
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	if l == nil || l.ended() || !l.grown(uint64(from)/recordSize) { //nolint:gosec // not negative
		return nil
	}
	s, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if s.Damaged[l.number] != nil {
		return s.Damaged[l.number]
	}
	return c.shorten(ctx, l.number, s.Needed(l.number, c.Done, dispensable), s.Last(l.number))
}

// grown tells, once for each time, whether many records have come.
func (l *life) grown(by uint64) bool {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.place-l.rotated < by {
		return false
	}
	l.rotated = l.place
	return true
}

// KeepRoom has nothing to keep: the disk is the server's.
func (c *cluster) KeepRoom() {}

// recoveryName is the name whose lock is that of who recovers. No claim has it.
const recoveryName = "recovery"

// Recovering runs g as the one process of all hosts that recovers. Another, whose session ends meanwhile, is replaced: all that recovery
// does may be done twice.
func (c *cluster) Recovering(ctx context.Context, wait bool, g func() error) (mine bool, err error) {
	for {
		r, _, err := c.lock(ctx, recoveryName, false)
		if err == nil {
			return true, errors.Join(g(), r.Release())
		}
		if !errors.Is(err, ledger.ErrHeld) {
			return false, err
		}
		// Who has it may stand still, and nobody else would end that one's session.
		list, err := c.all(ctx)
		if err == nil {
			err = c.endSilent(ctx, list)
		}
		if err != nil || !wait {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(recoveryPause):
		}
	}
}

// recoveryPause is between two looks whether another has recovered.
const recoveryPause = 200 * time.Millisecond

// beyond is how many incarnations a lost copy of the tables may have begun beyond what is known of it.
const beyond = 4096

// SkipOthers keeps incarnations from being given away that were given away by tables which are lost, as where the database was set back to
// a backup.
func (c *cluster) SkipOthers(ctx context.Context, shown uint64) error {
	if shown == 0 {
		return nil
	}
	return c.keep(ctx, func(tx pgx.Tx) error {
		var highest int64
		err := tx.QueryRow(ctx, "SELECT highest FROM fdt_txn.cluster FOR UPDATE").Scan(&highest)
		if err != nil || highest >= int64(shown) { //nolint:gosec // at most xa.MaxIncarnation
			return err
		}
		return gap(ctx, tx, highest+1, shown)
	})
}

// skip takes back an incarnation that lost tables have given away before, and keeps all from there on from being given away.
func (c *cluster) skip(ctx context.Context, first, shown uint64) error {
	return c.keep(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM fdt_txn.incarnation WHERE number = $1", int64(first)) //nolint:gosec // at most xa.MaxIncarnation
		if err == nil {
			err = gap(ctx, tx, int64(first), shown) //nolint:gosec // likewise
		}
		return err
	})
}

// gap notes that incarnations were not given away by these tables, through some beyond the last that is known of.
func gap(ctx context.Context, tx pgx.Tx, first int64, shown uint64) error {
	last := int64(min(shown+beyond, xa.MaxIncarnation)) //nolint:gosec // as it says
	_, err := tx.Exec(ctx, "INSERT INTO fdt_txn.skipped (first, last) VALUES ($1, $2)", first, last)
	if err == nil {
		_, err = tx.Exec(ctx, "UPDATE fdt_txn.cluster SET highest = greatest(highest, $1)", last)
	}
	return err
}

// Share puts a fact where all processes of all hosts find it.
func (c *cluster) Share(name string, content []byte) error {
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	return c.silence(c.r.privileged(ctx, func(on *conn) error {
		_, err := on.pg.Exec(ctx, "INSERT INTO fdt_txn.fact (name, content) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET content = excluded.content, at = pg_catalog.clock_timestamp()",
			name, content)
		return err
	}))
}

// Shared returns such a fact, and when it was put there by this host's clock; fs.ErrNotExist if none was.
func (c *cluster) Shared(name string) (content []byte, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	var age time.Duration
	err = c.r.privileged(ctx, func(on *conn) error {
		content = nil
		err := on.pg.QueryRow(ctx, "SELECT content, pg_catalog.clock_timestamp() - at FROM fdt_txn.fact WHERE name = $1", name).Scan(&content, &age)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err == nil && content == nil {
		return nil, at, fmt.Errorf("fact %s: %w", name, fs.ErrNotExist)
	}
	return content, time.Now().Add(-age), c.silence(err)
}

// storesFact has what operators have said of stores that are not found.
const storesFact = "stores"

// Succeed adds what say returns to what operators have said of stores.
func (c *cluster) Succeed(ctx context.Context, say func() ([]ledger.Succession, error)) error {
	r, _, err := c.lock(ctx, storesFact, true)
	if err != nil {
		return err
	}
	list, err := c.successions()
	var more []ledger.Succession
	if err == nil {
		more, err = say()
	}
	if err == nil {
		raw, _ := json.Marshal(append(list, more...)) // never fails: texts
		err = c.Share(storesFact, raw)
	}
	return errors.Join(err, r.Release())
}

func (c *cluster) successions() (list []ledger.Succession, err error) {
	raw, _, err := c.Shared(storesFact)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	return list, err
}

// Succeeded tells what was said of the store on which a branch is.
func (c *cluster) Succeeded(b txn.BranchID, is string) (carried, lost bool, err error) {
	list, err := c.successions()
	carried, lost = ledger.SucceededIn(list, b, is)
	return carried, lost, err
}
