package pgwire

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/internal/throttle"
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
}

// records tells whether calls are logged at all.
func (s *Server) records() bool { return s.SlowCall > 0 || s.CallRate > 0 }

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

// tell writes the line of a call, if it is one that the log has.
func (se *session) tell(r record) {
	message, id, lines := "a call was slow", idCallSlow, &se.server.slow
	if slow := se.server.SlowCall; slow == 0 || r.took < slow {
		message, id, lines = "a call has ended", idCallEnded, &se.server.fast
		if se.server.CallRate == 0 {
			return
		}
	}
	left, ok := lines.Due(time.Now())
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
	log.Info(message, "duration", r.took.Round(time.Microsecond), "sqlstate", r.state, "gid", r.gid, "rows", r.rows, "message_id", id)
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
func (se *session) controlled(ctx context.Context, stmt statement.Statement) (string, error) {
	name, gid := ender(stmt)
	if name == "" || !se.server.records() || gid == "" && se.txn.State() == txn.Idle {
		return se.control(ctx, stmt)
	}
	se.tellHeld("", 0)
	if gid == "" {
		gid = gidText(se.txn.GID())
	}
	began := time.Now()
	tag, err := se.control(ctx, stmt)
	if err == nil {
		name = tag // ROLLBACK, where a failed transaction was to commit
	}
	se.tell(record{statement: name, gid: gid, took: time.Since(began), state: stateOf(ctx, err)})
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
