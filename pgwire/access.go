package pgwire

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/internal/throttle"
	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/txn"
)

// record is one call, or the end of a transaction, as the log has it. It holds no value of a parameter.
type record struct {
	statement string // CALL, SELECT, COMMIT …
	procedure string // empty: none was called
	rows      int
	gid       string
	took      time.Duration
	state     string // SQLSTATE
	span      *trace.Span
}

// records tells whether calls are told to anybody.
func (s *Server) records() bool { return s.lines.Any() || s.Tracer != nil }

// stateOf is the SQLSTATE of how a statement ended.
func stateOf(ctx context.Context, err error) string {
	if err == nil {
		return succeeded
	}
	return explain(ctx, err).Code
}

// recorded tells of a call: now, or when the transaction has ended that was begun for it.
func (se *session) recorded(r record) {
	se.tellHeld("", 0)
	if se.implicit && r.state == succeeded {
		se.held = &r
		return
	}
	se.tell(r)
}

// tellHeld tells of the call that waited for its transaction's end, which took that long and ended with the SQLSTATE; empty: it is not
// over.
func (se *session) tellHeld(state string, took time.Duration) {
	r := se.held
	if r == nil {
		return
	}
	se.held = nil
	r.took += took
	if state != "" {
		r.state = state
	}
	se.tell(*r)
}

// tell ends the span of a call, and writes its line, if it is one that the log has.
func (se *session) tell(r record) {
	se.traced(r)
	slow, left, ok := se.server.lines.Due(r.took)
	if !ok {
		return
	}
	log := se.log().With("session", se.pid, "statement", r.statement)
	if r.procedure != "" {
		log = log.With("procedure", r.procedure)
	}
	if left > 0 {
		log = log.With(throttle.LeftOut, left)
	}
	log = log.With("duration", r.took.Round(time.Microsecond), "sqlstate", r.state, "gid", r.gid, "rows", r.rows)
	if slow {
		log.Info("a call was slow", "message_id", idCallSlow)
	} else {
		log.Info("a call has ended", "message_id", idCallEnded)
	}
}

// ender is what a statement is called that ends a transaction, with the gid that it names.
func ender(stmt statement.Statement) (name, gid string) {
	switch st := stmt.(type) {
	case statement.Commit:
		return "COMMIT", ""
	case statement.Rollback:
		return "ROLLBACK", ""
	case statement.Prepare:
		return "PREPARE TRANSACTION", st.GID
	case statement.CommitPrepared:
		return "COMMIT PREPARED", st.GID
	case statement.RollbackPrepared:
		return "ROLLBACK PREPARED", st.GID
	}
	return "", ""
}

// controlled is control, and tells of what ends a transaction.
func (se *session) controlled(ctx context.Context, p *plan) (string, error) {
	name, gid := ender(p.stmt)
	if name == "" || !se.server.records() || gid == "" && se.txn.State() == txn.Idle {
		return se.control(ctx, p.stmt)
	}
	se.tellHeld("", 0)
	if gid == "" {
		gid = gidText(se.txn.GID())
	}
	began, span := time.Now(), se.traces(p.text, name)
	tag, err := se.control(ctx, p.stmt)
	if err == nil {
		name = tag // ROLLBACK, where a failed transaction was to commit
	}
	se.tell(record{statement: name, gid: gid, took: time.Since(began), state: stateOf(ctx, err), span: span})
	return tag, err
}

// commitCall commits what a request did without BEGIN, which is the end of its last call.
func (se *session) commitCall(ctx context.Context) error {
	if se.held == nil {
		return se.commit(ctx)
	}
	began := time.Now()
	err := se.commit(ctx)
	se.tellHeld(stateOf(ctx, err), time.Since(began))
	return err
}
