package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

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

// LockWait tells that the limit of a wait for a lock has passed.
func (e *LockError) LockWait() bool { return true }

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
	b.c.strange = b.c.strange || !harmless(sql)
	out, tag, err := b.c.query(ctx, sql, args)
	b.unsure = b.unsure || tag == "COMMIT" || tag == "ROLLBACK"
	if err == nil {
		err = b.check()
	}
	if err == nil {
		return out, nil
	}
	return txn.Outcome{}, b.failure(ctx, err)
}

// failure is what a failed statement is reported as.
func (b *Branch) failure(ctx context.Context, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && definite(err):
		err = answer(pg, b.opt.LockTimeout)
	case ok || b.c.pg.IsClosed():
		err = &pool.Lost{Err: err}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("resource %s: %w", b.r.opt.Name, err)
}

// answer is what the server answered to a statement.
func answer(pg *pgconn.PgError, lock time.Duration) error {
	if pg.Code == "55P03" && pg.Routine == "ProcessInterrupts" && lock > 0 {
		return &LockError{&StatementError{pg}}
	}
	return &StatementError{pg}
}

// Explain finds in the error of a statement that was run on [Branch.Conn] what the server answered, and returns it as Exec does: the
// client may be told that. Any other error is returned as it is.
func (b *Branch) Explain(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && definite(pg) {
		return fmt.Errorf("resource %s: %w", b.r.opt.Name, answer(pg, b.opt.LockTimeout))
	}
	return err
}

// query returns the outcome of one statement, and its command tag.
func (c *conn) query(ctx context.Context, sql string, args []any) (out txn.Outcome, tag string, err error) {
	n := 0
	done, err := c.rows(ctx, sql, args, func(rows pgx.Rows) error {
		if n++; n == 1 {
			take(&out, rows.FieldDescriptions(), rows.RawValues())
		}
		return nil
	})
	out.Rows = done.RowsAffected()
	return out, done.String(), err
}

// rows runs a statement and calls each with every row; its error ends it.
func (c *conn) rows(ctx context.Context, sql string, args []any, each func(pgx.Rows) error) (tag pgconn.CommandTag, err error) {
	defer func() { c.note(ctx, err) }()
	bound := make([]any, 0, len(args)+1)
	bound = append(bound, pgx.QueryResultFormats{pgx.TextFormatCode})
	for _, a := range args {
		bound = append(bound, text(a))
	}
	rows, err := c.pg.Query(ctx, sql, bound...)
	if err != nil {
		return tag, err
	}
	for err == nil && rows.Next() {
		err = each(rows)
	}
	rows.Close()
	return rows.CommandTag(), cmp.Or(err, rows.Err())
}

// Rows is Exec that gives each row as it comes, with an outcome for each column: they are valid until each returns. An error of each
// ends the statement, and is returned as it is.
func (b *Branch) Rows(ctx context.Context, sql string, args []any, each func(row []txn.Outcome) error) error {
	if err := b.begun(ctx); err != nil {
		return err
	}
	b.c.strange = b.c.strange || !harmless(sql)
	ctx, end := context.WithCancel(ctx)
	defer end()
	var cells []txn.Outcome
	var refused error
	tag, err := b.c.rows(ctx, sql, args, func(rows pgx.Rows) error {
		cells = cells[:0]
		fields, values := rows.FieldDescriptions(), rows.RawValues()
		for i := range values {
			var cell txn.Outcome
			take(&cell, fields[i:], values[i:])
			cells = append(cells, cell)
		}
		if refused = each(cells); refused != nil {
			end() // and with it the session: what else the server has is not waited for
		}
		return refused
	})
	b.unsure = b.unsure || tag.String() == "COMMIT" || tag.String() == "ROLLBACK"
	switch {
	case refused != nil:
		return refused
	case err == nil:
		err = b.check()
	}
	if err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

// take keeps the first column of a row, which is in text form.
func take(out *txn.Outcome, fields []pgconn.FieldDescription, row [][]byte) {
	if len(row) == 0 || row[0] == nil {
		return
	}
	first := string(row[0])
	out.First, out.Type = &first, fields[0].DataTypeOID
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
