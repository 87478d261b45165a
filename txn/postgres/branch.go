package postgres

import (
	"context"
	"errors"
	"fmt"
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
	r     *Resource
	c     *conn // nil when the branch has ended, or its session is lost
	lost  *conn // the session whose end is not known
	opt   txn.BranchOptions
	proof txn.Proof
	store string // identity of its connection
	ended error  // a statement ended the transaction by itself
}

// Enlist begins a branch. An unreachable server fails it, with SQLSTATE 08001.
func (r *Resource) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	app := appName(opt.GID.Log, opt.GID.Incarnation)
	for {
		c, used, err := r.pool.Get(ctx, app)
		if err != nil {
			return nil, r.unavailable(err)
		}
		_, row, err := c.simple(ctx, begin(opt))
		if err == nil {
			b := &Branch{r: r, c: c, opt: opt, store: c.identity}
			if !opt.ReadOnly {
				b.proof = txn.Proof(row[0])
			}
			return b, nil
		}
		r.pool.Drop(c)
		if definite(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("resource %s: begin: %w", r.opt.Name, err)
		}
		if !used {
			return nil, r.unavailable(err)
		}
		r.pool.Flush() // the server was restarted: what idles is dead
	}
}

// begin is the one message that starts a branch. The xid8 is taken before there is anything to prove by it, since a commit whose reply is
// lost cannot be asked for it any more; a transaction that then writes nothing commits without a flush.
func begin(opt txn.BranchOptions) string {
	var text strings.Builder
	text.WriteString("BEGIN")
	if opt.Isolation != txn.IsolationDefault {
		fmt.Fprintf(&text, " ISOLATION LEVEL %s", opt.Isolation)
	}
	if opt.ReadOnly {
		text.WriteString(" READ ONLY")
	}
	if opt.Deferrable {
		text.WriteString(" DEFERRABLE")
	}
	if opt.LockTimeout > 0 {
		fmt.Fprintf(&text, "; SET LOCAL lock_timeout = %d", max(1, opt.LockTimeout.Milliseconds()))
	}
	if !opt.ReadOnly {
		text.WriteString("; SELECT pg_current_xact_id()")
	}
	return text.String()
}

// gid is the gid as this resource writes it. Databases of one cluster share the space of gids, hence the resource's name in it.
func (r *Resource) gid(gid txn.GID) string { return gid.String() + "/" + r.opt.Name }

// Conn is the branch's session, in its open transaction, for code that knows it speaks to PostgreSQL. It may be used until the branch
// ends, must not be used to end the transaction, and is nil after its end.
func (b *Branch) Conn() *pgx.Conn {
	if b.c == nil {
		return nil
	}
	return b.c.pg
}

// Identity is that of the store which the branch is on.
func (b *Branch) Identity() string { return b.store }

// Proof is the branch's xid8; empty for a read-only branch.
func (b *Branch) Proof() txn.Proof { return b.proof }

var errOver = errors.New("the branch has ended")

// check tells whether the branch's transaction is still open on the server.
func (b *Branch) check() error {
	if b.ended != nil {
		return b.ended
	}
	if b.c == nil {
		return fmt.Errorf("resource %s: %w", b.r.opt.Name, errOver)
	}
	if !b.c.pg.IsClosed() && b.c.pg.PgConn().TxStatus() == 'I' {
		b.ended = fmt.Errorf("resource %s: %w: a statement ended the branch's transaction by itself", b.r.opt.Name, txn.ErrRolledBack)
	}
	return b.ended
}

// Prepare is phase one. A branch declared read-only ends with it: nothing else shows that a transaction left nothing behind, since
// NOTIFY, foreign tables, advisory and table locks need no xid.
func (b *Branch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	if b.opt.ReadOnly {
		if err := b.end(ctx, "COMMIT"); err != nil {
			return 0, b.fault("end of a read-only branch", err)
		}
		return txn.VoteReadOnly, nil
	}
	err := b.c.command(ctx, "PREPARE TRANSACTION "+literal(b.r.gid(gid)), "PREPARE TRANSACTION")
	switch {
	case err == nil:
		if gid.Role == txn.RoleExternal {
			b.release()
		}
		return txn.VotePrepared, nil
	case definite(err):
		b.release()
		if code(err) == "55000" && strings.Contains(err.Error(), "disabled") {
			err = fmt.Errorf("%w (%w)", ErrPreparedDisabled, err)
		}
	default:
		// Not an answer: the server may yet prepare it, or has.
		b.lose()
		err = &pool.Lost{Err: err}
	}
	return 0, b.fault("prepare", err)
}

// Commit is the one-phase commit. If its outcome is lost, Resource.Outcome tells it from the Proof.
func (b *Branch) Commit(ctx context.Context) error {
	if err := b.check(); err != nil {
		return err
	}
	err := b.end(ctx, "COMMIT")
	if err == nil {
		return nil
	}
	if b.lost != nil && !b.opt.ReadOnly {
		// The session must end before the outcome can be asked for; where this fails, asking again will tell.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
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
	err := b.c.command(ctx, "COMMIT PREPARED "+literal(b.r.gid(gid)), "COMMIT PREPARED")
	b.release()
	if err != nil {
		return b.fault("commit prepared", err)
	}
	return nil
}

// RollbackPrepared undoes the branch after Prepare, whatever that returned.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if b.c != nil {
		err := b.c.command(ctx, "ROLLBACK PREPARED "+literal(b.r.gid(gid)), "ROLLBACK PREPARED")
		b.release()
		if err == nil {
			return nil
		}
	}
	if err := b.terminate(ctx); err != nil {
		return err
	}
	resolution, err := b.r.Resolve(ctx, gid, txn.Abort, b.proof)
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
	if err := b.check(); err != nil {
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
	err := b.c.command(ctx, command, command)
	if err == nil || definite(err) {
		b.release()
	} else {
		b.lose()
		err = &pool.Lost{Err: err}
	}
	return err
}

// release gives the session back, unless a cancel request or an open transaction may still be in it.
func (b *Branch) release() {
	c := b.c
	b.c = nil
	if c.pg.IsClosed() || c.pg.PgConn().TxStatus() != 'I' || c.cancelled {
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
