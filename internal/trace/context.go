package trace

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// Context is what ties spans of several programs together, as W3C Trace Context has it.
type Context struct {
	TraceID [16]byte
	SpanID  [8]byte // of the span that others are within; zero: of none
	Sampled bool
}

// Valid tells whether there is a trace.
func (c Context) Valid() bool { return c.TraceID != [16]byte{} }

// Setting is the run-time parameter by which a client of the PostgreSQL protocol gives a traceparent.
const Setting = "fdt.traceparent"

// Parse reads a traceparent: version, trace, parent and flags, in small hexadecimal digits. What a later version adds is passed over.
func Parse(text string) (Context, bool) {
	var c Context
	var version, flags [1]byte
	if len(text) < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-' || strings.ToLower(text) != text {
		return c, false
	}
	for _, part := range []struct {
		into []byte
		text string
	}{{version[:], text[:2]}, {c.TraceID[:], text[3:35]}, {c.SpanID[:], text[36:52]}, {flags[:], text[53:55]}} {
		if _, err := hex.Decode(part.into, []byte(part.text)); err != nil {
			return Context{}, false
		}
	}
	if version[0] == 0xff || version[0] == 0 && len(text) > 55 || len(text) > 55 && text[55] != '-' || !c.Valid() || c.SpanID == [8]byte{} {
		return Context{}, false
	}
	c.Sampled = flags[0]&1 != 0
	return c, true
}

// farthest is how many bytes of a text are looked at from either end: it may have megabytes.
const farthest = 4 << 10

// FromComment reads the traceparent of a comment at the begin or the end of a statement's text, as SQLCommenter has it:
// /*key='value',traceparent='00-…'*/.
func FromComment(text string) (Context, bool) {
	var last, first string
	if body, ok := strings.CutSuffix(strings.TrimRight(text[max(0, len(text)-farthest):], "; \t\r\n"), "*/"); ok {
		if at := strings.LastIndex(body, "/*"); at >= 0 {
			last = body[at+2:]
		}
	}
	if body, ok := strings.CutPrefix(strings.TrimLeft(text[:min(len(text), farthest)], " \t\r\n"), "/*"); ok {
		first, _, _ = strings.Cut(body, "*/")
	}
	for _, comment := range [...]string{last, first} {
		for pair := range strings.SplitSeq(comment, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.TrimSpace(key) == "traceparent" {
				return Parse(strings.Trim(strings.TrimSpace(value), "'"))
			}
		}
	}
	return Context{}, false
}

// random fills an identifier. That one is zero, which is none, is less likely than that two are alike.
func random(id []byte) {
	for i := 0; i < len(id); i += 8 {
		for n, bits := 0, rand.Uint64(); n < 8; n++ {
			id[i+n] = byte(bits >> (8 * n))
		}
	}
}
