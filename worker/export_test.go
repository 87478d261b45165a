package worker

import (
	"net/http"
	"time"
)

// WithPace shortens what a test would wait for.
func WithPace(status, overtime time.Duration) Option {
	return func(o *options) { o.statusEvery, o.overtime = status, overtime }
}

// Unhurry makes of an *http.Server what Run does.
func Unhurry(s *http.Server) Server { return unhurry(s, ordinary()) }
