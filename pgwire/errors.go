package pgwire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// Failure is an error as a client is told it: PostgreSQL's fields, of which
// SQLSTATEs come from its appendix A.
type Failure struct {
	Fatal    bool // the session ends with it
	Code     string
	Message  string
	Detail   string
	Hint     string
	Position int // 1-based, in characters of the query; 0: none

	cause error // what the client is not told; nil: nothing
}

func (f *Failure) Error() string { return f.Message }

// SQLState returns Code.
func (f *Failure) SQLState() string { return f.Code }

// with is the failure changed by f: a copy, since those that end a session or cancel a statement are shared by all sessions.
func (f *Failure) with(change func(*Failure)) *Failure {
	c := *f
	change(&c)
	return &c
}

func errorf(code, format string, args ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

func fatalf(code, format string, args ...any) *Failure {
	return &Failure{Fatal: true, Code: code, Message: fmt.Sprintf(format, args...)}
}

func (f *Failure) hint(format string, args ...any) *Failure {
	f.Hint = fmt.Sprintf(format, args...)
	return f
}

// Ends of a session that the server brings about. All sessions share them.
var (
	errGoodbye     = &Failure{Fatal: true, Code: "57P01", Message: "terminating connection due to administrator command", Hint: "The server is being reloaded or stopped; connect again."}
	errTerminated  = &Failure{Fatal: true, Code: "57P01", Message: "terminating connection due to administrator command"}
	errIdleTooLong = &Failure{Fatal: true, Code: "25P03", Message: "terminating connection due to idle-in-transaction timeout"}
	errIdleSession = &Failure{Fatal: true, Code: "57P05", Message: "terminating connection due to idle-session timeout"}
	errNoSlot      = &Failure{Fatal: true, Code: "53300", Message: "sorry, too many clients already", Hint: "All slots are taken: see workers.threads in fdt.yaml(5)."}
	errCrowded     = &Failure{Fatal: true, Code: "53300", Message: "sorry, too many clients already", Hint: "All slots are taken, and this connection was silent before it was authenticated."}
	errParted      = &Failure{Fatal: true, Code: "08006", Message: "connection to client lost", Detail: "The client closed its sending side while a request of it ran; what it had not prepared is rolled back."}
	errTooLong     = &Failure{Fatal: true, Code: "25P04", Message: "terminating connection due to transaction timeout"}
)

// Causes with which a statement's context is cancelled, likewise.
var (
	errCanceled = &Failure{Code: "57014", Message: "canceling statement due to user request"}
	errTimedOut = &Failure{Code: "57014", Message: "canceling statement due to statement timeout"}
)

// explain turns an error into what the client is told. ctx is the statement's:
// if it was cancelled, its cause is the reason, whatever the resource made of
// it. What was explained once stays so: a context that ends later changes
// nothing, least of all that an outcome is unknown. The failure may be one that all sessions share: see Failure.with.
func explain(ctx context.Context, err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	if ctx.Err() != nil && !txn.InDoubt(err) {
		cause := context.Cause(ctx)
		if f, ok := errors.AsType[*Failure](cause); ok {
			return f
		}
		if errors.Is(cause, drain.ErrDeadline) || errors.Is(cause, drain.ErrForced) {
			return errGoodbye
		}
		if errors.Is(cause, drain.ErrTerminated) {
			return errTerminated
		}
		if errors.Is(cause, drain.ErrHangup) { // nobody hears it but who closed one side only
			return errParted
		}
	}
	if e, ok := errors.AsType[*statement.Error](err); ok {
		return &Failure{Code: e.Code, Message: e.Message, Position: e.Position}
	}
	if e, ok := errors.AsType[*query.Error](err); ok {
		return failure(e)
	}
	if e, ok := errors.AsType[*value.Error](err); ok {
		return &Failure{Code: e.Code, Message: e.Message}
	}
	if e, ok := errors.AsType[*procedure.Error](err); ok {
		return &Failure{Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint}
	}
	if errors.Is(err, txn.ErrTimeout) {
		return errTooLong
	}
	f := &Failure{Code: txn.SQLState(err)}
	if e, ok := errors.AsType[fields](err); ok && !txn.InDoubt(err) { // a database's own answer, and the reason for the rest
		f.Code = e.SQLState()
		f.Message, f.Detail, f.Hint = e.Fields()
		return f
	}
	message, less := reticent(err)
	f.Message = message
	if less {
		f.cause = err
	}
	return f
}

// Of package journal, which this one does not import.
const (
	idHandlerPanicked = "3512c657ed4041fa8a7c2aa4e9cd4d64"
	idCallSlow        = "5dcc58e59b0243328e3ab09ef7bc2e4e"
	idCallEnded       = "18e37e734dbc45e994be8b2d4214449b"
)

// report tells the client of a failure, and the log what the client is not told.
func (se *session) report(f *Failure) {
	se.wire.send(f.response())
	if p, ok := errors.AsType[*procedure.Panic](f.cause); ok {
		se.log().Error("a procedure has panicked", "handler", p.Procedure, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack),
			"message_id", idHandlerPanicked)
	} else if f.cause != nil {
		se.server.failing.Sparing(se.log()).Warn("a request failed", "sqlstate", f.Code, "error", f.cause)
	}
}

// maxText is how many bytes of a message, detail or hint a client is told: much of them may be the client's own.
const maxText = 8 << 10

// bounded cuts a text that is too long, never inside a character.
func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// response is the message that tells the failure.
func (f *Failure) response() *pgproto3.ErrorResponse {
	severity := "ERROR"
	if f.Fatal {
		severity = "FATAL"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity,
		Code: f.Code, Message: bounded(f.Message), Detail: bounded(f.Detail), Hint: bounded(f.Hint),
		Position: int32(f.Position), //nolint:gosec // a message is shorter than 2 GiB
	}
}

// notice is the same as a warning.
func (f *Failure) notice() *pgproto3.NoticeResponse {
	n := pgproto3.NoticeResponse(*f.response())
	n.Severity, n.SeverityUnlocalized = "WARNING", "WARNING"
	return &n
}
