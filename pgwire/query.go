package pgwire

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// whatFdtIs is the hint to everybody who takes fdt for a database.
const whatFdtIs = "This is fdt, a transaction server: it runs the procedures of its configuration, as in CALL name(…), " +
	"in one transaction with BEGIN, COMMIT and PREPARE TRANSACTION; see fdt.yaml(5)."

// Functions by which a client that lost the answer to COMMIT learns the outcome.
const (
	nameXID    = "pg_current_xact_id"
	nameStatus = "pg_xact_status"
)

func text(s string) value.Value { return value.Value{Type: value.Text, Text: s} }

func moment(t time.Time) value.Value {
	v, _ := value.Timestamptz.Parse(t.UTC().Format("2006-01-02 15:04:05.999999Z"))
	return v
}

// builtin is a function of the session itself.
type builtin func(ctx context.Context, se *session, args []value.Value) (value.Value, error)

func (do builtin) call(r *query.Run, args []value.Value) (value.Value, error) {
	h, _ := r.Host.(*host) // see run
	return do(r.Ctx, h.session, args)
}

// builtins are the functions of the session, beside those of the catalogue.
var builtins = map[string]query.Function{
	"version": {Result: value.Text, Call: builtin(func(context.Context, *session, []value.Value) (value.Value, error) {
		return text("PostgreSQL " + ServerVersion + ", a transaction server that speaks PostgreSQL's protocol"), nil
	}).call},
	"pg_backend_pid": {Result: value.Int4, Call: builtin(func(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
		return value.Value{Type: value.Int4, Text: fmt.Sprint(se.pid)}, nil
	}).call},
	"pg_is_in_recovery": {Result: value.Bool, Call: builtin(func(context.Context, *session, []value.Value) (value.Value, error) {
		return value.Value{Type: value.Bool, Text: "f"}, nil
	}).call},
	"pg_advisory_unlock_all": {Result: value.Void, Call: builtin(func(context.Context, *session, []value.Value) (value.Value, error) {
		return value.Value{Type: value.Void}, nil
	}).call},
	"inet_client_addr": {Result: value.Inet, Call: builtin(func(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
		addr, _ := se.address()
		if addr == "" {
			return value.Inet.Null(), nil
		}
		return value.Inet.Parse(addr)
	}).call},
	"inet_client_port": {Result: value.Int4, Call: builtin(func(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
		_, port := se.address()
		if port == "" {
			return value.Int4.Null(), nil
		}
		return value.Int4.Parse(port)
	}).call},
	"current_setting": {Args: []*value.Type{value.Text, value.Bool}, Optional: 1, Result: value.Text, Call: builtin(currentSetting).call},
	"set_config":      {Args: []*value.Type{value.Text, value.Text, value.Bool}, Result: value.Text, Lax: true, Call: builtin(setConfig).call},
	nameXID:           {Result: value.XID8, Volatile: true, Call: builtin(currentXID).call},
	nameStatus:        {Args: []*value.Type{value.XID8}, Result: value.Text, Volatile: true, Call: builtin(xactStatus).call},
}

func currentSetting(_ context.Context, se *session, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Text.Null(), nil
	}
	v, err := se.show(strings.ToLower(args[0].Text))
	if err != nil && len(args) == 2 && args[1].Text == "t" {
		return value.Text.Null(), nil
	}
	return text(v), err
}

// currentXID names the transaction, for a client that may lose the answer to its end.
func currentXID(ctx context.Context, se *session, _ []value.Value) (value.Value, error) {
	err := se.implicitly(ctx)
	var id txn.XID
	if err == nil {
		se.used, se.worked = true, true
		se.turn.rest()
		id, err = se.txn.XID(ctx)
	}
	return value.Value{Type: value.XID8, Text: strconv.FormatUint(uint64(id), 10)}, err
}

// xactStatus tells how a transaction stands that currentXID named, here or in another session.
func xactStatus(ctx context.Context, se *session, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Text.Null(), nil
	}
	se.worked = true
	se.turn.rest()
	id, _ := strconv.ParseUint(args[0].Text, 10, 64) // it is an xid8's
	status, err := se.server.Manager.XactStatus(ctx, txn.XID(id))
	if errors.Is(err, txn.ErrFutureXID) {
		return value.Value{}, errorf("22023", "transaction ID %d is in the future", id)
	}
	if status == txn.XactUnknown {
		return value.Text.Null(), err
	}
	return text(string(status)), err
}

func setConfig(_ context.Context, se *session, args []value.Value) (value.Value, error) {
	if args[0].Null {
		return value.Value{}, errorf("22004", "SET requires parameter name")
	}
	v, err := se.sets(args[0].Text, []string{args[1].Text}, args[2].Text == "t")
	return text(v), err
}

// stepCost is the work of a query's step in bytes of a text that is parsed.
const stepCost = 16

// queryRun is one run of a statement's expressions, or of its query.
func (se *session) queryRun(ctx context.Context, params []value.Value) *query.Run {
	return &query.Run{
		Ctx: ctx, Params: params, Zone: se.zone(), Now: time.Now(), Catalogue: se.server.catalogue, Host: &host{session: se, ctx: ctx},
		Took: se.meter(ctx), Worked: func(steps int) { se.strive(steps * stepCost) },
	}
}

// query runs a SELECT that calls no procedure.
func (se *session) query(ctx context.Context, p *plan, params []value.Value) (rows [][]value.Value, err error) {
	defer se.survive(&err)
	rows, err = p.query.Run(se.queryRun(ctx, params))
	return rows, placed(err, p.src)
}

// survive makes an error of a fault in fdt's own evaluation of a client's query: of all that a worker does this is the part that
// foreign texts can lead everywhere, and no text of one client may end the sessions of others.
func (se *session) survive(err *error) {
	if p := recover(); p != nil {
		se.log().Error("a query has hit a fault of fdt; please report it", "fault", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = errorf("XX000", "internal error: the query cannot be evaluated")
	}
}

// arguments evaluates the arguments of a call.
func (se *session) arguments(ctx context.Context, list []argument, params []value.Value) ([]procedure.Arg, error) {
	run := se.queryRun(ctx, params)
	args := make([]procedure.Arg, len(list))
	for i, a := range list {
		v, err := a.value.Eval(run)
		if err != nil {
			return nil, err
		}
		args[i] = procedure.Arg{Name: a.name, Value: v}
	}
	return args, nil
}

// owns tells whether a transaction is the session's user's.
func (se *session) owns(owner string) bool { return owner == se.identity.Principal() }

// userOf is the user's name of the principal that owns a transaction.
func userOf(principal string) string {
	_, user, _ := strings.Cut(principal, ":") // what this server prepared has one
	return user
}
