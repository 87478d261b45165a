package txn

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Principal is who asks.
type Principal struct {
	User     string // owner of what is prepared
	Operator bool   // may decide what others prepared
	Addr     string // where the client is, for the record only
	Database string // what the client takes for its database, for the record and pg_prepared_xacts
}

// Limits bounds how long things take. Zero means the default.
type Limits struct {
	Transaction time.Duration // from Begin to the end of phase one; 0 unlimited
	Lock        time.Duration // longest wait for one lock in a resource; 0 the resource's own
	Enlist      time.Duration // longest wait for a free connection; default 5 s
	Phase       time.Duration // longest wait for a resource in phase one or two; default 30 s
	Retain      time.Duration // how long an outcome nobody acknowledged is kept; default 7 days
}

// Options says where a Manager keeps its records and which resources it has.
type Options struct {
	LogDir    string // /var/lib/fdt/txn: durable, owned by the calling user
	ClaimDir  string // /run/fdt/txn: memory, gone at boot
	MachineID string // empty: /etc/machine-id
	Resources []Resource
	Limits    Limits
	Logger    *slog.Logger // nil discards
	Program   string       // for the record: fdt-worker 7-2, fdtctl
}

// Transaction is what is known of a distributed transaction.
type Transaction struct {
	GID       GID        `json:"gid"`
	ClientGID string     `json:"client_gid,omitempty"` // the coordinator's own name; empty for a local one
	Phase     Phase      `json:"phase"`
	Heuristic bool       `json:"heuristic,omitempty"` // an operator decided
	Hazard    string     `json:"hazard,omitempty"`    // what went against the decision, or is unknown
	Owner     string     `json:"owner"`
	Addr      string     `json:"addr,omitempty"`
	Database  string     `json:"database,omitempty"`
	Since     time.Time  `json:"since"`             // of the vote; of its beginning while Preparing
	Decider   string     `json:"decider,omitempty"` // who decided
	Branches  []BranchID `json:"branches"`
}

// Name is the coordinator's name of the transaction, or our own.
func (t *Transaction) Name() string {
	if t.ClientGID != "" {
		return t.ClientGID
	}
	return t.GID.String()
}

// BranchID names one branch of a transaction and the store that holds it.
type BranchID struct {
	Resource string `json:"resource"`
	Identity string `json:"identity"`
	Proof    Proof  `json:"proof,omitempty"`
	State    string `json:"state,omitempty"` // as the resource itself reports it; only from Show
}

// Counts is a snapshot of one Manager's work.
type Counts struct {
	Active   int // open transactions of sessions
	InDoubt  int // transactions of all workers that wait for a coordinator or an operator
	Leftover int // decided here, a resource not told yet
}

// Manager is one process's share of the coordinator.
type Manager struct {
	opt Options
}

var errNotYet = errors.New("not built yet")

// Open prepares a Manager and does no more than read: it neither waits for
// recovery nor for a resource.
func Open(_ context.Context, opt Options) (*Manager, error) { return &Manager{opt: opt}, nil }

// Recover retries what this process left over and recovers what dead ones
// left, for ever, until ctx ends or the log fails (ErrPoisoned).
func (m *Manager) Recover(ctx context.Context) error { <-ctx.Done(); return nil }

// Failed is closed when the log has failed: the process must exit.
func (m *Manager) Failed() <-chan struct{} { return nil }

// Close closes the log. Sessions must be closed and Recover returned before.
func (m *Manager) Close(context.Context) error { return nil }

// NewSession returns a session of p, idle.
func (m *Manager) NewSession(p Principal) *Session { return &Session{m: m, who: p, state: Idle} }

// List returns every transaction that is in doubt, decided but not finished,
// or finished with an outcome that is still kept, oldest first.
func (m *Manager) List(context.Context) ([]Transaction, error) { return nil, nil }

// Show returns one transaction by its coordinator's name or our own, its
// branches with the state that each resource reports. ErrUnknownGID.
func (m *Manager) Show(context.Context, string) (Transaction, error) {
	return Transaction{}, ErrUnknownGID
}

// Decide is an operator's decision, by the coordinator's name or our own.
func (m *Manager) Decide(context.Context, Principal, string, Decision) error { return errNotYet }

// Counts returns a snapshot; it reads memory only.
func (m *Manager) Counts() Counts { return Counts{} }
