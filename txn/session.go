package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// TxOptions is what BEGIN asked for.
type TxOptions struct {
	Isolation  Isolation
	ReadOnly   bool
	Deferrable bool
	OneCall    bool // COMMIT follows the first procedure that is called: see Session.ExecLast
}

// Session is one connection's transactions. It is not safe for concurrent
// use. It does not watch the connection: cancel the context of a call when the
// client is gone. Code that may not look at its context is called under a Guard.
type Session struct {
	m        *Manager
	who      Principal
	state    State
	tx       *transaction // nil when idle
	warnings []error
	decided  string // client gid of the last decision, not acknowledged yet
	ended    GID    // of the last transaction with an XID, likewise

	transaction, lock time.Duration // limits of its own: see Limit

	numbered func(GID) // see Notify; nil: nobody

	told <-chan struct{} // closed when all know the outcome of its last transaction; nil if they do

	observer Observer // nil: nobody

	places places // where the transaction has branches
	leash  leash  // by which it is taken from code that goes on with it
}

// settled returns when all know the outcome of the session's last transaction,
// or are told later.
func (s *Session) settled() {
	if s.told != nil {
		<-s.told
		s.told = nil
	}
}

// Settled tells whether all know the outcome of the session's last transaction, so that its next one and Close need not wait for that.
func (s *Session) Settled() bool {
	select {
	case <-s.told:
		return true
	default:
		return s.told == nil
	}
}

// savepoint is a client's savepoint and the name the resources know it by.
type savepoint struct{ name, internal string }

// State returns where the session's transaction stands.
func (s *Session) State() State { return s.state }

// Principal returns whose session it is.
func (s *Session) Principal() Principal { return s.who }

// GID returns the open transaction's own gid; zero before a resource is used.
func (s *Session) GID() GID {
	if s.tx == nil {
		return GID{}
	}
	return s.tx.gid
}

// Options returns what the open transaction was begun with.
func (s *Session) Options() TxOptions {
	if s.tx == nil {
		return TxOptions{}
	}
	return s.tx.opt
}

// Deadline returns when the open transaction's time is up.
func (s *Session) Deadline() (time.Time, bool) {
	limit := stricter(s.m.opt.Limits.Transaction, s.transaction)
	if s.tx == nil || limit == 0 {
		return time.Time{}, false
	}
	return s.tx.began.Add(limit), true
}

// OwnLock tells whether waiting for a lock is bounded by the session's own limit, as that is stricter than Manager's.
func (s *Session) OwnLock() bool {
	return s.lock > 0 && stricter(s.m.opt.Limits.Lock, s.lock) != s.m.opt.Limits.Lock
}

// stricter is the shorter of two limits, of which zero is none.
func stricter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// Notify has f called with the gid of each transaction of the session when that
// is given, as a resource is first used in it.
func (s *Session) Notify(f func(GID)) { s.numbered = f }

// late is ErrTimeout after the deadline.
func (s *Session) late() error {
	if at, ok := s.Deadline(); ok && !time.Now().Before(at) {
		return fmt.Errorf("%w of %s", ErrTimeout, stricter(s.m.opt.Limits.Transaction, s.transaction))
	}
	return nil
}

// step moves the state on, or says why not.
func (s *Session) step(e Event) error {
	to, err := s.state.next(e)
	if err == nil && e == EventUse {
		err = s.leash.over()
	}
	if err == nil {
		s.state = to
	}
	return err
}

// take ends the session's hold of its transaction. The error is why it must not
// be completed, as it was cut off.
func (s *Session) take() (t *transaction, cut error) {
	t = s.tx
	s.tx = nil
	s.m.active.Add(-1)
	return t, s.leash.letGo()
}

// Begin starts a transaction. ErrActiveTransaction, ErrFailedTransaction.
func (s *Session) Begin(_ context.Context, opt TxOptions) error {
	if err := s.step(EventBegin); err != nil {
		return err
	}
	s.settled()
	s.tx = &transaction{m: s.m, who: s.who, opt: opt, began: time.Now(), observer: s.observer}
	s.m.active.Add(1)
	return nil
}

// Branch returns the branch of the open transaction on a resource, begun on
// first use. Its typed operations are found by interface assertion. After an
// error of one of them, call Fail.
func (s *Session) Branch(ctx context.Context, resource string) (Branch, error) {
	if err := s.step(EventUse); err != nil {
		return nil, err
	}
	if e := s.tx.on(resource); e != nil {
		if e.asked {
			return nil, errVoted
		}
		return e.branch, s.late()
	}
	r := s.m.resources[resource]
	if r == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoResource, resource)
	}
	if err := s.late(); err != nil {
		return nil, err
	}
	return s.enlist(ctx, r)
}

