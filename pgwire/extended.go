package pgwire

import (
	"context"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/bulk"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// portal is a statement with its parameters bound. A portal that has run
// keeps the rows that were not fetched yet.
type portal struct {
	plan    *plan
	params  []value.Value
	formats []int16
	depth   int // savepoints that were set when it was bound, and still are
	ran     bool
	failed  bool // when it ran
	result  result
	bytes   int // of its statement, if nothing else counts them
	at      int // the row on which it stands, from 1; 0 is before the first, and one more than there are behind the last

	// Of a cursor that DECLARE made:
	forward bool // it cannot go back
	binary  bool // FETCH of a simple Query gives binary values
	hold    bool // it outlives the commit of its transaction
	held    bool // and has
}

func noStatement(name string) error {
	if name == "" {
		return errorf("26000", "unnamed prepared statement does not exist")
	}
	return errorf("26000", "prepared statement %q does not exist", name)
}

// extended serves a message of the extended protocol. A *Failure is an error
// of the request, after which input is skipped until Sync.
func (se *session) extended(kind byte, body []byte) (*Failure, error) {
	var err error
	switch kind {
	case 'P':
		m, merr := parseOf(body)
		if merr != nil {
			return nil, malformed(merr)
		}
		err = se.cancellable(len(body), func(ctx context.Context) error { return se.parse(ctx, &m) })
	case 'B':
		var m pgproto3.Bind
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.cancellable(len(body), func(ctx context.Context) error { return se.bind(ctx, &m) })
	case 'D':
		var m pgproto3.Describe
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.describe(se.ctx, &m)
	case 'E':
		var m pgproto3.Execute
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.run(func(ctx context.Context) error { return se.fetch(ctx, m.Portal, m.MaxRows) })
	case 'C':
		var m pgproto3.Close
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.close(&m)
	}
	if err != nil {
		return explain(se.ctx, err), nil
	}
	return nil, se.wire.fault
}

// sync ends a request of the extended protocol.
func (se *session) sync() error {
	failed := se.skipping
	se.skipping = false
	if !failed {
		if err := se.run(se.settle); err != nil {
			return se.refused(err)
		}
	}
	return se.ready()
}

func (se *session) parse(ctx context.Context, m *pgproto3.Parse) error {
	m.Name = statement.Shorten(m.Name)
	if m.Name == "" {
		se.forget("") // also if this one fails: a Bind behind it must not run the older one
	}
	if !utf8.ValidString(m.Query) || !utf8.ValidString(m.Name) {
		return errorf("22021", "invalid byte sequence for encoding \"UTF8\"")
	}
	list, err := statement.ParseMetered(m.Query, se.meter(ctx))
	if err != nil {
		return err
	}
	if len(list) > 1 {
		return errorf("42601", "cannot insert multiple commands into a prepared statement")
	}
	var stmt statement.Statement
	if len(list) == 1 {
		stmt = list[0]
	}
	if stmt != nil {
		if err := se.allowed(stmt); err != nil {
			return err
		}
	}
	p, err := prepare(se.planner(m.Query, se.meter(ctx)), stmt, m.ParameterOIDs)
	if err != nil {
		return err
	}
	if _, ok := se.statements.get(m.Name); ok && m.Name != "" {
		return errorf("42P05", "prepared statement %q already exists", m.Name)
	}
	if err := se.room(valueCost*len(p.params) + columnCost*len(p.columns)); err != nil {
		return err
	}
	se.statements.put(m.Name, p, se.spent)
	se.spent = 0
	se.wire.send(&pgproto3.ParseComplete{})
	return nil
}

// room refuses one more statement or portal than a session may hold, or one
// that takes more bytes beside what the request has made.
func (se *session) room(bytes int) error {
	if limit := se.server.MaxStatements; len(se.statements.named)+len(se.portals.named) >= limit {
		return errorf("53400", "more than %d prepared statements and portals in one session", limit).
			hint("Close those that are no longer used, or send DEALLOCATE ALL.")
	}
	return se.spend(statementCost + bytes)
}

func (se *session) bind(ctx context.Context, m *pgproto3.Bind) error {
	m.DestinationPortal = statement.Shorten(m.DestinationPortal)
	p, ok := se.statements.get(statement.Shorten(m.PreparedStatement))
	if !ok {
		return noStatement(m.PreparedStatement)
	}
	p, err := se.fresh(ctx, statement.Shorten(m.PreparedStatement), p)
	if err != nil {
		return err
	}
	if err := se.allowed(p.stmt); err != nil {
		return err
	}
	p = se.current(p)
	if n := len(m.ParameterFormatCodes); n > 1 && n != len(m.Parameters) {
		return errorf("08P01", "bind message has %d parameter formats but %d parameters", n, len(m.Parameters))
	}
	if len(m.Parameters) != len(p.params) {
		return errorf("08P01", "bind message supplies %d parameters, but prepared statement %q requires %d",
			len(m.Parameters), m.PreparedStatement, len(p.params))
	}
	if n := len(m.ResultFormatCodes); n > 1 && n != len(p.columns) && p.columns != nil {
		return errorf("08P01", "bind message has %d result formats but query has %d columns", n, len(p.columns))
	}
	for _, f := range m.ResultFormatCodes {
		if f != 0 && f != 1 {
			return errorf("22023", "unsupported format code: %d", f)
		}
	}
	po := &portal{plan: p, params: make([]value.Value, len(p.params)), formats: m.ResultFormatCodes, depth: se.settings.depth()}
	took, watch := se.meter(ctx), se.watch(ctx)
	for i, t := range p.params {
		src, coded := m.Parameters[i], format(m.ParameterFormatCodes, i)
		var v value.Value
		making := value.ElementSize * t.Cells(src, coded == 1) // and let go of
		err := took(making)
		if err == nil {
			v, err = se.parameter(ctx, t, src, coded, watch)
		}
		if err == nil {
			err = took(len(v.Text) - making)
		}
		if err != nil {
			return ofParameter(i, explain(se.ctx, err))
		}
		po.params[i] = v
	}
	if _, ok := se.portals.get(m.DestinationPortal); ok && m.DestinationPortal != "" {
		return errorf("42P03", "cursor %q already exists", m.DestinationPortal)
	}
	if m.DestinationPortal == "" {
		se.ends("") // its place is the new one's
	}
	if err := se.room(valueCost*len(po.params) + 2*len(po.formats)); err != nil {
		return err
	}
	se.portals.put(m.DestinationPortal, po, se.spent)
	se.spent = 0
	se.wire.send(&pgproto3.BindComplete{})
	return nil
}

// ofParameter says of which value a failure is, if it is of one.
func ofParameter(i int, f *Failure) *Failure {
	if f.Fatal || f.Code == errCanceled.Code {
		return f
	}
	return f.with(func(f *Failure) { f.Detail = "This is the value of $" + strconv.Itoa(i+1) + "." })
}

// parameter reads a value that the client bound.
func (se *session) parameter(ctx context.Context, t *value.Type, src []byte, format int16, watch value.Watch) (value.Value, error) {
	switch {
	case src == nil:
		return t.Null(), nil
	case format == 0:
		if !utf8.Valid(src) {
			return value.Value{}, errorf("22021", "invalid byte sequence for encoding \"UTF8\"")
		}
		if t.Reg() { // by its name
			return se.server.catalogue.Object(se.queryRun(ctx, nil), t, string(src))
		}
		return t.ParseWatched(se.zone(), bulk.String(src), watch)
	case format == 1:
		return t.DecodeWatched(src, watch)
	}
	return value.Value{}, errorf("22023", "unsupported format code: %d", format)
}

func (se *session) describe(ctx context.Context, m *pgproto3.Describe) error {
	switch m.ObjectType {
	case 'S':
		p, ok := se.statements.get(statement.Shorten(m.Name))
		if !ok {
			return noStatement(m.Name)
		}
		p, err := se.fresh(ctx, statement.Shorten(m.Name), p)
		if err != nil {
			return err
		}
		p = se.current(p)
		if err := se.visible(p); err != nil {
			return err
		}
		oids := make([]uint32, len(p.params))
		for i, t := range p.params {
			oids[i] = t.OID
		}
		se.wire.send(&pgproto3.ParameterDescription{ParameterOIDs: oids})
		se.described(p, nil)
	case 'P':
		po, ok := se.portals.get(statement.Shorten(m.Name))
		if !ok {
			return noPortal(m.Name)
		}
		if err := se.visible(po.plan); err != nil {
			return err
		}
		se.described(po.plan, po.formats)
	default:
		return fatalf("08P01", "invalid DESCRIBE message subtype %d", m.ObjectType)
	}
	return nil
}

// visible refuses to describe what returns rows in a failed transaction.
func (se *session) visible(p *plan) error {
	if p.columns == nil {
		return nil
	}
	return se.allowed(p.stmt)
}

func (se *session) described(p *plan, formats []int16) {
	if p.columns == nil {
		se.wire.send(&pgproto3.NoData{})
		return
	}
	se.wire.send(rowDescription(p.columns, formats))
}

func noPortal(name string) error { return errorf("34000", "portal %q does not exist", name) }

func (se *session) close(m *pgproto3.Close) error {
	switch m.ObjectType {
	case 'S':
		se.forget(statement.Shorten(m.Name))
	case 'P':
		se.ends(statement.Shorten(m.Name))
	default:
		return fatalf("08P01", "invalid CLOSE message subtype %d", m.ObjectType)
	}
	se.wire.send(&pgproto3.CloseComplete{})
	return nil
}

// fetch is Execute: it runs a portal the first time, and sends at most limit
// of its rows; zero is all.
func (se *session) fetch(ctx context.Context, name string, limit uint32) error {
	name = statement.Shorten(name)
	po, ok := se.portals.get(name)
	if !ok {
		return noPortal(name)
	}
	if po.plan.stmt == nil {
		if se.probed(po.plan) {
			return errGoodbye
		}
		se.wire.send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	if err := se.allowed(po.plan.stmt); err != nil {
		return err
	}
	if po.failed || po.ran && po.plan.columns == nil {
		return errorf("55000", "portal %q cannot be run", name)
	}
	se.active(po.plan.text)
	if !po.ran {
		if se.probed(po.plan) {
			return errGoodbye
		}
		var out *sink
		if limit == 0 {
			out = se.sending(po.plan, po.formats, nil)
		}
		r, err := se.execute(ctx, po.plan, po.params, out)
		if err != nil {
			po.failed = true
			return err
		}
		po.ran, po.result = true, r
		defer se.keepRows(name, po)
		if out != nil && out.n > 0 {
			po.at = 1
			se.wire.send(&pgproto3.CommandComplete{CommandTag: []byte(r.tag)})
			return se.wire.fault
		}
	}
	return se.rows(po, limit)
}

// keepRows counts the rows that a portal keeps, to which FETCH may go back, if
// it is there yet: what it ran may have ended it.
func (se *session) keepRows(name string, po *portal) {
	if now, ok := se.portals.get(name); !ok || now != po {
		return
	}
	bytes := po.bytes + sizeOf(po.params)
	for _, row := range po.result.rows {
		bytes += sizeOf(row)
	}
	se.portals.put(name, po, statementCost+bytes)
}

func (se *session) rows(po *portal, limit uint32) error {
	left := po.result.rows[min(po.at, len(po.result.rows)):]
	suspended := limit > 0 && int64(len(left)) >= int64(limit) && po.plan.columns != nil
	if suspended {
		left = left[:limit]
	}
	for _, row := range left {
		se.wire.row(se.dataRow(row, po.formats))
	}
	if po.at += len(left); !suspended {
		po.at = len(po.result.rows) + 1
	}
	switch {
	case suspended:
		se.wire.send(&pgproto3.PortalSuspended{})
	case po.plan.selects():
		se.wire.send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT " + strconv.Itoa(len(left)))})
	default:
		se.wire.send(&pgproto3.CommandComplete{CommandTag: []byte(po.result.tag)})
	}
	return se.wire.fault
}
