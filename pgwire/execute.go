package pgwire

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/txn"
)

// result is what a statement returned.
type result struct {
	tag  string // with the number of rows, if it counts them
	rows [][]value.Value
}

// execute runs a planned statement in the session's transaction.
func (se *session) execute(ctx context.Context, p *plan, params []value.Value) (result, error) {
	se.acknowledge() // what came before was answered, and the answer read
	se.settings.begin()
	switch st := p.stmt.(type) {
	case statement.Call:
		rows, err := se.call(ctx, p, params)
		return result{"CALL", rows}, err
	case statement.Select:
		var rows [][]value.Value
		var err error
		if p.call != nil {
			rows, err = se.call(ctx, p, params)
			if len(p.call.Columns()) == 0 {
				rows = [][]value.Value{{{Type: value.Void}}}
			}
		} else {
			rows, err = se.query(ctx, p, st, params)
		}
		return result{"SELECT " + strconv.Itoa(len(rows)), rows}, err
	case statement.Show:
		rows, err := se.showRows(st)
		return result{"SHOW", rows}, err
	}
	tag, err := se.control(ctx, p.stmt)
	return result{tag: tag}, err
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
	case statement.Nothing:
		return st.Tag, nil
	}
	what := "this statement"
	if u, ok := stmt.(statement.Unsupported); ok {
		what = u.What
	}
	return "", errorf("0A000", "fdt does not serve %s", what).hint(whatFdtIs)
}

// call runs a procedure, and counts how that went.
func (se *session) call(ctx context.Context, p *plan, params []value.Value) ([][]value.Value, error) {
	began := time.Now()
	rows, err := se.invoke(ctx, p, params)
	class := success
	if err != nil {
		class = classOf(explain(ctx, err))
	}
	se.server.calls[p.call].ended(time.Since(began), class)
	return rows, err
}

// invoke runs a procedure, in a transaction of its own if none is open.
func (se *session) invoke(ctx context.Context, p *plan, params []value.Value) ([][]value.Value, error) {
	if !p.call.Allowed(se.user) {
		return nil, errorf("42501", "permission denied for procedure %s", p.call.Name())
	}
	args, err := se.arguments(ctx, p.args, params)
	if err != nil {
		return nil, err
	}
	bound, err := p.call.Bind(args)
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
	row, err := p.call.Run(ctx, se.txn, bound)
	if err != nil {
		return nil, explain(ctx, err)
	}
	if len(row) == 0 {
		return nil, nil
	}
	return [][]value.Value{row}, nil
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
	if err := se.conn.Acquire(ctx); err != nil {
		return err
	}
	se.reserved = false
	opt := txn.TxOptions{
		Isolation:  txn.Isolation(se.settings.get("default_transaction_isolation")),
		ReadOnly:   se.settings.get("default_transaction_read_only") == "on",
		Deferrable: se.settings.get("default_transaction_deferrable") == "on",
	}
	return se.openWith(ctx, modes(opt, m))
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
	onOff := map[bool]string{true: "on", false: "off"}
	se.settings.setLocal(values{
		"transaction_isolation":  string(opt.Isolation),
		"transaction_read_only":  onOff[opt.ReadOnly],
		"transaction_deferrable": onOff[opt.Deferrable],
	})
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
	if m.Isolation != nil {
		what = "SET TRANSACTION ISOLATION LEVEL"
	}
	if se.used {
		return errorf("25001", "%s must be called before any query", what)
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
		se.warn(txn.SQLState(w), w.Error())
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
	se.settings.set(key, value, local)
	return nil
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
	return nil
}

func (se *session) discard(what string) (string, error) {
	if what != "all" {
		return "DISCARD " + strings.ToUpper(what), nil
	}
	if err := se.alone("DISCARD ALL"); err != nil {
		return "", err
	}
	se.settings.resetAll()
	se.statements, se.portals = nil, nil
	return "DISCARD ALL", nil
}

func (se *session) deallocate(name string) (string, error) {
	if name == "" {
		se.statements = nil
		return "DEALLOCATE ALL", nil
	}
	if _, ok := se.statements[name]; !ok {
		return "", noStatement(name)
	}
	delete(se.statements, name)
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
