package fdt

import (
	"errors"
	"fmt"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/application"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/txn"
)

// Resource adds a type of resource, which a configuration then names as it does
// postgres, mariadb and spool: resources: {NAME: {type: TYPE, …}}. open makes
// the resource manager of a resource with that name and those settings; it must
// not wait for the store, which may be down. What passes package txntest can be
// recovered: its branches take part in two-phase commit with all others, and
// fdtctl txn settles what it holds by asking this program.
//
// S is a struct whose fields are the keys beside type, each with a tag
// `fdt:"KEY,required,secret,default=TEXT"`, of which all but the name may be left
// out, and a tag `doc:"TEXT"` that the program's -schema tells editors. A field
// is a string, a bool, an int that is not negative, or a time.Duration. A secret
// is quoted nowhere. [Checker] is for what tags cannot say. What is wrong with
// a section of the configuration fails the start of the worker, and so the
// reload, with file, line and column.
//
// [Branch] is what a transaction is at such a resource. In steps of the
// configuration's procedures it takes sql, if its branches are
// [procedure.Execer], or put, if they are [procedure.Putter].
//
// Only this program knows the type: fdtctl check without --live takes its keys
// as they are, and what the resource reads and reaches beyond the workers'
// sandbox a drop-in of fdt-worker@.service must grant. A name that is like one
// of fdt's own types is refused.
func Resource[S any](typ string, open func(name string, settings S) (txn.Resource, error)) Part {
	where := caller()
	return part(func(app *application.Application) {
		t, err := config.NewType[S](typ)
		if open == nil {
			err = errors.Join(err, errors.New("the function is nil"))
		}
		if err != nil {
			app.Fault(where, fmt.Errorf("resource type %s: %w", typ, err))
			return
		}
		app.Resource(where, t, resources.OpenerOf(func(o resources.Opening, settings *S) (txn.Resource, error) {
			r, err := open(o.Name, *settings)
			switch {
			case err != nil:
				return nil, fmt.Errorf("resource %s: %w", o.Name, err)
			case r == nil || r.Name() != o.Name:
				return nil, fmt.Errorf("resource %s: %s: what it opens has another name", o.Name, where)
			}
			return r, nil
		}))
	})
}

// Checker is a struct of settings, or a pointer to one, that checks what the
// types and tags of its fields do not say.
type Checker interface {
	// Check reports what is wrong with the value of a key, and what to do about
	// it, which may be empty. It opens nothing: whoever reads the configuration
	// may be anybody, at any time.
	Check(fault func(key, what, hint string))
}
