package txn

import (
	"context"
	"fmt"
)

// Ending is how a transaction left its session.
type Ending int

// The endings.
const (
	EndCommitted  Ending = iota + 1
	EndRolledBack        // asked for, failed, vetoed, or cut off
	EndPrepared          // in doubt: its coordinator decides, in this process or another, and nobody is called then
	EndUnknown           // recovery decides, see InDoubt
)

var endingNames = map[Ending]string{
	EndCommitted: "committed", EndRolledBack: "rolled back", EndPrepared: "prepared", EndUnknown: "unknown",
}

// String returns the ending in lower case.
func (e Ending) String() string {
	if n, ok := endingNames[e]; ok {
		return n
	}
	return fmt.Sprintf("Ending(%d)", int(e))
}

// BeforeCompletion has f called at Commit and at Prepare, while the open
// transaction can still be used: f may enlist resources and write. An error is
// a veto: the transaction is rolled back, and Commit or Prepare returns that
// error joined with ErrRolledBack. Several are called in the order in which
// they came, until one vetoes; on a rollback none is called. f must not end the
// transaction. ErrNoTransaction, ErrFailedTransaction.
func (s *Session) BeforeCompletion(f func(context.Context) error) error {
	if err := s.step(EventUse); err != nil {
		return err
	}
	s.tx.before = append(s.tx.before, f)
	return nil
}

// AfterCompletion has f called once when the open transaction has left the
// session, be it by the session's Close. All are called, in the order in which
// they came, before the call that ended it returns; the death of the process
// calls nobody, so f is for what may be lost, such as a cache. The session
// belongs to its caller still: f must not use it. ErrNoTransaction,
// ErrFailedTransaction.
func (s *Session) AfterCompletion(f func(Ending)) error {
	if err := s.step(EventUse); err != nil {
		return err
	}
	s.tx.after = append(s.tx.after, f)
	return nil
}

// ready calls the hooks before completion. The error tells why the transaction
// may not be completed.
func (s *Session) ready(ctx context.Context) error {
	for i := 0; s.state == Active; i++ {
		if err := s.late(); err != nil || i == len(s.tx.before) {
			return err
		}
		if err := s.hook(ctx, i); err != nil {
			return fmt.Errorf("%w: %w", err, ErrRolledBack)
		}
	}
	return nil
}

// hook calls a hook before completion.
func (s *Session) hook(ctx context.Context, i int) error {
	defer s.Guard(ctx, "a hook before completion")()
	return s.tx.before[i](ctx)
}

// done calls the hooks after completion, and returns err: that of an attempt to
// reach e.
func (t *transaction) done(e Ending, err error) error {
	switch {
	case e == EndRolledBack:
	case InDoubt(err):
		e = EndUnknown
	case err != nil:
		e = EndRolledBack
	}
	if t.told == nil {
		t.m.work.end(t.gid)
	}
	t.m.meters.ended(t, e)
	for _, f := range t.after {
		f(e)
	}
	return err
}
