package scenario

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/fdtserver/fdt/test/load"
)

// Addresses of the metrics, of which the second comes in the first one's place.
const (
	metricsOne = "127.0.0.1:9432"
	metricsTwo = "[::1]:9433"
)

func metrics(ctx context.Context, s *Stage) error {
	for _, part := range []func(context.Context, *Stage) error{metricsTold, metricsMove, metricsHung, metricsDrained, metricsMoved, metricsDelayed, metricsStopped} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return s.roll(ctx, settings{})
}

// exposition is what one scrape told.
type exposition struct {
	text     string
	families map[string]*dto.MetricFamily
	took     time.Duration
}

// page gets a page at an address inside.
func (s *Stage) page(ctx context.Context, address, path string) (code int, text string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.Bed.Dial(ctx, "tcp", address)
	}}}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	r, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	return r.StatusCode, string(raw), err
}

// readiness has a balancer's two questions asked, of which one is asked by a user without any right.
func (s *Stage) readiness(ctx context.Context, address, when string, ready bool) error {
	code, text, err := s.page(ctx, address, "/ready")
	if err != nil {
		return err
	}
	out, err := s.quiet(ctx, "runuser -u nobody -- fdtctl ready; echo exit $?")
	want, exit := http.StatusServiceUnavailable, "exit 1"
	if ready {
		want, exit = http.StatusOK, "exit 0"
	}
	s.check(err == nil && code == want && strings.TrimSpace(out) == strings.TrimSpace(text)+"\n"+exit, when+": /ready and fdtctl ready say so to whoever asks",
		"%d %s, %s", code, strings.TrimSpace(text), strings.Join(strings.Fields(out), " "))
	return err
}

// scrape gets the metrics at an address inside.
func (s *Stage) scrape(ctx context.Context, address string) (exposition, error) {
	began := time.Now()
	code, text, err := s.page(ctx, address, "/metrics")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d: %s", code, text)
	}
	e := exposition{text: text, took: time.Since(began)}
	if err == nil {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		e.families, err = parser.TextToMetricFamilies(strings.NewReader(e.text))
	}
	return e, err
}

// sum adds up the series of a metric whose labels have these values; of a histogram, how many it has counted.
func (e exposition) sum(name string, labels ...string) (sum float64) {
	for _, m := range e.families["fdt_"+name].GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !have[l] }) {
			continue
		}
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// metricsTold: the first scrape starts the service, which has little to lose, and tells what promtool likes.
func metricsTold(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{metrics: metricsOne}); err != nil {
		return err
	}
	out, err := s.quiet(ctx, "systemctl is-active 'fdt-metrics@*.service'")
	s.check(err != nil, "the metrics' service waits for the first scrape", "%s", strings.TrimSpace(out))
	e, err := s.scrape(ctx, metricsOne)
	if err != nil {
		return err
	}
	problems, err := promlint.New(strings.NewReader(e.text)).Lint()
	s.check(err == nil && len(problems) == 0, "promtool's rules find nothing in the exposition", "%v %v, %d metrics", problems, err, len(e.families))
	s.check(e.sum("up") == 1 && e.sum("master_up") == 1 && e.sum("workers", "state=ready") == 2 && e.sum("workers_wanted") == 2 &&
		e.sum("worker_up") == 2 && e.sum("socket_listening") == 1 && e.sum("config_last_reload_successful") == 1,
		"it tells that all is well", "up %g, %g of %g workers, %g answer", e.sum("up"), e.sum("workers", "state=ready"), e.sum("workers_wanted"), e.sum("worker_up"))
	s.check(e.sum("resource_up", "resource=outbox") == 1 && e.sum("resource_in_doubt") == 0, "and of the resource, once for all workers", "%g up", e.sum("resource_up"))
	if err := s.readiness(ctx, metricsOne, "while it serves", true); err != nil {
		return err
	}
	out, err = s.must(ctx, "systemd-analyze security --threshold=9 'fdt-metrics@tcp4-127.0.0.1-9432.service' | tail -n 1; ps -o user= -C fdt-metrics")
	s.check(err == nil && !strings.Contains(out, "root"), "its exposure is below 1.0, and it is not root", "%s", strings.Join(strings.Fields(out), " "))
	return err
}

