package txn_test

import (
	"context"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// TestBack: whatever a resource answers after an outage, what is decided is told at once, and not only after the pause that
// has grown meanwhile.
func TestBack(t *testing.T) {
	for name, answer := range map[string]func(*testing.T, *txn.Manager){
		"a vote": func(t *testing.T, m *txn.Manager) {
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "2")
			putDown(t, s, "2")
			wantErr(t, s.Prepare(t.Context(), "y"), nil)
		},
		"a commit": func(t *testing.T, m *txn.Manager) {
			s := m.NewSession(alice)
			begin(t, s)
			putDown(t, s, "2")
			wantErr(t, s.Commit(t.Context()), nil)
		},
		"a scan": func(t *testing.T, m *txn.Manager) { wantErr(t, m.Scan(t.Context()), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			m, is := p.withDown(t)
			defer closeAll(t, m)
			halfCommitted(t, m, is)
			is.Store(false)
			txn.Away(m, "b")
			ctx, stop := context.WithCancel(t.Context())
			retried := make(chan struct{})
			go func() {
				defer close(retried)
				txn.RetryLoop(m, ctx)
			}()
			answer(t, m)
			testwait.Until(t, "the decision is told", func() bool { return m.Counts().Pending == 0 })
			stop()
			testwait.For(t, "the end of the loop", retried)
		})
	}
}
