package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// cluster is the ledger of several hosts, in tables of a database. What must be agreed on is agreed on by the server:
//
// All that an incarnation writes it writes in one session, its life, which has an advisory lock in the incarnation's name. Whoever gets
// hold of that lock, or sees that nobody has it, knows that the session has ended, and with it all that it had under way: nothing more
// will come of that incarnation. So nobody needs a clock to take over what it left; a clock only tells when to end a session that has said
// nothing for long. The locks of claims are the session's, too.
//
// A process whose session has ended begins another incarnation. What it had begun in the one before is another's to it, as that of a
// process that died: it finds out how that ended as all do, by the tables.
type cluster struct {
	r    *Resource
	opt  ledger.SharedOptions
	is   remembered
	dead sync.Map // incarnations that this process knows to be dead and readable

	alive context.Context // ends when this process may write no more, whatever the session
	kill  context.CancelCauseFunc

	mu        sync.Mutex
	life      *life // nil: none was needed, or it has ended
	closed    bool
	failed    error // why none could be begun the last time, which was at
	at        time.Time
	beginning chan struct{}   // closed when the attempt to begin one is over; nil: there is none
	leave     context.Context // ends with Close
	left      context.CancelFunc

	counting counting
}

var (
	_ ledger.Ledger = (*cluster)(nil)
	_ ledger.Opener = (*Resource)(nil)
)

// remembered is what a host remembers of the ledger.
type remembered struct {
	ID          txn.LogID `json:"id"`
	Incarnation uint64    `json:"incarnation"` // the highest that this host was given
}

// OpenLedger opens the ledger of several hosts in the resource's database. Where that cannot be reached it is the one that the host
// remembers, and the first use of it fails.
func (r *Resource) OpenLedger(ctx context.Context, opt ledger.SharedOptions) (ledger.Ledger, error) {
	c := &cluster{r: r, opt: opt, counting: counting{is: counts{}}}
	if c.opt.Silent == 0 {
		c.opt.Silent = silent
	}
	c.leave, c.left = context.WithCancel(context.Background())
	c.alive, c.kill = context.WithCancelCause(context.Background())
	known, err := readMemory(opt.Memory)
	if err != nil {
		return nil, err
	}
	id, err := r.clusterID(ctx)
	switch {
	case errors.Is(err, txn.ErrUnreachable) && known.ID != (txn.LogID{}):
		id = known.ID
	case err != nil:
		return nil, err
	case known.ID != (txn.LogID{}) && known.ID != id:
		return nil, fmt.Errorf("resource %s has the cluster %s, and this host has been in %s (%s): if nothing of that is open any more, remove that file",
			r.opt.Name, id, known.ID, opt.Memory)
	}
	c.is = known
	c.is.ID = id
	return c, nil
}

// readMemory reads what the host remembers; nothing, if there is no file.
func readMemory(file string) (is remembered, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return is, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &is)
	}
	if err != nil {
		return is, fmt.Errorf("%s: %w", file, err)
	}
	return is, nil
}

// remember keeps which incarnation was given to this host, and tells which was the highest before.
func (c *cluster) remember(ctx context.Context, n uint64) (before uint64, err error) {
	lock, err := os.OpenFile(c.opt.Memory+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ofd.Close(lock)) }()
	if err := ofd.Lock(ctx, lock); err != nil {
		return 0, err
	}
	was, err := readMemory(c.opt.Memory)
	if err != nil || n <= was.Incarnation && was.ID == c.is.ID {
		return was.Incarnation, err
	}
	raw, _ := json.Marshal(remembered{c.is.ID, n}) // never fails: texts
	temp, err := os.OpenFile(c.opt.Memory+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = temp.Write(append(raw, '\n'))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(c.opt.Memory+".new", c.opt.Memory)
	}
	return was.Incarnation, err
}

// ID is the cluster's, part of every gid.
func (c *cluster) ID() txn.LogID { return c.is.ID }

// Incarnation is that of the session that this process has now; 0 if it has none.
func (c *cluster) Incarnation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil || c.life.ended() {
		return 0
	}
	return c.life.number
}

