package xa

import (
	"errors"
	"syscall"
)

// Error is a failure with the SQLSTATE that a client of the wire protocol is
// told (ISO/IEC 9075-2, PostgreSQL appendix A). The sentinels below are the
// only values; what failed and why is wrapped around them.
type Error struct {
	state, text string
}

// Error says what went wrong, without its SQLSTATE.
func (e *Error) Error() string { return e.text }

// SQLState returns the five characters of the SQLSTATE.
func (e *Error) SQLState() string { return e.state }

// SQLState returns the SQLSTATE that err carries, of this package or of a
// driver whose error has the same method; 53100 (disk_full) where there is no
// space, XX000 (internal_error) otherwise.
func SQLState(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrNoRoom.state
	}
	return "XX000"
}

// Refused before anything was done: the session's state does not allow it.
var (
	ErrActiveTransaction = &Error{"25001", "a transaction is already in progress"}
	ErrNoTransaction     = &Error{"25P01", "there is no transaction in progress"}
	ErrFailedTransaction = &Error{"25P02", "current transaction is aborted, commands ignored until end of transaction block"}
	ErrNoSavepoint       = &Error{"3B001", "savepoint does not exist"}
	ErrClosed            = &Error{"57P01", "the session is closed"}
)

// Refused at enlisting a resource, or by its limits.
var (
	ErrNoResource = &Error{"42704", "no such resource"}
	ErrExhausted  = &Error{"53300", "the resource has no free connection"}
	ErrPaused     = &Error{"57P03", "the resource is paused for maintenance"}
	ErrLogFull    = &Error{"53100", "the transaction log cannot grow: disk full"}
	ErrNoRoom     = &Error{"53100", "there is no room for prepared transactions"}
	ErrTimeout    = &Error{"25P04", "terminating transaction due to transaction timeout"}
	ErrReadOnly   = &Error{"25006", "cannot write in a read-only transaction"}
	// ErrCutOff: code went on with the transaction after the end of its context
	// or its time, so that its branches were taken from it and rolled back.
	ErrCutOff = &Error{"40000", "the transaction was cut off and rolled back, as code went on with it after its end"}
)

// At PREPARE TRANSACTION; the transaction has been rolled back.
var (
	ErrGIDInvalid   = &Error{"22023", "transaction identifier is empty, too long or not valid text"}
	ErrDuplicateGID = &Error{"42710", "transaction identifier is already in use"}
	ErrRolledBack   = &Error{"40000", "the transaction was rolled back"}
	// ErrTooMany is PostgreSQL's for max_prepared_transactions, which is of all users together.
	ErrTooMany       = &Error{"53200", "maximum number of prepared transactions reached"}
	ErrTooManyOfUser = &Error{"53400", "maximum number of prepared transactions of one user reached"}
)

// ErrGIDTooLong is ErrGIDInvalid, by the name of its commonest cause.
var ErrGIDTooLong = ErrGIDInvalid

// ErrFutureXID is the answer to XactStatus of an id that was never given away.
var ErrFutureXID = &Error{"22023", "transaction ID is in the future"}

// ErrNoClaims: what is known of prepared transactions cannot be read or written; whether there is such a one, nobody knows.
var ErrNoClaims = &Error{"58030", "the server cannot read or write what it knows of prepared transactions"}

// At COMMIT PREPARED and ROLLBACK PREPARED.
var (
	ErrUnknownGID        = &Error{"42704", "prepared transaction does not exist"}
	ErrNotOwner          = &Error{"42501", "permission denied to finish prepared transaction"}
	ErrBusyGID           = &Error{"55000", "prepared transaction is busy"}
	ErrAlreadyCommitted  = &Error{"2D000", "the transaction was already committed"}
	ErrAlreadyRolledBack = &Error{"2D000", "the transaction was already rolled back"}
)

// An operator, or a resource manager's own administrator, decided before the
// coordinator did. Classes from I on are free for implementations (ISO/IEC
// 9075-2 §24.1).
var (
	ErrHeuristicCommit   = &Error{"XA001", "the transaction was committed by an operator's decision"}
	ErrHeuristicRollback = &Error{"XA002", "the transaction was rolled back by an operator's decision"}
	ErrHeuristicHazard   = &Error{"XA003", "the outcome on a resource is the opposite, or unknown"}
)

// The outcome is open or pending: see InDoubt.
var (
	// ErrUnreachable: the decision is durable, but a resource could not be
	// told yet; it will be. Coordinators retry on 08007.
	ErrUnreachable = &Error{"08007", "a resource cannot be reached, the outcome is pending"}
	// ErrUnknownOutcome: the resource may or may not have committed.
	ErrUnknownOutcome = &Error{"08007", "transaction resolution unknown"}
	// ErrPutAside: the transaction is in a log that was put aside, as one of
	// another machine or a copy, and an operator has yet to say what becomes of it.
	ErrPutAside = &Error{"08007", "the transaction is in a log that was put aside, and waits for an operator: fdtctl txn adopt, or abandon"}
	// ErrDamaged: a transaction log cannot be read to its end, and nobody knows what was in the part that is lost.
	ErrDamaged = &Error{"08007", "a transaction log is damaged, and the transaction may have been in it"}
	// ErrPoisoned: a forced write to the log failed, so that nobody knows
	// whether its bytes are durable. The process must end; recovery decides.
	ErrPoisoned = &Error{"08007", "the transaction log failed, the outcome is decided by recovery"}
)

// InDoubt tells whether err leaves the outcome of the transaction open: it may
// turn out committed or rolled back, and only asking again will tell.
func InDoubt(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrPoisoned) || errors.Is(err, ErrPutAside) || errors.Is(err, ErrDamaged)
}
