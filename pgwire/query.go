package pgwire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// whatFdtIs is the hint to everybody who takes fdt for a database.
const whatFdtIs = "This is fdt, a transaction server: it runs the procedures of its configuration, as in CALL name(…), " +
	"in one transaction with BEGIN, COMMIT and PREPARE TRANSACTION; see fdt.yaml(5)."

// builtin is a function that fdt answers itself.
type builtin struct {
	typ  *value.Type
	args []*value.Type
	min  int // of args, those that must be given
	call func(ctx context.Context, se *session, args []value.Value) (value.Value, error)
}

func text(s string) value.Value { return value.Value{Type: value.Text, Text: s} }
func name(s string) value.Value { return value.Value{Type: value.Name, Text: s} }

func whoami(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
	return name(se.user), nil
}
func whereami(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
	return name(se.database), nil
}

func now(context.Context, *session, []value.Value) (value.Value, error) {
	return moment(time.Now()), nil
}

func moment(t time.Time) value.Value {
	v, _ := value.Timestamptz.Parse(t.UTC().Format("2006-01-02 15:04:05.999999Z"))
	return v
}

func nothing(context.Context, *session, []value.Value) (value.Value, error) {
	return value.Value{Type: value.Void}, nil
}

// Functions by which a client that lost the answer to COMMIT learns the outcome.
const (
	nameXID    = "pg_current_xact_id"
	nameStatus = "pg_xact_status"
)

var builtins = map[string]builtin{
	"version": {value.Text, nil, 0, func(context.Context, *session, []value.Value) (value.Value, error) {
		return text("PostgreSQL " + ServerVersion + ", a transaction server that speaks PostgreSQL's protocol"), nil
	}},
	"current_database": {value.Name, nil, 0, whereami},
	"current_catalog":  {value.Name, nil, 0, whereami},
	"current_user":     {value.Name, nil, 0, whoami},
	"current_role":     {value.Name, nil, 0, whoami},
	"session_user":     {value.Name, nil, 0, whoami},
	"user":             {value.Name, nil, 0, whoami},
	"current_schema": {value.Name, nil, 0, func(context.Context, *session, []value.Value) (value.Value, error) {
		return name("public"), nil
	}},
	"current_timestamp": {value.Timestamptz, nil, 0, now},
	"now":               {value.Timestamptz, nil, 0, now},
	"clock_timestamp":   {value.Timestamptz, nil, 0, now},
	"pg_backend_pid": {value.Int4, nil, 0, func(_ context.Context, se *session, _ []value.Value) (value.Value, error) {
		return value.Value{Type: value.Int4, Text: fmt.Sprint(se.pid)}, nil
	}},
	"pg_is_in_recovery": {value.Bool, nil, 0, func(context.Context, *session, []value.Value) (value.Value, error) {
		return value.Value{Type: value.Bool, Text: "f"}, nil
	}},
	"pg_advisory_unlock_all": {value.Void, nil, 0, nothing},
	"current_setting":        {value.Text, []*value.Type{value.Text, value.Bool}, 1, currentSetting},
	"set_config":             {value.Text, []*value.Type{value.Text, value.Text, value.Bool}, 3, setConfig},
	nameXID:                  {value.XID8, nil, 0, currentXID},
	nameStatus:               {value.Text, []*value.Type{value.XID8}, 1, xactStatus},
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
	key, v, err := parseSetting(args[0].Text, []string{args[1].Text})
	if err != nil {
		return value.Value{}, err
	}
	se.settings.set(key, v, args[2].Text == "t")
	return text(v), nil
}

