// Package worker is a worker process's life under systemd: take the inherited listeners, serve, say
// READY, and on SIGTERM drain and return.
package worker

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/fdtserver/fdt/internal/control"
)

// Server is what Run runs: a *drain.Server, an *http.Server, or anything alike.
type Server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// Option alters Run.
type Option func(*options)

type options struct{}

func WithListeners(names ...string) Option                 { return func(*options) {} }
func WithRequired() Option                                 { return func(*options) {} }
func WithAddress(network, address string) Option           { return func(*options) {} }
func WithControl(l net.Listener, s *control.Server) Option { return func(*options) {} }
func WithLogger(l *slog.Logger) Option                     { return func(*options) {} }
func WithDrainTimeout(d time.Duration) Option              { return func(*options) {} }
func WithStatus(f func() string) Option                    { return func(*options) {} }
func WithContext(ctx context.Context) Option               { return func(*options) {} }

// Run is the worker's life.
func Run(server Server, opts ...Option) error { return nil }
