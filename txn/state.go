package txn

import "fmt"

// State is where a session's transaction stands, as ReadyForQuery reports it.
type State int

// The states of a session.
const (
	Idle   State = iota + 1 // no transaction
	Active                  // in a transaction
	Failed                  // in a transaction of which a statement failed
	Closed                  // the session has ended
)

var stateNames = map[State]string{Idle: "idle", Active: "active", Failed: "failed", Closed: "closed"}

// String returns the state in lower case.
func (s State) String() string {
	if n, ok := stateNames[s]; ok {
		return n
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Terminal tells whether no event leads out of s.
func (s State) Terminal() bool { return s == Closed }

// Event is what a client, or a failing statement, does to a session.
type Event int

// The events of a session.
const (
	EventBegin Event = iota + 1
	EventUse         // enlist a resource, set or release a savepoint
	EventFail        // a statement failed
	EventRollbackTo
	EventCommit
	EventRollback
	EventPrepare
	EventDecide // COMMIT PREPARED, ROLLBACK PREPARED
	EventClose
)

var eventNames = map[Event]string{
	EventBegin: "begin", EventUse: "use", EventFail: "fail", EventRollbackTo: "rollback-to",
	EventCommit: "commit", EventRollback: "rollback", EventPrepare: "prepare",
	EventDecide: "decide", EventClose: "close",
}

// String returns the event in lower case.
func (e Event) String() string {
	if n, ok := eventNames[e]; ok {
		return n
	}
	return fmt.Sprintf("Event(%d)", int(e))
}

// sessionTable is the whole behaviour of a session's state; what is absent is
// refused with the error of refusals.
var sessionTable = map[State]map[Event]State{
	Idle: {
		EventBegin:  Active,
		EventFail:   Idle,
		EventDecide: Idle,
		EventClose:  Closed,
	},
	Active: {
		EventUse:        Active,
		EventFail:       Failed,
		EventRollbackTo: Active,
		EventCommit:     Idle,
		EventRollback:   Idle,
		EventPrepare:    Idle,
		EventClose:      Closed,
	},
	Failed: {
		EventFail:       Failed,
		EventRollbackTo: Active,
		EventCommit:     Idle, // rolls back, as PostgreSQL does
		EventRollback:   Idle,
		EventClose:      Closed,
	},
	Closed: {
		EventFail:  Closed,
		EventClose: Closed,
	},
}

// refusals names the error for every event absent from sessionTable.
var refusals = map[State]map[Event]*Error{
	Idle: {
		EventUse: ErrNoTransaction, EventRollbackTo: ErrNoTransaction, EventCommit: ErrNoTransaction,
		EventRollback: ErrNoTransaction, EventPrepare: ErrNoTransaction,
	},
	Active: {EventBegin: ErrActiveTransaction, EventDecide: ErrActiveTransaction},
	Failed: {
		EventBegin: ErrFailedTransaction, EventUse: ErrFailedTransaction,
		EventPrepare: ErrFailedTransaction, EventDecide: ErrFailedTransaction,
	},
	Closed: {
		EventBegin: ErrClosed, EventUse: ErrClosed, EventRollbackTo: ErrClosed, EventCommit: ErrClosed,
		EventRollback: ErrClosed, EventPrepare: ErrClosed, EventDecide: ErrClosed,
	},
}

// next returns the state after e, or why e is refused in s.
func (s State) next(e Event) (State, error) {
	if to, ok := sessionTable[s][e]; ok {
		return to, nil
	}
	return s, refusals[s][e]
}

// claimEvent is what may happen to a transaction that an outside coordinator
// named.
type claimEvent int

const (
	claimVote   claimEvent = iota + 1 // every resource has prepared, the vote is forced
	claimCommit                       // COMMIT PREPARED
	claimAbort                        // ROLLBACK PREPARED
	claimEnd                          // every resource acknowledged
)

var claimEventNames = map[claimEvent]string{
	claimVote: "vote", claimCommit: "commit", claimAbort: "abort", claimEnd: "end",
}

// String returns the event in lower case.
func (e claimEvent) String() string {
	if n, ok := claimEventNames[e]; ok {
		return n
	}
	return fmt.Sprintf("claimEvent(%d)", int(e))
}

// claimTable is the compare-and-set of every decision; what is absent is
// refused with the error of claimRefusals.
var claimTable = map[Phase]map[claimEvent]Phase{
	Preparing: {
		claimVote:  Prepared,
		claimAbort: Aborting, // a tombstone, which the vote must respect
	},
	Prepared: {
		claimCommit: Committing,
		claimAbort:  Aborting,
	},
	Committing: {
		claimCommit: Committing,
		claimEnd:    Committed,
	},
	Aborting: {
		claimAbort: Aborting,
		claimEnd:   Aborted,
	},
	Committed: {
		claimCommit: Committed,
		claimEnd:    Committed,
	},
	Aborted: {
		claimAbort: Aborted,
		claimEnd:   Aborted,
	},
}

var claimRefusals = map[Phase]map[claimEvent]*Error{
	Preparing:  {claimCommit: ErrBusyGID, claimEnd: ErrBusyGID},
	Prepared:   {claimVote: ErrDuplicateGID, claimEnd: ErrBusyGID},
	Committing: {claimVote: ErrDuplicateGID, claimAbort: ErrAlreadyCommitted},
	Aborting:   {claimVote: ErrRolledBack, claimCommit: ErrAlreadyRolledBack},
	Committed:  {claimVote: ErrDuplicateGID, claimAbort: ErrAlreadyCommitted},
	Aborted:    {claimVote: ErrRolledBack, claimCommit: ErrAlreadyRolledBack},
}

// after returns the phase that follows p with e, or why e is refused in p.
func (e claimEvent) after(p Phase) (Phase, error) {
	if to, ok := claimTable[p][e]; ok {
		return to, nil
	}
	return p, claimRefusals[p][e]
}

// eventOf is the event by which a decision reaches a claim.
func eventOf(d Decision) claimEvent {
	if d == Commit {
		return claimCommit
	}
	return claimAbort
}