// metricsMove: calls and transactions are counted, each once, whichever worker served them.
func metricsMove(ctx context.Context, s *Stage) error {
	before, err := s.scrape(ctx, metricsOne)
	if err != nil {
		return err
	}
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do("CALL enqueue('m1'); CALL enqueue('m2'); BEGIN; CALL enqueue('m3'); PREPARE TRANSACTION 'measured'; BEGIN; CALL enqueue('m4');"); err != nil {
		return err
	}
	e, err := s.scrape(ctx, metricsOne)
	if err != nil {
		return err
	}
	grown := func(name string, labels ...string) float64 {
		return e.sum(name, labels...) - before.sum(name, labels...)
	}
	s.check(grown("calls_total", "procedure=enqueue", "sqlstate_class=00") == 4 && grown("call_duration_seconds", "procedure=enqueue") == 4,
		"four calls are counted, and timed", "%g, %g", grown("calls_total", "sqlstate_class=00"), grown("call_duration_seconds"))
	s.check(grown("transactions_total", "outcome=committed") == 2 && grown("transactions_total", "outcome=prepared") == 1 && grown("transactions_open") == 1,
		"so are transactions by outcome", "%g committed, %g prepared, %g open", grown("transactions_total", "outcome=committed"),
		grown("transactions_total", "outcome=prepared"), grown("transactions_open"))
	s.check(e.sum("in_doubt") == 1 && e.sum("in_doubt_oldest_seconds") > 0 && grown("log_force_duration_seconds") >= 1, "the prepared one is in doubt, and its vote was forced",
		"%g in doubt, %g forced", e.sum("in_doubt"), grown("log_force_duration_seconds"))
	s.check(e.sum("connections", "listener=local", "state=busy") == 1, "the open one's connection is busy", "%g", e.sum("connections", "state=busy"))
	if _, err := c.do("ROLLBACK; COMMIT PREPARED 'measured';"); err != nil {
		return err
	}
	if e, err = s.scrape(ctx, metricsOne); err != nil {
		return err
	}
	s.check(grown("decisions_total", "decision=commit") == 1 && grown("transactions_total", "outcome=rolled_back") == 1,
		"and decisions", "%g commit, %g rolled back", grown("decisions_total", "decision=commit"), grown("transactions_total", "outcome=rolled_back"))
	return c.kill()
}

// metricsHung: a worker that does not answer is told as such, in time, beside the others.
func metricsHung(ctx context.Context, s *Stage) error {
	units, err := s.workerUnits(ctx, "active")
	if err != nil {
		return err
	}
	worker := "$(systemctl show -P MainPID fdt-worker@" + units[0] + ".service)"
	if _, err := s.must(ctx, Stand+"stand "+worker); err != nil {
		return err
	}
	e, err := s.scrape(ctx, metricsOne)
	if _, cerr := s.must(ctx, "kill -CONT "+worker); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	s.check(e.sum("worker_up") == 1 && len(e.families["fdt_worker_up"].GetMetric()) == 2, "of two workers one hangs: the other one's numbers are told",
		"%g of 2 answer, after %s", e.sum("worker_up"), e.took.Round(time.Millisecond))
	return nil
}

// metricsDrained: what workers counted at their very end is told after it.
func metricsDrained(ctx context.Context, s *Stage) error {
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do("CALL enqueue('m5');"); err != nil {
		return err
	}
	before, err := s.scrape(ctx, metricsOne)
	if err != nil {
		return err
	}
	if err := s.roll(ctx, settings{metrics: metricsOne}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	e, err := s.scrape(ctx, metricsOne)
	if err != nil {
		return err
	}
	old := fmt.Sprintf("generation=%g", before.sum("generation"))
	s.check(e.sum("connections_drained_total") == before.sum("connections_drained_total") && e.sum("calls_total") == before.sum("calls_total") && e.sum("worker_up", old) == 0,
		"what a worker has counted is told though it is gone, and its idle session has moved", "%g drained of %g, %g calls of %g",
		e.sum("connections_drained_total"), before.sum("connections_drained_total"), e.sum("calls_total"), before.sum("calls_total"))
	if _, err := s.must(ctx, "systemctl kill --signal=KILL 'fdt-metrics@*.service'"); err != nil {
		return err
	}
	if _, err := until(ctx, "another fdt-metrics answers", func() (bool, error) {
		e, err = s.scrape(ctx, metricsOne)
		return err == nil, nil
	}); err != nil {
		return err
	}
	s.check(e.sum("calls_total") == before.sum("calls_total") && e.sum("connections_drained_total") == before.sum("connections_drained_total"),
		"sums of counts outlive who tells them", "%g calls of %g", e.sum("calls_total"), before.sum("calls_total"))
	s.check(e.sum("rollouts_total", "result=applied") == before.sum("rollouts_total", "result=applied")+1, "so is the reload", "%g", e.sum("rollouts_total"))
	return c.kill()
}

// metricsMoved: the address changes by reload alone; one that is in use fails the reload.
func metricsMoved(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{metrics: metricsTwo}); err != nil {
		return err
	}
	_, err := until(ctx, "the old address is closed", func() (bool, error) {
		_, err := s.scrape(ctx, metricsOne)
		return err != nil, nil
	})
	e, after := s.scrape(ctx, metricsTwo)
	s.check(err == nil && after == nil && e.sum("up") == 1, "another address of the metrics comes with a reload, in place of the old one", "%v, %v", err, after)

	if err := s.configure(ctx, settings{metrics: "127.0.0.1:9500"}); err != nil {
		return err
	}
	taken, err := s.start(ctx, "exec socat TCP4-LISTEN:9500,bind=127.0.0.1 /dev/null")
	if err != nil {
		return err
	}
	if _, err := until(ctx, "somebody has the address", func() (bool, error) {
		out, err := s.quiet(ctx, "ss -ltnH sport = :9500")
		return out != "", err
	}); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl reload")
	e, after = s.scrape(ctx, metricsTwo)
	s.check(err != nil && strings.Contains(out, "9500") && after == nil && e.sum("rollouts_total", "result=failed") >= 1 && e.sum("config_last_reload_successful") == 0,
		"an address that is in use fails the reload, and the old one tells so", "%s; %g failed", grep(out, "9500"), e.sum("rollouts_total", "result=failed"))
	if err := taken.kill(); err != nil {
		return err
	}
	return s.roll(ctx, settings{metrics: metricsTwo})
}

