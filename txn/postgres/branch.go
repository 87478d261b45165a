package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

// settle bounds what a branch does to end its session when the server did not answer.
const settle = 5 * time.Second

// Branch is one transaction on the database, on a session of its own until it is prepared.
type Branch struct {
	r       *Resource
	c       *conn // nil when the branch has ended, or its session is lost
	lost    *conn // the session whose end is not known
	opt     txn.BranchOptions
	opening []txn.Statement // begins the transaction; nil once it was sent
	xid     string          // its xid8; empty for a read-only branch, and for one that has not begun
	era     era             // of the xid8
	durable bool            // the xid8 is on disk
	store   string          // identity of its connection
	session string          // the session that it is on
	backend uint64          // its process
	unsure  bool            // a statement may have ended the transaction and begun another
	ended   error           // why the branch must not commit
	lease   pool.Lease      // of its session
}

// Enlist takes a session for a branch, one that the server has not left; that there is no server is an error with SQLSTATE 08001. The
// transaction begins with the branch's first statement, in one round trip with it; where there was none, Prepare begins it, and Commit
// and Rollback have nothing to do.
func (r *Resource) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	app := appName(opt.GID.Log, opt.GID.Incarnation)
	for {
		c, used, err := r.pool.Get(ctx, app, opt.Waiting)
		switch {
		case err != nil:
			return nil, r.unavailable(err)
		case used && c.left():
			r.pool.Drop(c)
			r.pool.Flush() // the server was restarted: what idles is dead
		default:
			b := &Branch{r: r, c: c, opt: opt, opening: opening(opt, r.opt.LockTimeout), store: c.identity, session: c.session, backend: uint64(c.pg.PgConn().PID()), era: c.era}
			b.lease.Hold(c.socket())
			return b, nil
		}
	}
}

// opening are the statements that start a branch. The xid8 is taken before there is anything to prove by it, since a commit whose reply
// is lost cannot be asked for it any more; a transaction that then writes nothing commits without a flush. The session's own limit for
// waiting need not be set.
func opening(opt txn.BranchOptions, own time.Duration) []txn.Statement {
	begin := "BEGIN"
	if opt.Isolation != txn.IsolationDefault {
		begin += " ISOLATION LEVEL " + string(opt.Isolation)
	}
	if opt.ReadOnly {
		begin += " READ ONLY"
	}
	if opt.Deferrable {
		begin += " DEFERRABLE"
	}
	list := []txn.Statement{{SQL: begin}}
	if opt.LockTimeout > 0 && opt.LockTimeout != own {
		list = append(list, txn.Statement{SQL: "SET LOCAL lock_timeout = " + milliseconds(opt.LockTimeout)})
	}
	if !opt.ReadOnly {
		list = append(list, txn.Statement{SQL: "SELECT pg_current_xact_id()"})
	}
	return list
}

// milliseconds is a limit as the server reads it, for which 0 is none.
func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }

// begin sends what begins the transaction, if that was not sent, and these statements behind it. It returns their outcomes as pipeline
// does.
func (b *Branch) begin(ctx context.Context, list ...txn.Statement) ([]txn.Outcome, error) {
	first := b.opening
	b.opening = nil // it may be done, whatever the answer
	b.c.used = true
	outs, err := b.c.pipeline(ctx, append(first, list...))
	if len(outs) < len(first) {
		return nil, err
	}
	if n := len(first); n > 0 && !b.opt.ReadOnly {
		b.xid = *outs[n-1].First
	}
	return outs[len(first):], err
}

