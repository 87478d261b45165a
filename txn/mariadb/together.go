package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// kind is what goes to the server in one request with a statement.
type kind uint8

const (
	begins kind = iota // what begins the branch
	whole              // likewise, and what ends it by its vote
)

// compound is a statement with what goes with it.
type compound struct {
	kind kind
	text string
}

// together is what runs a statement as a branch's first, if the server has read that before; nil if the two cannot go together, or not
// yet.
func (b *Branch) together(k kind, text string) *sql.Stmt {
	if b.begun || b.failed != nil || modes(b.opt) != nil {
		return nil
	}
	return b.c.compounds[compound{k, text}]
}

// maxTogether bounds the compounds of one session, each of which has two statements prepared.
const maxTogether = 16

// readTogether has the server read a statement with what goes with it, bound as always, if it leaves nothing in the session and its count
// of rows is all that it returns. That is done once in a session's life. The statement is prepared by itself, and only executed in the
// compound: one that is written in there is not read again where a view in it has become another, and then changes what the old one showed.
func (c *conn) readTogether(ctx context.Context, k kind, text string, args int) error {
	if _, tried := c.compounds[compound{k, text}]; tried || !writes(text) || leaves(text) || len(c.compounds) >= maxTogether {
		return nil
	}
	name := "fdt_together" + strconv.Itoa(len(c.compounds))
	all := strings.Join(c.reset, "; ") + "; EXECUTE IMMEDIATE ?; EXECUTE " + name
	if args > 0 {
		all += " USING ?" + strings.Repeat(", ?", args-1)
	}
	if k == whole {
		all += "; BEGIN " + c.looking("") + "END; EXECUTE IMMEDIATE ?; EXECUTE IMMEDIATE ?"
	}
	var s *sql.Stmt
	err := c.exec(ctx, "PREPARE "+name+" FROM ?", text)
	if err == nil {
		s, err = c.PrepareContext(ctx, "BEGIN NOT ATOMIC "+all+"; END")
	}
	if err != nil && number(err) == 0 {
		return err
	}
	if c.compounds == nil {
		c.compounds = make(map[compound]*sql.Stmt)
	}
	c.compounds[compound{k, text}] = s
	return nil
}

// forget takes for not read what a procedure may have dropped or replaced.
func (c *conn) forget() (err error) {
	for _, s := range c.compounds {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	c.compounds = nil
	c.again.known, c.vote.known = false, false
	return err
}

// run begins the branch and runs its first statement, in one round trip. The server runs nothing behind what fails.
func (b *Branch) run(ctx context.Context, s *sql.Stmt, args []any) (out txn.Outcome, err error) {
	b.begun, b.c.used = true, true
	if err := b.c.lockTimeout(ctx, b.opt.LockTimeout); err != nil {
		return out, b.unbegun(ctx, err)
	}
	result, err := s.ExecContext(ctx, args...)
	switch {
	case err == nil:
		out.Rows, err = result.RowsAffected()
	case number(err) == errXADupID:
		return out, b.unbegun(ctx, err)
	}
	if err != nil {
		b.failed = b.fault("statement", wrap(ctx, err))
	}
	return out, b.failed
}

// ExecLast is the whole branch in one round trip: see txn.LastExecer. With a marker, which is written by itself, there is none.
func (b *Branch) ExecLast(ctx context.Context, gid txn.GID, last txn.Statement) (out txn.Outcome, voted bool, err error) {
	if b.begun || b.marked || b.failed != nil || finite(last.Args) != nil {
		return out, false, nil
	}
	s := b.together(whole, last.SQL)
	if s == nil {
		if err = b.begin(ctx); err == nil {
			err = b.c.readTogether(ctx, whole, last.SQL, len(last.Args))
		}
		return out, false, err
	}
	args := append([]any{"XA START " + b.xid}, last.Args...)
	out, err = b.run(ctx, s, append(args, "XA END "+b.xid, "XA PREPARE "+b.xid))
	b.idle = err == nil
	return out, b.idle, err
}
