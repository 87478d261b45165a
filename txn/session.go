package txn

import (
	"context"
	"time"
)

// TxOptions is what BEGIN asked for.
type TxOptions struct {
	Isolation  Isolation
	ReadOnly   bool
	Deferrable bool
}

// Session is one connection's transactions. It is not safe for concurrent
// use. It does not watch the connection: cancel the context of a call when the
// client is gone.
type Session struct {
	m     *Manager
	who   Principal
	state State
}

// State returns where the session's transaction stands.
func (s *Session) State() State { return s.state }

// Principal returns whose session it is.
func (s *Session) Principal() Principal { return s.who }

// Begin starts a transaction. ErrActiveTransaction, ErrFailedTransaction.
func (s *Session) Begin(context.Context, TxOptions) error { return s.step(EventBegin) }

func (s *Session) step(e Event) error {
	to, err := s.state.next(e)
	s.state = to
	return err
}

// GID returns the open transaction's own gid; zero before a resource is used.
func (s *Session) GID() GID { return GID{} }

// Deadline returns when the open transaction's time is up.
func (s *Session) Deadline() (time.Time, bool) { return time.Time{}, false }

// Branch returns the branch of the open transaction on a resource, begun on
// first use. Its typed operations are found by interface assertion.
func (s *Session) Branch(context.Context, string) (Branch, error) { return nil, errNotYet }

// Fail marks the open transaction as failed because of err.
func (s *Session) Fail(error) { _ = s.step(EventFail) }

// Savepoint sets a savepoint in all branches, those of later use included.
func (s *Session) Savepoint(context.Context, string) error { return s.step(EventUse) }

// Release drops the innermost savepoint of that name and those after it.
func (s *Session) Release(context.Context, string) error { return s.step(EventUse) }

// RollbackTo undoes what came after the innermost savepoint of that name, and
// makes a failed transaction active again.
func (s *Session) RollbackTo(context.Context, string) error { return s.step(EventRollbackTo) }

// Commit ends the transaction. In state Failed it rolls back and returns
// ErrFailedTransaction (PostgreSQL answers ROLLBACK: look at State before).
// nil means committed; Warnings then tells which resource is yet to follow.
func (s *Session) Commit(context.Context) error { return s.step(EventCommit) }

// Rollback undoes the transaction. The session is idle afterwards also if an
// error is returned.
func (s *Session) Rollback(context.Context) error { return s.step(EventRollback) }

// Prepare is phase one for an outside coordinator, under its own name gid. On
// nil the transaction is in doubt, durable, and no longer the session's; on an
// error for which InDoubt does not hold it was rolled back.
func (s *Session) Prepare(context.Context, string) error { return s.step(EventPrepare) }

// CommitPrepared tells a prepared transaction of any session to commit.
// ErrUnknownGID, ErrNotOwner, ErrBusyGID, ErrAlreadyRolledBack,
// ErrHeuristicRollback, ErrHeuristicHazard; ErrUnreachable: decided, retry.
func (s *Session) CommitPrepared(context.Context, string) error { return s.step(EventDecide) }

// RollbackPrepared tells a prepared transaction of any session to roll back.
func (s *Session) RollbackPrepared(context.Context, string) error { return s.step(EventDecide) }

// Acknowledge says that the client has read the answer to its last
// CommitPrepared or RollbackPrepared: a further message of it came, or an
// orderly goodbye. The outcome is forgotten then; without it, it is kept for
// Limits.Retain.
func (s *Session) Acknowledge() {}

// Warnings returns what the last Commit has to add, and forgets it.
func (s *Session) Warnings() []error { return nil }

// Close rolls back what is not prepared and ends the session. It works on a
// context that has ended, too.
func (s *Session) Close(context.Context) error { return s.step(EventClose) }
