package ledger

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
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

	// Close ends it in order. The log goes with it if all that it has is settled and may be given up, and no successor needs
	// to read it.
	Close(ctx context.Context, settled bool, dispensable func(xa.GID) bool) error

	Claims
	Limits
	Reader
	Keeper
	Facts
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
	// Wrote tells whether a mark is of this log, and not of one that this process had before it.
	Wrote(k Mark) bool
}

// Opener is a resource that can keep the ledger of several hosts.
type Opener interface {
	OpenLedger(ctx context.Context, opt SharedOptions) (Ledger, error)
}

// Membership is what a ledger of several hosts tells of them.
type Membership interface {
	Members(ctx context.Context) ([]Member, error)
}

// Member is one process of one host, or what it has left.
type Member struct {
	Host        string    `json:"host"`
	Program     string    `json:"program"`
	Incarnation uint64    `json:"incarnation"`
	Began       time.Time `json:"began"`
	Alive       bool      `json:"alive"`    // else others settle what it has left, if that is not done
	Silent      bool      `json:"silent"`   // it lives and has said nothing for so long that others will end it
	Recovers    bool      `json:"recovers"` // it is the one that recovers, now
	Open        int       `json:"open"`     // transactions that it began or carries on and that have not ended
}

// SharedOptions is what a process brings along for a ledger of several hosts.
type SharedOptions struct {
	Host    string        // name of the host, for the record
	Program string        // for the record
	Memory  string        // file in which this host remembers the ledger, so that an older copy of it is noticed
	Retain  time.Duration // how long an outcome that nobody acknowledged is kept
	Forces  *meter.Histogram
	Events  Events
	Silent  time.Duration // how long a process may say nothing before another ends its session; 0: 15 s
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

// Limits are how many claims there are, as far as that is known without looking at each.
type Limits interface {
	// Room tells whether one more claim may be made: ENOSPC if not.
	Room(ctx context.Context) error
	// Counted returns how many transactions have not ended, in all and of one owner; not known: there are no numbers, so no
	// limits either.
	Counted(owner string) (all, mine int64, known bool)
	// Kept returns how many outcomes there are.
	Kept() (int64, error)
	// Recount sets the numbers right by the claims that there are.
	Recount() error
	// NewRecount does that with the claims that the caller reads; it begins before the first is read.
	NewRecount() (Recounting, error)
	// InDoubt returns how many transactions wait for a decision.
	InDoubt() int
	// InDoubtOn returns how many of those have a branch on a resource.
	InDoubtOn(resource string) int
}

// Recounting counts claims as they are read.
type Recounting interface {
	// Add counts a claim.
	Add(st *State)
	// Done sets the numbers right, when all were read.
	Done()
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
	// Orphaned tells whether an incarnation has died that nobody has sealed, without doing anything about it: that of a process
	// of this host is seen to by who starts in its place.
	Orphaned(ctx context.Context) (bool, error)
}

// Keeper keeps the ledger short, and sees to it that one process at a time recovers.
type Keeper interface {
	// Recovering runs g as the one that recovers. If another does and wait is not set, mine is false and g is not run.
	Recovering(ctx context.Context, wait bool, g func() error) (mine bool, err error)
	// SkipOthers keeps incarnations from being given away that another copy of the ledger has given away, if a resource has
	// shown one that was not given away here.
	SkipOthers(ctx context.Context, shown uint64) error
	// KeepRoom keeps place for an operator's decisions.
	KeepRoom()
	// Rotate drops from our own log what nobody needs, if it has grown to so many bytes.
	Rotate(ctx context.Context, from int64, dispensable func(xa.GID) bool) error
	// Compact drops from the logs of the dead what nobody needs: of what is Done, where the resources have been told to
	// forget it, in the logs of incarnations that are fenced.
	Compact(ctx context.Context, s *Contents, dead map[uint64]bool, forgotten func(xa.GID) bool, fenced func(uint64) bool) error
}

// Facts are what processes tell each other, and what operators have said.
type Facts interface {
	// Share puts a fact where all processes find it.
	Share(name string, content []byte) error
	// Shared returns such a fact and when it was put there; fs.ErrNotExist if none was.
	Shared(name string) (content []byte, at time.Time, err error)
	// Succeed adds what say returns to what operators have said of stores.
	Succeed(ctx context.Context, say func() ([]Succession, error)) error
	// Succeeded tells what was said of the store on which a branch is: whether it is lost, or carried on by store is.
	Succeeded(b xa.BranchID, is string) (carried, lost bool, err error)
}

var _ Ledger = (*Files)(nil)
