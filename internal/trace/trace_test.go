package trace_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/txn"
)

const given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestParse takes what W3C Trace Context calls valid, and nothing else.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		given: "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 true",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00":      "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 false",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03":      "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 true",
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more": "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 true",
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more": "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more": "",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      "",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":      "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":      "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":      "",
		"00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01":      "",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331":         "",
		"": "",
	} {
		c, ok := trace.Parse(text)
		got := ""
		if ok {
			got = fmt.Sprintf("%x %x %v", c.TraceID, c.SpanID, c.Sampled)
		}
		if got != want || ok != c.Valid() {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestFromComment finds a traceparent in a comment at either end, and nowhere else.
func TestFromComment(t *testing.T) {
	for text, want := range map[string]bool{
		"CALL f() /*traceparent='" + given + "'*/":                             true,
		"CALL f() /* app='x%2C' , traceparent = '" + given + "',z='1' */ ; ":   true,
		"/*traceparent='" + given + "'*/ CALL f()":                             true,
		" /* a */ CALL f() /*traceparent='" + given + "'*/":                    true,
		"CALL f('traceparent=" + given + "')":                                  false,
		"CALL f('/*traceparent=''" + given + "''*/')":                          false,
		strings.Repeat("x", 1<<20) + "/*traceparent='" + given + "'*/":         true,
		"/*traceparent='" + given + "'*/" + strings.Repeat("x", 1<<20):         true,
		"CALL f() /*traceparent='" + given + "'*/" + strings.Repeat(" ", 5000): false, // too far away
		"CALL f() /*traceparent='00-0-0-01'*/":                                 false,
		"CALL f() /*tracestate='" + given + "'*/":                              false,
		"*/": false,
		"/*": false,
		"":   false,
	} {
		if c, ok := trace.FromComment(text); ok != want || ok && hex.EncodeToString(c.SpanID[:]) != "b7ad6b7169203331" {
			t.Errorf("%s: %v, %v", text, c, ok)
		}
	}
}

// collector is a receiver of OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []body
	answer func(w http.ResponseWriter) // nil: 200
}

// body is what a request of OTLP has, in JSON.
type body struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes []attribute }
		ScopeSpans []struct {
			Scope struct{ Name, Version string }
			Spans []span
		}
	}
}

type span struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  string
	Attributes                          []attribute
	Status                              struct{ Code int }
}

type attribute struct {
	Key   string
	Value struct {
		StringValue *string
		IntValue    *string
	}
}

func (s span) String() string {
	text := fmt.Sprintf("%s kind=%d status=%d", s.Name, s.Kind, s.Status.Code)
	for _, a := range s.Attributes {
		switch v := a.Value; {
		case v.StringValue != nil:
			text += fmt.Sprintf(" %s=%s", a.Key, *v.StringValue)
		case v.IntValue != nil:
			text += fmt.Sprintf(" %s=int:%s", a.Key, *v.IntValue)
		}
	}
	return text
}

