package txn

import "context"

// Part is a part of a transaction that takes time.
type Part uint8

// The parts: PartVote, PartRecord, PartTell, and PartDecide without a decider are of all resources, the others of one.
const (
	PartEnlist   Part = iota + 1 // a resource begins its branch
	PartWork                     // it works: a statement, or a message
	PartVote                     // phase one
	PartPrepare                  // a resource votes in it
	PartRecord                   // something else becomes durable, as the vote of all where who decides is outside
	PartDecide                   // the decision becomes durable
	PartTell                     // phase two
	PartCommit                   // a resource commits, in it or in one phase
	PartRollback                 // a resource rolls back
)

// Observer is told of the parts of a session's transactions as they begin, by several goroutines at once. It must not wait.
type Observer interface {
	Begin(p Part, resource string) Observation
}

// Observation is a part that has begun. It is told of its own parts, and once of its end.
type Observation interface {
	Observer
	End(err error)
}

// unobserved is the observation of nobody.
type unobserved struct{}

func (unobserved) Begin(Part, string) Observation { return unobserved{} }

func (unobserved) End(error) {}

// Observe has o told of what the session does from now on; nil: nobody is.
func (s *Session) Observe(o Observer) {
	s.observer = o
	if s.tx != nil {
		s.tx.observer = o
	}
}

// Working tells the session's observer that a resource begins to work for it. Call End when it has.
func (s *Session) Working(resource string) Observation { return begin(s.observer, PartWork, resource) }

// begin tells an observer, if there is one.
func begin(o Observer, p Part, resource string) Observation {
	if o == nil {
		return unobserved{}
	}
	return o.Begin(p, resource)
}

// observer is whom an errand's work is told.
func (w *errand) observer() Observer {
	if w.t != nil {
		return w.t.observer
	}
	return observerOf(w.client)
}

type observerKey struct{}

// observed is a context of what is done for the session, for what has no transaction of its own.
func (s *Session) observed(ctx context.Context) context.Context {
	if s.observer == nil {
		return ctx
	}
	return context.WithValue(ctx, observerKey{}, s.observer)
}

// observerOf is whom the context's session tells.
func observerOf(ctx context.Context) Observer {
	o, _ := ctx.Value(observerKey{}).(Observer)
	return o
}
