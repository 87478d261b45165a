package txn

import "context"

// SetFault has f called at every step, and before every system call of the
// log, which fails with what it returns.
func SetFault(o *Options, f func(step string) error) { o.fault = f }

// Retry tries once what is left over.
func Retry(m *Manager, ctx context.Context) error { return m.retry(ctx) }
