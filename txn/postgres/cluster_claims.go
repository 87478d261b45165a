package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// names are those of claims that goroutines of this process are at: a session may take an advisory lock that it has once more.
type names struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is free again
}

// take waits for a name until ctx ends.
func (n *names) take(ctx context.Context, name string) error {
	for {
		busy := n.try(name)
		if busy == nil {
			return nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// try is take that does not wait: busy is closed when the name is free again, and nil if it was.
func (n *names) try(name string) (busy <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if is := n.held[name]; is != nil {
		return is
	}
	if n.held == nil {
		n.held = map[string]chan struct{}{}
	}
	n.held[name] = make(chan struct{})
	return nil
}

func (n *names) give(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.held[name])
	delete(n.held, name)
}

const (
	claimLock   = "SELECT pg_catalog.pg_try_advisory_lock($1)"
	claimUnlock = "SELECT pg_catalog.pg_advisory_unlock($1)"
	claimRead   = "SELECT pg_catalog.encode(state, 'hex') FROM fdt_txn.claim WHERE name = $1"
	claimWrite  = "INSERT INTO fdt_txn.claim (name, state, owner, standing, resources) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) " +
		"DO UPDATE SET state = excluded.state, owner = excluded.owner, standing = excluded.standing, resources = excluded.resources"
	claimDelete = "DELETE FROM fdt_txn.claim WHERE name = $1"
)

// claimPause is between two tries for the lock of a claim that another process has.
const claimPause = 5 * time.Millisecond

// row is a claim's, whose lock a session has.
type row struct {
	l    *life
	name string
	key  int64
}

// Write replaces what it was.
func (r *row) Write(was, is ledger.State) error {
	err := r.l.write(&entry{list: put(r.name, &is)})
	if err == nil {
		r.l.c.counting.moved(&was, &is)
	}
	return err
}

// put is what writes a claim.
func put(name string, st *ledger.State) []txn.Statement {
	text, _ := json.Marshal(st) // never fails: there is no value of a field that has no text
	var quoted []string
	for _, name := range resourcesOf(st) {
		quoted = append(quoted, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name)+`"`)
	}
	return []txn.Statement{{SQL: claimWrite, Args: []any{name, hexed(text), hexed([]byte(st.Owner)), standing(st), "{" + strings.Join(quoted, ",") + "}"}}}
}

// resourcesOf are those of a transaction in doubt, for the numbers; of any other none.
func resourcesOf(st *ledger.State) (names []string) {
	if standing(st) != standsDoubt {
		return nil
	}
	for _, b := range st.Branches {
		names = append(names, b.Resource)
	}
	return names
}

// What claims count as.
const (
	standsOpen   = "o"
	standsDoubt  = "d" // open, too
	standsKept   = "k"
	standsNobody = "f" // forgotten
)

func standing(st *ledger.State) string {
	switch {
	case st.Forgotten():
		return standsNobody
	case st.Phase.Terminal():
		return standsKept
	case st.Phase == txn.Prepared:
		return standsDoubt
	}
	return standsOpen
}

// Remove deletes the claim, and frees its lock whatever happens.
func (r *row) Remove(was ledger.State) error {
	err := r.l.write(&entry{list: []txn.Statement{{SQL: claimDelete, Args: []any{r.name}}}})
	if err == nil {
		r.l.c.counting.moved(&was, nil)
	}
	return errors.Join(err, r.Release())
}

// Release frees the lock. That of a session that has ended is free.
func (r *row) Release() error {
	defer r.l.claims.give(r.name)
	if _, err := r.l.ask(txn.Statement{SQL: claimUnlock, Args: []any{r.key}}); err != nil && !r.l.ended() {
		return err
	}
	return nil
}

// lock takes the lock of a name, and reads its claim; nil if there is none. Without wait it is ledger.ErrHeld if another has it.
func (c *cluster) lock(ctx context.Context, name string, wait bool) (*row, *ledger.State, error) {
	l, err := c.living(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !wait && l.claims.try(name) != nil {
		return nil, nil, ledger.ErrHeld
	}
	if wait {
		if err := l.claims.take(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	r := &row{l, name, c.key("claim", name)}
	for {
		outs, err := l.ask(txn.Statement{SQL: claimLock, Args: []any{r.key}}, txn.Statement{SQL: claimRead, Args: []any{name}})
		switch {
		case err != nil:
			l.claims.give(name)
			return nil, nil, c.silence(err)
		case *outs[0].First == "t":
			st, err := parse(outs[1].First)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("claim %s: %w", name, err), r.Release())
			}
			return r, st, nil
		case !wait:
			l.claims.give(name)
			return nil, nil, ledger.ErrHeld
		}
		select {
		case <-ctx.Done():
			l.claims.give(name)
			return nil, nil, context.Cause(ctx)
		case <-time.After(claimPause):
		}
	}
}

// parse reads a claim; nil if there is none.
func parse(text *string) (*ledger.State, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // as said
	}
	raw, err := hex.DecodeString(*text)
	if err != nil {
		return nil, err
	}
	st := new(ledger.State)
	return st, json.Unmarshal(raw, st)
}

// Create makes a new claim, held; fs.ErrExist if there is one of that name.
func (c *cluster) Create(ctx context.Context, st ledger.State) (*ledger.Claim, error) {
	name := ledger.ClaimName(&st.Transaction)
	r, was, err := c.lock(ctx, name, true)
	if err != nil {
		return nil, err
	}
	if err = fs.ErrExist; was == nil {
		err = r.l.write(&entry{list: put(name, &st)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim %s: %w", name, err), r.Release())
	}
	c.counting.moved(nil, &st)
	return ledger.Held(st, r), nil
}

// Take waits for a claim; fs.ErrNotExist if there is none.
func (c *cluster) Take(ctx context.Context, name string) (*ledger.Claim, error) {
	return c.get(ctx, name, true)
}

// TryTake is Take that returns ErrHeld instead of waiting.
func (c *cluster) TryTake(ctx context.Context, name string) (*ledger.Claim, error) {
	return c.get(ctx, name, false)
}

func (c *cluster) get(ctx context.Context, name string, wait bool) (*ledger.Claim, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	r, st, err := c.lock(ctx, name, wait)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, errors.Join(fmt.Errorf("claim %s: %w", name, fs.ErrNotExist), r.Release())
	}
	return ledger.Held(*st, r), nil
}

// RemoveForgotten removes a transaction's claim, unless the name was given to another one since.
func (c *cluster) RemoveForgotten(ctx context.Context, name string, gid txn.GID) error {
	held, err := c.TryTake(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return ledger.With(held, func(held *ledger.Claim) error {
		if held.GID != gid {
			return nil
		}
		return held.Remove()
	})
}

// Peek reads a claim; fs.ErrNotExist if there is none.
func (c *cluster) Peek(ctx context.Context, name string) (st ledger.State, err error) {
	bad, err := c.states(ctx, " WHERE name = $1", func(is *ledger.State) { st = *is }, name)
	err = errors.Join(err, bad)
	if err == nil && st.GID.IsZero() {
		err = fmt.Errorf("claim %s: %w", name, fs.ErrNotExist)
	}
	return st, err
}

// Each calls f for every claim.
func (c *cluster) Each(ctx context.Context, f func(*ledger.State)) (bad, err error) {
	return c.states(ctx, "", f)
}

func (c *cluster) states(ctx context.Context, where string, f func(*ledger.State), args ...any) (bad, err error) {
	var all []*ledger.State
	var unread []error
	err = c.r.privileged(ctx, func(on *conn) error {
		all, unread = nil, nil
		rows, err := on.pg.Query(ctx, "SELECT name, state FROM fdt_txn.claim"+where, args...)
		if err != nil {
			return err
		}
		var name string
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&name, &raw}, func() error {
			st := new(ledger.State)
			if bad := json.Unmarshal(raw, st); bad != nil { // of a newer version
				unread = append(unread, fmt.Errorf("claim %s: %w", name, bad))
				return nil
			}
			all = append(all, st)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, c.silence(err)
	}
	for _, st := range all {
		f(st)
	}
	return errors.Join(unread...), nil
}

// counts are how many claims there are: of each standing, of each owner's that are open, and of each resource's in doubt.
type counts map[string]int64

// What is counted by name.
const (
	countOwner    = "owner "
	countResource = "resource "
)

func (n counts) add(stands, owner string, resources []string, many int64) {
	n[stands] += many
	if stands == standsOpen || stands == standsDoubt {
		n[countOwner+owner] += many
	}
	for _, name := range resources {
		n[countResource+name] += many
	}
}

func (n counts) addState(st *ledger.State, many int64) {
	n.add(standing(st), st.Owner, resourcesOf(st), many)
}

// counting is what this process knows of the numbers.
type counting struct {
	mu     sync.Mutex
	at     time.Time
	is     counts
	asking bool // the server, for newer ones
	moves  int  // how often this process has changed them
}

// moved notes that this process has changed a claim, which was nil before it was made, or is nil as it was removed.
func (k *counting) moved(was, is *ledger.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moves++
	if was != nil {
		k.is.addState(was, -1)
	}
	if is != nil {
		k.is.addState(is, 1)
	}
}

// set replaces the numbers, unless this process has changed them since it had made so many moves.
func (k *counting) set(is counts, since int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.moves == since {
		k.at, k.is = time.Now(), is
	}
	return k.moves == since
}

func (k *counting) made() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.moves
}

// countEvery is how old the numbers are before they are asked for anew. More is let in between than a limit says: as much as is prepared
// in that time.
const countEvery = time.Second

// Room is the server's: where it has none, it says so.
func (c *cluster) Room(context.Context) error { return nil }

// Counted returns how many transactions have not ended.
func (c *cluster) Counted(owner string) (all, mine int64, known bool) {
	n := c.known(standsOpen, standsDoubt, countOwner+owner)
	return n[0] + n[1], n[2], true
}

// Kept returns how many outcomes there are.
func (c *cluster) Kept() (int64, error) { return c.known(standsKept)[0], nil }

// InDoubt returns how many transactions wait for a decision.
func (c *cluster) InDoubt() int { return int(c.known(standsDoubt)[0]) }

// InDoubtOn returns how many of those have a branch on a resource.
func (c *cluster) InDoubtOn(resource string) int { return int(c.known(countResource + resource)[0]) }

// known returns numbers without waiting for the server, and has them asked for anew if they are old.
func (c *cluster) known(of ...string) []int64 {
	k := &c.counting
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]int64, len(of))
	for i, name := range of {
		list[i] = max(0, k.is[name])
	}
	if time.Since(k.at) > countEvery && !k.asking && c.alive.Err() == nil {
		k.asking = true
		go func() { // it ends within askWithin
			_ = c.Recount() // what was known stays
			k.mu.Lock()
			defer k.mu.Unlock()
			k.asking = false
		}()
	}
	return list
}

// Recount asks the server for the numbers. Where this process goes on changing them they stay as they are, with its changes.
func (c *cluster) Recount() error {
	for range 3 {
		since := c.counting.made()
		n, err := c.ask()
		if err != nil || c.counting.set(n, since) {
			return err
		}
	}
	return nil
}

func (c *cluster) ask() (n counts, err error) {
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	err = c.r.privileged(ctx, func(on *conn) error {
		n = counts{}
		rows, err := on.pg.Query(ctx, "SELECT standing::text, owner, resources, count(*) FROM fdt_txn.claim GROUP BY 1, 2, 3")
		if err != nil {
			return err
		}
		var stands string
		var owner []byte
		var resources []string
		var many int64
		_, err = pgx.ForEachRow(rows, []any{&stands, &owner, &resources, &many}, func() error {
			n.add(stands, string(owner), resources, many)
			return nil
		})
		return err
	})
	return n, c.silence(err)
}

// recounting counts claims as they are read.
type recounting struct {
	of      *counting
	was, is counts
}

// NewRecount sets the numbers right by what the caller reads.
func (c *cluster) NewRecount() (ledger.Recounting, error) {
	c.counting.mu.Lock()
	defer c.counting.mu.Unlock()
	return &recounting{&c.counting, maps.Clone(c.counting.is), counts{}}, nil
}

// Add counts a claim.
func (r *recounting) Add(st *ledger.State) { r.is.addState(st, 1) }

// Done corrects the numbers by what they are off, but for what came or went meanwhile, which may have been read or not.
func (r *recounting) Done() {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	now := maps.Clone(r.of.is)
	for _, known := range []counts{r.was, now, r.is} {
		for name := range known {
			r.of.is[name] = now[name] + ledger.Off(r.was[name], now[name], r.is[name])
		}
	}
	r.of.at = time.Now()
}
