package fdt

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/application"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// ErrNotYours is the error of Commit and Rollback in a procedure: who called it
// ends the transaction.
var ErrNotYours = errors.New("a procedure's transaction is ended by its caller")

// Tx is a distributed transaction: all that is done with it in any resource of
// the configuration happens, or nothing. A resource takes part from its first
// use on. Tx is for one goroutine at a time.
//
// An error that a resource has returned fails the transaction if the code
// returns it. Code that goes on instead must know what its database does: a
// transaction in PostgreSQL cannot commit any more.
type Tx struct {
	session *txn.Session
	called  bool // of a procedure
}

// use makes sure that a transaction is open, if the session is.
func (tx *Tx) use(ctx context.Context) {
	if tx.session.State() == txn.Idle {
		_ = tx.session.Begin(ctx, txn.TxOptions{}) // an idle session lets it
	}
}

// Begin starts a transaction with options; without it, the first use of a
// resource does, with none. txn.ErrActiveTransaction if one is open, as always
// in a procedure.
func (tx *Tx) Begin(ctx context.Context, opt txn.TxOptions) error { return tx.session.Begin(ctx, opt) }

// Commit commits in all resources. nil means committed, and nothing was to be
// committed if no resource was used. After an error for which [txn.InDoubt]
// holds it may turn out either way, after any other it was rolled back.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.called {
		return ErrNotYours
	}
	if tx.session.State() == txn.Idle {
		return nil
	}
	return tx.session.Commit(ctx)
}

// Rollback undoes what was done in all resources.
func (tx *Tx) Rollback(ctx context.Context) error {
	if tx.called {
		return ErrNotYours
	}
	if tx.session.State() == txn.Idle {
		return nil
	}
	return tx.session.Rollback(ctx)
}

// User is whose transaction it is: the user who called the procedure, or the
// name of the handler.
func (tx *Tx) User() string { return tx.session.Principal().User }

// Session is the transaction's session, for what has no method here:
// savepoints, hooks, PREPARE TRANSACTION.
func (tx *Tx) Session() *txn.Session { return tx.session }

// Branch returns what the transaction is at a resource, for instance of a type
// of one's own. The error names what it is if it is no B.
func Branch[B txn.Branch](ctx context.Context, tx *Tx, resource string) (B, error) {
	var none B
	tx.use(ctx)
	b, err := tx.session.Branch(ctx, resource)
	if err != nil {
		return none, err
	}
	is, ok := b.(B)
	if !ok {
		return none, fmt.Errorf("resource %s: it is a %T, and %T was asked for", resource, b, none)
	}
	return is, nil
}

// Put adds a message to a spool.
func (tx *Tx) Put(ctx context.Context, resource string, body []byte) error {
	b, err := Branch[*spool.Branch](ctx, tx, resource)
	if err != nil {
		return err
	}
	part := tx.session.Working(resource)
	err = b.Put(ctx, body)
	part.End(err)
	return err
}

// Postgres returns the transaction as a PostgreSQL resource has it, with the
// methods of pgx.Tx that run statements, as sqlc and others ask for them.
func (tx *Tx) Postgres(resource string) *Postgres { return &Postgres{tx, resource} }

// Postgres runs statements in one PostgreSQL resource. Its statements must not
// end the transaction.
type Postgres struct {
	tx       *Tx
	resource string
}

func (p *Postgres) conn(ctx context.Context, statements ...string) (b *postgres.Branch, c *pgx.Conn, err error) {
	if b, err = Branch[*postgres.Branch](ctx, p.tx, p.resource); err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(statements) && err == nil; i++ {
		c, err = b.For(ctx, statements[i])
	}
	return b, c, err
}

// Exec is pgx.Tx's.
func (p *Postgres) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	b, c, err := p.conn(ctx, sql)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	part := p.tx.session.Working(p.resource)
	tag, err := c.Exec(ctx, sql, args...)
	part.End(err)
	return tag, b.Explain(err)
}

// Query is pgx.Tx's. Close the rows before the next statement.
func (p *Postgres) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	b, c, err := p.conn(ctx, sql)
	if err != nil {
		return nil, err
	}
	part := p.tx.session.Working(p.resource)
	r, err := c.Query(ctx, sql, args...)
	part.End(err)
	return rows{r, b}, b.Explain(err)
}

// QueryRow is pgx.Tx's: the error is Scan's, pgx.ErrNoRows if there is no row.
func (p *Postgres) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	b, c, err := p.conn(ctx, sql)
	if err != nil {
		return failed{err}
	}
	return row{c.QueryRow(ctx, sql, args...), b, p.tx.session.Working(p.resource).End}
}

// SendBatch is pgx.Tx's: its statements go in one request, which spares their
// round trips. Close the results before the next statement.
func (p *Postgres) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	statements := []string{"SELECT"} // there may be none
	for _, q := range batch.QueuedQueries {
		statements = append(statements, q.SQL)
	}
	b, c, err := p.conn(ctx, statements...)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return &results{c.SendBatch(ctx, batch), b, p.tx.session.Working(p.resource)}
}

// results are those of a batch, whose errors say what a client may be told.
type results struct {
	pgx.BatchResults
	b    *postgres.Branch
	part txn.Observation // until they are closed; nil then
}

// Exec is pgx.BatchResults'.
func (r *results) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	return tag, r.b.Explain(err)
}

