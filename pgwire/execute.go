package pgwire

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// result is what a statement returned.
type result struct {
	tag  string // with the number of rows, if it counts them
	rows [][]value.Value
}

// sink takes the rows of a procedure that returns any number as they come; nil
// where they are to be kept, within the session's memory.
type sink struct {
	take procedure.Emit
	n    int // that it took
}

// statementWork is the work of running a statement, whatever it is, in bytes of a text that is parsed.
const statementWork = 512

// execute runs a planned statement in the session's transaction.
func (se *session) execute(ctx context.Context, p *plan, params []value.Value, out *sink) (result, error) {
	se.acknowledge() // what came before was answered, and the answer read
	se.strive(statementWork)
	se.settings.begin()
	defer se.limit()
	switch st := p.stmt.(type) {
	case statement.Call:
		rows, err := se.call(ctx, p, params, out)
		return result{"CALL", rows}, err
	case *statement.Select:
		rows, err := se.selected(ctx, p, params, out)
		n := len(rows)
		if out != nil {
			n += out.n
		}
		return result{"SELECT " + strconv.Itoa(n), rows}, err
	case statement.Declare:
		se.queried = se.txn.State() != txn.Idle
		return result{tag: "DECLARE CURSOR"}, se.declare(ctx, p, st, params)
	case statement.Fetch:
		return se.fetched(ctx, st)
	case statement.Show:
		rows, err := se.showRows(st)
		return result{"SHOW", rows}, err
	}
	switch p.stmt.(type) {
	case statement.Commit, statement.Rollback, statement.Savepoint, statement.Release, statement.RollbackTo:
		if se.used { // else no resource has a part in it
			se.turn.rest()
		}
	case statement.Prepare, statement.CommitPrepared, statement.RollbackPrepared:
		se.turn.rest()
	}
	tag, err := se.controlled(ctx, p)
	return result{tag: tag}, err
}

// selected runs a SELECT.
func (se *session) selected(ctx context.Context, p *plan, params []value.Value, out *sink) ([][]value.Value, error) {
	se.queried = se.txn.State() != txn.Idle
	if p.call == nil {
		return se.query(ctx, p, params)
	}
	rows, err := se.call(ctx, p, params, out)
	if len(p.call.Columns()) == 0 {
		rows = [][]value.Value{{{Type: value.Void}}}
	}
	return rows, err
}

// control runs a statement that returns no rows, and returns its tag.
func (se *session) control(ctx context.Context, stmt statement.Statement) (string, error) {
	switch st := stmt.(type) {
	case statement.Begin:
		tag := "BEGIN"
		if st.Start {
			tag = "START TRANSACTION"
		}
		return tag, se.begin(ctx, st.Modes)
	case statement.Commit:
		return se.end(ctx, true, st.Chain)
	case statement.Rollback:
		return se.end(ctx, false, st.Chain)
	case statement.Savepoint:
		return "SAVEPOINT", se.savepoint(ctx, st.Name)
	case statement.Release:
		return "RELEASE", se.release(ctx, st.Name)
	case statement.RollbackTo:
		return "ROLLBACK", se.rollbackTo(ctx, st.Name)
	case statement.Prepare:
		return "PREPARE TRANSACTION", se.prepare(ctx, st.GID)
	case statement.CommitPrepared:
		return "COMMIT PREPARED", se.decide(ctx, "COMMIT PREPARED", st.GID, se.txn.CommitPrepared)
	case statement.RollbackPrepared:
		return "ROLLBACK PREPARED", se.decide(ctx, "ROLLBACK PREPARED", st.GID, se.txn.RollbackPrepared)
	case statement.Set:
		if st.Values == nil {
			return "SET", se.resetOne(st.Name)
		}
		return "SET", se.set(ctx, st.Name, st.Values, st.Local)
	case statement.SetTransaction:
		return "SET", se.setTransaction(ctx, st)
	case statement.Reset:
		return "RESET", se.resetOne(st.Name)
	case statement.Discard:
		return se.discard(st.What)
	case statement.Deallocate:
		return se.deallocate(st.Name)
	case statement.Close:
		return se.closed(st.Name)
	case statement.Nothing:
		return st.Tag, nil
	}
	what := "this statement"
	if u, ok := stmt.(statement.Unsupported); ok {
		what = u.What
	}
	hint, ok := instead[what]
	if !ok {
		hint = whatFdtIs
	}
	return "", errorf("0A000", "fdt does not serve %s", what).hint("%s", hint)
}

