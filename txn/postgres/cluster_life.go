package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/xa"
)

// life is the one session in which an incarnation writes. Its end is the incarnation's: see cluster.
type life struct {
	c      *cluster
	on     *conn
	number uint64
	claims names

	over context.Context
	stop context.CancelCauseFunc

	next    atomic.Uint64 // sequence number that was given away last
	decider atomic.Pointer[txn.BranchID]

	mu    sync.Mutex
	queue []*entry

	turn    sync.Mutex // who has it has the session, and what is below
	place   uint64     // of the last record
	kept    uint64     // up to where records are durable
	rotated uint64     // up to where they were when the log was shortened
}

// entry is what one goroutine wants written.
type entry struct {
	list  []txn.Statement
	rec   *ledger.Record // to be inserted, at the next place
	force bool
	at    uint64 // place of the record
	done  bool
	err   error
}

// errLifeOver says that an incarnation writes no more. It is not in doubt: what is refused with it was never sent.
var errLifeOver = errors.New("the session of this incarnation in the decider has ended")

// params are those of a life. What a role or a database is given by ALTER must not end it; keepalive has the server notice within some ten
// seconds that a host is gone.
var lifeParams = map[string]string{
	"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0", "idle_in_transaction_session_timeout": "10s",
	"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "11000",
}

// begin begins an incarnation: its number is given away durably, and its session has the lock, when others can see it.
func (c *cluster) begin(ctx context.Context) (l *life, err error) {
	on, err := c.r.dialWith(ctx, "fdt1-"+c.is.ID.String(), lifeParams)
	if err != nil {
		return nil, c.silence(c.r.unavailable(err))
	}
	defer func() {
		if err != nil {
			on.close()
			err = c.silence(err)
		}
	}()
	for {
		n, err := c.number(ctx, on)
		if err != nil {
			return nil, err
		}
		before, err := c.remember(ctx, n)
		switch {
		case err != nil:
			return nil, err
		case n > before:
			l = &life{c: c, on: on, number: n}
			l.over, l.stop = context.WithCancelCause(context.Background())
			go l.beat() // until it ends
			return l, nil
		}
		// The tables are older than what this host has seen: what has been given away since, from this number on, is lost with the rest.
		if err := c.skip(ctx, n, before); err != nil {
			return nil, err
		}
	}
}

// number gives the session an incarnation.
func (c *cluster) number(ctx context.Context, on *conn) (n uint64, err error) {
	tx, err := on.pg.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // unless it was committed
	if _, err = tx.Exec(ctx, on.lasting()); err != nil {
		return 0, err
	}
	var store string
	err = tx.QueryRow(ctx, "UPDATE fdt_txn.cluster SET highest = highest + 1 WHERE log_id = $1::text::uuid RETURNING highest, coalesce(store, '')", c.is.ID.String()).Scan(&n, &store)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !c.r.Succeeds(on.identity, store):
		return 0, txn.Refused.Mark(fmt.Errorf("resource %s is %s now, which does not have the cluster %s", c.r.opt.Name, on.identity, c.is.ID))
	case err == nil && n > xa.MaxIncarnation:
		err = errors.New("no incarnation numbers left")
	}
	if err != nil {
		return 0, err
	}
	if _, err = tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_lock($1)", c.key("incarnation", fmt.Sprint(n))); err != nil {
		return 0, err
	}
	if _, err = tx.Exec(ctx, "SELECT pg_catalog.set_config('application_name', $1, false)", appName(c.is.ID, n)); err != nil {
		return 0, err
	}
	if _, err = tx.Exec(ctx, "INSERT INTO fdt_txn.incarnation (number, host, program, beat) VALUES ($1, $2, $3, pg_catalog.clock_timestamp())",
		int64(n), c.opt.Host, c.opt.Program); err != nil { //nolint:gosec // at most xa.MaxIncarnation
		return 0, err
	}
	return n, on.finally(func() error { return tx.Commit(ctx) })
}

// ended tells whether the session is over.
func (l *life) ended() bool { return l.over.Err() != nil }

// lose ends the session. Whoever has the turn is through with it at once.
func (l *life) lose(why error) {
	l.stop(why)
	_ = l.on.pg.PgConn().Conn().SetDeadline(time.Unix(1, 0)) // whoever waits for an answer waits no longer
	l.turn.Lock()
	defer l.turn.Unlock()
	l.on.close()
}

// beat says something as long as the session lives, so that it is not taken for one whose process stands still.
func (l *life) beat() {
	tick := time.NewTicker(min(beat, l.c.opt.Silent/6))
	defer tick.Stop()
	for {
		select {
		case <-l.over.Done():
			return
		case <-tick.C:
			_ = l.write(&entry{list: []txn.Statement{{SQL: lifeBeat, Args: []any{int64(l.number)}}}}) //nolint:gosec // small
		}
	}
}

const (
	lifeBeat   = "UPDATE fdt_txn.incarnation SET beat = pg_catalog.clock_timestamp() WHERE number = $1"
	lifeLevel  = "SELECT pg_catalog.set_config('synchronous_commit', $1, true)"
	lifeRecord = "INSERT INTO fdt_txn.record (incarnation, place, kind, gid, record) VALUES ($1, $2, $3, $4, $5)"
	lifeForce  = "SELECT pg_catalog.pg_logical_emit_message(true, 'fdt', '')"
)

// write has something written, and returns when that is so: durably, if it is to be forced. Those who come while the session is at work
// wait together, and whoever is next writes for all of them in one transaction.
func (l *life) write(e *entry) error {
	l.mu.Lock()
	l.queue = append(l.queue, e)
	l.mu.Unlock()
	l.turn.Lock()
	defer l.turn.Unlock()
	if e.done {
		return e.err
	}
	l.mu.Lock()
	all := l.queue
	l.queue = nil
	l.mu.Unlock()
	l.flush(all)
	return e.err
}