func newCollector(t *testing.T, answer func(http.ResponseWriter)) *collector {
	c := &collector{answer: answer}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		var b body
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		c.mu.Lock()
		c.bodies = append(c.bodies, b)
		answer := c.answer
		c.mu.Unlock()
		if answer != nil {
			answer(w)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// spans are all that came, in the order in which they came.
func (c *collector) spans() (all []span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.bodies {
		for _, r := range b.ResourceSpans {
			for _, s := range r.ScopeSpans {
				all = append(all, s.Spans...)
			}
		}
	}
	return all
}

// run has an exporter run until stop.
func run(t *testing.T, opt trace.Options) (e *trace.Exporter, stop func(), j *testwait.Output) {
	j = new(testwait.Output)
	opt.Logger = slog.New(slog.NewTextHandler(j, nil))
	e = trace.New(opt)
	trace.Hurry(e)
	return e, runs(t, e), j
}

// runs runs an exporter.
func runs(t *testing.T, e *trace.Exporter) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// TestSpans: a transaction's parts arrive as OTLP has them, each within its own.
func TestSpans(t *testing.T) {
	c := newCollector(t, nil)
	e, stop, _ := run(t, trace.Options{Endpoint: c.URL + "/v1/traces", Version: "1.2", Service: []trace.Attr{{Key: "service.name", Value: "shop"}},
		Resources: map[string][]trace.Attr{"a": {{Key: "db.system.name", Value: "postgresql"}, {Key: "server.port", Value: 5432}}}})
	within, _ := trace.Parse(given)
	call := e.Start(within, "call", trace.Server, trace.Peer("[::1]:77")...)
	call.Rename("CALL f")
	call.Add(trace.Peer("unix:uid=0")...)
	phase := call.Begin(txn.PartVote, "")
	part := phase.Begin(txn.PartPrepare, "a")
	part.End(&pgconn.PgError{Code: "40001", Message: "secret"})
	phase.End(context.DeadlineExceeded)
	call.Begin(txn.PartWork, "b").End(context.Canceled)
	call.Begin(txn.PartRollback, "b").End(errors.New("secret"))
	call.Begin(txn.PartDecide, "").End(nil)
	call.Finish()
	stop()
	got := map[string]span{}
	var lines []string
	for _, s := range c.spans() {
		lines = append(lines, s.String())
		got[s.Name] = s
		if s.TraceID != "0af7651916cd43dd8448eb211c80319c" || s.StartTimeUnixNano > s.EndTimeUnixNano || !regexp.MustCompile(`^[0-9]{19}$`).MatchString(s.EndTimeUnixNano) {
			t.Errorf("%+v", s)
		}
	}
	want := `prepare a kind=3 status=2 fdt.resource=a db.system.name=postgresql server.port=int:5432 error.type=40001
phase one kind=1 status=2 error.type=timeout
work b kind=3 status=2 fdt.resource=b error.type=cancelled
rollback b kind=3 status=2 fdt.resource=b error.type=` + txn.SQLState(errors.New("")) + `
decision kind=1 status=0
CALL f kind=2 status=0 client.address=::1 client.port=int:77 client.address=unix:uid=0`
	if text := strings.Join(lines, "\n"); text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	call0, phase0 := got["CALL f"], got["phase one"]
	if call0.ParentSpanID != "b7ad6b7169203331" || phase0.ParentSpanID != call0.SpanID || got["prepare a"].ParentSpanID != phase0.SpanID || got["work b"].ParentSpanID != call0.SpanID {
		t.Errorf("%+v", got)
	}
	r := c.bodies[0].ResourceSpans[0]
	if a := r.Resource.Attributes; len(a) != 1 || a[0].Key != "service.name" || *a[0].Value.StringValue != "shop" || r.ScopeSpans[0].Scope.Version != "1.2" {
		t.Errorf("%+v", r)
	}
	if sent, dropped := e.Counts(); sent != 6 || dropped != 0 {
		t.Errorf("%d sent, %d dropped", sent, dropped)
	}
}

// TestNothing: what is not sampled is no span, and costs none.
func TestNothing(t *testing.T) {
	var none *trace.Exporter
	within, _ := trace.Parse(given)
	if s := none.Start(within, "x", trace.Server); s != nil {
		t.Error(s)
	}
	e := trace.New(trace.Options{})
	within.Sampled = false
	s := e.Start(within, "x", trace.Server)
	s.Add(trace.Attr{})
	s.Rename("y")
	s.Fail("z")
	s.Begin(txn.PartWork, "a").Begin(txn.PartWork, "a").End(io.EOF)
	s.Finish()
	if c := s.Context(); c.Valid() || e.Root().Sampled {
		t.Error(c)
	}
	if s != nil {
		t.Error(s)
	}
}

// TestSampled: of calls without a context one in so many is traced.
func TestSampled(t *testing.T) {
	e := trace.New(trace.Options{Sample: 10})
	n := 0
	for range 10_000 {
		c := e.Root()
		if !c.Valid() || c.SpanID != [8]byte{} {
			t.Fatal(c)
		}
		if c.Sampled {
			n++
		}
	}
	if n < 700 || n > 1300 { // that chance goes further than ten deviations is not to be expected
		t.Errorf("%d of 10,000", n)
	}
	if c := trace.New(trace.Options{Sample: 1}).Root(); !c.Sampled {
		t.Error("all are to be sampled")
	}
}

// many ends so many spans.
func many(e *trace.Exporter, n int) {
	within, _ := trace.Parse(given)
	for range n {
		e.Start(within, "x", trace.Server).Finish()
	}
}

// TestCollectorSilent: a collector that does not answer costs nobody anything, and what is kept for it is bounded.
func TestCollectorSilent(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel accepts for it, and nobody reads
	e, stop, j := run(t, trace.Options{Endpoint: "http://" + l.Addr().String() + "/v1/traces"})
	many(e, 3*trace.QueueLength) // it returns, which is all that is asked
	if _, dropped := e.Counts(); dropped < trace.QueueLength {
		t.Errorf("%d dropped", dropped)
	}
	stop()
	if sent, dropped := e.Counts(); sent != 0 || dropped != 3*trace.QueueLength || !strings.Contains(j.String(), "spans are lost") {
		t.Errorf("%d sent, %d dropped\n%s", sent, dropped, j)
	}
}

// TestCollectorBack: what a collector cannot take now is sent again, and what it refuses is not.
func TestCollectorBack(t *testing.T) {
	var refused atomic.Int64
	c := newCollector(t, func(w http.ResponseWriter) {
		if refused.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	e, _, j := run(t, trace.Options{Endpoint: c.URL + "/v1/traces"})
	many(e, 10)
	testwait.Until(t, "they are taken", func() bool { sent, _ := e.Counts(); return sent == 10 })
	if n := len(c.spans()); n < 12 || !strings.Contains(j.String(), "503 Service Unavailable") { // a batch may have had fewer
		t.Errorf("%d\n%s", n, j)
	}
	for status, says := range map[int]string{http.StatusBadRequest: "400 Bad Request", http.StatusFound: "302 Found"} {
		_, before := e.Counts()
		c.mu.Lock()
		c.answer = func(w http.ResponseWriter) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
		c.mu.Unlock()
		many(e, 10)
		testwait.Until(t, "they are lost", func() bool { _, dropped := e.Counts(); return dropped == before+10 })
		if !strings.Contains(j.String(), says) {
			t.Error(j)
		}
	}
}

// TestCollectorGone: what is left when the worker ends is sent once more, also what waited to be sent again.
func TestCollectorGone(t *testing.T) {
	var back atomic.Bool
	c := newCollector(t, func(w http.ResponseWriter) {
		if !back.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	e, stop, j := run(t, trace.Options{Endpoint: c.URL + "/v1/traces"})
	trace.Patient(e)
	many(e, 10)
	testwait.Until(t, "it is refused", func() bool { return strings.Contains(j.String(), "503") })
	many(e, 10)
	back.Store(true)
	stop()
	if sent, dropped := e.Counts(); sent != 20 || dropped != 0 {
		t.Errorf("%d sent, %d dropped\n%s", sent, dropped, j)
	}
}

// TestPartialSuccess counts what a collector says that it has not taken.
func TestPartialSuccess(t *testing.T) {
	for answer, want := range map[string]string{
		`{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too many"}}`: "7 3",
		`{"partialSuccess": {"rejectedSpans": 3}}`:                               "7 3",
		`{"partialSuccess": {"rejectedSpans": "99"}}`:                            "0 10",
		`{"partialSuccess": {"rejectedSpans": "-9"}}`:                            "10 0",
		`{}`: "10 0", ``: "10 0", `what`: "10 0",
	} {
		c := newCollector(t, func(w http.ResponseWriter) { _, _ = io.WriteString(w, answer) })
		var j testwait.Output
		e := trace.New(trace.Options{Endpoint: c.URL + "/v1/traces", Logger: slog.New(slog.NewTextHandler(&j, nil))})
		many(e, 10) // before it runs: all go in one request
		runs(t, e)()
		sent, dropped := e.Counts()
		if got := fmt.Sprint(sent, dropped); got != want {
			t.Errorf("%s: %s, want %s\n%s", answer, got, want, &j)
		}
	}
}

// TestAnswerCut: a collector that says yes, and goes, may have them: they are not sent again.
func TestAnswerCut(t *testing.T) {
	c := newCollector(t, func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "{")
	})
	e, _, j := run(t, trace.Options{Endpoint: c.URL + "/v1/traces"})
	many(e, 1)
	testwait.Until(t, "it is lost", func() bool { _, dropped := e.Counts(); return dropped == 1 })
	if len(c.spans()) != 1 {
		t.Error(j)
	}
}
