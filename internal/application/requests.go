package application

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/throttle"
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

// requests is the log of the requests of a handler. Of what is asked it has the route alone.
type requests struct {
	log        *slog.Logger
	after      time.Duration
	all        bool
	slow, fast throttle.Throttle
}

// newRequests returns nil where nothing is to be logged.
func newRequests(c *config.Log, log *slog.Logger) *requests {
	r := &requests{log: log, after: slowCall(c), all: callRate(c) > 0, fast: throttle.Throttle{Rate: callRate(c)}}
	if r.after == 0 && !r.all {
		return nil
	}
	return r
}

// ended writes the line of a request, if it is one that the log has.
func (r *requests) ended(began time.Time, attrs ...any) {
	took := time.Since(began)
	message, id, lines := "a call was slow", journal.CallSlow, &r.slow
	if r.after == 0 || took < r.after {
		message, id, lines = "a call has ended", journal.CallEnded, &r.fast
		if !r.all {
			return
		}
	}
	left, ok := lines.Due(time.Now())
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, throttle.LeftOut, left)
	}
	r.log.With(attrs...).Info(message, "duration", took.Round(time.Microsecond), journal.ID(id))
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
