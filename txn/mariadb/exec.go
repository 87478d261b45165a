package mariadb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/txn"
)

// Exec runs one statement with its arguments bound to its question marks, by the server. An argument is nil, a bool, an int64, a finite
// float64, a []byte or a string; a number given as a string is computed with as DOUBLE unless the statement casts it. An error, the server's of type Error,
// fails the branch until RollbackTo: the server itself would let it commit after a lock wait timeout or a duplicate key.
func (b *Branch) Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error) {
	if err := b.check(); err != nil {
		return txn.Outcome{}, err
	}
	err := finite(args)
	var out txn.Outcome
	switch {
	case err != nil:
	case b.together(begins, sql) != nil:
		return b.run(ctx, b.together(begins, sql), append([]any{"XA START " + b.xid}, args...))
	default:
		first := !b.begun
		if err := b.begin(ctx); err != nil {
			return out, err
		}
		if first {
			err = b.c.readTogether(ctx, begins, sql, len(args))
		}
		b.c.strange, b.c.called = b.c.strange || leaves(sql), b.c.called || temporary(sql)
		if err == nil {
			out, err = b.c.run(ctx, sql, args)
		}
	}
	if err != nil {
		b.failed = b.fault("statement", wrap(ctx, err))
		return txn.Outcome{}, b.failed
	}
	return out, nil
}

// maxStatements bounds the statements that are kept prepared on one session: the server counts those of all its sessions.
const maxStatements = 64

// statement prepares text, at its first use on this session. It is nil where the protocol of prepared statements does not have it.
func (c *conn) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	if s := c.statements[text]; s != nil {
		return s, nil
	}
	s, err := c.PrepareContext(ctx, text)
	if err != nil {
		if number(err) == errUnpreparable {
			err = nil
		}
		return nil, err
	}
	if len(c.statements) >= maxStatements {
		for _, s := range c.statements {
			err = errors.Join(err, s.Close())
		}
		c.statements = nil
	}
	if c.statements == nil {
		c.statements = make(map[string]*sql.Stmt)
	}
	c.statements[text] = s
	return s, err
}

// run runs a statement with its arguments bound by the server, never written into the text. It chooses between the driver's two calls: one
// has the count of rows changed, the other the rows.
func (c *conn) run(ctx context.Context, text string, args []any) (out txn.Outcome, err error) {
	s, err := c.statement(ctx, text)
	if err != nil {
		return out, err
	}
	if s == nil && len(args) > 0 {
		return out, errBind
	}
	if writes(text) { // such can be prepared
		result, err := s.ExecContext(ctx, args...)
		if err != nil {
			return out, err
		}
		out.Rows, err = result.RowsAffected()
		return out, err
	}
	columns, err := c.rows(ctx, s, text, args, func(types []*sql.ColumnType, row []any) error {
		if out.Rows++; out.Rows == 1 {
			take(&out, types[0].DatabaseTypeName(), row[0])
		}
		return nil
	})
	if err == nil && columns == 0 {
		err = c.QueryRowContext(ctx, "SELECT ROW_COUNT()").Scan(&out.Rows)
	}
	return out, err
}

// finite refuses what MariaDB's DOUBLE does not hold.
func finite(args []any) error {
	for _, arg := range args {
		if f, ok := arg.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return &mysql.MySQLError{Number: errOutOfRange, SQLState: [5]byte([]byte("22003")), Message: "MariaDB has no Infinity and no NaN"}
		}
	}
	return nil
}

// errBind says that a statement has parameters where the server takes none.
var errBind = &mysql.MySQLError{Number: errUnpreparable, SQLState: [5]byte([]byte("HY000")), Message: "This statement cannot have parameters"}

// rows runs a statement, prepared if s is not nil, and calls each with every row; its error ends it.
func (c *conn) rows(ctx context.Context, s *sql.Stmt, text string, args []any, each func([]*sql.ColumnType, []any) error) (columns int, err error) {
	var rows *sql.Rows
	if s != nil {
		rows, err = s.QueryContext(ctx, args...)
	} else {
		rows, err = c.QueryContext(ctx, text)
	}
	if err != nil {
		return 0, err
	}
	types, err := rows.ColumnTypes()
	row, places := make([]any, len(types)), make([]any, len(types))
	for i := range row {
		places[i] = &row[i]
	}
	for err == nil && rows.Next() {
		if err = rows.Scan(places...); err == nil {
			err = each(types, row)
		}
	}
	return len(types), errors.Join(err, rows.Err(), rows.Close())
}

// Rows is Exec that gives each row as it comes, with an outcome for each column: they are valid until each returns. An error of each
// ends the statement, and is returned as it is; the branch has failed.
func (b *Branch) Rows(ctx context.Context, text string, args []any, each func(row []txn.Outcome) error) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	b.c.strange, b.c.called = b.c.strange || leaves(text), b.c.called || temporary(text)
	s, err := b.c.statement(ctx, text)
	if err == nil && s == nil && len(args) > 0 {
		err = errBind
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	var cells []txn.Outcome
	var refused error
	if err = cmp.Or(err, finite(args)); err == nil {
		_, err = b.c.rows(ctx, s, text, args, func(types []*sql.ColumnType, row []any) error {
			cells = cells[:0]
			for i := range row {
				var cell txn.Outcome
				take(&cell, types[i].DatabaseTypeName(), row[i])
				cells = append(cells, cell)
			}
			if refused = each(cells); refused != nil {
				end() // and with it the session: what else the server has is not waited for
			}
			return refused
		})
	}
	if err != nil {
		b.failed = b.fault("statement", wrap(ctx, err))
	}
	return cmp.Or(refused, b.failed)
}

// writes tells whether a statement surely returns no rows. It may say no where yes were true.
func writes(text string) bool {
	switch word, rest := verb(text); word {
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return !strings.Contains(strings.ToUpper(rest), "RETURNING")
	}
	return false
}
