package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// settle bounds what a branch does to end its session when the server did not answer.
const settle = 5 * time.Second

// Branch is one transaction on the database, on a session of its own. It follows the states of XA: active until XA END, idle until XA
// PREPARE, then prepared.
type Branch struct {
	r      *Resource
	c      *conn  // nil when the branch has ended, or its session is lost
	gone   holder // the lost session whose end is not known; zero if none
	opt    txn.BranchOptions
	xid    string // as in statements
	proof  txn.Proof
	store  string // identity of its connection
	marked bool   // a marker is to be written
	idle   bool   // XA END was sent
	failed error  // why the branch must not commit
}

// Enlist begins a branch. An unreachable server fails it, with SQLSTATE 08001.
func (r *Resource) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	key := lockPrefix(opt.GID.Log, opt.GID.Incarnation)
	for {
		c, used, err := r.pool.Get(ctx, key)
		if err != nil {
			return nil, r.unavailable(err)
		}
		xid := r.xid(opt.GID)
		if err = c.begin(ctx, opt, xid); err == nil {
			e := evidence{slot: c.slot, id: c.id, marked: r.opt.Marker != "" && !opt.ReadOnly}
			return &Branch{r: r, c: c, opt: opt, xid: xid, marked: e.marked, proof: e.proof(), store: c.store}, nil
		}
		r.pool.Drop(c)
		if !lost(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("resource %s: begin: %w", r.opt.Name, wrap(ctx, err))
		}
		if !used {
			return nil, r.unavailable(err)
		}
		r.pool.Flush() // the server was restarted: what idles is dead
	}
}

func (c *conn) begin(ctx context.Context, opt txn.BranchOptions, xid string) error {
	if err := c.lockTimeout(ctx, opt.LockTimeout); err != nil {
		return err
	}
	var mode []string
	if opt.Isolation != txn.IsolationDefault {
		mode = append(mode, "ISOLATION LEVEL "+string(opt.Isolation))
	}
	if opt.ReadOnly {
		mode = append(mode, "READ ONLY")
	}
	start := "XA START " + xid
	if mode != nil { // for this transaction alone, and in one request
		start = "BEGIN NOT ATOMIC SET TRANSACTION " + strings.Join(mode, ", ") + "; " + start + "; END"
	}
	return c.exec(ctx, start)
}

// lockTimeout bounds the waits for locks of rows and of tables, in whole seconds; 0 is the server's default.
func (c *conn) lockTimeout(ctx context.Context, d time.Duration) error {
	seconds, text := int64(-1), "DEFAULT"
	if d > 0 {
		seconds = int64((d + time.Second - 1) / time.Second)
		text = fmt.Sprint(seconds)
	}
	if seconds == c.seconds {
		return nil
	}
	err := c.exec(ctx, "SET SESSION innodb_lock_wait_timeout = "+text+", lock_wait_timeout = "+text)
	if err == nil {
		c.seconds = seconds
	}
	return err
}

// Conn is the branch's session, in its open transaction, for code that knows it speaks to MariaDB. It may be used until the branch ends,
// must not be used to end the transaction or its locks, and is nil after its end. An error there does not fail the branch: report it to
// Session.Fail.
func (b *Branch) Conn() *sql.Conn {
	if b.c == nil {
		return nil
	}
	return b.c.Conn
}

// Identity is that of the store which the branch is on.
func (b *Branch) Identity() string { return b.store }

// Proof names the session that holds the branch, and tells whether a marker proves its commit.
func (b *Branch) Proof() txn.Proof { return b.proof }

var errOver = errors.New("the branch has ended")

// check tells whether the branch may go on.
func (b *Branch) check() error {
	if b.c == nil {
		return b.fault("check", errOver)
	}
	return b.failed
}

// Prepare is phase one. A branch declared read-only ends with it. After a vote for an outside coordinator the session is kept for
// Resolve, which is called in this process or, as long as the session is attached in vain, in another.
func (b *Branch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if b.opt.ReadOnly {
		if err := b.Commit(ctx); err != nil {
			return 0, err
		}
		return txn.VoteReadOnly, nil
	}
	if err := b.mark(ctx); err != nil {
		return 0, err
	}
	// In one round trip. Which of the two failed makes no difference to what follows.
	if err := b.c.exec(ctx, "BEGIN NOT ATOMIC XA END "+b.xid+"; XA PREPARE "+b.xid+"; END"); err != nil {
		return 0, b.broken(ctx, "prepare", err)
	}
	b.idle = true
	if gid.Role == txn.RoleExternal {
		b.r.pool.Part()
		b.r.parking.put(gid, b.c)
		b.c = nil
	}
	return txn.VotePrepared, nil
}

