package worker

import (
	"net/http"
	"time"
)

// WithPace shortens what a test would wait for.
func WithPace(status, overtime time.Duration) Option {
	return func(o *options) { o.statusEvery, o.overtime = status, overtime }
}

// Unhurry makes of an *http.Server what Run does, with more patience than a test needs.
func Unhurry(s *http.Server) Server {
	return unhurry(s, patience{http.StateNew: time.Hour, http.StateActive: time.Hour, http.StateIdle: time.Hour})
}
