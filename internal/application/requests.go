package application

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/throttle"
	"github.com/fdtserver/fdt/internal/trace"
)

// slowCall is how long a call takes that is logged by itself; zero: none is.
func slowCall(c *config.Log) time.Duration {
	if c.Calls == config.LogOff {
		return 0
	}
	return c.Slow
}

// callRate is how many others a second are logged.
func callRate(c *config.Log) int {
	if c.Calls != config.LogAll {
		return 0
	}
	return c.Rate
}

// requests is the log of the requests of a handler, and has their spans made. Of what is asked it has the route alone.
type requests struct {
	handler string
	tracer  *trace.Exporter // nil: there are no spans
	log     *slog.Logger
	lines   *throttle.Calls
}

// newRequests returns nil where nobody is to be told of requests.
func newRequests(c *config.Log, log *slog.Logger, handler string, tracer *trace.Exporter) *requests {
	r := &requests{handler: handler, tracer: tracer, log: log, lines: throttle.NewCalls(slowCall(c), callRate(c))}
	if !r.lines.Any() && tracer == nil {
		return nil
	}
	return r
}

// asked is a request in hand.
type asked struct {
	of    *requests
	began time.Time
	span  *trace.Span // nil: it is not traced
}

// begin notes that a request has come, of a client that gives the traceparent, or none.
func (r *requests) begin(peer, traceparent string) *asked {
	a := &asked{of: r, began: time.Now()}
	if r.tracer != nil {
		within, ok := trace.Parse(traceparent)
		if !ok {
			within = r.tracer.Root()
		}
		a.span = r.tracer.Start(within, r.handler, trace.Server, trace.Peer(peer)...)
	}
	return a
}

// ended finishes the span of a request, and writes its line, if it is one that the log has.
func (a *asked) ended(attrs ...any) {
	r := a.of
	a.span.Finish()
	took := time.Since(a.began)
	slow, left, ok := r.lines.Due(took)
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, throttle.LeftOut, left)
	}
	log := r.log.With(append(attrs, "duration", took.Round(time.Microsecond))...)
	if slow {
		log.Info("a call was slow", journal.ID(journal.CallSlow))
	} else {
		log.Info("a call has ended", journal.ID(journal.CallEnded))
	}
}

// answered is what a request of HTTP was answered.
func (a *asked) answered(r *http.Request, status int) {
	if a.span == nil {
		return
	}
	path := route(r)
	a.span.Rename(strings.TrimSpace(method(r) + " " + path))
	a.span.Add(trace.Attr{Key: "http.request.method", Value: method(r)}, trace.Attr{Key: "http.response.status_code", Value: status})
	if path != "" {
		a.span.Add(trace.Attr{Key: "http.route", Value: path})
	}
	if status >= http.StatusInternalServerError {
		a.span.Fail(strconv.Itoa(status))
	}
}

// methods are those of RFC 9110 and RFC 5789.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions,
	http.MethodTrace,
}

// method is a request's, if it is a known one: others are a client's own text.
func method(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "_OTHER"
}

// route is the path of the pattern by which an http.ServeMux has found the handler: no value that is in the request's own. It is empty
// where there was none.
func route(r *http.Request) string {
	if at := strings.IndexByte(r.Pattern, '/'); at >= 0 {
		return r.Pattern[at:]
	}
	return ""
}

// answered notes the status of an answer.
type answered struct {
	http.ResponseWriter
	status int
	sent   bool // of which the client was told
}

// WriteHeader is http.ResponseWriter's.
func (a *answered) WriteHeader(status int) {
	if !a.sent && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) { // what comes before is no answer
		a.status, a.sent = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter's.
func (a *answered) Write(b []byte) (int, error) {
	a.sent = true
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// as returns a writer that can do what handlers ask the server's own for: HTTP/1.1 can be hijacked, HTTP/2 can push.
func (a *answered) as() http.ResponseWriter {
	flusher, _ := a.ResponseWriter.(http.Flusher) // the server's own are
	if h, ok := a.ResponseWriter.(http.Hijacker); ok {
		return &struct {
			*answered
			http.Flusher
			http.Hijacker
		}{a, flusher, h}
	}
	p, _ := a.ResponseWriter.(http.Pusher)
	return &struct {
		*answered
		http.Flusher
		http.Pusher
	}{a, flusher, p}
}
