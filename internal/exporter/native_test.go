package exporter

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestNativeHistograms has Prometheus itself scrape: where it takes native histograms it has those, with their finer buckets, and else the
// usual ones.
func TestNativeHistograms(t *testing.T) {
	w := busy(7, 1)
	var h meter.Histogram
	for i := range 1000 { // 1.001 ms to 2 ms, all within one of the usual buckets
		h.Observe(time.Millisecond + time.Duration(i+1)*time.Microsecond)
	}
	w.Calls = map[string]meter.Calls{"transfer": {Classes: map[string]uint64{"00": 1000}, Duration: h.Read()}}
	w.Forces = meter.Distribution{}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fixed{new(Collector), facts{live: []meter.Worker{w}}})
	exporter := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer exporter.Close()
	for name, c := range map[string]struct {
		flags []string
		query string
		low   float64
		high  float64
	}{
		"native":  {[]string{"--enable-feature=native-histograms"}, "histogram_quantile(0.5, fdt_call_duration_seconds)", 0.00145, 0.0016},
		"count":   {[]string{"--enable-feature=native-histograms"}, "histogram_count(fdt_call_duration_seconds)", 1000, 1000},
		"nothing": {[]string{"--enable-feature=native-histograms"}, "histogram_count(fdt_log_force_duration_seconds)", 0, 0},
		"usual":   {nil, `fdt_call_duration_seconds_bucket{le="0.0025"} - ignoring(le) fdt_call_duration_seconds_bucket{le="0.001"}`, 1000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := asked(t, exporter.Listener.Addr().String(), c.query, c.flags); got < c.low || got > c.high {
				t.Errorf("%s is %v", c.query, got)
			}
		})
	}
}

// asked has a Prometheus scrape the exporter, and returns its answer to a query, as soon as there is one.
func asked(t *testing.T, target, query string, flags []string) float64 {
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs: [{job_name: fdt, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]", target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String() // likely to be free for a moment more
	l.Close()
	p := exec.Command("prometheus", append(flags, "--config.file="+file, "--storage.tsdb.path="+dir, "--web.listen-address="+address, "--log.level=error")...)
	p.Stderr = t.Output()
	if err := p.Start(); err != nil {
		t.Fatalf("%v (it is in Debian's prometheus)", err)
	}
	defer func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	}()
	var value float64
	testwait.Until(t, "Prometheus answers", func() bool {
		r, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			return false
		}
		defer r.Body.Close()
		var answer struct {
			Data struct{ Result []struct{ Value []any } }
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &answer) != nil || len(answer.Data.Result) != 1 {
			return false
		}
		value, err = strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
		return err == nil && !strings.Contains(string(body), "error")
	})
	return value
}