// instead is what to do in place of some statements.
var instead = map[string]string{
	"LISTEN": "fdt sends no notifications. Have a procedure put a message into a spool, see resources in fdt.yaml(5), and read that; or listen at the database itself.",
	"NOTIFY": "fdt sends no notifications. Have a procedure put a message into a spool, see resources in fdt.yaml(5): it is delivered if the transaction commits.",
	"COPY":   "Call a procedure for each row in one transaction, pipelined, or once with arrays as its arguments.",
}

// largeObject is the hint to those who want large objects, which are reached by functions.
const largeObject = "fdt has no large objects: pass a bytea to a procedure."

// limit tells the transaction the session's limits, of which the stricter hold.
func (se *session) limit() {
	se.txn.Limit(se.settings.milliseconds("transaction_timeout"), se.settings.milliseconds("lock_timeout"))
}

// call runs a procedure, and counts how that went.
func (se *session) call(ctx context.Context, p *plan, params []value.Value, out *sink) ([][]value.Value, error) {
	began := time.Now()
	var span *trace.Span
	if se.server.Tracer != nil {
		se.tellHeld("", 0)
		span = se.traces(p.text, calling(p)+" "+p.call.Name())
	}
	rows, err := se.invoke(ctx, p, params, out)
	state := stateOf(ctx, err)
	took := time.Since(began)
	se.server.calls[p.call].ended(took, state[:2])
	if se.server.records() {
		r := record{statement: calling(p), procedure: p.call.Name(), rows: len(rows), gid: gidText(se.txn.GID()), took: took, state: state, span: span}
		if out != nil {
			r.rows += out.n
		}
		se.recorded(r)
	}
	return rows, err
}

// calling is the statement by which a plan calls a procedure.
func calling(p *plan) string {
	if _, ok := p.stmt.(statement.Call); ok {
		return "CALL"
	}
	return "SELECT"
}

// gidText is a transaction's name; empty without one.
func gidText(gid txn.GID) string {
	if gid.IsZero() {
		return ""
	}
	return gid.String()
}

// invoke runs a procedure, in a transaction of its own if none is open. Rows that
// out has taken are not returned.
func (se *session) invoke(ctx context.Context, p *plan, params []value.Value, out *sink) (rows [][]value.Value, err error) {
	if !se.identity.allowed(p.call) {
		return nil, errorf("42501", "permission denied for procedure %s", p.call.Name())
	}
	args, err := se.arguments(ctx, p.args, params)
	if err != nil {
		return nil, err
	}
	bound, err := p.call.Bind(se.zone(), args)
	if err != nil {
		return nil, err
	}
	if err := se.implicitly(ctx); err != nil {
		return nil, err
	}
	se.used, se.worked = true, true
	if end, ok := se.txn.Deadline(); ok {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, end, errTooLong)
		defer stop()
	}
	se.activity.calls(p.call.Name())
	work := drain.Work{Kind: "procedure", Name: p.call.Name()}
	se.conn.Begin(&work)
	defer se.conn.End(&work)
	se.turn.rest()
	if err := p.call.Run(ctx, se.txn, se.zone(), bound, se.emit(ctx, p, out, &rows)); err != nil {
		return nil, se.lockWait(err, explain(ctx, err))
	}
	return rows, nil
}

