package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

// settle bounds what a branch does to end its session when the server did not answer.
const settle = 5 * time.Second

// Branch is one transaction on the database, on a session of its own. It follows the states of XA: active until XA END, idle until XA
// PREPARE, then prepared.
type Branch struct {
	r        *Resource
	c        *conn  // nil when the branch has ended, or its session is lost
	gone     holder // the lost session whose end is not known; zero if none
	opt      txn.BranchOptions
	xid      string // as in statements
	proof    txn.Proof
	store    string // identity of its connection
	backend  uint64 // number of its connection
	marked   bool   // a marker is to be written
	begun    bool   // XA START was sent
	idle     bool   // XA END was sent
	failed   error  // why the branch must not commit
	stranger error  // somebody else has a branch of its name
	lease    pool.Lease
}

// Enlist takes a session for a branch, one that the server has not left; that there is no server is an error with SQLSTATE 08001. The
// transaction begins with the branch's first statement, as a rule in one round trip with it; where there was none, Prepare begins it, and
// Commit and Rollback have nothing to do.
func (r *Resource) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	key := lockPrefix(opt.GID.Log, opt.GID.Incarnation)
	for {
		c, used, err := r.pool.Get(ctx, key, opt.Waiting)
		switch {
		case err != nil:
			return nil, r.unavailable(err)
		case used && c.left(ctx):
			r.pool.Drop(c)
			r.pool.Flush() // the server was restarted: what idles is dead
		default:
			e := evidence{slot: c.slot, id: c.id, marked: r.opt.Marker != "" && !opt.ReadOnly}
			b := &Branch{r: r, c: c, opt: opt, xid: r.xid(opt.GID), marked: e.marked, proof: e.proof(), store: c.store, backend: c.id}
			b.lease.Hold(c.socket)
			return b, nil
		}
	}
}

// begin begins the transaction, if that was not done.
func (b *Branch) begin(ctx context.Context) error {
	if err := b.check(); err != nil || b.begun {
		return err
	}
	b.begun = true
	if err := b.c.begin(ctx, b.opt, b.xid); err != nil {
		return b.unbegun(ctx, err)
	}
	return nil
}

// unbegun takes note that the transaction cannot begin. Of a session whose answer is lost Rollback sees to the end.
func (b *Branch) unbegun(ctx context.Context, err error) error {
	switch {
	case lost(err):
		b.failed = b.fault("begin", wrap(ctx, err))
		return b.failed
	case number(err) == errNotYet:
		b.failed = fmt.Errorf("resource %s: %w (%w)", b.r.opt.Name, ErrGalera, wrap(ctx, err))
	default:
		b.failed = b.fault("begin", wrap(ctx, err))
	}
	if number(err) == errXADupID {
		prepared, unheard := b.r.listed(ctx, b.c, b.opt.GID)
		if b.failed = errors.Join(b.failed, unheard); prepared { // it is somebody's vote
			b.failed = txn.NotOurs.Mark(b.failed)
			b.stranger = b.failed
		}
	}
	b.r.pool.Drop(b.c)
	b.c, b.begun = nil, false
	return b.failed
}

// begin starts the branch, in a session that is as new: what rides with it takes what an earlier transaction has left. Settings of a
// session cannot all be named; those are reset on which what is stored depends.
func (c *conn) begin(ctx context.Context, opt txn.BranchOptions, xid string) error {
	if err := c.lockTimeout(ctx, opt.LockTimeout); err != nil {
		return err
	}
	start := "XA START " + xid
	if mode := modes(opt); mode != nil { // for this transaction alone
		start = "SET TRANSACTION " + strings.Join(mode, ", ") + "; " + start
	}
	again := c.used
	if again {
		start = c.again.run() + start
	}
	c.used = true
	if strings.Contains(start, ";") { // in one request
		start = "BEGIN NOT ATOMIC " + start + "; END"
	}
	err := c.exec(ctx, start)
	c.again.known = c.again.known || again && err == nil
	return err
}

