package txn

import "github.com/fdtserver/fdt/txn/xa"

// The words that this package shares with the ledger and with recovery, which
// know it not: package xa documents them.
type (
	GID         = xa.GID
	LogID       = xa.LogID
	XID         = xa.XID
	Role        = xa.Role
	Phase       = xa.Phase
	Decision    = xa.Decision
	Proof       = xa.Proof
	BranchID    = xa.BranchID
	Transaction = xa.Transaction
	Operator    = xa.Operator
	Error       = xa.Error
	Class       = xa.Class
)

// Values of these types, and limits.
const (
	RoleLocal    = xa.RoleLocal
	RoleExternal = xa.RoleExternal

	Preparing  = xa.Preparing
	Prepared   = xa.Prepared
	Committing = xa.Committing
	Aborting   = xa.Aborting
	Committed  = xa.Committed
	Aborted    = xa.Aborted

	Commit = xa.Commit
	Abort  = xa.Abort

	Unreachable = xa.Unreachable
	Busy        = xa.Busy
	Refused     = xa.Refused
	NotOurs     = xa.NotOurs

	MaxGIDLen       = xa.MaxGIDLen
	MaxClientGIDLen = xa.MaxClientGIDLen
)

// NewLogID returns a fresh random id.
func NewLogID() LogID { return xa.NewLogID() }

// ParseGID reads the exact text that GID.String writes; anything else is an error.
func ParseGID(text string) (GID, error) { return xa.ParseGID(text) }

// SQLState returns the SQLSTATE that err carries, XX000 (internal_error) if none.
func SQLState(err error) string { return xa.SQLState(err) }

// ClassOf returns the class that err is marked with; empty if there is none.
func ClassOf(err error) Class { return xa.ClassOf(err) }

// InDoubt tells whether err leaves the outcome of the transaction open: it may
// turn out committed or rolled back, and only asking again will tell.
func InDoubt(err error) bool { return xa.InDoubt(err) }

// Refused before anything was done: the session's state does not allow it.
var (
	ErrActiveTransaction = xa.ErrActiveTransaction
	ErrNoTransaction     = xa.ErrNoTransaction
	ErrFailedTransaction = xa.ErrFailedTransaction
	ErrNoSavepoint       = xa.ErrNoSavepoint
	ErrClosed            = xa.ErrClosed
)

// Refused at enlisting a resource, or by its limits.
var (
	ErrNoResource = xa.ErrNoResource
	ErrExhausted  = xa.ErrExhausted
	ErrPaused     = xa.ErrPaused
	ErrLogFull    = xa.ErrLogFull
	ErrNoRoom     = xa.ErrNoRoom
	ErrTimeout    = xa.ErrTimeout
	ErrReadOnly   = xa.ErrReadOnly
	ErrCutOff     = xa.ErrCutOff
)

// At PREPARE TRANSACTION; the transaction has been rolled back.
var (
	ErrGIDInvalid    = xa.ErrGIDInvalid
	ErrDuplicateGID  = xa.ErrDuplicateGID
	ErrRolledBack    = xa.ErrRolledBack
	ErrTooMany       = xa.ErrTooMany
	ErrTooManyOfUser = xa.ErrTooManyOfUser
)

// At COMMIT PREPARED and ROLLBACK PREPARED.
var (
	ErrUnknownGID        = xa.ErrUnknownGID
	ErrNotOwner          = xa.ErrNotOwner
	ErrBusyGID           = xa.ErrBusyGID
	ErrAlreadyCommitted  = xa.ErrAlreadyCommitted
	ErrAlreadyRolledBack = xa.ErrAlreadyRolledBack
)

// An operator, or a resource manager's own administrator, decided before the
// coordinator did. Classes from I on are free for implementations (ISO/IEC
// 9075-2 §24.1).
var (
	ErrHeuristicCommit   = xa.ErrHeuristicCommit
	ErrHeuristicRollback = xa.ErrHeuristicRollback
	ErrHeuristicHazard   = xa.ErrHeuristicHazard
)

// The outcome is open or pending: see InDoubt.
var (
	ErrUnreachable    = xa.ErrUnreachable
	ErrUnknownOutcome = xa.ErrUnknownOutcome
	ErrPutAside       = xa.ErrPutAside
	ErrDamaged        = xa.ErrDamaged
	ErrPoisoned       = xa.ErrPoisoned
)

// By itself.
var (
	ErrGIDTooLong = xa.ErrGIDTooLong
	ErrFutureXID  = xa.ErrFutureXID
	ErrNoClaims   = xa.ErrNoClaims
)
