package txn

import (
	"context"
	"time"
)

// Isolation is what the client asked for at BEGIN, in the words of SQL; empty
// is the resource's own default.
type Isolation string

// The levels of ISO/IEC 9075-2.
const (
	IsolationDefault Isolation = ""
	ReadUncommitted  Isolation = "read uncommitted"
	ReadCommitted    Isolation = "read committed"
	RepeatableRead   Isolation = "repeatable read"
	Serializable     Isolation = "serializable"
)

// Vote is a branch's answer to Prepare.
type Vote int

// The votes. A no is an error of Prepare.
const (
	// VotePrepared: the branch is durable and in doubt.
	VotePrepared Vote = iota + 1
	// VoteReadOnly: the branch has ended and needs no second phase. Only a
	// branch that is certain to have changed nothing may say so, such as one
	// enlisted with ReadOnly.
	VoteReadOnly
)

// Resolution is what Resolve found or did.
type Resolution int

// The resolutions.
const (
	// ResolvedDone: the branch has the outcome that was asked for, by this
	// call or by an earlier one, and that is proven. A branch that is not
	// there and was asked to abort is done too, unless it is proven committed.
	ResolvedDone Resolution = iota + 1
	// ResolvedUnknown: the branch is not there and nothing proves a commit:
	// a heuristic hazard.
	ResolvedUnknown
	// ResolvedAgainst: the branch is proven to have the opposite outcome.
	ResolvedAgainst
)

// BranchOptions says what a new branch is to be.
type BranchOptions struct {
	GID         GID // the transaction; its Role may still become X at Prepare
	Isolation   Isolation
	ReadOnly    bool
	Deferrable  bool
	LockTimeout time.Duration // longest wait for one lock; 0 means the resource's default

	// Waiting is to be called by an Enlist that has to wait for a connection, with why there is none yet. Nil: nobody wants to know.
	Waiting func(why string)
}

// PreparedBranch is one branch that a resource holds in doubt.
type PreparedBranch struct {
	GID   GID       // of any Role where the resource cannot keep it: see GID.Same
	Since time.Time // when it was prepared; zero if the resource does not know
}

// Resource is one resource manager. Its methods are called concurrently, and
// all but Enlist by any process of the service.
//
// A method that returns an error has not told the outcome: callers ask again,
// the sooner the less the error's Class speaks against it. Only one that is
// Unreachable keeps other questions away.
type Resource interface {
	// Name is the name of the resource in the configuration.
	Name() string
	// Identity names the very store behind the resource, so that a name which
	// came to point elsewhere is noticed. It never changes for one store, unless
	// the resource is a Successor.
	Identity(ctx context.Context) (string, error)
	// Enlist begins a branch. ErrExhausted if no connection gets free before
	// ctx ends.
	Enlist(ctx context.Context, opt BranchOptions) (Branch, error)
	// InDoubt lists every prepared branch whose gid carries id, of any
	// incarnation, complete or with an error.
	InDoubt(ctx context.Context, id LogID) ([]PreparedBranch, error)
	// Resolve tells a branch the decision, from any process, any number of
	// times. It must not take "not found" for "finished" while a session may
	// still hold the branch, or may yet prepare it: to abort, it ends the
	// session that the proof names first, so a branch that was never prepared
	// may be told so, too.
	Resolve(ctx context.Context, gid GID, d Decision, proof Proof) (Resolution, error)
	// Fence returns when nothing that the dead incarnation began can still
	// change the resource: no late PREPARE, no session with locks. What is
	// prepared stays.
	Fence(ctx context.Context, id LogID, incarnation uint64) error
	// Close frees what the resource holds; no method may be called after it.
	Close() error
}

// Branch is the part of one transaction on one resource. It belongs to one
// session, which calls one method at a time. A branch ends, and frees what it
// holds, with the return of Rollback, CommitPrepared, RollbackPrepared, of a
// Commit unless Rollback is to follow, of a Prepare that votes VoteReadOnly, and
// of a Prepare with a gid of RoleExternal that votes VotePrepared (such a branch
// is resolved through its Resource).
type Branch interface {
	// Prepare is phase one. An error says nothing: the branch may be
	// prepared or not, and RollbackPrepared follows. A branch that failed
	// must not vote yes. An error marked NotOurs says that the resource held
	// a branch of that gid already: then Rollback follows, and nothing is ever
	// resolved by that gid.
	Prepare(ctx context.Context, gid GID) (Vote, error)
	// Proof is what is known at the time, from Enlist on: at least the session
	// while that may still prepare the branch; after Prepare voted VotePrepared,
	// and before Commit if the resource is a Prover, what tells the outcome.
	Proof() Proof
	// Commit is the one-phase commit. An error for which InDoubt holds leaves
	// the outcome open; after any other nothing was committed, and Rollback
	// follows.
	Commit(ctx context.Context) error
	// Rollback undoes what is not prepared. An error means that the resource
	// could not be told; its own fencing undoes the branch then. One marked
	// NotOurs says that the branch never began, as the resource held one of that
	// gid already; then nothing is ever resolved by that gid, either.
	Rollback(ctx context.Context) error
	// CommitPrepared is phase two, after Prepare of a local gid.
	CommitPrepared(ctx context.Context, gid GID) error
	// RollbackPrepared undoes the branch after Prepare, whatever Prepare
	// returned; nil if there was nothing to undo.
	RollbackPrepared(ctx context.Context, gid GID) error
	// Savepoint sets a savepoint. Names are given by the session: a lower-case
	// letter and digits, none twice in a transaction.
	Savepoint(ctx context.Context, name string) error
	// RollbackTo undoes what came after the savepoint, which stays.
	RollbackTo(ctx context.Context, name string) error
	// Release drops the savepoint and keeps what came after it.
	Release(ctx context.Context, name string) error
}

// Pooled is a Resource with a bounded number of connections for branches.
type Pooled interface {
	// Pool returns how many are in use or being opened, how many there may be, and how many branches wait for one.
	Pool() (inUse, limit, waiting int)
}

// Pausable is a Pooled Resource that can let go of its store, as for the
// maintenance of a database.
type Pausable interface {
	Pooled
	// Detach closes what idles. Until Attach every method that needs the store
	// returns ErrPaused, while branches that are open go on to their end.
	Detach()
	// Attach ends Detach.
	Attach()
	// Connections returns how many are open or being opened, for whatever use.
	Connections() int
}

// Identified is a Branch that knows the Identity of the store which it is on:
// that of its own connection, so it costs nothing to ask.
type Identified interface {
	Identity() string
}

// Successor is a Resource whose store may be carried on by another, as a
// database is by its standby.
type Successor interface {
	// Succeeds tells whether the store of identity now is, or carries on, that
	// of identity before.
	Succeeds(now, before string) bool
}

// Prover is a Resource that can tell how a branch ended after the reply to its
// one-phase Commit was lost.
type Prover interface {
	// Outcome returns how the branch with that proof ended; an error if that
	// is not known (yet).
	Outcome(ctx context.Context, gid GID, proof Proof) (Decision, error)
}

// Lister is a Resource that can list what logs have left there which are not here.
type Lister interface {
	// InDoubtOfOthers lists every prepared branch of this resource whose gid carries another log's id, complete or with an
	// error. It changes nothing.
	InDoubtOfOthers(ctx context.Context, id LogID) ([]PreparedBranch, error)
}

// Forgetter is a Resource that keeps a proof of each committed branch until it
// is told that the outcome is in the log. One with a method KeepsProofs() bool
// that returns false keeps none, as it is configured.
type Forgetter interface {
	Forget(ctx context.Context, gid GID) error
}
