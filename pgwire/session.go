package pgwire

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/bulk"
	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/txn"
)

// session is one client's session. But for what running guards it belongs to
// the goroutine of its connection.
type session struct {
	server *Server
	conn   *drain.Conn
	tls    *tls.Conn       // on conn; nil without encryption
	ctx    context.Context //nolint:containedctx // the connection's own, for its whole life
	wire   wire

	user     string
	identity Identity
	database string
	pid      uint32
	secret   []byte // for CancelRequest

	txn      *txn.Session
	settings settings
	options  txn.TxOptions // of the open transaction, for AND CHAIN
	implicit bool          // the open transaction was not begun by BEGIN
	several  bool          // in a simple Query of more than one statement
	oneCall  bool          // in one of a CALL alone
	used     bool          // a procedure ran in the open transaction
	queried  bool          // a query ran in it, from when on PostgreSQL does not change its modes
	worked   bool          // something was done since the last goodbye could have been said
	greeted  bool          // a probe was answered while draining
	leaving  bool          // the goodbye is due when the client has read the reply
	since    time.Time     // when the session was first leaving
	over     bool          // nothing more is served
	skipping bool          // after an error, until Sync
	reserved bool          // has no slot, as far as is known
	asking   bool          // ReadyForQuery is yet to be sent
	stays    bool          // another worker did not take the session

	statements store[*plan]
	portals    store[*portal]
	spent      int // bytes that the request has made: see spend
	work       int // bytes that were made since the session has waited for a request
	text       int // bytes of the message that is read or served
	turn       turn
	asked      context.Context //nolint:containedctx // of the request that runs, nil without
	share      share

	held  *record       // of a call whose transaction ends with the request
	trail trace.Context // of the open transaction's first call that was traced, or was not to be; none if that is not its trace

	activity activities

	running sync.Mutex // guards cancel
	cancel  context.CancelCauseFunc
}

// dispatch serves one message, or one that was not read, as there was no
// memory. leave is the client's goodbye; after an error the session ends.
func (se *session) dispatch(kind byte, body []byte, unread bool) (leave bool, err error) {
	se.spent, se.asking = 0, true
	if se.over && kind != 'X' {
		return false, errGoodbye
	}
	if se.skipping && kind != 'S' && kind != 'X' && kind != 'H' {
		return false, nil
	}
	if unread {
		return false, se.crammed(kind)
	}
	switch kind {
	case 'Q':
		text, err := queryOf(body)
		if err != nil {
			return false, malformed(err)
		}
		return false, se.simple(text)
	case 'S':
		return false, se.sync()
	case 'H':
		se.wire.flush()
		return false, se.wire.fault
	case 'X':
		se.acknowledge()
		return true, nil
	case 'p':
		return false, fatalf("08P01", "unexpected password message")
	case 'F':
		return false, se.refused(errorf("0A000", "fdt has no functions to call by OID").hint("%s", largeObject))
	case 'd', 'c', 'f':
		return false, nil // PostgreSQL passes over them outside of COPY
	}
	f, err := se.extended(kind, body)
	if f != nil {
		se.fail(f)
		se.skipping = true
		if f.Fatal {
			return false, f
		}
		se.report(f)
	}
	return false, err
}

// acknowledge lets go of the outcome that the client was told last.
func (se *session) acknowledge() {
	if err := se.txn.Acknowledge(); err != nil { // it is kept for some days then
		se.log().Warn("cannot forget the outcome of a prepared transaction", "error", err)
	}
}

// malformed ends the session: after it nobody knows what the client means.
func malformed(err error) error {
	return fatalf("08P01", "invalid message format: %s", strings.TrimSpace(err.Error()))
}

// refused ends a request with an error, and the session if that is fatal.
func (se *session) refused(err error) error {
	f := explain(se.ctx, err)
	if f.Fatal {
		return f
	}
	se.fail(f)
	se.report(f)
	return se.ready()
}

// statuses are ReadyForQuery's.
var statuses = map[txn.State]byte{txn.Idle: 'I', txn.Active: 'T', txn.Failed: 'E'}

// ready ends a request: the reply goes out, and the goodbye is due if it is
// time. A session that has just begun, that asked for nothing yet or is between
// the phases of two-phase commit is left some silence to go on.
func (se *session) ready() error {
	se.settings.changed(func(name, value string) {
		se.wire.send(&pgproto3.ParameterStatus{Name: name, Value: value})
	})
	status := statuses[se.txn.State()]
	se.rests(status)
	se.wire.send(&pgproto3.ReadyForQuery{TxStatus: status})
	se.asking = false
	if status != 'T' {
		if status == 'I' {
			se.leave()
		}
		se.conn.SetIdle()
	}
	if !se.wire.buffered() { // else the reply to what is there goes with it
		se.wire.flush()
	}
	return se.wire.fault
}

// more tells whether the client has sent more than was read yet.
func (se *session) more() bool {
	if se.wire.buffered() || se.conn.Pending() {
		return true
	}
	if se.tls == nil {
		return false
	}
	// Records that crypto/tls holds are read in spite of a deadline.
	_ = se.conn.SetReadDeadline(time.Unix(1, 0)) // a closed connection fails in Read
	return se.wire.await() == nil
}

// fail is what an error does to the transaction: one that BEGIN opened waits
// for its end, any other is rolled back.
func (se *session) fail(f *Failure) {
	se.turn.rest()
	se.tellHeld(f.Code, 0)
	if se.txn.State() == txn.Active && !se.implicit {
		se.txn.Fail(f)
		se.settings.fail()
		return
	}
	se.abandon()
}

