package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/txn"
)

// maxPrepared bounds the statements that pipelines prepare on one session.
const maxPrepared = 256

// ExecAll runs statements in order, each as Exec does, and sends those in a row that cannot end the transaction in one round trip, the
// first of them with what begins the transaction. It returns the outcomes of the statements that succeeded. The error is that of the next
// one; those behind it had no effect.
func (b *Branch) ExecAll(ctx context.Context, list []txn.Statement) ([]txn.Outcome, error) {
	var done []txn.Outcome
	for len(list) > 0 {
		if err := b.check(); err != nil {
			return done, err
		}
		n := b.c.together(list)
		if n == 0 {
			if err := b.begun(ctx); err != nil {
				return done, err
			}
		}
		if n == 0 || n == 1 && b.opening == nil {
			n = 1
			out, err := b.Exec(ctx, list[0].SQL, list[0].Args)
			if err != nil {
				return done, err
			}
			done = append(done, out)
		} else {
			outs, err := b.begin(ctx, list[:n]...)
			done = append(done, outs...)
			if err == nil {
				err = b.check()
			}
			if err != nil {
				return done, b.failure(ctx, err)
			}
		}
		list = list[n:]
	}
	return done, nil
}

// together returns how many statements from the first on may be sent before the first one's answer has come.
func (c *conn) together(list []txn.Statement) (n int) {
	for _, s := range list {
		if _, known := c.prepared[s.SQL]; !known && (len(c.prepared)+n >= maxPrepared || !harmless(s.SQL)) {
			return n
		}
		for _, arg := range s.Args {
			// Exec leaves it to the driver how the type that the server asks for is written.
			if _, ok := arg.([]byte); ok {
				return n
			}
		}
		n++
	}
	return n
}

// harmless tells of a statement that it cannot end the transaction: behind one that did, the next would be run outside of it. Function
// bodies cannot either, PL/pgSQL (PostgreSQL documentation, 43.8).
func harmless(sql string) bool {
	word := strings.TrimLeft(sql, " \t\r\n(")
	if end := strings.IndexAny(word, " \t\r\n("); end >= 0 {
		word = word[:end]
	}
	switch strings.ToLower(word) {
	case "select", "insert", "update", "delete", "merge", "with", "values":
		return true
	}
	return false
}

// ExecLast is the whole branch in one round trip: see txn.LastExecer. The server passes over all that comes behind what fails. As the vote
// is not to be cancelled, the statement is not either: if ctx ends, RollbackPrepared ends the session.
func (b *Branch) ExecLast(ctx context.Context, gid txn.GID, last txn.Statement) (out txn.Outcome, voted bool, err error) {
	if b.opening == nil || b.opt.ReadOnly || b.c == nil || b.c.together([]txn.Statement{last}) == 0 {
		return out, false, nil
	}
	list := append(b.opening, last)
	b.opening, b.c.used = nil, true
	var outs []txn.Outcome
	var tag string
	err = b.c.finally(func() (err error) {
		outs, tag, err = b.c.pipelineThen(ctx, list, "PREPARE TRANSACTION "+literal(b.r.gid(gid)))
		if err == nil && tag != prepared {
			err = &tagError{want: prepared, got: tag}
		}
		return err
	})
	if len(outs) >= len(list)-1 {
		b.xid = *outs[len(list)-2].First
	}
	switch {
	case err == nil && b.c.pg.PgConn().ParameterStatus("application_name") != b.c.app:
		b.renamed()
		return out, false, b.ended
	case err == nil:
		b.durable = true
		return outs[len(list)-1], true, nil
	case len(outs) < len(list) && definite(err):
		return out, false, b.failure(ctx, err)
	}
	err = b.unprepared(err)
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return out, false, err
}

// pipeline sends statements in one go, each prepared at its first use on this session. It returns the outcomes of those that succeeded.
func (c *conn) pipeline(ctx context.Context, list []txn.Statement) (outs []txn.Outcome, err error) {
	outs, _, err = c.pipelineThen(ctx, list, "")
	return outs, err
}

// pipelineThen is pipeline with a further statement, if it is not empty, of which it returns the command tag.
func (c *conn) pipelineThen(ctx context.Context, list []txn.Statement, then string) (outs []txn.Outcome, tag string, err error) {
	var unsure []string // the texts whose preparation is not confirmed
	p := c.pg.PgConn().StartPipeline(ctx)
	defer func() {
		if cerr := p.Close(); err == nil {
			err = cerr
		}
		c.doubt(unsure)
		switch code(err) {
		case "0A000", "26000": // a plan that does not fit its table any more, or that somebody has dropped
			c.cancelled = true
		}
		c.note(ctx, err)
	}()
	for _, s := range list {
		unsure = c.send(p, s.SQL, s.Args, unsure)
	}
	if then != "" {
		p.SendQueryParams(then, nil, nil, nil, nil)
	}
	if err := p.Sync(); err != nil {
		return nil, "", err
	}
	for len(outs) < len(list) || then != "" && tag == "" {
		results, err := p.GetResults()
		if err != nil {
			return outs, "", err
		}
		switch r := results.(type) {
		case *pgconn.StatementDescription:
			unsure = unsure[1:]
		case *pgconn.ResultReader:
			if len(outs) == len(list) {
				done, err := r.Close()
				if err != nil {
					return outs, "", err
				}
				tag = done.String()
				continue
			}
			out, err := outcome(r)
			if err != nil {
				return outs, "", err
			}
			outs = append(outs, out)
		}
	}
	return outs, tag, nil
}

// send adds one statement to a pipeline, prepared if it is not yet, which adds its text to unsure.
func (c *conn) send(p *pgconn.Pipeline, text string, args []any, unsure []string) []string {
	name, ok := c.prepared[text]
	if !ok {
		if c.prepared == nil {
			c.prepared = make(map[string]string)
		}
		c.named++
		name = "fdt" + strconv.Itoa(c.named)
		c.prepared[text] = name
		unsure = append(unsure, text)
		p.SendPrepare(name, text, nil)
	}
	p.SendQueryPrepared(name, texts(args), nil, nil)
	return unsure
}

// doubt takes texts for not prepared.
func (c *conn) doubt(unsure []string) {
	for _, text := range unsure {
		delete(c.prepared, text)
	}
}

func outcome(r *pgconn.ResultReader) (out txn.Outcome, err error) {
	for n := 0; r.NextRow(); n++ {
		if n == 0 {
			take(&out, r.FieldDescriptions(), r.Values())
		}
	}
	tag, err := r.Close()
	out.Rows = tag.RowsAffected()
	return out, err
}

// texts are arguments in the form of text, which holds no bytes.
func texts(args []any) [][]byte {
	values := make([][]byte, len(args))
	for i, arg := range args {
		if s, ok := text(arg).(string); ok {
			values[i] = []byte(s)
		}
	}
	return values
}
