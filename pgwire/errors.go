package pgwire

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/value"
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
}

func (f *Failure) Error() string { return f.Message }

// SQLState returns Code.
func (f *Failure) SQLState() string { return f.Code }

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

// Ends of a session that the server brings about.
var (
	errGoodbye     = &Failure{Fatal: true, Code: "57P01", Message: "terminating connection due to administrator command", Hint: "The server is being reloaded or stopped; connect again."}
	errIdleTooLong = &Failure{Fatal: true, Code: "25P03", Message: "terminating connection due to idle-in-transaction timeout"}
	errNoSlot      = &Failure{Fatal: true, Code: "53300", Message: "sorry, too many clients already", Hint: "All slots are taken: see workers.threads in fdt.yaml(5)."}
	errCrowded     = &Failure{Fatal: true, Code: "53300", Message: "sorry, too many clients already", Hint: "All slots are taken, and this connection was silent before it was authenticated."}
	errTooLong     = &Failure{Fatal: true, Code: "25P04", Message: "terminating connection due to transaction timeout"}
)

// Causes with which a statement's context is cancelled.
var (
	errCanceled = &Failure{Code: "57014", Message: "canceling statement due to user request"}
	errTimedOut = &Failure{Code: "57014", Message: "canceling statement due to statement timeout"}
)

// explain turns an error into what the client is told. ctx is the statement's:
// if it was cancelled, its cause is the reason, whatever the resource made of
// it. What was explained once stays so: a context that ends later changes
// nothing, least of all that an outcome is unknown.
func explain(ctx context.Context, err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	if ctx.Err() != nil && !txn.InDoubt(err) {
		cause := context.Cause(ctx)
		if f, ok := errors.AsType[*Failure](cause); ok {
			return f
		}
		if errors.Is(cause, drain.ErrDeadline) || errors.Is(cause, drain.ErrForced) || errors.Is(cause, drain.ErrHangup) {
			return errGoodbye
		}
	}
	if e, ok := errors.AsType[*statement.Error](err); ok {
		return &Failure{Code: e.Code, Message: e.Message, Position: e.Position}
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
	f := &Failure{Code: txn.SQLState(err), Message: err.Error()}
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
		Fields() (message, detail, hint string)
	}](err); ok && !txn.InDoubt(err) { // a database's own answer, and the reason for the rest
		f.Code = e.SQLState()
		f.Message, f.Detail, f.Hint = e.Fields()
	}
	return f
}

// response is the message that tells the failure.
func (f *Failure) response() *pgproto3.ErrorResponse {
	severity := "ERROR"
	if f.Fatal {
		severity = "FATAL"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity,
		Code: f.Code, Message: f.Message, Detail: f.Detail, Hint: f.Hint,
		Position: int32(f.Position), //nolint:gosec // a message is shorter than 2 GiB
	}
}

// notice is the same as a warning.
func (f *Failure) notice() *pgproto3.NoticeResponse {
	n := pgproto3.NoticeResponse(*f.response())
	n.Severity, n.SeverityUnlocalized = "WARNING", "WARNING"
	return &n
}