// Log returns the log of this process's incarnation, beginning one if need be. An error for which txn.ErrUnreachable holds says that the
// database is not there.
func (c *cluster) Log(ctx context.Context) (ledger.Log, error) {
	l, err := c.living(ctx)
	if err != nil {
		return nil, err // not an interface of a nil pointer
	}
	return l, nil
}

// living returns the session of this process's incarnation. One is begun beside the callers, who wait no longer than their contexts last,
// and not at all where it could not be begun a moment ago: what is on one resource goes on without, and must not wait for it, one
// transaction after another.
func (c *cluster) living(ctx context.Context) (*life, error) {
	for {
		c.mu.Lock()
		l, failed, wait := c.life, c.failed, c.beginning
		again := wait == nil && (failed == nil || time.Since(c.at) >= againAfter)
		switch {
		case c.closed:
			c.mu.Unlock()
			return nil, txn.ErrClosed
		case c.alive.Err() != nil:
			c.mu.Unlock()
			return nil, c.Err()
		case l != nil && !l.ended():
			c.mu.Unlock()
			return l, nil
		case again:
			wait = make(chan struct{})
			c.beginning = wait
			go c.attempt(wait)
		}
		c.mu.Unlock()
		if failed != nil {
			return nil, failed
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: begin an incarnation: %w", txn.ErrUnreachable, context.Cause(ctx))
		}
	}
}

