package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testgolden"
	"github.com/fdtserver/fdt/internal/testwait"
)

var noon = time.Unix(1e9, 0)

// busy is a worker that has done one of each.
func busy(generation, slot int) meter.Worker {
	var h meter.Histogram
	h.Observe(3 * time.Millisecond)
	h.Observe(time.Minute)
	return meter.Worker{
		Generation: generation, Slot: slot, Started: noon.Add(-time.Hour), Memory: 20 << 20, CPU: 1.5, Threads: 256, Reserve: 2,
		Listeners: map[string]meter.Listener{"local": {Accepted: 9, Busy: 2, Idle: 3, Queue: slot},
			"public": {Expires: noon.Add(time.Duration(slot) * time.Hour)}},
		Drained: 4, Cut: 1, Fatal: map[string]uint64{"57": 2},
		Calls:        map[string]meter.Calls{"transfer": {Classes: map[string]uint64{"00": 7, "P0": 1}, Duration: h.Read()}, "never": {Duration: new(meter.Histogram).Read()}},
		Transactions: map[string]uint64{"committed": 6, "rolled_back": 1}, Open: 2, Decisions: map[string]uint64{"commit": 1}, Pending: 1, Hazards: 1, Spans: map[string]uint64{"sent": 5, "dropped": 1},
		Forces: h.Read(), InDoubt: 3, Aside: slot, Unexplained: slot, Oldest: noon.Add(-time.Duration(slot) * time.Minute), Scanned: noon.Add(-time.Duration(slot) * time.Second),
		Resources: map[string]meter.Resource{"bank": {InUse: 3, Limit: 32, Waiting: 2, Exhausted: 1, State: []string{"unfit", "reachable"}[slot%2],
			Since: noon.Add(-time.Duration(slot) * time.Hour), Latency: float64(slot) / 1000, Warnings: slot, InDoubt: 2, Untold: 1}, "outbox": {State: "unknown"}},
	}
}

// fixed tells given facts.
type fixed struct {
	*Collector
	f facts
}

func (c fixed) Collect(ch chan<- prometheus.Metric) {
	out{ch}.tell(c.f, "1.2.3", noon)
	sum, since, _ := c.keeper.total("", c.f, noon) // without a file it does not fail
	of{out: out{ch}, since: since}.counts(sum)
}

func text(t *testing.T, f facts) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fixed{new(Collector), f})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&b, family); err != nil {
			t.Fatal(err)
		}
	}
	lint(t, b.Bytes())
	return b.String()
}

// lint is promtool check metrics.
func lint(t *testing.T, exposition []byte) {
	t.Helper()
	problems, err := promlint.New(bytes.NewReader(exposition)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestExposition(t *testing.T) {
	unit := func(name, active, sub, job string) fleet.Unit {
		return fleet.Unit{Name: name, Active: active, Sub: sub, JobType: job}
	}
	for name, f := range map[string]facts{
		"serving": {
			units: []fleet.Unit{
				unit("fdt.service", "active", "running", ""), unit("fdt-listen@a.socket", "active", "running", ""),
				unit("fdt-listen@b.socket", "failed", "failed", ""), unit("fdt-worker@7-1.service", "active", "running", ""),
				unit("fdt-worker@7-2.service", "activating", "auto-restart", ""), unit("fdt-worker@7-3.service", "activating", "start", "start"),
				unit("fdt-worker@6-1.service", "deactivating", "stop-sigterm", ""), unit("fdt-worker@5-1.service", "inactive", "dead", ""),
			},
			state: snapshot.Counts{Applied: 7, Wanted: 3, Rejected: true, Rollouts: snapshot.Rollouts{Applied: 7, Failed: 2, Rejected: 1}},
			live:  []meter.Worker{busy(7, 1), busy(7, 2)}, silent: []place{{Generation: 6, Slot: 1}}, left: []meter.Worker{busy(6, 2)},
		},
		"stopped": {units: []fleet.Unit{unit("fdt.service", "inactive", "dead", "")}, state: snapshot.Counts{Applied: 7, Wanted: 3}},
		"blind":   {live: []meter.Worker{{Generation: 1, Slot: 1}}},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			got, file := text(t, f), filepath.Join("testdata", name+".golden")
			testgolden.Compare(t, file, got)
		})
	}
}

// TestCreated: a worker's counters tell that they were zero when it started; the text format has no place for that.
func TestCreated(t *testing.T) {
	w := busy(7, 1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fixed{new(Collector), facts{live: []meter.Worker{w}}})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			created := m.GetCounter().GetCreatedTimestamp()
			if m.GetHistogram() != nil {
				created = m.GetHistogram().GetCreatedTimestamp()
			}
			if created == nil {
				continue
			}
			seen++
			if !created.AsTime().Equal(w.Started) {
				t.Errorf("%s was zero at %s", f.GetName(), created.AsTime())
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d tell", seen)
	}
}

// site is a directory that stands for /run/fdt.
func site(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdt") // short, for unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "metrics"), 0o700), os.Mkdir(filepath.Join(dir, "etc"), 0o700),
		os.WriteFile(filepath.Join(dir, "etc", "config.yaml"), []byte("workers: {count: 3}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve answers on a worker's control socket until the test ends.
func serve(t *testing.T, dir, instance string, answer func(context.Context) (any, error)) {
	t.Helper()
	l, err := control.Listen(filepath.Join(dir, "metrics", instance+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Handlers: control.Handlers{control.OpMetrics: func(ctx context.Context, _ json.RawMessage) (any, error) { return answer(ctx) }}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Close(); wg.Wait() })
}

// scrape gets a page from a server of the directory.
func scrape(t *testing.T, dir, path string) (code int, body, log string) {
	t.Helper()
	var said bytes.Buffer
	s := NewServer(&Collector{Run: snapshot.Dir(dir), Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(&said, nil))})
	r := httptest.NewRecorder()
	s.Handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
	return r.Code, r.Body.String(), said.String()
}

// has demands lines of the exposition.
func has(t *testing.T, body string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+body, "\n"+line+"\n") {
			t.Errorf("there is no %s in\n%s", line, body)
		}
	}
}

