package fdt

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/application"
	"github.com/fdtserver/fdt/internal/structs"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
)

// Error is an error that a client of a procedure is told as it is. Of others
// it learns what a database has answered to a statement, and otherwise no more
// than the kind; the journal has the whole.
type Error struct {
	Code    string // SQLSTATE, of five digits and capital letters; P0001, raise_exception, if empty; else clients learn no more than the kind
	Message string
	Detail  string
	Hint    string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Errorf returns an Error with an SQLSTATE; see appendix A of PostgreSQL's
// manual for those that clients know. Without one of these, clients are told
// what a database said, P0002 where it had no row (pgx.ErrNoRows,
// sql.ErrNoRows), and of anything else no more than that there was an error.
func Errorf(sqlstate, format string, args ...any) error {
	return &Error{Code: sqlstate, Message: fmt.Sprintf(format, args...)}
}

// Option limits a procedure.
type Option struct{ limit func(*procedure.Spec) error }

// Allow names the users who may call a procedure, each as in the configuration's
// key allow; without it everybody may. To name nobody is a fault.
func Allow(users ...string) Option {
	return Option{func(s *procedure.Spec) error {
		if len(users) == 0 {
			return errors.New("fdt.Allow names nobody: leave it out to let every user call it")
		}
		s.Allow = slices.Clone(users)
		var errs []error
		for _, u := range users {
			if err := config.CheckAllowed(u); err != nil {
				errs = append(errs, fmt.Errorf("fdt.Allow: %w", err))
			}
		}
		return errors.Join(errs...)
	}}
}

// Timeout limits one call, within the limits of its transaction: then its
// context ends. 0 leaves it to these; less is a fault.
func Timeout(d time.Duration) Option {
	return Option{func(s *procedure.Spec) error {
		if d < 0 {
			return fmt.Errorf("fdt.Timeout: %s is negative", d)
		}
		s.Timeout = d
		return nil
	}}
}

// Procedure makes f a procedure that clients call by CALL name(…), or by SELECT
// * FROM name(…) for its result: beside those of the configuration, in the same
// transactions, with the same statistics.
//
// P is a struct whose fields are the parameters, R one whose fields are the
// columns of the one row that it returns; struct{} stands for none. A field's
// tag is `fdt:"NAME,TYPE,default=TEXT"`, of which each part may be left out: the
// name is the field's in small letters with underscores, and the type bigint for
// int and int64, integer for int32, smallint for int16, double precision and
// real for float64 and float32, boolean, text for string, bytea for []byte,
// timestamptz for time.Time, jsonb for json.RawMessage, uuid for [16]byte, and
// arrays for slices of these. Any other type needs to be named, as numeric for a
// string or a pgtype.Numeric. A null needs a pointer, or a type of database/sql
// or pgtype that knows nulls; for another field it is refused (22004).
//
// The context ends with the call's time, with the client, and when an operator
// says so. Pass it on to whatever waits: from a call that goes on for five
// seconds after that its transaction is taken. The connections to PostgreSQL and
// MariaDB are cut, which roll back and free what it has locked; whatever it still
// does with tx fails with txn.ErrCutOff, and the journal names it. Its client
// waits for its return all the same.
//
// An error of f fails the caller's transaction, and so does a panic, which is
// logged with its stack. What is wrong with name, P or R fails the start of the
// worker, with the line of the call of Procedure.
func Procedure[P, R any](name string, f func(ctx context.Context, tx *Tx, p P) (R, error), opts ...Option) Part {
	var rows func(context.Context, *Tx, P) iter.Seq2[R, error]
	if f != nil {
		rows = func(ctx context.Context, tx *Tx, p P) iter.Seq2[R, error] {
			return func(yield func(R, error) bool) { yield(f(ctx, tx, p)) }
		}
	}
	return code(caller(), procedure.Spec{Name: name}, rows, opts)
}

// Rows is [Procedure] for a result of any number of rows. They are sent to the
// client as f yields them: a slow client holds f up, and a million rows need no
// more memory than one, unless the client fetches them in parts, which its
// session keeps. After an error, or where the client is gone, nothing more is
// asked of f.
func Rows[P, R any](name string, f func(ctx context.Context, tx *Tx, p P) iter.Seq2[R, error], opts ...Option) Part {
	return code(caller(), procedure.Spec{Name: name, Many: true}, f, opts)
}

// code makes f a procedure.
func code[P, R any](where string, spec procedure.Spec, f func(context.Context, *Tx, P) iter.Seq2[R, error], opts []Option) Part {
	name := spec.Name
	spec.Where = where
	return part(func(app *application.Application) {
		in, err := structs.Of(reflect.TypeFor[P]())
		out, oerr := structs.Of(reflect.TypeFor[R]())
		if f == nil {
			err = errors.New("the function is nil")
		}
		errs := []error{config.CheckProcedureName(name), err, oerr}
		for _, o := range opts {
			errs = append(errs, o.limit(&spec))
		}
		if err := errors.Join(errs...); err != nil {
			app.Fault(where, fmt.Errorf("procedure %s: %w", name, err))
			return
		}
		for _, p := range in.Fields() {
			spec.Params = append(spec.Params, procedure.Param{Name: p.Name, Type: p.Type, Default: p.Default})
		}
		for _, c := range out.Fields() {
			spec.Columns = append(spec.Columns, procedure.Column{Name: c.Name, Type: c.Type})
		}
		app.Procedures = append(app.Procedures, procedure.New(spec,
			func(ctx context.Context, s *txn.Session, bound []value.Value, emit procedure.Emit) (err error) {
				defer func() {
					if v := recover(); v != nil {
						err = &procedure.Panic{Procedure: name, Value: v, Stack: debug.Stack()}
					}
				}()
				var p P
				if err := in.Set(reflect.ValueOf(&p).Elem(), bound); err != nil {
					return unfit(err)
				}
				for r, err := range f(ctx, &Tx{session: s, called: true}, p) {
					if err != nil {
						return explain(err)
					}
					if len(spec.Columns) == 0 {
						continue
					}
					row, err := out.Get(reflect.ValueOf(&r).Elem())
					if err == nil {
						err = emit(row)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}))
	})
}

// explain gives an error of a program's code the face by which a client is told
// what it may know.
func explain(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		code := cmp.Or(e.Code, "P0001")
		if err := config.CheckSQLState(code); err != nil {
			return fmt.Errorf("%q: %w: %s", code, err, e.Message)
		}
		return &procedure.Error{Code: code, Message: e.Message, Detail: e.Detail, Hint: e.Hint}
	}
	if errors.Is(err, sql.ErrNoRows) { // pgx.ErrNoRows is one, too; as PL/pgSQL has it for INTO STRICT
		return &procedure.Error{Code: "P0002", Message: "query returned no rows"}
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		if _, ok := errors.AsType[*mariadb.Error](err); !ok {
			return &mariadb.Error{Err: e}
		}
	}
	return err
}

// unfit is the error of an argument that its field cannot hold.
func unfit(err error) error {
	if n, ok := errors.AsType[*structs.Null](err); ok {
		return &procedure.Error{Code: "22004", Message: n.Error()}
	}
	return &procedure.Error{Code: "22000", Message: "an argument cannot be taken: " + err.Error()}
}

// Rehearse has f try what the program's code needs of its resources, as the
// tables that its statements name, each time before workers of a new generation
// take over from others. It runs in a transaction that is rolled back; an error
// or a panic fails the reload, which says so with the line of this call, and the
// old generation serves on.
func Rehearse(f func(ctx context.Context, tx *Tx) error) Part {
	where := caller()
	return part(func(app *application.Application) {
		if f == nil {
			app.Fault(where, errors.New("fdt.Rehearse: the function is nil"))
			return
		}
		app.Rehearse(where, func(ctx context.Context, s *txn.Session) error { return f(ctx, &Tx{session: s, called: true}) })
	})
}

// caller is the line of the program that called the function which calls it.
func caller() string {
	_, file, line, _ := runtime.Caller(2)
	return fmt.Sprintf("%s:%d", file[strings.LastIndexByte(file, '/')+1:], line)
}
