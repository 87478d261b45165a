package ledger

import (
	"context"

	"github.com/fdtserver/fdt/txn/xa"
)

// Ledger is where promises and decisions are kept, as coordinating and recovering need it. Files is that of one host.
//
// Whatever keeps it, this is so of every ledger: what Force wrote is there after every failure; an incarnation that is not
// Alive writes nothing any more; and only who holds a claim changes it, after the log.
//
// So the claim is no second truth: it is a copy of what the logs say, for all to find at once, and may be behind them when
// somebody died in between, but never ahead. Were it first, a process could publish a decision and die before that is
// durable; the next would tell it to a resource, and after a failure of power the log would know of a vote alone. Whoever
// takes a claim whose last holder is dead therefore reads the log of that one before he goes by it; while he lives, he
// would hold the claim.
type Ledger interface {
	// ID is the ledger's, part of every gid.
	ID() xa.LogID
	// Log returns this process's log, beginning its incarnation if need be. ErrClosed, ErrLogFull; ErrPoisoned when the
	// process must end.
	Log(ctx context.Context) (Log, error)
	// Incarnation is this process's, 0 if it has none.
	Incarnation() uint64
	// Alive tells whether an incarnation may still write. One without a log belonged to nobody any more.
	Alive(incarnation uint64) (bool, error)

	// Fail ends this process's part: nothing more may be promised or decided.
	Fail(err error)
	// Failed is closed when that has happened.
	Failed() <-chan struct{}
	// Err returns why Failed is closed, nil if it is not.
	Err() error

	Claims
	Reader
}

// Log is what one incarnation writes.
type Log interface {
	// Incarnation is its number.
	Incarnation() uint64
	// Number gives away a gid, which was never given away before.
	Number(role xa.Role) (xa.GID, error)
	// Note writes a record that survives the death of this process, not of the machine.
	Note(r Record) (Mark, error)
	// Force writes a record and returns when it is durable. After an error for which InDoubt holds it may be durable all
	// the same.
	Force(r Record) error
	// DecidedIn notes durably, and once, that a store keeps decisions of this incarnation: before the first one is made there.
	DecidedIn(store xa.BranchID) error
	// Decider tells whether that is noted.
	Decider() bool
	// Forced returns when a record that was noted is durable.
	Forced(k Mark) error
}

// Claims are what all processes agree on: one for each transaction of an outside coordinator, and for each local one that
// waits for a resource.
type Claims interface {
	// Create makes a new claim, held; fs.ErrExist if there is one of that name.
	Create(ctx context.Context, st State) (*Claim, error)
	// Take waits for a claim, as long as this process may still decide anything; fs.ErrNotExist if there is none.
	Take(ctx context.Context, name string) (*Claim, error)
	// TryTake is Take that returns ErrHeld instead of waiting.
	TryTake(ctx context.Context, name string) (*Claim, error)
	// RemoveForgotten removes a transaction's claim, unless the name was given to another one since; ErrHeld if somebody is at
	// work on it. That it is forgotten must be durable.
	RemoveForgotten(ctx context.Context, name string, gid xa.GID) error
	// Peek reads a claim without holding it; fs.ErrNotExist if there is none.
	Peek(ctx context.Context, name string) (State, error)
	// Each calls f for every claim, one after another, without holding it. It returns which could not be read, or why
	// none could be looked for.
	Each(ctx context.Context, f func(*State)) (bad, err error)
	// KeepLocked keeps a claim until the process ends, which it must: nobody may decide what this process may have
	// decided, or could not publish. It returns what to answer.
	KeepLocked(c *Claim, err error) error
}

// Reader reads what all incarnations have written.
type Reader interface {
	// SealDead sees to it that those which are dead write nothing any more, and that what can be read of them is durable;
	// it returns them. One whose log is damaged is not among them: nothing may be presumed of it.
	SealDead(ctx context.Context) (map[uint64]bool, error)
	// Read reads all logs at one time, or only those named.
	Read(ctx context.Context, only ...uint64) (*Contents, error)
	// ReadLiving reads the logs of all but the dead, also of those that began meanwhile.
	ReadLiving(ctx context.Context, dead map[uint64]bool) (*Contents, error)
	// LookUp returns what the log of one incarnation says of these transactions; of those that were given to an outside
	// coordinator, what all logs say.
	LookUp(ctx context.Context, began uint64, of ...xa.GID) (*Contents, error)
	// Deciders returns the stores that keep decisions of any incarnation that has a log. It waits for nobody.
	Deciders() (map[xa.BranchID]bool, error)
	// DeadLogs reads the logs of the dead, one transaction at a time.
	DeadLogs(ctx context.Context) DeadLog
	// DeadLogsOf is likewise, from what was read already where that is final. It is for one goroutine.
	DeadLogsOf(ctx context.Context, s *Contents, dead map[uint64]bool) DeadLog
	// Damaged returns what cannot be read of the logs of the dead: nil if that is nothing, also if there are none.
	Damaged(ctx context.Context) error
	// Gone tells whether an incarnation has no log.
	Gone(incarnation uint64) bool
	// Done tells whether nobody will ever ask for the transaction again.
	Done(h *History) bool
	// Compact drops from the logs of the dead what nobody needs: of what is Done, where the resources have been told to
	// forget it, in the logs of incarnations that are fenced.
	Compact(ctx context.Context, s *Contents, dead map[uint64]bool, forgotten func(xa.GID) bool, fenced func(uint64) bool) error
}

var _ Ledger = (*Files)(nil)
