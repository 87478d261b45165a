package worker

import "time"

// WithPace shortens what a test would wait for.
func WithPace(status, overtime time.Duration) Option {
	return func(o *options) { o.statusEvery, o.overtime = status, overtime }
}
