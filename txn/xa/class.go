package xa

import "errors"

// Class is what an error of a resource means for what else is to be asked of
// it. Who asks again goes by that: see txn.Resource.
type Class string

// The classes. An error that is of none counts as Unreachable if the
// resource does not tell its Identity either, and as Refused otherwise.
const (
	// Unreachable: the resource does not answer, so nothing else need be asked
	// of it for a while.
	Unreachable Class = "unreachable"
	// Busy: it answers, and this branch can be told later, as while a session
	// or another process has hold of it. Others can be told now.
	Busy Class = "busy"
	// Refused: it answers and will not, as without a privilege. Asking again
	// soon does not help this branch, and says nothing of others.
	Refused Class = "refused"
	// NotOurs: what the resource holds by that name is somebody else's. At
	// Prepare it had a branch of that gid already: since no gid is given away
	// twice, the log is an older copy of one that was written to after it, and
	// that branch may be a vote. It must be neither committed nor rolled back.
	NotOurs Class = "not ours"
)

// Mark returns err, with its text and all that is wrapped in it, as one of that
// class; nil if err is.
func (t Class) Mark(err error) error {
	if err == nil {
		return nil
	}
	return &classed{err, t}
}

// ClassOf returns the class that err is marked with, the outermost if there
// are several; empty if there is none.
func ClassOf(err error) Class {
	if t, ok := errors.AsType[*classed](err); ok {
		return t.class
	}
	return ""
}

// classed is an error and its class.
type classed struct {
	error

	class Class
}

func (t *classed) Unwrap() error { return t.error }