func (s *Session) enlist(ctx context.Context, r Resource) (Branch, error) {
	t := s.tx
	if _, err := s.number(ctx); err != nil {
		return nil, err
	}
	if err := s.pass(ctx, r.Name()); err != nil {
		return nil, err
	}
	defer s.m.gates[r.Name()].left()
	within, cancel := context.WithTimeoutCause(ctx, s.m.opt.Limits.Enlist,
		fmt.Errorf("%w within %s", ErrExhausted, s.m.opt.Limits.Enlist))
	defer cancel()
	part := begin(t.observer, PartEnlist, r.Name())
	b, err := r.Enlist(within, BranchOptions{
		GID: t.gid, Isolation: t.opt.Isolation, ReadOnly: t.opt.ReadOnly, Deferrable: t.opt.Deferrable,
		LockTimeout: stricter(s.m.opt.Limits.Lock, s.lock),
		Waiting:     func(why string) { s.places.awaits(Wait{Resource: r.Name(), For: ForConnection, Why: why}) },
	})
	s.places.awaits(Wait{})
	part.End(err)
	if err != nil {
		if errors.Is(err, ErrExhausted) {
			s.m.meters.exhausted[r.Name()].Add(1)
		}
		return nil, err
	}
	s.places.enter(r.Name(), b)
	e := &enlisted{resource: r, branch: b, id: BranchID{Resource: r.Name()}}
	t.branches = append(t.branches, e)
	if known, ok := b.(Identified); ok {
		e.id.Identity = known.Identity()
	} else if e.id.Identity, err = r.Identity(within); err != nil {
		return nil, err
	}
	if err := s.hold(e); err != nil {
		return nil, err
	}
	for _, sp := range t.savepoints { // as if it had been there from the start
		if err := b.Savepoint(ctx, sp.internal); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Fail marks the open transaction as failed because of err. If there is no
// savepoint to go back to, its branches are rolled back at once: nobody waits
// for the locks of what is lost. In a session without a transaction it does
// nothing.
func (s *Session) Fail(err error) {
	if s.tx != nil && s.state == Active {
		s.tx.failure = err
		if len(s.tx.savepoints) == 0 {
			_ = s.leash.letGo() // of what is rolled back in any case
			if err := s.tx.rollback(context.Background()); err != nil {
				s.m.log.Warn("a failed transaction cannot be rolled back yet; recovery tries again",
					slog.String("gid", s.tx.gid.String()), slog.Any("error", err))
			}
			s.places.leave()
		}
	}
	_ = s.step(EventFail) // allowed in every state
}

// Savepoint sets a savepoint in all branches, those of later use included. A
// name may be set again: the older one is hidden until the newer is released.
func (s *Session) Savepoint(ctx context.Context, name string) error {
	if err := s.step(EventUse); err != nil {
		return err
	}
	if err := s.tx.voted(); err != nil {
		return err
	}
	s.tx.savepointN++
	internal := fmt.Sprintf("s%d", s.tx.savepointN)
	if err := s.tx.each(func(e *enlisted) error { return e.branch.Savepoint(ctx, internal) }); err != nil {
		return err
	}
	s.tx.savepoints = append(s.tx.savepoints, savepoint{name, internal})
	return nil
}

// find returns the place of the innermost savepoint of that name.
func (t *transaction) find(name string) (int, error) {
	for i, sp := range slices.Backward(t.savepoints) {
		if sp.name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrNoSavepoint, name)
}

// Release drops the innermost savepoint of that name and those after it.
func (s *Session) Release(ctx context.Context, name string) error {
	if err := s.step(EventUse); err != nil {
		return err
	}
	at, err := s.tx.find(name)
	if err != nil {
		return err
	}
	internal := s.tx.savepoints[at].internal
	if err := s.tx.each(func(e *enlisted) error { return e.branch.Release(ctx, internal) }); err != nil {
		return err
	}
	s.tx.savepoints = s.tx.savepoints[:at]
	return nil
}

// RollbackTo undoes what came after the innermost savepoint of that name,
// which stays, and makes a failed transaction active again. After an error the
// transaction is failed.
func (s *Session) RollbackTo(ctx context.Context, name string) error {
	if _, err := s.state.next(EventRollbackTo); err != nil {
		return err
	}
	at, err := s.tx.find(name)
	if err == nil {
		err = s.leash.over()
	}
	if err == nil {
		internal := s.tx.savepoints[at].internal
		err = s.tx.each(func(e *enlisted) error { return e.branch.RollbackTo(ctx, internal) })
	}
	if err != nil {
		s.Fail(err)
		return err
	}
	s.tx.savepoints = s.tx.savepoints[:at+1]
	return s.step(EventRollbackTo)
}

// Commit ends the transaction. In state Failed it rolls back and returns
// ErrFailedTransaction (PostgreSQL answers ROLLBACK: look at State before).
// nil means committed; Warnings then tells which resource is yet to follow. An
// error for which InDoubt does not hold means rolled back.
func (s *Session) Commit(ctx context.Context) error {
	refusal := s.ready(ctx)
	failed := s.state == Failed
	if err := s.step(EventCommit); err != nil {
		return err
	}
	t, cut := s.take()
	defer s.places.leave()
	if t.named {
		s.ended = t.gid
	}
	refusal = cmp.Or(refusal, cut)
	if failed {
		refusal = fmt.Errorf("%w: because of: %w", ErrFailedTransaction, t.failure)
	}
	if refusal != nil {
		return t.done(EndRolledBack, errors.Join(refusal, t.rollback(ctx)))
	}
	warning, err := s.m.commit(ctx, t)
	s.told = t.told
	if warning != nil {
		s.warnings = append(s.warnings, warning)
	}
	return t.done(EndCommitted, err)
}

// Rollback undoes the transaction. The session is idle afterwards also if an
// error is returned.
func (s *Session) Rollback(ctx context.Context) error {
	if err := s.step(EventRollback); err != nil {
		return err
	}
	t, _ := s.take()
	defer s.places.leave()
	if t.named {
		s.ended = t.gid
	}
	return t.done(EndRolledBack, t.rollback(ctx))
}

// Prepare is phase one for an outside coordinator, under its own name gid. On
// nil the transaction is in doubt, durable, and no longer the session's; on an
// error for which InDoubt does not hold it was rolled back.
func (s *Session) Prepare(ctx context.Context, gid string) error {
	refusal := s.ready(ctx)
	if err := s.step(EventPrepare); err != nil {
		return err
	}
	if refusal == nil {
		refusal = s.tx.voted() // under the other name
	}
	if refusal == nil {
		_, refusal = s.number(ctx) // PostgreSQL prepares empty transactions, too
	}
	t, cut := s.take()
	defer s.places.leave()
	if refusal = cmp.Or(refusal, cut); refusal != nil {
		return t.done(EndRolledBack, errors.Join(refusal, t.rollback(ctx)))
	}
	return t.done(EndPrepared, s.m.vote(ctx, t, gid))
}

// CommitPrepared tells a prepared transaction of any session to commit.
// ErrUnknownGID, ErrNotOwner, ErrBusyGID, ErrAlreadyRolledBack,
// ErrHeuristicRollback, ErrHeuristicHazard; ErrUnreachable: decided, retry.
func (s *Session) CommitPrepared(ctx context.Context, gid string) error {
	return s.decide(ctx, gid, Commit)
}

// RollbackPrepared tells a prepared transaction of any session to roll back,
// with the errors of CommitPrepared the other way round.
func (s *Session) RollbackPrepared(ctx context.Context, gid string) error {
	return s.decide(ctx, gid, Abort)
}

func (s *Session) decide(ctx context.Context, gid string, d Decision) error {
	if err := s.step(EventDecide); err != nil {
		return err
	}
	s.settled()
	ctx = s.observed(ctx)
	err := s.m.noRoom(ctx, s.m.settleAll(ctx, s.who, ledger.ClientName(gid), d, false))
	if err == nil {
		s.m.meters.decided.Add(d.String())
		s.decided = gid
	}
	if err != nil {
		return fmt.Errorf("%s prepared %q: %w", d, gid, err)
	}
	return nil
}

// Acknowledge says that the client has read the answer to its last
// CommitPrepared or RollbackPrepared, or to the end of a transaction with an
// XID: a further message of it came, or an orderly goodbye. The outcome is
// forgotten then; without it, it is kept for Limits.Retain, so that a client
// that lost the answer may ask again.
func (s *Session) Acknowledge() error {
	s.settled()
	if gid := s.ended; !gid.IsZero() {
		s.ended = GID{}
		return s.m.forgetLocal(gid)
	}
	if s.decided == "" {
		return nil
	}
	name := ledger.ClientName(s.decided)
	s.decided = ""
	return ignoreBusy(s.m.forgetAll(name, false)) // who looks at it may be told of it
}

// Warnings returns what the last Commit has to add, and forgets it.
func (s *Session) Warnings() []error {
	w := s.warnings
	s.warnings = nil
	return w
}

// Close rolls back what is not prepared and ends the session. It works on a
// context that has ended, too; closing twice is harmless.
func (s *Session) Close(ctx context.Context) error {
	s.settled()
	open := s.state == Active || s.state == Failed
	if err := s.step(EventClose); err != nil || !open {
		return err
	}
	t, _ := s.take()
	defer s.places.leave()
	return t.done(EndRolledBack, t.rollback(ctx))
}
