package pgwire

import (
	"context"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// prepared is a prepared statement.
type prepared struct{ plan *plan }

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
	sent    int // rows fetched
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
		var m pgproto3.Parse
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.parse(&m)
	case 'B':
		var m pgproto3.Bind
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.bind(&m)
	case 'D':
		var m pgproto3.Describe
		if err := m.Decode(body); err != nil {
			return nil, malformed(err)
		}
		err = se.describe(&m)
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

func (se *session) parse(m *pgproto3.Parse) error {
	if m.Name == "" {
		delete(se.statements, "") // also if this one fails: a Bind behind it must not run the older one
	}
	if !utf8.ValidString(m.Query) || !utf8.ValidString(m.Name) {
		return errorf("22021", "invalid byte sequence for encoding \"UTF8\"")
	}
	list, err := statement.Parse(m.Query)
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
	p, err := prepare(se.server.Procedures, stmt, m.ParameterOIDs)
	if err != nil {
		return err
	}
	if _, ok := se.statements[m.Name]; ok && m.Name != "" {
		return errorf("42P05", "prepared statement %q already exists", m.Name)
	}
	if err := se.room(); err != nil {
		return err
	}
	if se.statements == nil {
		se.statements = map[string]*prepared{}
	}
	se.statements[m.Name] = &prepared{p}
	se.wire.send(&pgproto3.ParseComplete{})
	return nil
}

// room refuses more statements and portals than a session may hold.
func (se *session) room() error {
	if limit := se.server.MaxStatements; len(se.statements)+len(se.portals) >= limit {
		return errorf("53400", "more than %d prepared statements and portals in one session", limit).
			hint("Close those that are no longer used, or send DEALLOCATE ALL.")
	}
	return nil
}

func (se *session) bind(m *pgproto3.Bind) error {
	st, ok := se.statements[m.PreparedStatement]
	if !ok {
		return noStatement(m.PreparedStatement)
	}
	if err := se.allowed(st.plan.stmt); err != nil {
		return err
	}
	p := st.plan
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
	for i, t := range p.params {
		v, err := parameter(t, m.Parameters[i], format(m.ParameterFormatCodes, i))
		if err != nil {
			f := explain(se.ctx, err)
			f.Detail = "This is the value of $" + strconv.Itoa(i+1) + "."
			return f
		}
		po.params[i] = v
	}
	if _, ok := se.portals[m.DestinationPortal]; ok && m.DestinationPortal != "" {
		return errorf("42P03", "cursor %q already exists", m.DestinationPortal)
	}
	if m.DestinationPortal == "" {
		delete(se.portals, "") // its place is the new one's
	}
	if err := se.room(); err != nil {
		return err
	}
	if se.portals == nil {
		se.portals = map[string]*portal{}
	}
	se.portals[m.DestinationPortal] = po
	se.wire.send(&pgproto3.BindComplete{})
	return nil
}

// parameter reads a value that the client bound.
func parameter(t *value.Type, src []byte, format int16) (value.Value, error) {
	switch {
	case src == nil:
		return t.Null(), nil
	case format == 0:
		if !utf8.Valid(src) {
			return value.Value{}, errorf("22021", "invalid byte sequence for encoding \"UTF8\"")
		}
		return t.Parse(string(src))
	case format == 1:
		return t.Decode(src)
	}
	return value.Value{}, errorf("22023", "unsupported format code: %d", format)
}

func (se *session) describe(m *pgproto3.Describe) error {
	switch m.ObjectType {
	case 'S':
		st, ok := se.statements[m.Name]
		if !ok {
			return noStatement(m.Name)
		}
		if err := se.visible(st.plan); err != nil {
			return err
		}
		oids := make([]uint32, len(st.plan.params))
		for i, t := range st.plan.params {
			oids[i] = t.OID
		}
		se.wire.send(&pgproto3.ParameterDescription{ParameterOIDs: oids})
		se.described(st.plan, nil)
	case 'P':
		po, ok := se.portals[m.Name]
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
		delete(se.statements, m.Name)
	case 'P':
		delete(se.portals, m.Name)
	default:
		return fatalf("08P01", "invalid CLOSE message subtype %d", m.ObjectType)
	}
	se.wire.send(&pgproto3.CloseComplete{})
	return nil
}

// fetch is Execute: it runs a portal the first time, and sends at most limit
// of its rows; zero is all.
func (se *session) fetch(ctx context.Context, name string, limit uint32) error {
	po, ok := se.portals[name]
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
	if !po.ran {
		if se.probed(po.plan) {
			return errGoodbye
		}
		r, err := se.execute(ctx, po.plan, po.params)
		if err != nil {
			po.failed = true
			return err
		}
		po.ran, po.result = true, r
	}
	return se.rows(po, limit)
}

func (se *session) rows(po *portal, limit uint32) error {
	left := po.result.rows[po.sent:]
	suspended := limit > 0 && int64(len(left)) >= int64(limit) && po.plan.columns != nil
	if suspended {
		left = left[:limit]
	}
	for _, row := range left {
		se.wire.send(dataRow(row, po.formats))
	}
	po.sent += len(left)
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