// mark adds the marker, if there is to be one.
func (b *Branch) mark(ctx context.Context) error {
	if err := b.check(); err != nil {
		return err
	}
	if b.marked && !b.idle {
		if err := b.c.exec(ctx, "INSERT INTO "+quote(b.r.opt.Marker)+" (branch) VALUES (?)", b.r.key(b.opt.GID)); err != nil {
			return b.broken(ctx, "marker", err)
		}
	}
	return nil
}

// broken takes note that the branch cannot vote yes.
func (b *Branch) broken(ctx context.Context, what string, err error) error {
	if lost(err) {
		b.lose()
	}
	b.failed = b.fault(what, wrap(ctx, err))
	return b.failed
}

// Commit is the one-phase commit. If its outcome is lost, Resource.Outcome can tell it where there is a marker.
func (b *Branch) Commit(ctx context.Context) error {
	err := b.mark(ctx)
	if err == nil {
		// By itself: where its answer is lost, nothing was committed.
		if err = b.c.exec(ctx, "XA END "+b.xid); err != nil {
			err = b.broken(ctx, "end", err)
		}
	}
	if err != nil {
		return errors.Join(err, b.Rollback(ctx))
	}
	b.idle = true
	err = b.c.exec(ctx, "XA COMMIT "+b.xid+" ONE PHASE")
	if err == nil {
		b.release()
		return nil
	}
	if !lost(err) {
		return errors.Join(b.fault("commit", wrap(ctx, err)), b.Rollback(ctx))
	}
	b.lose()
	if b.opt.ReadOnly {
		return b.fault("commit", wrap(ctx, err))
	}
	// The session must end before the outcome can be asked for; where this fails, asking again will tell.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	_ = b.terminate(end)
	return b.fault("commit", errors.Join(txn.ErrUnknownOutcome, wrap(ctx, err)))
}

// Rollback undoes what is not prepared, and if the session does not answer ends it on the server.
func (b *Branch) Rollback(ctx context.Context) error {
	if b.c != nil && b.undo(ctx) == nil {
		return nil
	}
	return b.terminate(ctx)
}

// undo is XA ROLLBACK, in any state of the branch. The session is free or lost afterwards.
func (b *Branch) undo(ctx context.Context) error {
	if !b.idle {
		_ = b.c.exec(ctx, "XA END "+b.xid) // the server refuses where InnoDB has undone it; XA ROLLBACK is due all the same
	}
	err := b.c.exec(ctx, "XA ROLLBACK "+b.xid)
	if err == nil || number(err) == errXARollback {
		b.release()
		return nil
	}
	b.lose()
	return err
}

// CommitPrepared is phase two on the session that prepared.
func (b *Branch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	if b.c == nil {
		return b.fault("commit prepared", errOver)
	}
	err := b.c.exec(ctx, "XA COMMIT "+b.xid)
	if err == nil {
		b.release()
		return nil
	}
	b.lose()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	return errors.Join(b.fault("commit prepared", wrap(ctx, err)), b.terminate(end))
}

// RollbackPrepared undoes the branch after Prepare, whatever that returned.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if b.c != nil && b.undo(ctx) == nil {
		return nil
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
	if err := b.check(); err != nil {
		return err
	}
	return b.savepoint(ctx, "SAVEPOINT "+name)
}

// RollbackTo undoes what came after the savepoint, a failure included; after a deadlock the server has undone the savepoint, too.
func (b *Branch) RollbackTo(ctx context.Context, name string) error {
	if b.c == nil {
		return b.check()
	}
	err := b.savepoint(ctx, "ROLLBACK TO SAVEPOINT "+name)
	if err == nil {
		b.failed = nil
	}
	return err
}

// Release drops the savepoint.
func (b *Branch) Release(ctx context.Context, name string) error {
	if err := b.check(); err != nil {
		return err
	}
	return b.savepoint(ctx, "RELEASE SAVEPOINT "+name)
}

func (b *Branch) savepoint(ctx context.Context, text string) error {
	if err := b.c.exec(ctx, text); err != nil {
		b.failed = b.fault(text, wrap(ctx, err))
		return b.failed
	}
	return nil
}

// release gives the session, which is in no transaction, back.
func (b *Branch) release() {
	b.r.pool.Put(b.c.key, b.c)
	b.c = nil
}

// lose gives up a session whose end on the server is not known.
func (b *Branch) lose() {
	b.gone = holder{fmt.Sprintf("%s%d", b.c.key, b.c.slot), b.c.id}
	b.r.pool.Drop(b.c)
	b.c = nil
}

// terminate returns when the lost session, if there is one, is gone from the server.
func (b *Branch) terminate(ctx context.Context) error {
	if b.gone == (holder{}) {
		return nil
	}
	if err := b.r.kill(ctx, b.gone); err != nil {
		return err
	}
	b.gone = holder{}
	return nil
}

func (b *Branch) fault(what string, err error) error {
	return fmt.Errorf("resource %s: %s: %w", b.r.opt.Name, what, err)
}
