package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/txn/internal/pool"
)

// Numbers of the server's errors on which the code decides, of mysqld_error.h.
const (
	errDenied       = 1227 // ER_SPECIFIC_ACCESS_DENIED_ERROR
	errNoThread     = 1094 // ER_NO_SUCH_THREAD
	errNotYet       = 1235 // ER_NOT_SUPPORTED_YET
	errNotOwner     = 1095 // ER_KILL_DENIED_ERROR
	errUnpreparable = 1295 // ER_UNSUPPORTED_PS
	errOutOfRange   = 1264 // ER_WARN_DATA_OUT_OF_RANGE
	errLockWait     = 1205 // ER_LOCK_WAIT_TIMEOUT
	errXANota       = 1397 // ER_XAER_NOTA
	errXARollback   = 1402 // ER_XA_RBROLLBACK
	errXADupID      = 1440 // ER_XAER_DUPID
	errShutdown     = 1053 // ER_SERVER_SHUTDOWN
	errInterrupted  = 1317 // ER_QUERY_INTERRUPTED
	errKilled       = 1927 // ER_CONNECTION_KILLED
)

// states gives errors the SQLSTATE that PostgreSQL's clients know, where MariaDB's says less.
var states = map[uint16]string{
	1020:           "40001", // changed since the snapshot, from 11.6 on
	1048:           "23502", // column cannot be null
	1054:           "42703", // unknown column
	1062:           "23505", // duplicate key
	1064:           "42601", // syntax
	1142:           "42501", // command denied
	1146:           "42P01", // no such table
	1213:           "40P01", // deadlock
	1461:           "53400", // max_prepared_stmt_count
	1451:           "23503", // is referenced
	1452:           "23503", // refers to nothing
	1586:           "23505", // duplicate key, by name
	1969:           "57014", // max_statement_time
	4025:           "23514", // check constraint
	errInterrupted: "57014",
	errKilled:      "08006", // of our session; 57P01 would tell a client that its own ends
	errLockWait:    "40P01", // across resources no database sees the cycle: this is how a distributed deadlock ends
	errShutdown:    "08006",
}

// Error is an error of the server, with an SQLSTATE as PostgreSQL's clients know it.
type Error struct{ Err *mysql.MySQLError }

// Error is the server's text with its number.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the driver's error.
func (e *Error) Unwrap() error { return e.Err }

// SQLState translates the number, and otherwise is the server's own.
func (e *Error) SQLState() string {
	if s, ok := states[e.Err.Number]; ok {
		return s
	}
	if e.Err.SQLState == [5]byte{} {
		return "XX000"
	}
	return string(e.Err.SQLState[:])
}

// Fields returns the parts of the message by themselves, to be passed on.
func (e *Error) Fields() (message, detail, hint string) {
	if e.Err.Number == errLockWait {
		hint = "Perhaps it is a deadlock across resources: the whole transaction may be tried again."
	}
	return e.Err.Message, fmt.Sprintf("MariaDB error %d.", e.Err.Number), hint
}

// LockWait tells that the limit of a wait for a lock has passed.
func (e *Error) LockWait() bool { return e.Err.Number == errLockWait }

// number returns the number of the server's error; 0 if the error is not the server's.
func number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// lost tells whether err leaves open what the server did: it is no answer, or the session was told to end and said that last.
func lost(err error) bool {
	if errors.Is(err, errBusy) || errors.Is(err, errNoProof) {
		return false // concluded from answers
	}
	switch number(err) {
	case 0, errShutdown, errInterrupted, errKilled:
		return true
	}
	return false
}

// wrap gives errors their SQLSTATE, and those that are not the server's the cause for which ctx ended, if it did.
func wrap(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return &Error{e}
	}
	if errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) { // the last is a lost one's second try
		err = &pool.Lost{Err: err}
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return errors.Join(cause, err)
	}
	return err
}
