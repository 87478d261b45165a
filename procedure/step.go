package procedure

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/txn"
)

// codeRaised is raise_exception, for expectations without an sqlstate of
// their own.
const codeRaised = "P0001"

// part is a stretch of a message: text, or the name of a value.
type part struct {
	text string
	name string
}

// step is one compiled step. Exactly one of sql and put is set.
type step struct {
	on      string
	dialect config.Dialect // of its resource
	sql     string         // with the placeholders of its resource
	binds   []string       // name of the value for each placeholder
	put     []part
	rows    int64 // -1: any
	many    bool  // its rows are the result
	err     Error // of an unmet expectation; an empty Message is filled in at the call
	as      string
	when    string
	row     int  // how many steps from this one on may go to their resource together
	last    bool // on its resource
}

func compileStep(c *config.Step, resources map[string]config.Resource, names map[string]*value.Type) (step, error) {
	st := step{on: c.On, rows: -1, many: c.Many, as: c.As, when: c.When, err: Error{Code: c.SQLState, Message: c.Else}}
	if st.err.Code == "" {
		st.err.Code = codeRaised
	}
	if c.Rows != nil {
		st.rows = int64(*c.Rows)
	}
	r, ok := resources[c.On]
	if !ok {
		return st, fmt.Errorf("no resource %q", c.On)
	}
	if _, ok := names[c.When]; c.When != "" && !ok {
		return st, fmt.Errorf("when: no value %q", c.When)
	}
	var err error
	if c.SQL == "" {
		err = st.compilePut(c.Put, names)
	} else {
		err = st.compileSQL(c.SQL, r.Dialect(), names)
	}
	if c.As != "" {
		names[c.As] = nil
	}
	return st, err
}

// compilePut cuts a message at its names; two colons are one.
func (st *step) compilePut(text string, names map[string]*value.Type) error {
	st.put = []part{}
	at := 0
	literal := func(end int) {
		if end > at {
			st.put = append(st.put, part{text: strings.ReplaceAll(text[at:end], "::", ":")})
		}
	}
	for _, ph := range config.PutPlaceholders(text) {
		if _, ok := names[ph.Name]; !ok {
			return fmt.Errorf("put: no value %q", ph.Name)
		}
		literal(ph.Start)
		st.put = append(st.put, part{name: ph.Name})
		at = ph.End
	}
	literal(len(text))
	return nil
}

// compileSQL rewrites :name into the resource's own placeholders.
func (st *step) compileSQL(text string, dialect config.Dialect, names map[string]*value.Type) error {
	st.dialect = dialect
	found, err := config.Placeholders(text, dialect)
	if err != nil {
		return err
	}
	var b strings.Builder
	at := 0
	number := map[string]int{}
	for _, ph := range found {
		if _, ok := names[ph.Name]; !ok {
			return fmt.Errorf("sql: no value %q", ph.Name)
		}
		b.WriteString(text[at:ph.Start])
		at = ph.End
		if dialect == config.DialectMariaDB {
			b.WriteByte('?')
			st.binds = append(st.binds, ph.Name)
			continue
		}
		if number[ph.Name] == 0 {
			st.binds = append(st.binds, ph.Name)
			number[ph.Name] = len(st.binds)
		}
		b.WriteString("$" + strconv.Itoa(number[ph.Name]))
	}
	st.sql = b.String() + text[at:]
	return nil
}

// asError gives the error of a value the face of this package's.
func asError(err error) error {
	e, _ := errors.AsType[*value.Error](err) // value has no others
	return &Error{Code: e.Code, Message: e.Message}
}

// Run runs the procedure in the session's open transaction, with the values
// that Bind returned, and emits each row of Columns; loc is the session's time
// zone, nil for UTC. After an error the transaction is to be failed by the
// caller: some steps have been run, those behind the one that failed perhaps,
// too.
func (p *Procedure) Run(ctx context.Context, s *txn.Session, loc *time.Location, bound []value.Value, emit Emit) error {
	if p.timeout > 0 {
		late := &Error{Code: "57014", Message: fmt.Sprintf("canceling statement due to the timeout of procedure %s (%s)", p.name, p.timeout)}
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		// No deadline: what looks at one by itself, as net.Dialer, may fail before the context ends, and hide why.
		defer time.AfterFunc(p.timeout, func() { cancel(late) }).Stop()
	}
	if p.code != nil {
		return p.runCode(ctx, s, bound, emit)
	}
	for i := range p.steps { // before the first, while no lock is held
		if err := s.Await(ctx, p.steps[i].on); err != nil {
			return err
		}
	}
	values, err := p.runSteps(ctx, s, bound)
	switch {
	case err != nil:
		return err
	case p.many:
		return p.stream(ctx, s, loc, values, emit)
	case len(p.columns) == 0:
		return nil
	}
	row := make([]value.Value, len(p.columns))
	for i, c := range p.columns {
		v, err := values[c.Name].AsIn(loc, c.Type)
		if err != nil {
			return asError(err)
		}
		row[i] = v
	}
	return emit(row)
}

