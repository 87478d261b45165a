package txn

import "context"

// Decider is a Resource that keeps decisions in its own store. A transaction
// has at most one there, ever: the first one stands, whoever asks for another
// later, so that nobody needs a lock or a clock to know who was first.
type Decider interface {
	Resource
	// CanDecide tells why no decision can be kept; nil if one can.
	CanDecide(ctx context.Context) error
	// Decide gives this decision to each transaction that has none, and returns
	// the one that each has then. All of them are durable, whoever made them.
	Decide(ctx context.Context, d Decision, gids ...GID) (map[GID]Decision, error)
	// Decisions lists the decisions about an incarnation's transactions. All of
	// them are durable.
	Decisions(ctx context.Context, id LogID, incarnation uint64) ([]NotedDecision, error)
	// DropDecisions forgets decisions that nobody needs any more, durably. One
	// that is not there is no error. None may be dropped of a transaction that
	// somebody may yet decide, or ask for.
	DropDecisions(ctx context.Context, gids ...GID) error
}

// NotedDecision is a decision as a Decider keeps it.
type NotedDecision struct {
	GID      GID // with RoleLocal
	Decision Decision
	Note     []byte // of CommitDeciding; empty of another
}

// DecidingBranch is a Branch of a Decider.
type DecidingBranch interface {
	Branch
	// CommitDeciding commits the branch, and with it that its whole transaction
	// commits: both or neither. The branch is not prepared before. After an error
	// for which InDoubt holds Decide, with Abort, tells which; after any other
	// neither was committed.
	CommitDeciding(ctx context.Context, gid GID, note []byte) error
}