// metricsDelayed: with drain.delay a stop tells balancers while clients are still served; a start calls it off.
func metricsDelayed(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{metrics: metricsTwo, drain: "{idle: 2s, delay: 10m}"}); err != nil {
		return err
	}
	before, err := s.settled(ctx)
	if err != nil {
		return err
	}
	knock := load.Connecting(ctx, s.target(), 2, connectingPace)
	stopping, err := s.start(ctx, "systemctl stop fdt")
	if err != nil {
		return err
	}
	if err := s.stopSeen(ctx); err != nil {
		return err
	}
	if err := s.readiness(ctx, metricsTwo, "within drain.delay", false); err != nil {
		return err
	}
	served := knock.Progress()
	if _, err := until(ctx, "clients are served", func() (bool, error) { return knock.Progress() > served+20, nil }); err != nil {
		return err
	}
	out, err := s.must(ctx, "systemctl show -P StatusText fdt-stop.service; systemctl show -P NRestarts fdt; systemctl start fdt")
	if err != nil {
		return err
	}
	_ = stopping.wait() // systemctl says that its job was cancelled
	if err := s.readiness(ctx, metricsTwo, "after a start within drain.delay", true); err != nil {
		return err
	}
	after, err := s.settled(ctx)
	lost := knock.Stop().Lost()
	s.check(err == nil && before == after && len(lost) == 0, "within drain.delay clients are served, and a start calls the stop off without any of them noticing",
		"generation %d and %d, %d clients lost; %s", before, after, len(lost), strings.Join(strings.Fields(out), " "))
	if err != nil {
		return err
	}

	if err := s.roll(ctx, settings{metrics: metricsTwo, drain: "{idle: 2s, delay: 15s}"}); err != nil {
		return err
	}
	knock = load.Connecting(ctx, s.target(), 2, connectingPace)
	if stopping, err = s.start(ctx, "systemctl stop fdt"); err != nil {
		return err
	}
	if err := s.stopSeen(ctx); err != nil {
		return err
	}
	if _, err := until(ctx, "new connections are refused", func() (bool, error) { ok, _ := s.refused(ctx); return ok, nil }); err != nil {
		return err
	}
	s.servedOrRefused(knock.Stop(), "a stop with drain.delay")
	if err := stopping.wait(); err != nil {
		return fmt.Errorf("systemctl stop: %w", err)
	}
	if err := s.gone(ctx, "a stop with drain.delay"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	return s.roll(ctx, settings{metrics: metricsTwo})
}

// stopSeen waits until who asks is told that fdt is being stopped, and claims that a client is served all the same.
func (s *Stage) stopSeen(ctx context.Context) error {
	_, err := until(ctx, "fdtctl ready says that fdt is being stopped", func() (bool, error) {
		out, err := s.quiet(ctx, "fdtctl ready")
		return strings.Contains(out, "being stopped"), ignoreExit(err)
	})
	how := s.asked(ctx, s.target())
	s.check(err == nil && how == "served", "a balancer knows of the stop while a new client is served", "%s, %v", how, err)
	return err
}

// metricsStopped: a stopped fdt is told as such, and no scrape starts it; without an address there is nothing.
func metricsStopped(ctx context.Context, s *Stage) error {
	if _, err := s.must(ctx, "systemctl stop fdt; systemctl stop 'fdt-metrics@*.service'"); err != nil {
		return err
	}
	e, err := s.scrape(ctx, metricsTwo)
	if err != nil {
		return err
	}
	again, err := s.scrape(ctx, metricsTwo)
	left, rerr := s.remains(ctx)
	s.check(err == nil && e.sum("up")+again.sum("up")+e.sum("master_up") == 0 && len(e.families["fdt_up"].GetMetric()) == 1,
		"of a stopped fdt the metrics tell that it is down", "up %g, %g workers answer", again.sum("up"), again.sum("worker_up"))
	s.check(rerr == nil && left == "", "and the scrape has started nothing of it", "%q runs", left)
	if err := s.readiness(ctx, metricsTwo, "while it is stopped", false); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	var out string
	_, err = until(ctx, "the metrics' units are gone", func() (bool, error) {
		out, err = s.quiet(ctx, "systemctl list-units --all --plain --no-legend 'fdt-metrics@*'")
		return out == "", err
	})
	_, closed := s.scrape(ctx, metricsTwo)
	s.check(err == nil && closed != nil, "without an address nothing of the metrics is left", "%q, %v", out, closed)
	return nil
}