// flush writes entries in one transaction. The caller has the turn.
func (l *life) flush(all []*entry) {
	if l.ended() {
		done(all, errLifeOver)
		return
	}
	level, place, bare := "off", l.place, false
	for _, e := range all {
		if e.force {
			level, bare = l.on.level, bare || e.rec == nil
		}
	}
	list := []txn.Statement{{SQL: "BEGIN"}, {SQL: lifeLevel, Args: []any{level}}}
	for _, e := range all {
		list = append(list, e.list...)
		if e.rec == nil {
			continue
		}
		place++
		e.at = place
		list = append(list, l.insert(place, e.rec))
	}
	if bare { // what else there is may change nothing, and be committed without a force then
		list = append(list, txn.Statement{SQL: lifeForce})
	}
	began := time.Now()
	err := l.transact(list)
	if level != "off" {
		l.c.opt.Forces.Observe(time.Since(began))
	}
	if err != nil {
		done(all, l.failed(err))
		return
	}
	l.place = place
	if level != "off" {
		l.kept = place
	}
	done(all, nil)
}

func done(all []*entry, err error) {
	for _, e := range all {
		e.err, e.done = err, true
	}
}

// insert is what inserts a record.
func (l *life) insert(place uint64, r *ledger.Record) txn.Statement {
	var gid any
	if !r.GID.IsZero() {
		gid = r.GID.String()
	}
	return txn.Statement{SQL: lifeRecord, Args: []any{
		strconv.FormatUint(l.number, 10), strconv.FormatUint(place, 10), string(r.Kind), gid, hexed(r.Encode()),
	}}
}

// transact runs statements in one transaction and one round trip.
func (l *life) transact(list []txn.Statement) error {
	ctx, cancel := context.WithTimeout(context.Background(), lifeWithin)
	defer cancel()
	return l.on.finally(func() error {
		_, tag, err := l.on.pipelineThen(ctx, list, "COMMIT")
		if err == nil && tag != "COMMIT" {
			err = &tagError{want: "COMMIT", got: tag}
		}
		return err
	})
}

// lifeWithin bounds how long a session waits for the server. One that has had no answer for so long ends, and with it the incarnation.
const lifeWithin = 30 * time.Second

// failed is what a transaction's failure means. One that the server has answered with had no effect; after any other nobody knows, and the
// session ends: its log then tells. The caller has the turn.
func (l *life) failed(err error) error {
	if definite(err) && !l.on.pg.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if undone := l.on.command(ctx, "ROLLBACK", "ROLLBACK"); undone == nil {
			if code(err) == "53100" {
				err = fmt.Errorf("%w: %w", txn.ErrLogFull, err)
			}
			return fmt.Errorf("resource %s: %w", l.c.r.opt.Name, err)
		}
	}
	err = fmt.Errorf("%w: resource %s: %s", txn.ErrPoisoned, l.c.r.opt.Name, err.Error())
	l.stop(err)
	l.on.close()
	return err
}

// ask runs statements each by itself, in one round trip, and returns what they say.
func (l *life) ask(list ...txn.Statement) ([]txn.Outcome, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.ended() {
		return nil, errLifeOver
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifeWithin)
	defer cancel()
	outs, err := l.on.pipeline(ctx, list)
	if err != nil {
		err = fmt.Errorf("%w: resource %s: %s", txn.ErrUnreachable, l.c.r.opt.Name, err.Error())
		l.stop(err) // the locks that it may have got, or given back, are nobody's then
		l.on.close()
	}
	return outs, err
}

// Incarnation is its number.
func (l *life) Incarnation() uint64 { return l.number }

// Number gives away a gid.
func (l *life) Number(role txn.Role) (txn.GID, error) {
	n := l.next.Add(1)
	if n > xa.MaxSequence {
		l.c.end(errLifeOver) // the next one has some
		return txn.GID{}, fmt.Errorf("%w: incarnation %d has no numbers left", txn.ErrPoisoned, l.number)
	}
	return txn.GID{Log: l.c.is.ID, Incarnation: l.number, Sequence: n, Role: role}, nil
}

// Note writes a record that survives the death of this process, not of the server.
func (l *life) Note(r ledger.Record) (ledger.Mark, error) {
	e := &entry{rec: dated(&r)}
	err := l.write(e)
	return ledger.MarkIn(l.number, e.at), err
}

// Force writes a record, durably.
func (l *life) Force(r ledger.Record) error { return l.write(&entry{rec: dated(&r), force: true}) }

func dated(r *ledger.Record) *ledger.Record {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	return r
}

// Forced returns when a record that was noted is durable.
func (l *life) Forced(k ledger.Mark) error {
	place, _ := k.In(l.number)
	l.turn.Lock()
	durable := place <= l.kept
	l.turn.Unlock()
	if durable {
		return nil
	}
	return l.write(&entry{force: true})
}

// Wrote tells whether a mark is of this log.
func (l *life) Wrote(k ledger.Mark) bool {
	_, ours := k.In(l.number)
	return ours
}

// DecidedIn notes durably, and once, that a store keeps decisions of this incarnation.
func (l *life) DecidedIn(store txn.BranchID) error {
	store.Proof = ""
	if is := l.decider.Load(); is != nil && *is == store {
		return nil
	}
	if err := l.Force(ledger.Record{Kind: ledger.KindDecider, Branches: []txn.BranchID{store}}); err != nil {
		return err
	}
	l.decider.Store(&store)
	return nil
}

// Decider tells whether that is noted.
func (l *life) Decider() bool { return l.decider.Load() != nil }