// eval computes an expression.
func (se *session) eval(ctx context.Context, e statement.Expr, params []value.Value) (value.Value, error) {
	switch e := e.(type) {
	case statement.Const:
		return constant(e), nil
	case statement.Param:
		return params[e.N-1], nil
	case statement.Cast:
		t, _ := value.Lookup(e.Type) // planned
		if a, ok := e.Of.(statement.Array); ok && t.Elem != nil {
			return se.array(ctx, a, t, params)
		}
		v, err := se.eval(ctx, e.Of, params)
		if err != nil {
			return v, err
		}
		return v.As(t)
	case statement.Array:
		return se.array(ctx, e, nil, params)
	}
	f, _ := e.(statement.Func) // planned: it is no column
	b := builtins[f.Name]
	args := make([]value.Value, len(f.Args))
	for i, a := range f.Args {
		v, err := se.eval(ctx, a.Value, params)
		if err == nil {
			args[i], err = v.As(b.args[i])
		}
		if err != nil {
			return v, err
		}
	}
	return b.call(ctx, se, args)
}

// array computes an array of the type; nil stands for what its elements have
// in common.
func (se *session) array(ctx context.Context, a statement.Array, t *value.Type, params []value.Value) (value.Value, error) {
	if t == nil {
		list := leaves(a)
		types := make([]*value.Type, len(list))
		for i, e := range list {
			v, err := se.eval(ctx, e, params)
			if err != nil {
				return v, err
			}
			types[i] = v.Type
		}
		elem, _ := common(types) // planned
		t = elem.Array
	}
	list := make([]value.Value, len(a.Elems))
	for i, e := range a.Elems {
		var err error
		if row, ok := e.(statement.Array); ok {
			list[i], err = se.array(ctx, row, t, params)
		} else {
			list[i], err = se.eval(ctx, e, params)
		}
		if err != nil {
			return value.Value{}, err
		}
	}
	return t.MakeArray(list)
}

// query runs a SELECT that calls no procedure.
func (se *session) query(ctx context.Context, p *plan, st statement.Select, params []value.Value) ([][]value.Value, error) {
	if p.view != nil {
		return se.prepared(ctx, p.view, params)
	}
	row := make([]value.Value, len(st.Items))
	for i, item := range st.Items {
		v, err := se.eval(ctx, item.Expr, params)
		if err != nil {
			return nil, err
		}
		if v.Type == value.Unknown {
			v.Type = value.Text
		}
		row[i] = v
	}
	return [][]value.Value{row}, nil
}

// arguments evaluates the arguments of a call.
func (se *session) arguments(ctx context.Context, list []statement.Arg, params []value.Value) ([]procedure.Arg, error) {
	args := make([]procedure.Arg, len(list))
	for i, a := range list {
		v, err := se.eval(ctx, a.Value, params)
		if err != nil {
			return nil, err
		}
		args[i] = procedure.Arg{Name: a.Name, Value: v}
	}
	return args, nil
}

// view is a query of pg_prepared_xacts.
type view struct {
	pick  []int // columns of preparedColumns; -1 counts the rows
	where []filter
	order []statement.Order
}

// filter keeps the rows whose column equals, or does not equal, a value.
type filter struct {
	column int
	not    bool
	value  statement.Expr
}

// preparedColumns is pg_prepared_xacts as PostgreSQL has it.
var preparedColumns = []column{
	{"transaction", value.XID}, {"gid", value.Text}, {"prepared", value.Timestamptz}, {"owner", value.Name}, {"database", value.Name},
}

