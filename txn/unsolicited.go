package txn

import (
	"context"
	"errors"
)

// LastExecer is a Branch that can vote unsolicited, along with its last statement.
type LastExecer interface {
	// ExecLast runs a statement and then, unless it fails, does what Prepare does, in one round trip. If the two cannot go together it has
	// done nothing, and returns false. After an error RollbackPrepared follows, or Rollback if it is marked NotOurs.
	ExecLast(ctx context.Context, gid GID, last Statement) (out Outcome, voted bool, err error)
}

var errVoted = errors.New("the branch has voted already: nothing more may be done there")

// ExecLast runs a statement as the last one on a resource, whose branch votes with it at once, and so in a round trip less. It returns
// false if it has done nothing, as that can be had only of some statements and resources: then Exec is to follow. Use it where another
// resource takes part: one branch alone commits in one phase, which costs less than a vote. After an error call Fail, as after one of the
// branch. Of the transaction only Commit, Rollback and what is done on other resources may follow.
//
// The vote binds nobody: what is prepared without a decision is rolled back, by the session, or by who recovers (presumed abort). So
// nothing is in the log before Commit, and what the statement has brought may still be refused.
func (s *Session) ExecLast(ctx context.Context, resource string, last Statement) (out Outcome, done bool, err error) {
	if _, err := s.Branch(ctx, resource); err != nil {
		return Outcome{}, false, err
	}
	t := s.tx
	e := t.on(resource)
	b, ok := e.branch.(LastExecer)
	switch {
	case !ok, t.opt.ReadOnly, t.named, len(t.before) > 0, len(t.savepoints) > 0,
		s.m.decider != nil && resource == s.m.opt.Decider:
		return Outcome{}, false, nil
	}
	out, e.prepared, err = b.ExecLast(ctx, t.gid, last)
	foreign := ClassOf(err) == NotOurs
	e.asked = e.prepared || err != nil && !foreign
	if foreign {
		t.taken.Store(true)
	}
	if e.prepared {
		s.m.reach(ctx, resource, nil)
	}
	return out, e.prepared || err != nil, err
}

// on returns the branch on a resource; nil if there is none.
func (t *transaction) on(resource string) *enlisted {
	for _, e := range t.branches {
		if e.id.Resource == resource {
			return e
		}
	}
	return nil
}

// voted is errVoted if a branch has voted.
func (t *transaction) voted() error {
	for _, e := range t.branches {
		if e.asked {
			return errVoted
		}
	}
	return nil
}