// begun makes sure that the transaction has begun.
func (b *Branch) begun(ctx context.Context) error {
	if err := b.check(); err != nil || b.opening == nil {
		return err
	}
	_, err := b.begin(ctx)
	if err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

// gid is the gid as this resource writes it. Databases of one cluster share the space of gids, hence the resource's name in it.
func (r *Resource) gid(gid txn.GID) string { return gid.String() + "/" + r.opt.Name }

// Conn is the branch's session, in its open transaction, for code that knows it speaks to PostgreSQL. It may be used until the branch
// ends, and must not be used to end the transaction.
func (b *Branch) Conn(ctx context.Context) (*pgx.Conn, error) {
	if err := b.begun(ctx); err != nil {
		return nil, err
	}
	b.unsure, b.c.strange = true, true
	return b.c.pg, nil
}

// For is Conn for the one statement that is run there next. One that only reads or changes rows leaves nothing to be reset but what every
// transaction may, and cannot end this one.
func (b *Branch) For(ctx context.Context, sql string) (*pgx.Conn, error) {
	if !harmless(sql) || strings.Contains(sql, ";") {
		return b.Conn(ctx)
	}
	if err := b.begun(ctx); err != nil {
		return nil, err
	}
	return b.c.pg, nil
}

// Identity is that of the store which the branch is on.
func (b *Branch) Identity() string { return b.store }

// Proof is the branch's xid8, where that means the branch, and the session until the branch is prepared; empty for one that has not begun.
func (b *Branch) Proof() txn.Proof {
	if b.opening != nil {
		return ""
	}
	return b.era.proof(b.xid, b.session, b.durable)
}

// Cut closes the connection: see txn.Cuttable. The proof names the session, which cannot be anybody else's any more: whether the branch
// has begun only its owner knows.
func (b *Branch) Cut() (txn.Proof, bool) { return b.era.proof("", b.session, false), b.lease.Cut() }

var errOver = errors.New("the branch has ended")

// check tells whether the branch's transaction is still open on the server, in a session that fences find.
func (b *Branch) check() error {
	switch {
	case b.ended != nil:
	case b.c == nil:
		return fmt.Errorf("resource %s: %w", b.r.opt.Name, errOver)
	case b.opening != nil || b.c.pg.IsClosed():
	case b.c.pg.PgConn().TxStatus() == 'I':
		b.doom("a statement ended the branch's transaction by itself")
	case b.c.pg.PgConn().ParameterStatus("application_name") != b.c.app:
		b.renamed()
	}
	return b.ended
}

func (b *Branch) renamed() {
	b.doom("a statement changed application_name, by which the session is found if this process dies")
}

// doom keeps the branch from committing.
func (b *Branch) doom(why string) {
	b.ended = fmt.Errorf("resource %s: %w: %s", b.r.opt.Name, txn.ErrRolledBack, why)
}

// votable is check before a vote: the transaction must be the one that has begun, too. ROLLBACK AND CHAIN leaves another, and the same
// command tag as ROLLBACK TO, which is harmless.
func (b *Branch) votable(ctx context.Context) error {
	if err := b.check(); err != nil || !b.unsure || b.xid == "" {
		return err
	}
	_, row, err := b.c.simple(ctx, "SELECT coalesce(pg_current_xact_id_if_assigned()::text, 'none')")
	if err != nil {
		return b.failure(ctx, err)
	}
	if row[0] != b.xid {
		b.doom("a statement ended the branch's transaction and began another")
	}
	return b.ended
}

// Prepare is phase one. A branch declared read-only ends with it: nothing else shows that a transaction left nothing behind, since
// NOTIFY, foreign tables, advisory and table locks need no xid.
func (b *Branch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if err := b.votable(ctx); err != nil {
		return 0, err
	}
	if b.opt.ReadOnly {
		if err := b.end(ctx, "COMMIT"); err != nil {
			return 0, b.fault("end of a read-only branch", err)
		}
		return txn.VoteReadOnly, nil
	}
	if err := b.begun(ctx); err != nil {
		return 0, err
	}
	end := b.c.finish
	if gid.Role == txn.RoleExternal {
		end = b.c.conclude // the session is free with the vote
	}
	if err := end(ctx, "PREPARE TRANSACTION "+literal(b.r.gid(gid)), prepared); err != nil {
		return 0, b.unprepared(err)
	}
	b.durable = true
	if gid.Role == txn.RoleExternal {
		b.release()
	}
	return txn.VotePrepared, nil
}

// prepared is the tag of a yes.
const prepared = "PREPARE TRANSACTION"

// unprepared is a no, or no answer.
func (b *Branch) unprepared(err error) error {
	if !definite(err) { // the server may yet prepare it, or has
		b.lose()
		return b.fault("prepare", &pool.Lost{Err: err})
	}
	b.release()
	if taken(err) {
		err = txn.NotOurs.Mark(err)
	}
	if code(err) == "55000" && strings.Contains(err.Error(), "disabled") {
		err = fmt.Errorf("%w (%w)", ErrPreparedDisabled, err)
	}
	return b.fault("prepare", err)
}

// taken tells whether the server refused a gid because it holds a branch of that name. A deferred trigger, which PREPARE TRANSACTION
// runs, may answer duplicate_object as well; that is a vote against the branch and no more.
func taken(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42710" && pg.Routine == "MarkAsPreparing"
}

// Commit is the one-phase commit. If its outcome is lost, Resource.Outcome tells it from the Proof.
func (b *Branch) Commit(ctx context.Context) error {
	if err := b.votable(ctx); err != nil {
		return err
	}
	err := b.end(ctx, "COMMIT")
	if err == nil {
		return nil
	}
	if b.lost != nil && b.xid != "" {
		// The session must end before the outcome can be asked for; where this fails, asking again will tell.
		ctx, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		_ = b.terminate(ctx)
		return b.fault("commit", errors.Join(txn.ErrUnknownOutcome, err))
	}
	return b.fault("commit", err)
}

// Rollback undoes what is not prepared, and if the session does not answer ends it on the server.
func (b *Branch) Rollback(ctx context.Context) error {
	if b.c != nil {
		if !b.c.pg.IsClosed() && b.end(ctx, "ROLLBACK") == nil {
			return nil
		}
		b.lose()
	}
	return b.terminate(ctx)
}

// CommitPrepared is phase two on the session that prepared.
func (b *Branch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	if b.c == nil {
		return b.fault("commit prepared", errOver)
	}
	err := b.c.conclude(ctx, "COMMIT PREPARED "+literal(b.r.gid(gid)), "COMMIT PREPARED")
	b.release()
	if err != nil {
		return b.fault("commit prepared", err)
	}
	return nil
}

// open tells whether the branch has surely not been prepared, as its session is in the transaction. That of a branch that is doomed may be
// another one: see votable.
func (b *Branch) open() bool {
	return b.ended == nil && b.c != nil && !b.c.pg.IsClosed() && b.c.pg.PgConn().TxStatus() != 'I'
}

// RollbackPrepared undoes the branch after Prepare, whatever that returned.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if b.open() {
		return b.Rollback(ctx)
	}
	if b.c != nil {
		err := b.c.conclude(ctx, "ROLLBACK PREPARED "+literal(b.r.gid(gid)), "ROLLBACK PREPARED")
		b.release()
		if err == nil {
			return nil
		}
	}
	if err := b.terminate(ctx); err != nil {
		return err
	}
	resolution, err := b.r.Resolve(ctx, gid, txn.Abort, b.Proof())
	if err == nil && resolution != txn.ResolvedDone {
		err = b.fault("rollback prepared", txn.ErrHeuristicCommit)
	}
	return err
}

