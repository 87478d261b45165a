package exporter

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// Collector makes the metrics of one scrape; it is a prometheus.Collector.
type Collector struct {
	Service service.Service
	Run     snapshot.Dir // where it keeps its state
	Totals  string       // the file in which sums of counts outlive the process; empty: they do not
	Version string
	Logger  *slog.Logger

	keeper keeper
}

// descs are all metrics.
var descs []*prometheus.Desc

// define names a metric of fdt.
func define(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("fdt_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// ofWorker names a metric of each worker.
func ofWorker(name, help string, labels ...string) *prometheus.Desc {
	return define(name, help, append([]string{"generation", "slot"}, labels...)...)
}

// The metrics. fdt-metrics(8) has the same list.
var (
	buildInfo     = define("build_info", "Version of fdt-metrics; always 1.", "version")
	up            = define("up", "Whether a worker accepts connections.")
	masterUp      = define("master_up", "Whether the master runs; without it workers serve on.")
	generation    = define("generation", "The applied generation; 0 before the first start.")
	reloaded      = define("config_last_reload_successful", "Whether the configuration that was asked for last is the one that serves.")
	rollouts      = define("rollouts_total", "Rollouts by result, starts and restarts among them, since the host's boot.", "result")
	wanted        = define("workers_wanted", "Workers that the applied generation is configured to have.")
	workers       = define("workers", "Units of workers, of foreign programs too, by generation and state.", "generation", "state")
	listening     = define("socket_listening", "Whether systemd has a listening socket open.", "unit")
	queue         = define("listener_queue", "Connections in the kernel's queue that no worker has taken yet; of a unix socket 1 stands for any number.", "listener")
	expires       = define("certificate_expiry_timestamp_seconds", "When the certificate of a listener ends, that of the worker whose ends first.", "listener")
	inDoubt       = define("in_doubt", "Prepared transactions that wait for a decision.")
	oldest        = define("in_doubt_oldest_seconds", "For how long the oldest of them has been waiting; 0 if there is none.")
	unexplained   = define("branches_unexplained", "Branches that a resource holds though no log and no session explains them, and that recovery could not settle.")
	aside         = define("transaction_logs_aside", "Transaction logs that were put aside, as a copy or another machine's, with open transactions: an operator must adopt or abandon them.")
	scanned       = define("recovery_last_scan_timestamp_seconds", "When a worker that lives has last ended a scan for what dead workers left.")
	resourceUp    = define("resource_up", "Whether every worker of the newest generation that tells reaches the resource, and finds it fit for transactions.", "resource")
	resourceHeld  = define("resource_paused", "Whether an operator has paused the resource: transactions that need it wait.", "resource")
	resourceSince = define("resource_state_timestamp_seconds", "Since when that is so.", "resource")
	resourceTook  = define("resource_answer_seconds", "How long the resource took to answer when it was asked last, by the slowest of these workers.", "resource")
	resourceWarns = define("resource_warnings", "Settings of the resource that do not suit transactions; fdtctl status tells which.", "resource")
	resourceDoubt = define("resource_in_doubt", "Prepared transactions that wait for a decision and have a branch on the resource.", "resource")
	resourceWait  = define("resource_connections_waiting", "Transactions of all workers that wait for a connection to the resource.", "resource")
	resourceTold  = define("resource_decisions_pending", "Branches on the resource that are decided, and of which it has not been told yet.", "resource")
	workerUp      = ofWorker("worker_up", "Whether the worker answered on its control socket in time. Foreign programs have none.")
	workerStart   = ofWorker("worker_start_time_seconds", "When the worker started.")
	workerMemory  = ofWorker("worker_resident_memory_bytes", "Resident memory of the worker.")
	workerCPU     = ofWorker("worker_cpu_seconds_total", "Processor time of the worker, user and system.")
	workerThreads = ofWorker("worker_threads", "Connections that the worker serves at once.")
	connections   = ofWorker("connections", "Open connections by listener and state: busy ones have a request or a transaction open.", "listener", "state")
	reserved      = ofWorker("connections_reserved", "Open connections that wait for one of the worker's threads.")
	accepted      = define("connections_accepted_total", "Connections accepted.", "listener")
	drained       = define("connections_drained_total", "Connections that ended by themselves or by goodbye while the worker drained.")
	cut           = define("connections_cut_total", "Connections cut at the deadline of a drain.")
	fatal         = define("sessions_terminated_total", "Sessions that fdt refused or ended, by class of the SQLSTATE that the client was told.", "sqlstate_class")
	calls         = define("calls_total", "Calls by procedure and class of SQLSTATE, 00 for success; a transaction's end is not part of its calls.", "procedure", "sqlstate_class")
	duration      = define("call_duration_seconds", "How long calls took.", "procedure")
	transactions  = define("transactions_total", "Transactions of sessions that used a resource, by outcome.", "outcome")
	open          = ofWorker("transactions_open", "Transactions that sessions have open.")
	decisions     = define("decisions_total", "Decisions of clients on prepared transactions.", "decision")
	pending       = ofWorker("decisions_pending", "Decisions that a resource has not been told yet.")
	hazards       = define("heuristic_hazards_total", "Transactions whose outcome in a resource nothing proves, or is not the one decided.")
	forces        = define("log_force_duration_seconds", "How long callers waited for their record of the transaction log to be on disk.")
	poolUse       = ofWorker("resource_connections", "Connections to a resource that transactions use.", "resource")
	poolLimit     = ofWorker("resource_connections_max", "Connections to a resource that transactions may use.", "resource")
	spans         = define("trace_spans_total", "Spans of traces that the collector has taken, or that were dropped as it did not.", "outcome")
	exhausted     = define("resource_exhausted_total", "Transactions that found no free connection to a resource in time.", "resource")
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	f, err := gather(context.Background(), c.Service, c.Run)
	now := time.Now()
	sum, since, also := c.keeper.total(c.Totals, f, now)
	if err := errors.Join(err, also); err != nil {
		c.Logger.Warn("not everything about fdt could be found out", "error", err)
	}
	out{ch}.tell(f, c.Version, now)
	of{out: out{ch}, since: since}.counts(sum)
}

// out sends metrics.
type out struct{ ch chan<- prometheus.Metric }

// tell sends all that the facts tell.
func (o out) tell(f facts, version string, now time.Time) {
	o.gauge(buildInfo, 1, version)
	o.master(f)
	o.shared(f, now)
	o.resources(f.live)
	told := map[place]bool{}
	for _, w := range f.live {
		o.of(w).now(w)
		told[place{Generation: w.Generation, Slot: w.Slot}] = true
	}
	for _, p := range f.silent {
		o.gauge(workerUp, 0, strconv.Itoa(p.Generation), strconv.Itoa(p.Slot))
	}
	for _, w := range f.left {
		if !told[place{Generation: w.Generation, Slot: w.Slot}] { // else another lives in its place
			o.of(w).counter(workerCPU, w.CPU)
		}
	}
}

func (o out) gauge(d *prometheus.Desc, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (o out) counter(d *prometheus.Desc, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// of is a worker's part of out, or what all have counted. Its counters tell when they were zero, so that what they count before the first scrape
// is not lost to who understands that: created timestamps, in protobuf and OpenMetrics.
type of struct {
	out
	since  time.Time
	labels []string
}

func (o of) counter(d *prometheus.Desc, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(d, prometheus.CounterValue, v, o.since, append(o.labels, labels...)...)
}

func (o of) gauge(d *prometheus.Desc, v float64, labels ...string) {
	o.out.gauge(d, v, append(o.labels, labels...)...)
}

func (o of) histogram(d *prometheus.Desc, v meter.Distribution, labels ...string) {
	count, buckets := v.Cumulative()
	o.ch <- native{prometheus.MustNewConstHistogramWithCreatedTimestamp(d, count, v.Sum, buckets, o.since, append(o.labels, labels...)...), v}
}

// native is a histogram that is a native one, too: who asks for protobuf gets both, and the other formats have the usual buckets alone.
type native struct {
	prometheus.Metric
	of meter.Distribution
}

// Write is prometheus.Metric's.
func (n native) Write(m *dto.Metric) error {
	err := n.Metric.Write(m)
	zero, buckets := n.of.Native()
	h := m.Histogram
	h.Schema, h.ZeroThreshold, h.ZeroCount = new(int32(meter.Schema)), new(meter.Zero), new(zero)
	last, was := math.MinInt32, int64(0)
	for _, at := range slices.Sorted(maps.Keys(buckets)) {
		if at == last+1 {
			*h.PositiveSpan[len(h.PositiveSpan)-1].Length++
		} else {
			gap := at - last - 1
			if len(h.PositiveSpan) == 0 {
				gap = at
			}
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: new(int32(gap)), Length: new(uint32(1))}) //nolint:gosec // a few hundred
		}
		count := int64(buckets[at]) //nolint:gosec // of calls
		h.PositiveDelta = append(h.PositiveDelta, count-was)
		last, was = at, count
	}
	if len(buckets) == 0 { // by this one of which there is nothing is known as a native one
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
	return err
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// master tells what units and the master's state show. Of what systemd did not tell nothing is said.
func (o out) master(f facts) {
	o.gauge(generation, float64(f.state.Applied))
	o.gauge(reloaded, truth(!f.state.Rejected))
	o.counter(rollouts, float64(f.state.Rollouts.Applied), "applied")
	o.counter(rollouts, float64(f.state.Rollouts.Failed), "failed")
	o.counter(rollouts, float64(f.state.Rollouts.Rejected), "rejected")
	o.gauge(wanted, float64(f.state.Wanted))
	if f.units == nil {
		o.gauge(up, truth(len(f.live) > 0))
		return
	}
	running, serving := false, false
	perState := map[int]map[string]int{}
	if f.state.Applied != 0 {
		perState[f.state.Applied] = map[string]int{}
	}
	for _, u := range f.units {
		gen, _, isWorker := f.svc.ParseWorker(u.Name)
		switch {
		case u.Name == f.svc.Master():
			running = u.Active == "active" || u.Active == "reloading"
		case isWorker:
			state := fleet.State(u)
			serving = serving || state == "ready"
			if state == "" {
				continue // only a name
			}
			if perState[gen] == nil {
				perState[gen] = map[string]int{}
			}
			perState[gen][state]++
		case strings.HasSuffix(u.Name, ".socket"):
			o.gauge(listening, truth(u.Active == "active"), u.Name)
		}
	}
	o.gauge(up, truth(serving))
	o.gauge(masterUp, truth(running))
	for gen, n := range perState {
		for _, state := range fleet.States {
			o.gauge(workers, float64(n[state]), strconv.Itoa(gen), state)
		}
	}
}

// shared tells what all workers tell alike, if there is one.
func (o out) shared(f facts, now time.Time) {
	if len(f.live) == 0 {
		return
	}
	count, put, odd, since, last := 0, 0, 0, time.Time{}, time.Time{}
	queues, ends := map[string]int{}, map[string]time.Time{}
	for _, w := range f.live {
		count, put, odd = max(count, w.InDoubt), max(put, w.Aside), max(odd, w.Unexplained)
		if since.IsZero() || !w.Oldest.IsZero() && w.Oldest.Before(since) {
			since = w.Oldest
		}
		if w.Scanned.After(last) {
			last = w.Scanned
		}
		for name, l := range w.Listeners {
			queues[name] = max(queues[name], l.Queue)
			if first := ends[name]; !l.Expires.IsZero() && (first.IsZero() || l.Expires.Before(first)) {
				ends[name] = l.Expires
			}
		}
	}
	o.gauge(inDoubt, float64(count))
	age := time.Duration(0)
	if !since.IsZero() {
		age = max(0, now.Sub(since))
	}
	o.gauge(oldest, age.Seconds())
	o.gauge(aside, float64(put))
	o.gauge(unexplained, float64(odd))
	if !last.IsZero() {
		o.gauge(scanned, seconds(last))
	}
	for name, n := range queues {
		o.gauge(queue, float64(n), name)
	}
	for name, at := range ends {
		o.gauge(expires, seconds(at), name)
	}
}

// resources tells of each resource once, however many workers there are. How it fares the newest generation says; what the others
// still want of it counts, too.
func (o out) resources(live []meter.Worker) {
	newest := 0
	for _, w := range live {
		newest = max(newest, w.Generation)
	}
	all := map[string]meter.Resource{}
	for _, w := range live {
		for name, r := range w.Resources {
			is, known := all[name]
			is.Waiting += r.Waiting
			is.Untold += r.Untold
			is.InDoubt = max(is.InDoubt, r.InDoubt)
			if w.Generation == newest && r.State != "" && r.State != control.ResourceUnknown {
				up, was := r.State == control.ResourceReachable, is.State == control.ResourceReachable
				if !known || is.State == "" || was && !up || up == was && r.Since.Before(is.Since) {
					is.State, is.Since = r.State, r.Since
				}
				is.Latency, is.Warnings = max(is.Latency, r.Latency), max(is.Warnings, r.Warnings)
			}
			all[name] = is
		}
	}
	for name, r := range all {
		o.gauge(resourceDoubt, float64(r.InDoubt), name)
		o.gauge(resourceWait, float64(r.Waiting), name)
		o.gauge(resourceTold, float64(r.Untold), name)
		if r.State == "" {
			continue // nobody has asked it yet
		}
		o.gauge(resourceUp, truth(r.State == control.ResourceReachable), name)
		o.gauge(resourceHeld, truth(r.State == control.ResourcePausing || r.State == control.ResourcePaused), name)
		o.gauge(resourceSince, seconds(r.Since), name)
		o.gauge(resourceTook, r.Latency, name)
		o.gauge(resourceWarns, float64(r.Warnings), name)
	}
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// of is for what a worker tells.
func (o out) of(w meter.Worker) of {
	labels := []string{strconv.Itoa(w.Generation), strconv.Itoa(w.Slot)}
	return of{out: o, since: w.Started, labels: slices.Clip(labels)}
}

// now tells the numbers of this moment of a worker that lives.
func (o of) now(w meter.Worker) {
	o.gauge(workerUp, 1)
	o.gauge(workerStart, seconds(w.Started))
	o.gauge(workerMemory, float64(w.Memory))
	o.counter(workerCPU, w.CPU)
	o.gauge(workerThreads, float64(w.Threads))
	o.gauge(reserved, float64(w.Reserve))
	o.gauge(open, float64(w.Open))
	o.gauge(pending, float64(w.Pending))
	for name, l := range w.Listeners {
		o.gauge(connections, float64(l.Busy), name, "busy")
		o.gauge(connections, float64(l.Idle), name, "idle")
	}
	for name, r := range w.Resources {
		if r.Limit > 0 {
			o.gauge(poolUse, float64(r.InUse), name)
			o.gauge(poolLimit, float64(r.Limit), name)
		}
	}
}

// counts tells what workers have counted. Those of a few known names are told before they first count.
func (o of) counts(w meter.Worker) {
	o.counter(drained, float64(w.Drained))
	o.counter(cut, float64(w.Cut))
	o.counter(hazards, float64(w.Hazards))
	o.histogram(forces, w.Forces)
	for name, l := range w.Listeners {
		o.counter(accepted, float64(l.Accepted), name)
	}
	for class, n := range w.Fatal {
		o.counter(fatal, float64(n), class)
	}
	for name, c := range w.Calls {
		if n, _ := c.Duration.Cumulative(); n > 0 { // what was never called has no durations to tell, in a dozen series
			o.histogram(duration, c.Duration, name)
		}
		for class, n := range c.Classes {
			o.counter(calls, float64(n), name, class)
		}
	}
	o.byName(transactions, w.Transactions, "committed", "rolled_back", "prepared", "unknown")
	o.byName(decisions, w.Decisions, "commit", "abort")
	o.byName(spans, w.Spans)
	for name, r := range w.Resources {
		o.counter(exhausted, float64(r.Exhausted), name)
	}
}

// byName tells counts by name, of names that are known in advance too.
func (o of) byName(d *prometheus.Desc, n map[string]uint64, known ...string) {
	for name, v := range n {
		o.counter(d, float64(v), name)
	}
	for _, name := range known {
		if _, told := n[name]; !told {
			o.counter(d, 0, name)
		}
	}
}
