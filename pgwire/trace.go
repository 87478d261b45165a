package pgwire

import (
	"github.com/fdtserver/fdt/internal/trace"
)

// traces begins the span of a statement, within what the client says: by a comment in its text, or by fdt.traceparent. Where it says
// nothing, the calls of a transaction are within the first of them.
func (se *session) traces(text, name string) *trace.Span {
	t := se.server.Tracer
	if t == nil {
		return nil
	}
	within, ok := trace.FromComment(text)
	if !ok {
		within, ok = trace.Parse(se.settings.get(trace.Setting))
	}
	own := !ok && !se.trail.Valid()
	switch {
	case own:
		within = t.Root()
	case !ok:
		within = se.trail
	}
	span := t.Start(within, name, trace.Server)
	if own {
		se.trail = within
	}
	if span == nil {
		return nil
	}
	if own {
		se.trail = span.Context()
	}
	span.Add(trace.Attr{Key: "user.name", Value: se.user}, trace.Attr{Key: "fdt.session", Value: int(se.pid)})
	span.Add(trace.Peer(se.conn.Peer())...)
	se.txn.Observe(span)
	return span
}

// traced ends the span of a call.
func (se *session) traced(r record) {
	if r.span == nil {
		return
	}
	se.txn.Observe(nil)
	r.span.Add(trace.Attr{Key: "db.operation.name", Value: r.statement}, trace.Attr{Key: "db.response.status_code", Value: r.state},
		trace.Attr{Key: "db.response.returned_rows", Value: r.rows})
	if r.procedure != "" {
		r.span.Add(trace.Attr{Key: "db.stored_procedure.name", Value: r.procedure})
	}
	if r.gid != "" {
		r.span.Add(trace.Attr{Key: "fdt.gid", Value: r.gid})
	}
	if r.state != succeeded {
		r.span.Fail(r.state)
	}
	r.span.Finish()
}