// emit returns what takes the rows of a procedure: out, or the list.
func (se *session) emit(ctx context.Context, p *plan, out *sink, rows *[][]value.Value) procedure.Emit {
	return func(row []value.Value) error {
		if !p.call.Many() {
			*rows = append(*rows, row)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if out != nil {
			out.n++
			return out.take(row)
		}
		*rows = append(*rows, row)
		return se.spend(sizeOf(row))
	}
}

// lockWait gives a wait for a lock that took too long one SQLSTATE, whatever database it was in: 55P03 where the client's own
// lock_timeout has passed, and else 40P01, as a deadlock across databases ends like this: the transaction may be tried again.
// What was cancelled meanwhile, or ends the session, says so.
func (se *session) lockWait(err error, f *Failure) *Failure {
	if e, ok := errors.AsType[interface {
		error
		LockWait() bool
	}](err); ok && e.LockWait() && !txn.InDoubt(err) && !f.Fatal && f.Code != errCanceled.Code {
		return f.with(func(f *Failure) { f.Code = map[bool]string{true: "55P03", false: "40P01"}[se.txn.OwnLock()] })
	}
	return f
}

// implicitly opens a transaction for the request, if none is open.
func (se *session) implicitly(ctx context.Context) error {
	if se.txn.State() != txn.Idle {
		return nil
	}
	return se.apply(ctx, statement.Modes{})
}

// open begins a transaction with the modes, and the session's defaults for
// what they leave open. A connection that has no slot yet waits for one here.
func (se *session) open(ctx context.Context, m statement.Modes) error {
	if err := se.seat(ctx); err != nil {
		return err
	}
	opt := txn.TxOptions{
		Isolation:  txn.Isolation(se.settings.get("default_transaction_isolation")),
		ReadOnly:   se.settings.get("default_transaction_read_only") == "on",
		Deferrable: se.settings.get("default_transaction_deferrable") == "on",
	}
	return se.openWith(ctx, modes(opt, m))
}

// seat waits for a slot, if the connection has none.
func (se *session) seat(ctx context.Context) error {
	se.turn.rest()
	if se.reserved {
		se.activity.awaits(txn.Wait{For: ForSlot, Since: time.Now()})
		defer se.activity.awaits()
	}
	err := se.conn.Acquire(ctx)
	if err == nil {
		se.reserved = false
	}
	return err
}

func modes(opt txn.TxOptions, m statement.Modes) txn.TxOptions {
	if m.Isolation != nil {
		opt.Isolation = txn.Isolation(*m.Isolation)
	}
	if m.ReadOnly != nil {
		opt.ReadOnly = *m.ReadOnly
	}
	if m.Deferrable != nil {
		opt.Deferrable = *m.Deferrable
	}
	return opt
}

func (se *session) openWith(ctx context.Context, opt txn.TxOptions) error {
	se.options = opt
	se.limit()
	onOff := map[bool]string{true: "on", false: "off"}
	se.settings.set("transaction_isolation", string(opt.Isolation), true)
	se.settings.set("transaction_read_only", onOff[opt.ReadOnly], true)
	se.settings.set("transaction_deferrable", onOff[opt.Deferrable], true)
	opt.OneCall = se.oneCall
	return se.txn.Begin(ctx, opt)
}

// begin is BEGIN. What a request did before it, outside of any block, becomes
// part of the block.
func (se *session) begin(ctx context.Context, m statement.Modes) error {
	if se.txn.State() == txn.Idle {
		return se.open(ctx, m)
	}
	if !se.implicit {
		se.warn("25001", "there is already a transaction in progress")
	}
	if err := se.alter(ctx, m); err != nil {
		return err
	}
	se.tellHeld("", 0)
	se.implicit = false
	return nil
}

// alter changes the modes of the open transaction, which must not have done
// anything yet.
func (se *session) alter(ctx context.Context, m statement.Modes) error {
	opt := modes(se.options, m)
	if opt == se.options {
		return nil
	}
	what := "SET TRANSACTION"
	switch {
	case m.Isolation != nil:
		what += " ISOLATION LEVEL"
	case m.Deferrable != nil:
		what += " [NOT] DEFERRABLE"
	}
	if se.used || se.queried && (opt.Isolation != se.options.Isolation || opt.Deferrable != se.options.Deferrable) {
		return errorf("25001", "%s must be called before any query", what)
	}
	if se.queried && !opt.ReadOnly {
		return errorf("25001", "transaction read-write mode must be set before any query")
	}
	if len(se.settings.saved) > 0 {
		return errorf("25001", "%s must not be called in a subtransaction", what)
	}
	return errors.Join(se.txn.Rollback(ctx), se.openWith(ctx, opt)) // nothing was done: this only starts it anew
}

func (se *session) setTransaction(ctx context.Context, st statement.SetTransaction) error {
	onOff := map[bool]string{true: "on", false: "off"}
	if st.Session {
		if m := st.Modes; m.Isolation != nil {
			se.settings.set("default_transaction_isolation", *m.Isolation, false)
		}
		if st.Modes.ReadOnly != nil {
			se.settings.set("default_transaction_read_only", onOff[*st.Modes.ReadOnly], false)
		}
		if st.Modes.Deferrable != nil {
			se.settings.set("default_transaction_deferrable", onOff[*st.Modes.Deferrable], false)
		}
		return nil
	}
	se.pointless("SET TRANSACTION")
	return se.apply(ctx, st.Modes)
}

// apply gives the modes to the open transaction, or to one for the rest of the request.
func (se *session) apply(ctx context.Context, m statement.Modes) error {
	if se.txn.State() != txn.Idle {
		return se.alter(ctx, m)
	}
	if err := se.open(ctx, m); err != nil {
		return err
	}
	se.implicit = true
	return nil
}

// pointless warns of what ends with the transaction while there is no block. A Query of several statements is one.
func (se *session) pointless(what string) {
	if !se.several && (se.txn.State() == txn.Idle || se.implicit) {
		se.warn("25P01", what+" can only be used in transaction blocks")
	}
}

func (se *session) warn(code, message string) {
	if se.settings.get("client_min_messages") == "error" {
		return
	}
	se.wire.send((&Failure{Code: code, Message: message}).notice())
}

// end is COMMIT and ROLLBACK.
func (se *session) end(ctx context.Context, commit, chain bool) (string, error) {
	tag := map[bool]string{true: "COMMIT", false: "ROLLBACK"}[commit]
	block := se.txn.State() != txn.Idle && !se.implicit
	if !block {
		if chain {
			return "", errorf("25P01", "%s AND CHAIN can only be used in transaction blocks", tag)
		}
		se.warn("25P01", "there is no transaction in progress")
	}
	opt := se.options
	failed := se.txn.State() == txn.Failed
	if failed {
		tag = "ROLLBACK"
	}
	if se.txn.State() != txn.Idle {
		var err error
		if commit && !failed {
			err = se.commit(ctx)
		} else {
			err = se.txn.Rollback(context.WithoutCancel(ctx))
		}
		if err != nil {
			return "", err
		}
	}
	se.ended(commit && !failed)
	if chain {
		se.settings.begin()
		return tag, se.openWith(ctx, opt)
	}
	return tag, nil
}

// commit commits, and passes on what is yet to follow as warnings.
func (se *session) commit(ctx context.Context) error {
	err := se.txn.Commit(ctx)
	se.implicit = false
	if err != nil {
		se.ended(false)
	}
	for _, w := range se.txn.Warnings() {
		f := explain(ctx, w)
		se.warn(f.Code, f.Message)
		if f.cause != nil {
			se.log().Warn("a transaction is not finished everywhere yet", "sqlstate", f.Code, "error", f.cause)
		}
	}
	return err
}

// block refuses a statement outside of a transaction block.
func (se *session) block(what string) error {
	if se.txn.State() == txn.Idle || se.implicit {
		return errorf("25P01", "%s can only be used in transaction blocks", what)
	}
	return nil
}

// alone refuses a statement that no transaction may hold.
func (se *session) alone(what string) error {
	switch {
	case se.several, se.txn.State() != txn.Idle && !se.implicit:
		return errorf("25001", "%s cannot run inside a transaction block", what)
	case se.implicit:
		return errorf("25001", "%s cannot be executed within a pipeline", what)
	}
	return nil
}

// prepare is PREPARE TRANSACTION. Where there is nothing to prepare, and in a
// failed transaction, which ends with it, PostgreSQL answers ROLLBACK and no
// error; drivers take that for a yes, so here it is one.
func (se *session) prepare(ctx context.Context, gid string) error {
	switch state := se.txn.State(); {
	case state == txn.Idle, se.implicit && !se.several:
		return txn.ErrNoTransaction
	case state == txn.Failed:
		return se.unprepared(ctx, errorf("25P02", "current transaction is aborted and cannot be prepared, it was rolled back"))
	case len(gid) >= 200:
		return se.unprepared(ctx, errorf("22023", "transaction identifier %q is too long", gid))
	}
	if se.implicit {
		se.warn("25P01", "there is no transaction in progress")
	}
	err := se.txn.Prepare(ctx, gid)
	if se.txn.State() == txn.Idle {
		se.ended(err == nil)
	}
	switch {
	case errors.Is(err, txn.ErrDuplicateGID):
		return errorf("42710", "transaction identifier %q is already in use", gid)
	case err == nil:
		se.worked = false // the same connection is to hear the decision
	}
	return err
}

// unprepared rolls back what cannot be prepared, and returns the reason.
func (se *session) unprepared(ctx context.Context, reason error) error {
	_, err := se.end(ctx, false, false)
	if err == nil {
		err = reason
	}
	return err
}

// decide is COMMIT PREPARED and ROLLBACK PREPARED, which stand alone.
func (se *session) decide(ctx context.Context, what, gid string, f func(context.Context, string) error) error {
	if err := se.alone(what); err != nil {
		return err
	}
	se.worked = true
	err := f(ctx, gid)
	switch {
	case errors.Is(err, txn.ErrUnknownGID):
		return errorf("42704", "prepared transaction with identifier %q does not exist", gid)
	case errors.Is(err, txn.ErrNotOwner):
		return errorf("42501", "permission denied to finish prepared transaction").
			hint("Must be an operator or the user that prepared the transaction.")
	}
	return err
}

// set is SET; a few settings are the transaction's own modes.
func (se *session) set(ctx context.Context, name string, list []string, local bool) error {
	key, value, err := parseSetting(name, list)
	if err != nil {
		return err
	}
	on := value == "on"
	switch key {
	case "transaction_isolation":
		return se.apply(ctx, statement.Modes{Isolation: &value})
	case "transaction_read_only":
		return se.apply(ctx, statement.Modes{ReadOnly: &on})
	case "transaction_deferrable":
		return se.apply(ctx, statement.Modes{Deferrable: &on})
	}
	if local {
		se.pointless("SET LOCAL")
	}
	_, err = se.sets(name, list, local)
	return err
}

func (se *session) resetOne(name string) error {
	if name == "all" {
		se.settings.resetAll()
		return nil
	}
	key := strings.ToLower(name)
	s, ok := catalog[key]
	if !ok && !strings.ContainsRune(key, '.') {
		return unknownSetting(name)
	}
	if s.fixed && key != "session_authorization" {
		return errorf("55P02", "parameter %q cannot be changed", s.name)
	}
	se.settings.reset(key)
	return se.spend(0)
}

func (se *session) discard(what string) (string, error) {
	if what != "all" {
		return "DISCARD " + strings.ToUpper(what), nil
	}
	if err := se.alone("DISCARD ALL"); err != nil {
		return "", err
	}
	se.settings.resetAll()
	se.statements.clear()
	se.portals.clear()
	return "DISCARD ALL", nil
}

func (se *session) deallocate(name string) (string, error) {
	if name == "" {
		for name := range se.statements.named {
			se.forget(name)
		}
		return "DEALLOCATE ALL", nil
	}
	if _, ok := se.statements.get(name); !ok {
		return "", noStatement(name)
	}
	se.forget(name)
	return "DEALLOCATE", nil
}

func (se *session) showRows(st statement.Show) ([][]value.Value, error) {
	if st.Name != "all" {
		v, err := se.show(st.Name)
		return [][]value.Value{{text(v)}}, err
	}
	var rows [][]value.Value
	for _, key := range slices.Sorted(maps.Keys(catalog)) {
		rows = append(rows, []value.Value{text(catalog[key].name), text(se.settings.get(key)), text(catalog[key].about)})
	}
	return rows, nil
}

// largeObjects are the functions by which clients reach large objects.
var largeObjects = []string{
	"lo_close", "lo_creat", "lo_create", "lo_export", "lo_from_bytea", "lo_get", "lo_import", "lo_lseek", "lo_lseek64", "lo_open", "lo_put",
	"lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64", "lo_unlink", "loread", "lowrite",
}