// Query is pgx.BatchResults'.
func (r *results) Query() (pgx.Rows, error) {
	list, err := r.BatchResults.Query()
	return rows{list, r.b}, r.b.Explain(err)
}

// QueryRow is pgx.BatchResults'.
func (r *results) QueryRow() pgx.Row { return row{r.BatchResults.QueryRow(), r.b, func(error) {}} }

// Close is pgx.BatchResults'.
func (r *results) Close() error {
	err := r.BatchResults.Close()
	if r.part != nil {
		r.part.End(err)
		r.part = nil
	}
	return r.b.Explain(err)
}

// rows are rows whose error says what a client may be told.
type rows struct {
	pgx.Rows
	b *postgres.Branch
}

// Err is pgx.Rows'.
func (r rows) Err() error { return r.b.Explain(r.Rows.Err()) }

// Scan is pgx.Rows'.
func (r rows) Scan(dst ...any) error { return r.b.Explain(r.Rows.Scan(dst...)) }

type row struct {
	pgx.Row
	b    *postgres.Branch
	done func(error) // when it was read
}

// Scan is pgx.Row's.
func (r row) Scan(dst ...any) error {
	err := r.Row.Scan(dst...)
	r.done(err)
	return r.b.Explain(err)
}

// failed is a row that there is not.
type failed struct{ err error }

// Scan is pgx.Row's.
func (f failed) Scan(...any) error { return f.err }

// MariaDB returns the transaction as a MariaDB resource has it, with the
// methods of sql.Tx that run statements.
func (tx *Tx) MariaDB(resource string) *MariaDB { return &MariaDB{tx, resource} }

// MariaDB runs statements in one MariaDB resource. Its statements must not end
// the transaction.
type MariaDB struct {
	tx       *Tx
	resource string
}

// query is a statement that is about to be run.
type query struct {
	conn *sql.Conn
	stmt *sql.Stmt // nil: it cannot be prepared
}

func (m *MariaDB) query(ctx context.Context, text string) (q query, err error) {
	b, err := Branch[*mariadb.Branch](ctx, m.tx, m.resource)
	if err == nil {
		q.conn, q.stmt, err = b.For(ctx, text)
	}
	return q, err
}

// ExecContext is sql.Tx's.
func (m *MariaDB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	q, err := m.query(ctx, query)
	if err != nil {
		return nil, err
	}
	part := m.tx.session.Working(m.resource)
	var r sql.Result
	if q.stmt == nil {
		r, err = q.conn.ExecContext(ctx, query, args...)
	} else {
		r, err = q.stmt.ExecContext(ctx, args...)
	}
	part.End(err)
	return r, err
}

// QueryContext is sql.Tx's. Close the rows before the next statement.
func (m *MariaDB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	q, err := m.query(ctx, query)
	if err != nil {
		return nil, err
	}
	part := m.tx.session.Working(m.resource)
	var r *sql.Rows
	if q.stmt == nil {
		r, err = q.conn.QueryContext(ctx, query, args...)
	} else {
		r, err = q.stmt.QueryContext(ctx, args...)
	}
	part.End(err)
	return r, err
}

// QueryRowContext is sql.Tx's: the error is Scan's, sql.ErrNoRows if there is no
// row.
func (m *MariaDB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	q, err := m.query(ctx, query)
	if err != nil {
		db := sql.OpenDB(unavailable{err: err}) // only package sql can make a row that has an error
		defer db.Close()
		return db.QueryRowContext(ctx, query)
	}
	part := m.tx.session.Working(m.resource)
	var r *sql.Row
	if q.stmt == nil {
		r = q.conn.QueryRowContext(ctx, query, args...)
	} else {
		r = q.stmt.QueryRowContext(ctx, args...)
	}
	part.End(r.Err())
	return r
}

// PrepareContext is sql.Tx's. Close the statement.
func (m *MariaDB) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	b, err := Branch[*mariadb.Branch](ctx, m.tx, m.resource)
	if err != nil {
		return nil, err
	}
	c, err := b.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return c.PrepareContext(ctx, query)
}

// unavailable is a database that cannot be connected to.
type unavailable struct {
	driver.Connector // only Connect is asked for
	err              error
}

// Connect is driver.Connector's.
func (u unavailable) Connect(context.Context) (driver.Conn, error) { return nil, u.err }

// TxFrom returns the transaction of an HTTP request or of a stream's connection
// by its context. It begins with the first use of a resource, is committed by
// [Tx.Commit] alone, and rolled back if the handler returns without that, or its
// client is gone. Another may then follow. TxFrom panics if the context is not
// from a handler.
func TxFrom(ctx context.Context) *Tx { return &Tx{session: scope(ctx).Session()} }

// Do runs f in a transaction of its own, and commits it if f returns nil: see
// [Tx.Commit] for the errors. The context is a handler's, or one made of it.
func Do(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	s := scope(ctx).Another(ctx)
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	tx := &Tx{session: s.Session()}
	if err := f(ctx, tx); err != nil {
		return explain(err)
	}
	return tx.Commit(ctx)
}

func scope(ctx context.Context) *application.Scope {
	s := application.ScopeFrom(ctx)
	if s == nil {
		panic("fdt: this context is not from a handler of fdt")
	}
	return s
}
