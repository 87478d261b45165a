package trace

import (
	"encoding/hex"
	"strconv"
	"time"
)

// The messages of opentelemetry.proto.collector.trace.v1 that are needed, in JSON as OTLP has it: identifiers in hexadecimal digits, and
// integers of 64 bits as strings.
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []attribute `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	span struct {
		TraceID      string      `json:"traceId"`
		SpanID       string      `json:"spanId"`
		ParentSpanID string      `json:"parentSpanId,omitempty"`
		Flags        uint32      `json:"flags"`
		Name         string      `json:"name"`
		Kind         Kind        `json:"kind"`
		Start        string      `json:"startTimeUnixNano"`
		End          string      `json:"endTimeUnixNano"`
		Attributes   []attribute `json:"attributes,omitempty"`
		Status       *status     `json:"status,omitempty"`
	}
	attribute struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string `json:"stringValue,omitempty"`
		Int    string  `json:"intValue,omitempty"`
	}
	status struct {
		Code int `json:"code"`
	}
)

const (
	statusError = 2
	flagSampled = 1
	scopeName   = "github.com/fdtserver/fdt"
)

// encode is a batch as it is sent.
func (e *Exporter) encode(batch []*Span) request {
	spans := make([]span, len(batch))
	for i, s := range batch {
		spans[i] = span{
			TraceID: hex.EncodeToString(s.context.TraceID[:]), SpanID: hex.EncodeToString(s.context.SpanID[:]), Flags: flagSampled,
			Name: s.name, Kind: s.kind, Start: nanoseconds(s.began), End: nanoseconds(s.ended), Attributes: attributes(s.attrs),
		}
		if s.parent != [8]byte{} {
			spans[i].ParentSpanID = hex.EncodeToString(s.parent[:])
		}
		if s.failed {
			spans[i].Status = &status{statusError}
		}
	}
	return request{[]resourceSpans{{
		Resource:   resource{attributes(e.opt.Service)},
		ScopeSpans: []scopeSpans{{scope{scopeName, e.opt.Version}, spans}},
	}}}
}

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func attributes(list []Attr) []attribute {
	all := make([]attribute, len(list))
	for i, a := range list {
		all[i].Key = a.Key
		switch v := a.Value.(type) {
		case string:
			all[i].Value.String = &v
		case int:
			all[i].Value.Int = strconv.Itoa(v)
		}
	}
	return all
}
