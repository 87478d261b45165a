package exporter

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// atOnce is how many scrapes are answered at a time; others get 503.
const atOnce = 4

// page is what people find who look.
const page = `<!DOCTYPE html>
<html lang="en">
<title>fdt</title>
<h1>fdt %s</h1>
<ul>
<li><a href="metrics">Metrics</a> for Prometheus
<li><a href="ready">Ready</a>: 200 while clients should be sent here, and else 503 with the reason
</ul>
</html>
`

// NewServer returns a server that answers GET of /metrics, /ready and /, and nothing else. It is not started.
func NewServer(c *Collector) *http.Server {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	log := slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: log, MaxRequestsInFlight: atOnce}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), Patience)
		defer cancel()
		ready(w, c.Service, func() ([]fleet.Unit, error) { return fleet.List(ctx, c.Service) }, c.Run.Pauses)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, page, html.EscapeString(c.Version)) // who has gone needs no answer
	})
	return &http.Server{
		Handler: mux, ErrorLog: log, MaxHeaderBytes: 8 << 10,
		ReadTimeout: 5 * time.Second, WriteTimeout: Patience + 8*time.Second, IdleTimeout: 2 * time.Minute,
	}
}

// ready answers a balancer: 200 while clients should be sent here, else 503 with the reason. Where systemd does not answer nothing is
// known, which is no reason to send any.
func ready(w http.ResponseWriter, svc service.Service, list func() ([]fleet.Unit, error), pauses func() (map[string]snapshot.Pause, error)) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	units, err := list()
	paused, perr := pauses()
	err = errors.Join(err, perr)
	why, ok := "", false
	if err != nil {
		why = err.Error()
	} else {
		why, ok = fleet.Ready(svc, units)
	}
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintln(w, fleet.Line(why, ok, slices.Sorted(maps.Keys(paused))))
}
