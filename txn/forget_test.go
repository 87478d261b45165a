package txn_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// clingy is a resource that drops no proof while it is held.
type clingy struct {
	down

	held  *atomic.Bool
	asked chan struct{}
}

func (c clingy) Forget(ctx context.Context, gid txn.GID) error {
	if c.held.Load() {
		select {
		case c.asked <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return c.down.Forget(ctx, gid)
}

// TestForgetHangs: a proof that a resource does not drop, as MariaDB under a
// backup's lock, keeps no decision and no scan waiting. It is dropped when that
// is over.
func TestForgetHangs(t *testing.T) {
	p := newFastPlace(t)
	held, is, asked := new(atomic.Bool), new(atomic.Bool), make(chan struct{}, 1)
	held.Store(true)
	m := p.open(t, func(o *txn.Options) {
		o.Limits.Scan = time.Second
		o.Resources[1] = clingy{down{o.Resources[1].(*spool.Spool), is}, held, asked}
	})
	ctx, stop := context.WithCancel(t.Context())
	recovered := make(chan error, 1)
	go func() { recovered <- m.Recover(ctx) }()
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	wantErr(t, s.Prepare(t.Context(), "x"), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	testwait.For(t, "the question", asked)
	begin(t, s)
	put(t, s, "a", "2")
	put(t, s, "b", "2")
	wantErr(t, s.Prepare(t.Context(), "y"), nil)
	is.Store(true)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), txn.ErrUnreachable)
	is.Store(false)
	scanned := m.Stats().Scanned
	testwait.Until(t, "the decision is told, and a scan ends", func() bool {
		return m.Counts().Pending == 0 && m.Stats().Scanned.After(scanned)
	})
	p.wantMessages(t, 2, 2)
	held.Store(false)
	testwait.Until(t, "the proofs are dropped", func() bool {
		return strings.Count(strings.Join(p.tree(t), " "), ".committed") == 0
	})
	stop()
	wantErr(t, testwait.For(t, "the end of recovery", recovered), nil)
	closeAll(t, m)
}