// modes are what SET TRANSACTION is to say.
func modes(opt txn.BranchOptions) (mode []string) {
	if opt.Isolation != txn.IsolationDefault {
		mode = append(mode, "ISOLATION LEVEL "+string(opt.Isolation))
	}
	if opt.ReadOnly {
		mode = append(mode, "READ ONLY")
	}
	return mode
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
// and must not be used to end the transaction or its locks. An error there does not fail the branch: report it to Session.Fail.
func (b *Branch) Conn(ctx context.Context) (*sql.Conn, error) {
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	b.c.strange, b.c.called = true, true
	return b.c.Conn, nil
}

// For is Conn for the one statement that is run there next, prepared at its first use on the session; nil with the connection where it
// cannot be. One that only reads or changes rows leaves nothing that keeps the session from being used again. The statement is not to be
// closed.
func (b *Branch) For(ctx context.Context, text string) (*sql.Conn, *sql.Stmt, error) {
	if err := b.begin(ctx); err != nil {
		return nil, nil, err
	}
	b.c.strange, b.c.called = b.c.strange || leaves(text), b.c.called || temporary(text)
	s, err := b.c.statement(ctx, text)
	return b.c.Conn, s, err
}

// Identity is that of the store which the branch is on.
func (b *Branch) Identity() string { return b.store }

// Proof names the session that holds the branch, and tells whether a marker proves its commit.
func (b *Branch) Proof() txn.Proof { return b.proof }

// Cut closes the connection: see txn.Cuttable.
func (b *Branch) Cut() (txn.Proof, bool) { return b.proof, b.lease.Cut() }

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
	err := b.begin(ctx)
	if err == nil {
		err = b.mark(ctx)
	}
	if err != nil {
		return 0, err
	}
	// In one round trip. Which of them failed makes no difference to what follows.
	if err := b.close(ctx, "XA PREPARE "+b.xid+"; "); err != nil {
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

// closing is XA END, and what then follows at once, for a branch that may vote. A session that has lost its lock would not be found if this
// process died; and what was changed in a table of an engine without transactions cannot be undone any more, which the server tells with
// a warning when a savepoint is gone back to (1196), or by refusing the savepoint (1178).
//
// The server gives the same warning of a temporary table that was made, as procedures do. How many were made and dropped in the session's
// life it counts, and no session goes on to another branch after that: so the warning means a real table where that count is zero. Where it
// is not, a table without transactions that was changed beside a temporary one goes unseen.
func (b *Branch) closing(then string) string {
	end := "XA END " + b.xid + "; " + then
	switch {
	case b.c.called:
		end = "SET left_over = left_over OR EXISTS (SELECT * FROM information_schema.USER_VARIABLES); " + end + "SELECT left_over; "
		return "BEGIN NOT ATOMIC DECLARE left_over BOOL DEFAULT FALSE; DECLARE CONTINUE HANDLER FOR 1196 BEGIN IF (" + scratched + ") = 0 THEN " + refuse + "END IF; " +
			"SET left_over = TRUE; END; " + b.c.looking(end) + "END"
	case b.c.strange: // it may have prepared what it likes
		return "BEGIN NOT ATOMIC " + b.c.looking(end) + "END"
	}
	return "BEGIN NOT ATOMIC " + b.c.vote.run() + end + "END"
}

// refuse refuses the vote.
const refuse = "SIGNAL SQLSTATE '0A000' SET MESSAGE_TEXT = '" + noTransactions + "'; "

// looking is what is looked at before what ends the branch.
func (c *conn) looking(end string) string {
	codes := "1178, 1196"
	if c.called {
		codes = "1178"
	}
	return "DECLARE EXIT HANDLER FOR " + codes + " " + refuse +
		"IF NOT COALESCE(IS_USED_LOCK(" + c.mark + ") = CONNECTION_ID(), FALSE) THEN SIGNAL SQLSTATE '40000' SET MESSAGE_TEXT = '" + noMark + "'; END IF; " +
		"SAVEPOINT vote; ROLLBACK TO SAVEPOINT vote; " + end
}

// scratched counts the temporary tables that were made or dropped in the session's life, by whatever statement or routine.
const scratched = "SELECT SUM(VARIABLE_VALUE) FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN ('COM_CREATE_TEMPORARY_TABLE', 'COM_DROP_TEMPORARY_TABLE')"

// close sends closing. A routine may have left temporary tables and variables, which go with the session.
func (b *Branch) close(ctx context.Context, then string) error {
	if !b.c.called {
		err := b.c.exec(ctx, b.closing(then))
		b.c.vote.known = b.c.vote.known || err == nil && !b.c.strange
		return err
	}
	var left bool
	err := b.c.QueryRowContext(ctx, b.closing(then)).Scan(&left)
	b.c.strange = b.c.strange || left
	return err
}

// What a vote is refused with, in at most 128 bytes.
const (
	noTransactions = "a statement changed a table whose engine has no transactions: that cannot be undone; use InnoDB"
	noMark         = "a statement released the lock by which the session is found if this process dies"
)

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
	if b.c != nil && !b.begun && b.failed == nil {
		b.release()
		return nil
	}
	err := b.mark(ctx)
	if err == nil {
		// By itself: where its answer is lost, nothing was committed.
		if err = b.close(ctx, ""); err != nil {
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
	end, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	_ = b.terminate(end)
	return b.fault("commit", errors.Join(txn.ErrUnknownOutcome, wrap(ctx, err)))
}

// Rollback undoes what is not prepared, and if the session does not answer ends it on the server.
func (b *Branch) Rollback(ctx context.Context) error {
	if !b.begun {
		return b.leave()
	}
	if b.c != nil && b.undo(ctx) == nil {
		return nil
	}
	return b.terminate(ctx)
}

// leave ends a branch that has not begun.
func (b *Branch) leave() error {
	if b.c != nil {
		b.release()
	}
	return b.stranger
}

// undo is XA ROLLBACK, in any state of the branch. The session is free or lost afterwards.
func (b *Branch) undo(ctx context.Context) error {
	if !b.idle {
		b.c.strange = b.c.strange || b.c.called // nobody has looked what a routine has left
		_ = b.c.exec(ctx, "XA END "+b.xid)      // the server refuses where InnoDB has undone it; XA ROLLBACK is due all the same
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
	end, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	return errors.Join(b.fault("commit prepared", wrap(ctx, err)), b.terminate(end))
}

// RollbackPrepared undoes the branch after Prepare, whatever that returned.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	if !b.begun {
		return b.leave()
	}
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
	if err := b.begin(ctx); err != nil {
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

// release gives the session, which is in no transaction, back, unless it may have state that its next begin would not take.
func (b *Branch) release() {
	if b.lease.End() && b.c.renewed() {
		b.r.pool.Put(b.c.key, b.c)
	} else {
		b.r.pool.Drop(b.c)
	}
	b.c = nil
}

// lose gives up a session whose end on the server is not known.
func (b *Branch) lose() {
	b.gone = b.c.holder()
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
