package pgwire_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/trace"
)

// tracing has a server make spans, of all calls or of those alone whose client asks for it. The function returns, as trees of indented
// lines, what a collector has heard, and ends that.
func tracing(t *testing.T, sample int, b bank) (f *fdt, told func() string) {
	type span struct {
		TraceID, SpanID, ParentSpanID, Name string
		StartTimeUnixNano                   string
		Attributes                          []struct {
			Key   string
			Value struct{ StringValue, IntValue string }
		}
		Status struct{ Code int }
	}
	var mu sync.Mutex
	var spans []span
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []span } }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range body.ResourceSpans {
			for _, s := range r.ScopeSpans {
				spans = append(spans, s.Spans...)
			}
		}
	}))
	t.Cleanup(collector.Close)
	tracer := trace.New(trace.Options{Endpoint: collector.URL, Sample: sample, Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { tracer.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	f = newFDT(t, b, func(f *fdt, _ *config.Config) { f.wire.Tracer = tracer })
	return f, func() string {
		stop()
		running.Wait()
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
		var out strings.Builder
		known := map[string]bool{}
		for _, s := range spans {
			known[s.SpanID] = true
		}
		shown := 0
		var show func(parent span, depth int)
		show = func(parent span, depth int) {
			for _, s := range spans {
				if s.ParentSpanID != parent.SpanID || s.TraceID != parent.TraceID {
					continue
				}
				shown++
				fmt.Fprintf(&out, "%s%s", strings.Repeat("  ", depth), s.Name)
				for _, a := range s.Attributes {
					switch a.Key {
					case "db.stored_procedure.name", "db.response.status_code", "db.response.returned_rows", "error.type", "user.name":
						out.WriteString(" " + a.Value.StringValue + a.Value.IntValue)
					case "fdt.gid":
						out.WriteString(" gid")
					}
				}
				out.WriteByte('\n')
				show(s, depth+1)
			}
		}
		roots := map[string]bool{}
		for _, s := range spans {
			if key := s.TraceID + s.ParentSpanID; !known[s.ParentSpanID] && !roots[key] {
				roots[key] = true
				within := "none"
				if s.ParentSpanID != "" {
					within = s.TraceID[:4] + " " + s.ParentSpanID[:4]
				}
				fmt.Fprintf(&out, "within %s:\n", within)
				show(span{SpanID: s.ParentSpanID, TraceID: s.TraceID}, 1)
			}
		}
		if shown != len(spans) {
			t.Errorf("%d of %d spans are within another or a root", shown, len(spans))
		}
		return out.String()
	}
}

// both are a part that two resources have at once, in either order.
var both = regexp.MustCompile(`(?m)^(      (?:prepare|commit|rollback)) (?:bank|outbox)\n(?:      \S+ (?:bank|outbox)\n)?`)

// traceOf is a traceparent of the trace and the parent that begin so.
func traceOf(id, parent string) string {
	return "00-" + id + strings.Repeat("0", 32-len(id)) + "-" + parent + strings.Repeat("0", 16-len(parent)) + "-01"
}

// TestTraces: each call is a span within what its client says, and what becomes of its transaction is within it.
func TestTraces(t *testing.T) {
	f, told := tracing(t, 0, withBank(t))
	c := f.connect("alice")
	c.want("CALL enqueue('not traced')", "C CALL", "Z I")
	c.want("SET fdt.traceparent = '00-x'", `E ERROR 22023 invalid value for parameter "fdt.traceparent": "00-x"`, "Z I")
	c.want("SET fdt.traceparent = '"+traceOf("aaaa", "1111")+"'", "C SET", "Z I")
	c.want("CALL deposit(1, 5)", "C CALL", "Z I")
	c.want("BEGIN", "C BEGIN", "Z T")
	c.want("CALL deposit(1, 5)", "C CALL", "Z T")
	c.want("CALL enqueue('x') /*traceparent='"+traceOf("bbbb", "2222")+"'*/", "C CALL", "Z T")
	c.want("COMMIT", "C COMMIT", "Z I")
	c.want("RESET fdt.traceparent", "C RESET", "Z I")
	c.want("/*traceparent='"+traceOf("cccc", "3333")+"'*/ CALL withdraw(9, 1)", "E ERROR P0001 insufficient funds", "Z I")
	c.want("CALL enqueue('not traced either')", "C CALL", "Z I")
	const want = `within aaaa 1111:
  CALL deposit alice 00000 0 deposit gid
    enlist bank
    work bank
    commit bank
  CALL deposit alice 00000 0 deposit gid
    enlist bank
    work bank
  COMMIT alice 00000 0 gid
    phase one
      prepare
    decision
    phase two
      commit
within bbbb 2222:
  CALL enqueue alice 00000 0 enqueue gid
    enlist outbox
    work outbox
within cccc 3333:
  CALL withdraw alice P0001 0 withdraw gid P0001
    enlist bank
    work bank P0001
`
	if got := both.ReplaceAllString(told(), "$1\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestTracesPrepared: PREPARE TRANSACTION has phase one, and who decides has phase two.
func TestTracesPrepared(t *testing.T) {
	f, told := tracing(t, 0, withBank(t))
	c := f.connect("alice")
	c.want("SET fdt.traceparent = '"+traceOf("aaaa", "1111")+"'", "C SET", "Z I")
	for _, end := range []string{"COMMIT PREPARED", "ROLLBACK PREPARED"} {
		c.want("BEGIN", "C BEGIN", "Z T")
		c.want("CALL deposit(1, 5)", "C CALL", "Z T")
		c.want("PREPARE TRANSACTION '"+end+"'", "C PREPARE TRANSACTION", "Z I")
		c.want(end+" '"+end+"'", "C "+end, "Z I")
	}
	c.want("BEGIN", "C BEGIN", "Z T")
	c.want("CALL deposit(1, 5)", "C CALL", "Z T")
	c.want("ROLLBACK", "C ROLLBACK", "Z I")
	const call = `  CALL deposit alice 00000 0 deposit gid
    enlist bank
    work bank
`
	const prepare = call + `  PREPARE TRANSACTION alice 00000 0 gid
    phase one
      prepare
    record
`
	const want = `within aaaa 1111:
` + prepare + `  COMMIT PREPARED alice 00000 0 gid
    decision
    phase two
      commit
` + prepare + `  ROLLBACK PREPARED alice 00000 0 gid
    decision
    phase two
      rollback
` + call + `  ROLLBACK alice 00000 0 gid
    rollback
`
	if got := both.ReplaceAllString(told(), "$1\n"); strings.ReplaceAll(got, "rollback bank", "rollback") != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestTracesSampled: where a client says nothing, the calls of a transaction are one trace, and the next transaction's another.
func TestTracesSampled(t *testing.T) {
	f, told := tracing(t, 1, bank{})
	c := f.connect("alice")
	c.want("CALL enqueue('x')", "C CALL", "Z I")
	c.want("BEGIN; CALL enqueue('x'); COMMIT", "C BEGIN", "C CALL", "C COMMIT", "Z I")
	c.want("SELECT * FROM echo(1, 2)", "T a:20/8/0 b:1700/-1/0 c:25/-1/0", "D 1|2|none", "C SELECT 1", "Z I")
	c.want("BEGIN; CALL enqueue('x') /*traceparent='"+strings.TrimSuffix(traceOf("aaaa", "1111"), "1")+"0'*/", "C BEGIN", "C CALL", "Z T") // not sampled
	c.want("ROLLBACK /*traceparent='"+strings.TrimSuffix(traceOf("aaaa", "1111"), "1")+"0'*/", "C ROLLBACK", "Z I")
	const want = `within none:
  CALL enqueue alice 00000 0 enqueue gid
    enlist outbox
    work outbox
    commit outbox
within none:
  CALL enqueue alice 00000 0 enqueue gid
    enlist outbox
    work outbox
    COMMIT alice 00000 0 gid
      commit outbox
within none:
  SELECT echo alice 00000 1 echo gid
    enlist outbox
    work outbox
    commit outbox
`
	if got := told(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
