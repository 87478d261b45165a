package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

// LockError is a statement that waited too long for a lock which this branch's LockTimeout bounds. Across resources no database sees the
// cycle, so this is how a distributed deadlock ends.
type LockError struct{ Err error }

// Error says so, and what the server said.
func (e *LockError) Error() string {
	return "waited too long for a lock, perhaps in a deadlock across resources: " + e.Err.Error()
}

// Unwrap returns the server's error.
func (e *LockError) Unwrap() error { return e.Err }

// SQLState is 40P01, deadlock_detected: the whole transaction may be tried again.
func (e *LockError) SQLState() string { return "40P01" }

// StatementError is what the server answered to a statement.
type StatementError struct{ err *pgconn.PgError }

// Error is the server's message with its severity and SQLSTATE.
func (e *StatementError) Error() string { return e.err.Error() }

// Unwrap returns the driver's error.
func (e *StatementError) Unwrap() error { return e.err }

// SQLState is the server's.
func (e *StatementError) SQLState() string { return e.err.Code }

// Fields returns the parts of the message by themselves, to be passed on.
func (e *StatementError) Fields() (message, detail, hint string) {
	return e.err.Message, e.err.Detail, e.err.Hint
}

// Exec runs one statement with its arguments bound to $1…. An argument is nil, a bool, an int64, a float64, a []byte or a string, which
// the server reads as the type that the place asks for. The error keeps the server's SQLSTATE, but for LockError.
func (b *Branch) Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error) {
	if b.opening != nil {
		outs, err := b.ExecAll(ctx, []txn.Statement{{SQL: sql, Args: args}})
		if err != nil {
			return txn.Outcome{}, err
		}
		return outs[0], nil
	}
	if err := b.check(); err != nil {
		return txn.Outcome{}, err
	}
	out, err := b.c.query(ctx, sql, args)
	if err == nil {
		err = b.check()
	}
	if err == nil {
		return out, nil
	}
	return txn.Outcome{}, b.failure(ctx, err)
}

// Try has the server read one statement, with the tables and types in it, and does not run it. An error fails the branch.
func (b *Branch) Try(ctx context.Context, sql string) error {
	if err := b.begun(ctx); err != nil {
		return err
	}
	_, err := b.c.pg.PgConn().Prepare(ctx, "", sql, nil)
	b.c.note(ctx, err)
	if err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

// failure is what a failed statement is reported as.
func (b *Branch) failure(ctx context.Context, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && definite(err):
		err = &StatementError{pg}
		if pg.Code == "55P03" && pg.Routine == "ProcessInterrupts" && b.opt.LockTimeout > 0 {
			err = &LockError{err}
		}
	case ok || b.c.pg.IsClosed():
		err = &pool.Lost{Err: err}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("resource %s: %w", b.r.opt.Name, err)
}

func (c *conn) query(ctx context.Context, sql string, args []any) (out txn.Outcome, err error) {
	defer func() { c.note(ctx, err) }()
	bound := make([]any, 0, len(args)+1)
	bound = append(bound, pgx.QueryResultFormats{pgx.TextFormatCode})
	for _, a := range args {
		bound = append(bound, text(a))
	}
	rows, err := c.pg.Query(ctx, sql, bound...)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if values := rows.RawValues(); n == 0 && len(values) > 0 && values[0] != nil {
			first := string(values[0])
			out.First = &first
		}
	}
	rows.Close()
	out.Rows = rows.CommandTag().RowsAffected()
	return out, rows.Err()
}

// text is an argument in the text form that every type of the server can read; bytes stay as they are.
func text(arg any) any {
	switch a := arg.(type) {
	case bool:
		return strconv.FormatBool(a)
	case int64:
		return strconv.FormatInt(a, 10)
	case float64:
		return strconv.FormatFloat(a, 'g', -1, 64)
	default:
		return arg
	}
}

// note remembers that a statement was cancelled: the request may still be on its way, and would hit the next user of the session.
func (c *conn) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		c.cancelled = true
	}
}