// stream runs the last step, and emits its rows as they come.
func (p *Procedure) stream(ctx context.Context, s *txn.Session, loc *time.Location, values map[string]value.Value, emit Emit) error {
	last := len(p.steps) - 1
	st := &p.steps[last]
	if st.skipped(values) {
		return nil
	}
	b, err := s.Branch(ctx, st.on)
	if err != nil {
		return p.explain(ctx, last, err)
	}
	streamer, ok := b.(Streamer)
	if !ok {
		return p.explain(ctx, last, fmt.Errorf("resource %s takes no SQL of which there are rows", st.on))
	}
	args, err := st.args(values)
	if err != nil {
		return p.explain(ctx, last, err)
	}
	part := s.Working(st.on)
	err = streamer.Rows(ctx, st.sql, args, func(cells []txn.Outcome) error {
		if len(cells) != len(p.columns) {
			return &Error{Code: "42804", Message: fmt.Sprintf("the statement has %d columns, and returns names %d", len(cells), len(p.columns))}
		}
		row := make([]value.Value, len(cells))
		for i, c := range p.columns {
			v, err := result(cells[i])
			if err == nil {
				v, err = v.AsIn(loc, c.Type)
			}
			if err != nil {
				return asError(err)
			}
			row[i] = v
		}
		return emit(row)
	})
	part.End(err)
	if err != nil {
		return p.explain(ctx, last, err)
	}
	return nil
}

// runSteps runs the steps in order, but for one whose rows are the result, and returns what they have brought.
func (p *Procedure) runSteps(ctx context.Context, s *txn.Session, bound []value.Value) (map[string]value.Value, error) {
	values := make(map[string]value.Value, len(bound)+len(p.steps))
	for i, pa := range p.params {
		values[pa.Name] = bound[i]
	}
	for i := 0; i < len(p.steps) && !p.steps[i].many; i += p.steps[i].row {
		if failed, err := runRow(ctx, s, p.steps[i:i+p.steps[i].row], values); err != nil {
			return nil, p.explain(ctx, i+failed, err)
		}
	}
	return values, nil
}

// late is the error of a procedure whose time is up.
func late(ctx context.Context) error {
	if e, ok := errors.AsType[*Error](context.Cause(ctx)); ok {
		return e
	}
	return nil
}

// explain makes of the error of a step what the caller is told.
func (p *Procedure) explain(ctx context.Context, i int, err error) error {
	if e := late(ctx); e != nil {
		return e
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e := *e
		e.Detail = fmt.Sprintf("Step %d of procedure %s, on %s.", i+1, p.name, p.steps[i].on)
		return &e
	}
	return fmt.Errorf("step %d of procedure %s, on %s: %w", i+1, p.name, p.steps[i].on, err)
}

// run runs one step by itself.
func (st *step) run(ctx context.Context, s *txn.Session, values map[string]value.Value) (err error) {
	b, err := s.Branch(ctx, st.on)
	if err != nil {
		return err
	}
	part := s.Working(st.on)
	defer func() { part.End(err) }()
	if st.put != nil {
		putter, ok := b.(Putter)
		if !ok {
			return fmt.Errorf("resource %s takes no messages", st.on)
		}
		body, err := st.body(values)
		if err != nil {
			return err
		}
		return putter.Put(ctx, body)
	}
	execer, ok := b.(Execer)
	if !ok {
		return fmt.Errorf("resource %s takes no SQL", st.on)
	}
	args, err := st.args(values)
	if err != nil {
		return err
	}
	var out txn.Outcome
	done := false
	if st.last && s.Options().OneCall {
		out, done, err = s.ExecLast(ctx, st.on, txn.Statement{SQL: st.sql, Args: args})
	}
	if !done && err == nil {
		out, err = execer.Exec(ctx, st.sql, args)
	}
	if err != nil {
		return err
	}
	return st.take(out, values)
}

// skipped tells whether the step is not to be run; what it would bring is null
// then.
func (st *step) skipped(values map[string]value.Value) bool {
	if st.when == "" {
		return false
	}
	v := values[st.when]
	if !v.Null && !falsy(v) {
		return false
	}
	if st.as != "" {
		values[st.as] = value.Unknown.Null()
	}
	return true
}

// take holds an outcome against what was expected and keeps what it brings.
func (st *step) take(out txn.Outcome, values map[string]value.Value) error {
	if st.rows >= 0 && out.Rows != st.rows {
		e := st.err
		if e.Message == "" {
			e.Message = fmt.Sprintf("%d rows instead of %d", out.Rows, st.rows)
		}
		return &e
	}
	if st.as == "" {
		return nil
	}
	v, err := result(out)
	if err != nil {
		return asError(err)
	}
	values[st.as] = v
	return nil
}

// falsy tells whether a value says false: the boolean, a zero, or a text that
// is false as a boolean.
func falsy(v value.Value) bool {
	if v.Type == value.Numeric || v.Type == value.Float4 || v.Type == value.Float8 {
		return strings.Trim(v.Text, "-0.") == ""
	}
	b, err := value.Bool.Parse(v.Text)
	return err == nil && b.Text == "f"
}

// body puts a message together; bytea goes in as its bytes.
func (st *step) body(values map[string]value.Value) ([]byte, error) {
	var b []byte
	for _, p := range st.put {
		if p.name == "" {
			b = append(b, p.text...)
			continue
		}
		v := values[p.name]
		if v.Null {
			return nil, &Error{Code: "22004", Message: fmt.Sprintf("%s is null, which a message cannot hold", p.name)}
		}
		b = v.Append(b, v.Type == value.Bytea)
	}
	return b, nil
}
