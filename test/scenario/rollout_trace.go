package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// collector is a receiver of OTLP over HTTP that keeps what it gets, a request in each line.
const collector = `import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/run/spans", "ab") as f:
            f.write(body + b"\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 4318), H).serve_forever()
`

// traces has workers tell a collector of what a call consists of, out of their sandbox, and nobody wait for one that is not there.
func traces(ctx context.Context, s *Stage) error {
	const file = "/etc/fdt/config.d/60-trace.yaml"
	const call = psql + ` -c "CALL enqueue('unseen') /*traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/"`
	if _, err := s.must(ctx, "echo 'trace: {endpoint: \"http://127.0.0.1:4318\"}' >"+file+" && systemctl reload fdt && "+call); err != nil {
		return err
	}
	if _, err := until(ctx, "the journal tells that there is no collector", func() (bool, error) {
		out, err := s.quiet(ctx, "journalctl -u 'fdt-worker@*' -o cat -n 1 -g 'collector of traces' || true")
		return strings.Contains(out, "the collector of traces does not take spans"), err
	}); err != nil {
		return err
	}
	// One that comes later is told of that call, too.
	if _, err := s.must(ctx, fmt.Sprintf("cat >/run/collector.py <<'END'\n%sEND\nsystemd-run -q --unit=collector python3 /run/collector.py", collector)); err != nil {
		return err
	}
	var got map[string]span
	if _, err := until(ctx, "the collector has the call", func() (bool, error) {
		out, err := s.quiet(ctx, "cat /run/spans 2>/dev/null || true")
		if err != nil {
			return false, err
		}
		got, err = spansOf(out)
		return len(got) >= 4, err
	}); err != nil {
		return err
	}
	root := got["CALL enqueue"]
	s.check(root.ParentSpanID == "b7ad6b7169203331" && got["work outbox"].ParentSpanID == root.SpanID && got["commit outbox"].ParentSpanID == root.SpanID,
		"a call is within its client's span, and the work of a resource within the call", "%+v", got)
	out, err := s.show(ctx, "grep -c unseen /run/spans; systemctl stop collector; rm "+file+" && systemctl reload fdt")
	s.check(err == nil && strings.HasPrefix(out, "0"), "no value is told", "%s", out)
	_, err = s.settled(ctx)
	return err
}

// span is what is looked at of one.
type span struct{ SpanID, ParentSpanID, Name string }

// spansOf reads what a collector has kept, by the names of the spans. A line may be half written.
func spansOf(text string) (map[string]span, error) {
	all := map[string]span{}
	for line := range strings.Lines(text) {
		var body struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []span } }
		}
		if !strings.HasSuffix(line, "\n") {
			break
		}
		if err := json.Unmarshal([]byte(line), &body); err != nil {
			return nil, err
		}
		for _, r := range body.ResourceSpans {
			for _, sc := range r.ScopeSpans {
				for _, sp := range sc.Spans {
					all[sp.Name] = sp
				}
			}
		}
	}
	return all, nil
}
