package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/txn"
)

// resets give a session back what it had at its start, so that no transaction meets what an earlier one has left: the parameters, among
// them the application_name by which fences find it, and locks that outlive their transaction. They ride with what ends the transaction.
// Each statement costs as much as a small one of a transaction's own, so RESET ROLE is in the first.
func (c *conn) resets() []txn.Statement {
	return []txn.Statement{{SQL: unlockAndRole, Args: []any{c.role}}, {SQL: resetAll}}
}

const (
	unlockAndRole = "SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('role', $1, false)"
	resetAll      = "RESET ALL"
)

// moreResets follow statements other than those that read and change rows. Together they are DISCARD ALL, which is by itself or not at
// all, but for what is prepared.
var moreResets = []txn.Statement{
	{SQL: "SET SESSION AUTHORIZATION DEFAULT"}, {SQL: "CLOSE ALL"}, {SQL: "UNLISTEN *"}, {SQL: "DISCARD TEMP"}, {SQL: "DISCARD SEQUENCES"},
}

// resetting are the statements that reset the session.
func (c *conn) resetting() []txn.Statement {
	if c.strange {
		return append(c.resets(), moreResets...)
	}
	return c.resets()
}

// reset resets a session in no transaction by itself, and tells whether that is done.
func (c *conn) reset() bool {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, err := c.pipeline(ctx, c.resetting())
	c.used, c.strange = err != nil, c.strange && err != nil
	return err == nil
}

// conclude is finish for what leaves the session in no transaction, and resets the session in the same round trip. The error is that of
// the statement; a session that was not reset with it is used.
func (c *conn) conclude(ctx context.Context, text, want string) error {
	return c.concludeWith(ctx, nil, text, want)
}

// concludeWith is conclude with statements that go before it in the same round trip; the error may be of one of those.
func (c *conn) concludeWith(ctx context.Context, before []txn.Statement, text, want string) error {
	return c.finally(func() error {
		tag, err := c.ending(ctx, before, text)
		c.note(ctx, err)
		if err == nil && tag != want {
			err = &tagError{want: want, got: tag}
		}
		return err
	})
}

// ending sends statements, text and the resets. It returns text's command tag. The server passes over all that comes behind one that
// fails.
func (c *conn) ending(ctx context.Context, before []txn.Statement, text string) (tag string, err error) {
	var unsure []string
	p := c.pg.PgConn().StartPipeline(ctx)
	for _, s := range before {
		if c.strange { // it may have dropped what is prepared
			p.SendQueryParams(s.SQL, texts(s.Args), nil, nil, nil)
		} else {
			unsure = c.send(p, s.SQL, s.Args, unsure)
		}
	}
	if constant := text == "COMMIT" || text == "ROLLBACK"; constant && !c.strange {
		unsure = c.send(p, text, nil, unsure)
	} else {
		p.SendQueryParams(text, nil, nil, nil, nil)
	}
	for _, reset := range c.resetting() {
		unsure = c.send(p, reset.SQL, reset.Args, unsure)
	}
	err = p.Sync()
	for n := 0; n <= len(before) && err == nil; {
		var answer any
		answer, err = p.GetResults()
		switch r := answer.(type) {
		case *pgconn.StatementDescription:
			unsure = unsure[1:]
		case *pgconn.ResultReader:
			var t pgconn.CommandTag
			t, err = r.Close()
			tag, n = t.String(), n+1
		}
	}
	cerr := p.Close() // reads the answers to the resets
	switch {
	case err != nil:
		c.doubt(unsure)
	case cerr != nil:
		c.cancelled = true // the statement was carried out all the same
	default:
		c.used, c.strange = false, false
	}
	return tag, err
}
