package txn

import "context"

// SetFault has f called at every step, and before every system call of the
// log, which fails with what it returns.
func SetFault(o *Options, f func(step string) error) { o.fault = f }

// Retry tries once what is left over.
func Retry(m *Manager, ctx context.Context) { m.retry(ctx, nil) }

// Rotate rewrites the log of m whatever its size.
func Rotate(m *Manager, ctx context.Context) error { return m.rotate(ctx, 0) }

// Sweep drops the proofs of finished commits.
func Sweep(m *Manager, ctx context.Context) error { return m.sweep(ctx) }

// Rested ends the pauses of resources that did not answer.
func Rested(m *Manager) {
	m.left.mu.Lock()
	defer m.left.mu.Unlock()
	clear(m.left.pause)
}