// TestScrape: one worker answers, one hangs, one was killed, one has just ended, and the bus hangs, too.
// The scrape ends in time and tells what there is.
func TestScrape(t *testing.T) {
	dir := site(t)
	run := snapshot.Dir(dir)
	if err := errors.Join(run.Take(7, filepath.Join(dir, "etc")), run.WriteState(snapshot.State{Next: 8, Applied: 7})); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, "7-1", func(context.Context) (any, error) { return busy(7, 1), nil })
	serve(t, dir, "7-2", func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
	serve(t, dir, "odd", func(context.Context) (any, error) { return busy(9, 9), nil })
	last := busy(7, 1)
	last.Cut, last.Started = 99, noon.Add(-2*time.Hour) // of an earlier life
	for _, w := range []meter.Worker{last, busy(6, 1)} {
		if err := meter.Leave(filepath.Join(dir, "metrics"), w); err != nil {
			t.Fatal(err)
		}
	}
	bus, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	killed, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "metrics", "3-1.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	killed.SetUnlinkOnClose(false)
	killed.Close()
	defer bus.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+bus.Addr().String())

	code, body, log := scrape(t, dir, "/metrics")
	if code != http.StatusOK || !strings.Contains(log, "7-2.sock metrics: no answer within 2s") || !strings.Contains(log, "ask systemd for units: ") {
		t.Errorf("%d, %s", code, log)
	}
	lint(t, []byte(body))
	has(t, body, `fdt_up 1`, `fdt_generation 7`, `fdt_workers_wanted 3`, `fdt_worker_up{generation="7",slot="1"} 1`, `fdt_worker_up{generation="7",slot="2"} 0`,
		`fdt_connections_cut_total 101`)
	if strings.Contains(body, "fdt_master_up ") || strings.Contains(body, `fdt_worker_up{generation="6"`) ||
		strings.Contains(body, `generation="9"`) || strings.Contains(body, `generation="3"`) {
		t.Errorf("it tells what it cannot know:\n%s", body)
	}
}

// TestNothing: before the first start there is nothing to tell, and that is told.
func TestNothing(t *testing.T) {
	dir := site(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/none")
	code, body, log := scrape(t, dir, "/metrics")
	if code != http.StatusOK || strings.Contains(log, "counts.json") {
		t.Errorf("%d, %s", code, log)
	}
	has(t, body, `fdt_up 0`, `fdt_generation 0`, `fdt_build_info{version="1.2.3"} 1`)
	for path, want := range map[string]struct {
		code int
		says string
	}{
		"/": {http.StatusOK, "<h1>fdt 1.2.3</h1>"}, "/metrics/x": {http.StatusNotFound, ""},
		"/ready": {http.StatusServiceUnavailable, "not ready: ask systemd for units: "},
	} {
		if code, body, _ := scrape(t, dir, path); code != want.code || !strings.Contains(body, want.says) {
			t.Errorf("%s is answered with %d %s", path, code, body)
		}
	}
	for name, text := range map[string]string{"counts.json": "{", "metrics/1-1.last": "{"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, body, log := scrape(t, dir, "/metrics"); code != http.StatusOK || !strings.Contains(log, filepath.Base(name)) {
			t.Errorf("%s: %d, %s\n%s", name, code, log, body)
		}
	}
}

// TestManyScrapes: more than a few at once are refused, and the ones that are let in all answered.
func TestManyScrapes(t *testing.T) {
	dir := site(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/none")
	asked, release := make(chan struct{}, 100), make(chan struct{})
	serve(t, dir, "1-1", func(context.Context) (any, error) {
		asked <- struct{}{}
		<-release
		return busy(1, 1), nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(&Collector{Run: snapshot.Dir(dir), Logger: slog.New(slog.DiscardHandler)})
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	defer func() { s.Close(); wg.Wait() }()
	codes := make(chan int, atOnce)
	get := func() int {
		r, err := http.Get("http://" + l.Addr().String() + "/metrics")
		if err != nil {
			t.Error(err)
			return 0
		}
		defer r.Body.Close()
		_, _ = io.Copy(io.Discard, r.Body)
		return r.StatusCode
	}
	for range atOnce {
		wg.Go(func() { codes <- get() })
		testwait.For(t, "the question to the worker", asked)
	}
	if code := get(); code != http.StatusServiceUnavailable {
		t.Errorf("one too many is answered with %d", code)
	}
	close(release)
	for range atOnce {
		if code := testwait.For(t, "the answer", codes); code != http.StatusOK {
			t.Errorf("a scrape is answered with %d", code)
		}
	}
}

// TestReady has the word of package fleet as HTTP has it.
func TestReady(t *testing.T) {
	for want, units := range map[string][]fleet.Unit{
		"200 ready; paused: a, b\n":                      {{Name: "fdt-listen@a.socket", Active: "active"}, {Name: "fdt-worker@1-1.service", Active: "active"}},
		"503 not ready: no worker accepts connections\n": {{Name: "fdt-listen@a.socket", Active: "active"}},
	} {
		r := httptest.NewRecorder()
		ready(r, service.Default, func() ([]fleet.Unit, error) { return units, nil },
			func() (map[string]snapshot.Pause, error) { return map[string]snapshot.Pause{"b": {}, "a": {}}, nil })
		if got := fmt.Sprint(r.Code, " ", r.Body); got != want || r.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