// Savepoint sets a savepoint.
func (b *Branch) Savepoint(ctx context.Context, name string) error {
	return b.savepoint(ctx, "SAVEPOINT "+name, "SAVEPOINT")
}

// RollbackTo undoes what came after the savepoint.
func (b *Branch) RollbackTo(ctx context.Context, name string) error {
	return b.savepoint(ctx, "ROLLBACK TO SAVEPOINT "+name, "ROLLBACK")
}

// Release drops the savepoint.
func (b *Branch) Release(ctx context.Context, name string) error {
	return b.savepoint(ctx, "RELEASE SAVEPOINT "+name, "RELEASE")
}

func (b *Branch) savepoint(ctx context.Context, text, tag string) error {
	if err := b.begun(ctx); err != nil {
		return err
	}
	err := b.c.command(ctx, text, tag)
	switch {
	case err == nil:
		return nil
	case !definite(err):
		err = &pool.Lost{Err: err}
	}
	return b.fault(text, err)
}

// end sends COMMIT or ROLLBACK and frees the session; afterwards b.lost is set if the server's answer is missing.
func (b *Branch) end(ctx context.Context, command string) error {
	if b.opening != nil { // nothing was begun
		b.release()
		return nil
	}
	err := b.c.conclude(ctx, command, command)
	if err == nil || definite(err) {
		b.release()
	} else {
		b.lose()
		err = &pool.Lost{Err: err}
	}
	return err
}

// release gives the session back, unless a cancel request, an open transaction or more may still be in it.
func (b *Branch) release() {
	c := b.c
	b.c = nil
	if !b.lease.End() || c.pg.IsClosed() || c.pg.PgConn().TxStatus() != 'I' || c.cancelled || c.used && !c.reset() || c.pg.PgConn().ParameterStatus("application_name") != c.app {
		b.r.pool.Drop(c)
		return
	}
	b.r.pool.Put(c.app, c)
}

// lose gives up a session whose end on the server is not known.
func (b *Branch) lose() {
	if b.c == nil {
		return
	}
	b.lost, b.c = b.c, nil
	b.r.pool.Drop(b.lost)
}

// terminate returns when the lost session, if there is one, is gone from the server.
func (b *Branch) terminate(ctx context.Context) error {
	if b.lost == nil {
		return nil
	}
	pid := int64(b.lost.pg.PgConn().PID())
	if err := b.r.end(ctx, "application_name = $1 AND pid = $2", b.lost.app, pid); err != nil {
		return err
	}
	b.lost = nil
	return nil
}

func (b *Branch) fault(what string, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && err == error(pg) { //nolint:errorlint // nothing that wraps it is to be lost
		err = &StatementError{pg}
	}
	return fmt.Errorf("resource %s: %s: %w", b.r.opt.Name, what, err)
}
