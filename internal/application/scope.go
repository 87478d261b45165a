package application

import (
	"context"
	"time"

	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/txn"
)

// rollbackTimeout bounds the rolling back of what a handler left open; what a
// resource still holds then is its fencing's.
const rollbackTimeout = 30 * time.Second

// Scope is a request or a connection, in which one transaction after another
// may take place. It belongs to one goroutine at a time.
type Scope struct {
	manager *txn.Manager
	who     txn.Principal
	ctx     context.Context // of the code that its transactions are for
	by      string          // that code, for the journal
	session *txn.Session    // nil until it is needed
	release func()          // of that, when the code has returned
	span    *trace.Span     // within which its transactions are; nil: of none
}

// NewScope returns a scope for whom its transactions belong to. They are taken
// from code that goes on after ctx has ended; by names the code.
func NewScope(ctx context.Context, m *txn.Manager, who txn.Principal, by string) *Scope {
	return &Scope{manager: m, who: who, ctx: ctx, by: by}
}

// Session is the scope's.
func (s *Scope) Session() *txn.Session {
	if s.session == nil {
		s.session = s.manager.NewSession(s.who)
		s.release = s.session.Guard(s.ctx, s.by)
		s.observe(s.span)
	}
	return s.session
}

// observe has what the scope does be within a span from now on; nil: of none.
func (s *Scope) observe(span *trace.Span) {
	s.span = span
	switch {
	case s.session == nil:
	case span == nil:
		s.session.Observe(nil)
	default:
		s.session.Observe(span)
	}
}

// Another is a scope of its own for the same client, with a context of its own.
func (s *Scope) Another(ctx context.Context) *Scope {
	other := NewScope(ctx, s.manager, s.who, s.by)
	other.span = s.span
	return other
}

// Open tells whether a transaction is open.
func (s *Scope) Open() bool { return s.session != nil && s.session.State() != txn.Idle }

// Close rolls back what is open, also after ctx has ended.
func (s *Scope) Close(ctx context.Context) error {
	if s.session == nil {
		return nil
	}
	s.release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	return s.session.Close(ctx)
}

type scopeKey struct{}

// In returns a context of the scope.
func (s *Scope) In(ctx context.Context) context.Context { return context.WithValue(ctx, scopeKey{}, s) }

// ScopeFrom returns the context's scope; nil if it has none.
func ScopeFrom(ctx context.Context) *Scope {
	s, _ := ctx.Value(scopeKey{}).(*Scope)
	return s
}