// attempt begins an incarnation.
func (c *cluster) attempt(over chan struct{}) {
	ctx, cancel := context.WithTimeout(c.leave, beginWithin)
	defer cancel()
	l, err := c.begin(ctx)
	if err != nil {
		err = fmt.Errorf("begin an incarnation: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life, c.failed, c.at, c.beginning = l, err, time.Now(), nil
	close(over)
}

// beginWithin bounds an attempt to begin an incarnation.
const beginWithin = 15 * time.Second

// Fail ends this process's part.
func (c *cluster) Fail(err error) {
	if c.Err() != nil {
		return
	}
	c.kill(err)
	c.end(err)
	c.opt.Events.Failed("the ledger in resource "+c.r.opt.Name, err)
}

// end ends the session, if there is one.
func (c *cluster) end(err error) {
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	if l != nil {
		l.lose(err)
	}
}

// Failed is closed when this process has to exit. The end of a session is no reason.
func (c *cluster) Failed() <-chan struct{} { return c.alive.Done() }

// Err returns why Failed is closed, nil if it is not.
func (c *cluster) Err() error { return context.Cause(c.alive) }

// KeepLocked ends the incarnation that has the claim: from then on its log tells how its transactions ended, and all can read that. Without
// a claim it has ended: only a force leaves it open then whether it was done.
func (c *cluster) KeepLocked(held *ledger.Claim, err error) error {
	if held != nil {
		held.Keep()
		if r, ok := held.Row().(*row); ok {
			r.l.lose(err)
		}
	}
	if !errors.Is(err, txn.ErrPoisoned) {
		err = fmt.Errorf("%w: %w", txn.ErrPoisoned, err)
	}
	return err
}

// Close ends the session. The incarnation goes if nobody needs what it has.
func (c *cluster) Close(ctx context.Context, settled bool, dispensable func(txn.GID) bool) error {
	c.mu.Lock()
	c.closed = true
	wait := c.beginning
	c.mu.Unlock()
	c.left()
	if wait != nil {
		<-wait
	}
	c.mu.Lock()
	l := c.life
	c.life = nil
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	defer l.lose(txn.ErrClosed)
	if !settled || l.ended() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	s, err := c.Read(ctx)
	if err != nil {
		return nil //nolint:nilerr // recovery looks later: to leave is no failure
	}
	s.Cleared(l.number)
	if s.Damaged[l.number] != nil || len(s.Needed(l.number, c.Done, dispensable)) > 0 {
		return nil
	}
	return c.forget(ctx, l.number)
}

// againAfter is how long nobody tries to begin an incarnation after one could not.
const againAfter = time.Second

// leaveWithin bounds how long a process that ends looks whether its log may go with it.
const leaveWithin = 2 * time.Second

// silent is for how long a session may have said nothing before another process ends it: its process stands still, or its host is cut
// off. A living one says something every beat.
const (
	silent = 15 * time.Second
	beat   = 2 * time.Second // at most; a sixth of what is allowed, if that is less
)

// one is one incarnation as the server has it.
type one struct {
	ledger.Member

	sealed bool // it is known to be dead
}

// all lists the incarnations, the oldest first, without what is open of them. That of a session that begins is seen when it has its lock.
func (c *cluster) all(ctx context.Context) (list []one, err error) {
	err = c.r.privileged(ctx, func(on *conn) error {
		list = nil
		rows, err := on.pg.Query(ctx, "SELECT number, host, program, began, dead IS NOT NULL, beat < pg_catalog.clock_timestamp() - $1::interval FROM fdt_txn.incarnation ORDER BY number",
			c.opt.Silent)
		if err != nil {
			return err
		}
		var is one
		if _, err = pgx.ForEachRow(rows, []any{&is.Incarnation, &is.Host, &is.Program, &is.Began, &is.sealed, &is.Silent}, func() error {
			list = append(list, is)
			return nil
		}); err != nil {
			return err
		}
		held, err := on.locks(ctx)
		recovers := held[c.key("claim", recoveryName)]
		for i := range list {
			is := &list[i]
			by, alive := held[c.key("incarnation", fmt.Sprint(is.Incarnation))]
			is.Alive, is.Silent, is.Recovers = alive, alive && is.Silent && !by.waits, alive && by.pid == recovers.pid
		}
		return err
	})
	if err != nil {
		return nil, c.silence(err)
	}
	return list, nil
}

// Members lists the incarnations of all hosts, the oldest first.
func (c *cluster) Members(ctx context.Context) (list []ledger.Member, err error) {
	open := map[uint64]int{}
	if _, err := c.Each(ctx, func(st *ledger.State) {
		if !st.Phase.Terminal() && !st.Forgotten() {
			open[st.Claimant]++
		}
	}); err != nil {
		return nil, err
	}
	all, err := c.all(ctx)
	for _, is := range all {
		is.Open = open[is.Incarnation]
		list = append(list, is.Member)
	}
	return list, err
}

// silence is the class of a failure to ask the database. Of its cause there is the text alone: that a socket is not there must not be taken
// for what fs.ErrNotExist says of a claim.
func (c *cluster) silence(err error) error {
	if err == nil || definite(err) {
		return err
	}
	return fmt.Errorf("%w: %s", txn.ErrUnreachable, strings.TrimPrefix(err.Error(), txn.ErrUnreachable.Error()+": "))
}

// holder is the session that has a lock.
type holder struct {
	pid   int
	waits bool // for a standby, which keeps it from saying anything
}

// locks are the advisory locks that sessions in the database have, and whose they are.
func (c *conn) locks(ctx context.Context) (map[int64]holder, error) {
	rows, err := c.pg.Query(ctx, `SELECT (l.classid::bigint << 32) | l.objid::bigint, l.pid, coalesce(a.wait_event = 'SyncRep', false) FROM pg_catalog.pg_locks l
		JOIN pg_catalog.pg_database d ON d.oid = l.database LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted`)
	if err != nil {
		return nil, err
	}
	held := map[int64]holder{}
	var key int64
	var by holder
	_, err = pgx.ForEachRow(rows, []any{&key, &by.pid, &by.waits}, func() error {
		held[key] = by
		return nil
	})
	return held, err
}

// key is that of an advisory lock. Two names of one key only wait for each other.
func (c *cluster) key(kind, name string) int64 {
	sum := sha256.Sum256([]byte("fdt " + c.is.ID.String() + " " + kind + " " + name))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any bits will do
}

// Alive tells whether the session of an incarnation lives.
func (c *cluster) Alive(n uint64) (bool, error) {
	if _, known := c.dead.Load(n); known {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	list, err := c.all(ctx)
	for _, is := range list {
		if is.Incarnation == n {
			return is.Alive, err
		}
	}
	return false, err
}

// askWithin bounds a question that has no limit of its own.
const askWithin = 10 * time.Second

// Gone tells whether nothing is kept of an incarnation any more. Where nobody can tell, it is not.
func (c *cluster) Gone(n uint64) bool {
	ctx, cancel := context.WithTimeout(c.alive, askWithin)
	defer cancel()
	list, err := c.all(ctx)
	for _, is := range list {
		if is.Incarnation == n {
			return false
		}
	}
	return err == nil
}

// Orphaned tells whether the session of an incarnation has ended, or should be, that nobody has seen to.
func (c *cluster) Orphaned(ctx context.Context) (bool, error) {
	list, err := c.all(ctx)
	for _, is := range list {
		if !is.sealed && (!is.Alive || is.Silent) && is.Incarnation != c.Incarnation() {
			return true, nil
		}
	}
	return false, err
}

// SealDead notes which incarnations are dead. One that has said nothing for long is ended first. What can be read of them is durable, and
// on the standbys for which the server waits: what a session committed that was ended while it waited for one can be seen before.
func (c *cluster) SealDead(ctx context.Context) (map[uint64]bool, error) {
	list, err := c.all(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.endSilent(ctx, list); err != nil {
		return nil, err
	}
	dead := map[uint64]bool{}
	var fresh []int64
	news := false
	for _, is := range list {
		if is.Alive { // or was until now: then the next scan sees that it has gone
			continue
		}
		dead[is.Incarnation] = true
		_, known := c.dead.Load(is.Incarnation)
		news = news || !known
		if !is.sealed {
			fresh = append(fresh, int64(is.Incarnation)) //nolint:gosec // at most xa.MaxIncarnation
		}
	}
	switch {
	case len(fresh) > 0:
		err = c.keep(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE fdt_txn.incarnation SET dead = pg_catalog.clock_timestamp() WHERE number = ANY ($1) AND dead IS NULL", fresh)
			return err
		})
	case news: // who has noted that may have been ended while it waited for a standby
		err = c.barrier(ctx)
	}
	if err != nil {
		return nil, err
	}
	for n := range dead {
		c.dead.Store(n, true)
	}
	return dead, nil
}

// endSilent ends the sessions of others that have said nothing for long.
func (c *cluster) endSilent(ctx context.Context, list []one) error {
	for _, is := range list {
		if is.Alive && is.Silent && is.Incarnation != c.Incarnation() {
			if err := c.terminate(ctx, is); err != nil {
				return err
			}
		}
	}
	return nil
}

// terminate ends the sessions of an incarnation that has said nothing for long. One that waits for a standby stays as long as it does: see
// Resource.end.
func (c *cluster) terminate(ctx context.Context, is one) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if err := c.r.Fence(ctx, c.is.ID, is.Incarnation); err != nil {
		return c.silence(err)
	}
	c.opt.Events.Silenced(ctx, is.Incarnation)
	return nil
}

// keep changes the tables beside the session of this process, durably.
func (c *cluster) keep(ctx context.Context, f func(pgx.Tx) error) error {
	return c.silence(c.r.privileged(ctx, func(on *conn) error { return on.keep(ctx, f) }))
}

// sealed makes sure of a dead incarnation that what can be read of it is durable.
func (c *cluster) sealed(ctx context.Context, n uint64) error {
	if _, known := c.dead.Load(n); known {
		return nil
	}
	if err := c.barrier(ctx); err != nil {
		return err
	}
	c.dead.Store(n, true)
	return nil
}

// barrier returns when all that can be read is durable, and on the standbys for which the server waits.
func (c *cluster) barrier(ctx context.Context) error {
	return c.keep(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, lifeForce)
		return err
	})
}

// hexed is bytes as the server takes them for bytea in text form.
func hexed(raw []byte) string { return `\x` + hex.EncodeToString(raw) }
