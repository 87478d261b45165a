package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// Exec runs one statement with its arguments bound to its question marks. An argument is nil, a bool, an int64, a float64, a []byte or a
// string; a number given as a string is computed with as DOUBLE unless the statement casts it. An error, the server's of type Error,
// fails the branch until RollbackTo: the server itself would let it commit after a lock wait timeout or a duplicate key.
func (b *Branch) Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error) {
	if err := b.check(); err != nil {
		return txn.Outcome{}, err
	}
	out, err := b.c.run(ctx, sql, args)
	if err != nil {
		b.failed = b.fault("statement", wrap(ctx, err))
		return txn.Outcome{}, b.failed
	}
	return out, nil
}

// Try has the server read one statement, with the tables and types in it, and does not run it. A statement that the protocol of prepared statements does not
// have is taken as it is.
func (b *Branch) Try(ctx context.Context, text string) error {
	if err := b.check(); err != nil {
		return err
	}
	statement, err := b.c.PrepareContext(ctx, text)
	if err == nil {
		return statement.Close()
	}
	if number(err) == errUnpreparable {
		return nil
	}
	return b.fault("statement", wrap(ctx, err))
}

// run chooses between the driver's two calls: one has the count of rows changed, the other the rows.
func (c *conn) run(ctx context.Context, text string, args []any) (out txn.Outcome, err error) {
	if writes(text) {
		result, err := c.ExecContext(ctx, text, args...)
		if err != nil {
			return out, err
		}
		out.Rows, err = result.RowsAffected()
		return out, err
	}
	columns, err := c.rows(ctx, &out, text, args)
	if err == nil && columns == 0 {
		err = c.QueryRowContext(ctx, "SELECT ROW_COUNT()").Scan(&out.Rows)
	}
	return out, err
}

func (c *conn) rows(ctx context.Context, out *txn.Outcome, text string, args []any) (columns int, err error) {
	rows, err := c.QueryContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	names, err := rows.Columns()
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(sql.RawBytes)
	}
	for err == nil && rows.Next() {
		if out.Rows++; out.Rows > 1 {
			continue
		}
		var first sql.NullString
		values[0] = &first
		err = rows.Scan(values...)
		if first.Valid {
			out.First = &first.String
		}
	}
	return len(names), errors.Join(err, rows.Err(), rows.Close())
}

// writes tells whether a statement surely returns no rows. It may say no where yes were true.
func writes(text string) bool {
	verb, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	switch strings.ToUpper(verb) {
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return !strings.Contains(strings.ToUpper(rest), "RETURNING")
	}
	return false
}
