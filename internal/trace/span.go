package trace

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// Kind is what a span is to its parent, with OTLP's numbers.
type Kind int

// Kinds of spans.
const (
	Internal Kind = 1
	Server   Kind = 2 // a request that came in
	Client   Kind = 3 // one that goes out to a resource
)

// Attr is an attribute by its name in OpenTelemetry's semantic conventions; the value is a string or an int.
type Attr struct {
	Key   string
	Value any
}

// Span is a part of a trace that has begun. A nil one is of no trace: all methods do nothing then. A span is for one goroutine until it
// is ended, but Begin may be called by several.
type Span struct {
	of      *Exporter
	context Context // its own
	parent  [8]byte
	name    string
	kind    Kind
	began   time.Time
	ended   time.Time
	attrs   []Attr
	failed  bool
}

// Root is the context of a trace that begins here, if the sampling takes it.
func (e *Exporter) Root() Context {
	c := Context{Sampled: e.sample()}
	random(c.TraceID[:])
	return c
}

// Start begins a span within a context; nil if that is not sampled.
func (e *Exporter) Start(within Context, name string, kind Kind, attrs ...Attr) *Span {
	if e == nil || !within.Sampled {
		return nil
	}
	s := &Span{of: e, context: within, parent: within.SpanID, name: name, kind: kind, began: time.Now(), attrs: attrs}
	random(s.context.SpanID[:])
	return s
}

// Context is what spans within this one are begun with; that of a nil one is not sampled.
func (s *Span) Context() Context {
	if s == nil {
		return Context{}
	}
	return s.context
}

// Add adds attributes.
func (s *Span) Add(attrs ...Attr) {
	if s != nil {
		s.attrs = append(s.attrs, attrs...)
	}
}

// Rename gives the span another name.
func (s *Span) Rename(name string) {
	if s != nil {
		s.name = name
	}
}

// Fail says that the span ends with an error, and of which type: never its text, in which there may be values.
func (s *Span) Fail(kind string) {
	if s != nil {
		s.failed = true
		s.attrs = append(s.attrs, Attr{"error.type", kind})
	}
}

// Finish ends the span and has it exported.
func (s *Span) Finish() {
	if s != nil {
		s.ended = time.Now()
		s.of.take(s)
	}
}

// Peer says who is at the other end of a connection: an address with a port, or another word.
func Peer(peer string) []Attr {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return []Attr{{"client.address", peer}}
	}
	return []Attr{{"client.address", at.Addr().String()}, {"client.port", int(at.Port())}}
}

// names of the parts of a transaction.
var names = map[txn.Part]string{
	txn.PartEnlist: "enlist", txn.PartWork: "work", txn.PartVote: "phase one", txn.PartPrepare: "prepare", txn.PartRecord: "record", txn.PartDecide: "decision",
	txn.PartTell: "phase two", txn.PartCommit: "commit", txn.PartRollback: "rollback",
}

// Begin begins a span for a part of a transaction, as txn.Observer has it.
func (s *Span) Begin(p txn.Part, resource string) txn.Observation {
	if s == nil {
		return (*Span)(nil)
	}
	name, kind := names[p], Internal
	var attrs []Attr
	if resource != "" {
		name, kind = name+" "+resource, Client
		attrs = append(append(attrs, Attr{"fdt.resource", resource}), s.of.resources[resource]...)
	}
	return s.of.Start(s.context, name, kind, attrs...)
}

// End ends the span of such a part.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.Fail(typeOf(err))
	}
	s.Finish()
}

// typeOf is an error's SQLSTATE, or what there is instead: few words, none of them from the error's text.
func typeOf(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok && e.SQLState() != "" {
		return e.SQLState()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return txn.SQLState(err)
}
