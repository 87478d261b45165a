package exporter

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// atOnce is how many scrapes are answered at a time; others get 503.
const atOnce = 4

// NewServer returns a server that answers GET /metrics, and nothing else. It is not started.
func NewServer(c *Collector) *http.Server {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	log := slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: log, MaxRequestsInFlight: atOnce}))
	return &http.Server{
		Handler: mux, ErrorLog: log, MaxHeaderBytes: 8 << 10,
		ReadTimeout: 5 * time.Second, WriteTimeout: Patience + 8*time.Second, IdleTimeout: 2 * time.Minute,
	}
}
