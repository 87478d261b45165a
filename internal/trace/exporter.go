// Package trace tells an OpenTelemetry collector where the time of calls goes: spans by OTLP over HTTP, as JSON
// (opentelemetry.io/docs/specs/otlp), tied to those of clients by W3C Trace Context. Nobody waits for it: spans that have ended are kept
// for the collector up to a limit, and beyond that dropped and counted.
package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/internal/throttle"
)

// Bounds of what is kept and sent.
const (
	queueLength = 4096             // spans that wait, some 2 MiB
	batchLength = 512              // spans of one request
	gather      = time.Second      // how long a request waits for more spans
	answering   = 10 * time.Second // how long the collector may take to answer
	lastWords   = 2 * time.Second  // how long it may take at the end, for all that is left
	longAnswer  = 64 << 10         // bytes of its answer that are read
	firstPause  = time.Second      // before what it could not take is sent again
	longPause   = 30 * time.Second // twice as long each time, up to this
)

// Options say where spans go, and of what.
type Options struct {
	Endpoint  string            // URL to which they are posted
	Sample    int               // of the calls that bring no context, one in so many is traced; 0: none
	Service   []Attr            // who says this: OpenTelemetry's resource
	Resources map[string][]Attr // what is said of each of fdt's resources
	Version   string
	Logger    *slog.Logger
}

// Exporter sends spans. Its methods may be called concurrently; a nil one begins no span.
type Exporter struct {
	opt       Options
	resources map[string][]Attr
	client    *http.Client
	queue     chan *Span
	sent      atomic.Uint64
	dropped   atomic.Uint64
	failing   throttle.Throttle
	first     time.Duration // pause
}

// New returns an exporter that Run is to run.
func New(opt Options) *Exporter {
	return &Exporter{
		opt: opt, resources: opt.Resources, queue: make(chan *Span, queueLength), first: firstPause,
		client: &http.Client{
			Timeout:       answering,
			Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Counts returns how many spans the collector has taken, and how many were dropped.
func (e *Exporter) Counts() (sent, dropped uint64) { return e.sent.Load(), e.dropped.Load() }

// sample tells whether one more call is traced.
func (e *Exporter) sample() bool {
	return e.opt.Sample > 0 && rand.IntN(e.opt.Sample) == 0 //nolint:gosec // nothing hangs on it
}

// take keeps a span that has ended, if there is room.
func (e *Exporter) take(s *Span) {
	select {
	case e.queue <- s:
	default:
		e.dropped.Add(1)
	}
}

// Run sends spans until ctx ends, and then those that are left, for a moment.
func (e *Exporter) Run(ctx context.Context) {
	defer e.client.CloseIdleConnections()
	for ctx.Err() == nil {
		if batch := e.batch(ctx); len(batch) > 0 {
			e.send(ctx, batch)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for {
		batch := e.more(nil)
		if len(batch) == 0 {
			return
		}
		if _, err := e.post(ctx, batch); err != nil {
			e.lost(len(batch), err)
		}
	}
}

// batch waits for a span, and then a moment for more.
func (e *Exporter) batch(ctx context.Context) []*Span {
	var batch []*Span
	select {
	case s := <-e.queue:
		batch = append(batch, s)
	case <-ctx.Done():
		return nil
	}
	enough := time.NewTimer(gather)
	defer enough.Stop()
	for len(batch) < batchLength {
		select {
		case s := <-e.queue:
			batch = append(batch, s)
		case <-enough.C:
			return e.more(batch)
		case <-ctx.Done():
			return e.more(batch)
		}
	}
	return batch
}

// more adds what waits.
func (e *Exporter) more(batch []*Span) []*Span {
	for len(batch) < batchLength {
		select {
		case s := <-e.queue:
			batch = append(batch, s)
		default:
			return batch
		}
	}
	return batch
}

// send posts a batch, again and again while the collector is not there. What ends meanwhile waits in the queue as far as there is room.
// When ctx ends it is tried once more, and for no longer than that may take.
func (e *Exporter) send(ctx context.Context, batch []*Span) {
	for pause := e.first; ; pause = min(2*pause, longPause) {
		again, err := e.post(ctx, batch)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			if _, err = e.post(last, batch); err == nil {
				return
			}
			again = false
		}
		if !again {
			e.lost(len(batch), err)
			return
		}
		if pause == e.first { // once, however long it takes
			e.log().Warn("the collector of traces does not take spans; they are kept for it as far as there is room", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// lost counts spans that the collector did not take.
func (e *Exporter) lost(n int, err error) {
	e.dropped.Add(uint64(n)) //nolint:gosec // a length
	e.log().Warn("spans are lost", "error", err)
}

// log is for one line.
func (e *Exporter) log() *slog.Logger {
	_, dropped := e.Counts()
	return e.failing.Sparing(e.opt.Logger).With("endpoint", e.opt.Endpoint, "dropped", dropped)
}

// post posts a batch once. again tells whether it may be taken later: by the status, as OTLP says.
func (e *Exporter) post(ctx context.Context, batch []*Span) (again bool, err error) {
	body, _ := json.Marshal(e.encode(batch))                                                        // there are but texts in it
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, e.opt.Endpoint, bytes.NewReader(body)) // it is a URL
	r.Header.Set("Content-Type", "application/json")
	answer, err := e.client.Do(r)
	if err != nil {
		return true, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longAnswer))
	switch {
	case answer.StatusCode/100 == 2 && err == nil:
		return false, e.taken(len(batch), text)
	case answer.StatusCode/100 == 2:
		return false, err // it has them, perhaps
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return again, fmt.Errorf("the collector answered %s", answer.Status)
}

// taken counts spans that were taken, but for those that the answer says were not.
func (e *Exporter) taken(n int, answer []byte) error {
	var said struct {
		PartialSuccess struct {
			RejectedSpans json.Number `json:"rejectedSpans"`
			ErrorMessage  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	_ = json.Unmarshal(answer, &said) // some answer nothing
	rejected, _ := said.PartialSuccess.RejectedSpans.Int64()
	rejected = max(0, min(rejected, int64(n)))
	e.sent.Add(uint64(int64(n) - rejected))
	if rejected > 0 {
		e.lost(int(rejected), errors.New(said.PartialSuccess.ErrorMessage))
	}
	return nil
}