// fromView plans the query by which coordinators recover.
func (pl *planner) fromView(p *plan, st statement.Select) error {
	if st.From.Relation != "pg_prepared_xacts" {
		return errorf("0A000", "fdt has no relation %q", st.From.Relation).hint(whatFdtIs)
	}
	v := &view{order: st.OrderBy}
	for _, item := range st.Items {
		switch e := item.Expr.(type) {
		case nil:
			for i, c := range preparedColumns {
				v.pick = append(v.pick, i)
				p.columns = append(p.columns, c)
			}
			continue
		case statement.Column:
			i := find(preparedColumns, e.Name)
			if i < 0 {
				return missingColumn(e.Name)
			}
			v.pick = append(v.pick, i)
			c := preparedColumns[i]
			if item.Alias != "" {
				c.name = item.Alias
			}
			p.columns = append(p.columns, c)
			continue
		case statement.Func:
			if e.Name == "count" && len(e.Args) == 0 && len(st.Items) == 1 {
				v.pick = []int{-1}
				p.columns = []column{{label(item), value.Int8}}
				continue
			}
		}
		return errorf("0A000", "of pg_prepared_xacts fdt selects its columns, * or count(*)")
	}
	for _, o := range st.OrderBy {
		if find(preparedColumns, o.Column) < 0 {
			return missingColumn(o.Column)
		}
	}
	for _, c := range st.Where {
		f, err := pl.filter(c)
		if err != nil {
			return err
		}
		v.where = append(v.where, f)
	}
	p.view = v
	return nil
}

func missingColumn(name string) error {
	return errorf("42703", "column %q does not exist", name).hint("pg_prepared_xacts has %s.", strings.Join(names(preparedColumns), ", "))
}

func (pl *planner) filter(c statement.Condition) (filter, error) {
	col, ok := c.Left.(statement.Column)
	right := c.Right
	if !ok {
		col, ok = c.Right.(statement.Column)
		right = c.Left
	}
	if !ok || c.Op == "like" {
		return filter{}, errorf("0A000", "fdt filters pg_prepared_xacts by column = value")
	}
	i := find(preparedColumns, col.Name)
	if i < 0 {
		return filter{}, missingColumn(col.Name)
	}
	t, err := pl.typeOf(right)
	if err != nil {
		return filter{}, err
	}
	if pa, ok := right.(statement.Param); ok && t == nil {
		pl.params[pa.N-1] = preparedColumns[i].typ
	}
	return filter{column: i, not: c.Op == "<>", value: right}, nil
}

// prepared lists the transactions in doubt that the user may settle.
func (se *session) prepared(ctx context.Context, v *view, params []value.Value) ([][]value.Value, error) {
	list, err := se.server.Manager.List(ctx)
	if err != nil { // names the server's files, which are none of the client's business
		se.log().Error("cannot list the prepared transactions", "error", err)
		return nil, errorf("XX000", "cannot list the prepared transactions").hint("The server's log says why.")
	}
	want := make([]value.Value, len(v.where))
	for i, f := range v.where {
		e, err := se.eval(ctx, f.value, params)
		if err != nil {
			return nil, err
		}
		if want[i], err = e.As(preparedColumns[f.column].typ); err != nil {
			return nil, err
		}
	}
	var rows [][]value.Value
	for i, t := range list {
		if t.Phase != txn.Prepared || t.ClientGID == "" || t.Owner != se.user && !se.operator {
			continue
		}
		row := []value.Value{
			{Type: value.XID, Text: fmt.Sprint(i + 1)}, text(t.ClientGID), moment(t.Since), name(t.Owner), name(t.Database),
		}
		keep := true
		for i, f := range v.where {
			keep = keep && !want[i].Null && (row[f.column].Text == want[i].Text) != f.not
		}
		if keep {
			rows = append(rows, row)
		}
	}
	v.sort(rows)
	return v.project(rows), nil
}

func (v *view) sort(rows [][]value.Value) {
	slices.SortStableFunc(rows, func(a, b []value.Value) int {
		for _, o := range v.order {
			i := find(preparedColumns, o.Column)
			c := strings.Compare(a[i].Text, b[i].Text)
			if o.Desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

func (v *view) project(rows [][]value.Value) [][]value.Value {
	if v.pick[0] < 0 {
		return [][]value.Value{{{Type: value.Int8, Text: fmt.Sprint(len(rows))}}}
	}
	out := make([][]value.Value, len(rows))
	for i, row := range rows {
		for _, c := range v.pick {
			out[i] = append(out[i], row[c])
		}
	}
	return out
}