// abandon rolls back what one request did outside of a transaction block.
func (se *session) abandon() {
	if se.implicit {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(se.ctx), rollbackTimeout)
		defer cancel()
		if err := se.txn.Rollback(ctx); err != nil {
			se.log().Warn("rollback failed", "error", err)
		}
	}
	if se.txn.State() == txn.Idle {
		se.ended(false)
	}
}

// ended notes that a transaction, or a statement outside of one, has ended.
func (se *session) ended(committed bool) {
	se.settings.end(committed)
	se.implicit, se.used, se.queried = false, false, false
	se.trail = trace.Context{}
	se.keepHeld(committed)
}

// simple serves a Query message.
func (se *session) simple(query string) error {
	se.ends("")
	se.forget("")
	if !utf8.ValidString(query) {
		return se.refused(errorf("22021", "invalid byte sequence for encoding \"UTF8\""))
	}
	se.active(query)
	nothing := false
	err := se.run(func(ctx context.Context) error {
		pl := se.planner(query, se.meter(ctx))
		list, err := statement.ParseMetered(query, pl.query.Meter)
		if err != nil {
			return err
		}
		nothing = len(list) == 0
		se.several = len(list) > 1
		if len(list) == 1 {
			_, se.oneCall = list[0].(statement.Call)
		}
		for i, st := range list {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := se.one(ctx, pl, st, i == len(list)-1); err != nil {
				return err
			}
		}
		return nil
	})
	se.several, se.oneCall = false, false
	if err != nil {
		return se.refused(err)
	}
	if nothing {
		if se.probed(&plan{}) {
			return errGoodbye
		}
		se.wire.send(&pgproto3.EmptyQueryResponse{})
	}
	return se.ready()
}

// one runs a statement of a simple Query; the last one's end is the end of
// what has no transaction block, and comes before its tag.
func (se *session) one(ctx context.Context, pl planner, st statement.Statement, last bool) error {
	if err := se.allowed(st); err != nil {
		return err
	}
	p, err := simple(pl, st)
	if err != nil {
		return err
	}
	p = se.current(p)
	if !se.several && se.probed(p) {
		return errGoodbye
	}
	before := se.spent
	described := false
	describe := func() {
		if !described && p.columns != nil {
			se.wire.send(rowDescription(p.columns, p.formats))
		}
		described = true
	}
	r, err := se.execute(ctx, p, nil, se.sending(p, p.formats, describe))
	if err != nil {
		return err
	}
	if last {
		if err := se.settle(ctx); err != nil {
			return err
		}
	}
	describe()
	if p.columns != nil {
		for _, row := range r.rows {
			se.wire.row(se.dataRow(row, p.formats))
		}
	}
	se.wire.send(&pgproto3.CommandComplete{CommandTag: []byte(r.tag)})
	se.spent = before // the values were sent
	return se.wire.fault
}

// sending returns a sink that sends the rows of a procedure as they come, so that
// any number need no more memory than one reply; a client that does not read
// them holds the procedure up, for as long as the wire lets it. first is called
// before each, and may be nil; the sink is nil for what is no such procedure.
func (se *session) sending(p *plan, formats []int16, first func()) *sink {
	if p.call == nil || !p.call.Many() {
		return nil
	}
	return &sink{take: func(row []value.Value) error {
		if first != nil {
			first()
		}
		se.wire.row(se.dataRow(row, formats))
		return se.wire.fault
	}}
}

// allowed refuses what a failed transaction does not take.
func (se *session) allowed(st statement.Statement) error {
	if se.txn.State() != txn.Failed {
		return nil
	}
	switch st.(type) {
	case statement.Commit, statement.Rollback, statement.RollbackTo, statement.Prepare:
		return nil
	}
	return txn.ErrFailedTransaction
}

// settle commits what was begun without BEGIN.
func (se *session) settle(ctx context.Context) error {
	if se.implicit {
		se.turn.rest()
		if err := se.commitCall(ctx); err != nil {
			return err
		}
	}
	if se.txn.State() == txn.Idle {
		se.ended(true)
	}
	return nil
}

func rowDescription(cols []column, formats []int16) *pgproto3.RowDescription {
	d := &pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, len(cols))}
	for i, c := range cols {
		d.Fields[i] = pgproto3.FieldDescription{
			Name: []byte(c.name), DataTypeOID: c.typ.OID, DataTypeSize: c.typ.Size, TypeModifier: -1, Format: format(formats, i),
		}
	}
	return d
}

func (se *session) dataRow(values []value.Value, formats []int16) row {
	loc := se.zone()
	r := make(row, len(values))
	for i, v := range values {
		binary := format(formats, i) == 1
		if t := v.Type; !binary && (t.Reg() || t.Elem != nil && t.Elem.Reg()) {
			v, _ = se.queryRun(se.ctx, nil).Printed(v) // of what names an object there is always a text
		}
		switch {
		case v.Null:
			r[i].null = true
		case binary:
			r[i].text = bulk.Text(v.AppendIn(loc, nil, true))
		default:
			r[i].text = v.TextIn(loc)
		}
	}
	return r
}

// format is the format of column or parameter i: none given means text, one
// given is for all.
func format(list []int16, i int) int16 {
	switch len(list) {
	case 0:
		return 0
	case 1:
		return list[0]
	}
	return list[i]
}

// show returns a setting's value; a transaction's own are its defaults while
// there is none.
func (se *session) show(key string) (string, error) {
	v := se.settings.get(key)
	if _, ok := catalog[key]; !ok && v == "" {
		return "", unknownSetting(key)
	}
	if mode, ok := strings.CutPrefix(key, "transaction_"); ok && se.txn.State() == txn.Idle {
		if _, ok := catalog["default_transaction_"+mode]; ok {
			return se.settings.get("default_transaction_" + mode), nil
		}
	}
	return v, nil
}
