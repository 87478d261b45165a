package txn_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// forgetful is a resource that knows nothing more of a branch that has ended, as MariaDB without a marker.
type forgetful struct{ down }

func (f forgetful) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	list, err := f.InDoubt(ctx, gid.Log)
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(list, func(b txn.PreparedBranch) bool { return b.GID.Same(gid) }) {
		return txn.ResolvedUnknown, nil
	}
	return f.down.Resolve(ctx, gid, d, p)
}

// downs tells which resources are down.
type downs struct{ a, b atomic.Bool }

// forgetting opens a worker of which a is forgetful, and both can go down.
func (p place) forgetting(t *testing.T, is *downs, change ...func(*txn.Options)) *txn.Manager {
	t.Helper()
	return p.open(t, append(change, func(o *txn.Options) {
		o.Resources[0] = forgetful{down{o.Resources[0].(*spool.Spool), &is.a}}
		o.Resources[1] = down{o.Resources[1].(*spool.Spool), &is.b}
	})...)
}

// TestToldOnce: what one resource has acknowledged while another was down is not told again by who takes over, to whom it
// could but say that the branch is gone.
func TestToldOnce(t *testing.T) {
	half := func(t *testing.T, p place, is *downs, change ...func(*txn.Options)) *txn.Manager {
		m := p.forgetting(t, is, change...)
		prepared(t, m, "x")
		is.b.Store(true)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
		return m
	}
	killed := func(script, fail string) func(*testing.T, place, *downs) {
		return func(t *testing.T, p place, _ *downs) {
			if _, killed := p.worker(t, script+" die", "fail send "+fail+" b"); !killed {
				t.Fatal("not killed")
			}
		}
	}
	for name, before := range map[string]func(t *testing.T, p place, is *downs){
		"closed": func(t *testing.T, p place, is *downs) { closeAll(t, half(t, p, is)) },
		"killed": killed("begin put:a put:b prepare:x half-commit-prepared:x", "resolve"),
		"local, closed": func(t *testing.T, p place, is *downs) {
			m := p.forgetting(t, is, failing("commit: durable", func() error { is.b.Store(true); return nil }))
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "1")
			put(t, s, "b", "1")
			wantErr(t, s.Commit(t.Context()), nil)
			closeAll(t, m)
		},
		"local, killed": killed("begin put:a put:b commit", "commit prepared"),
		"told by a retry": func(t *testing.T, p place, is *downs) {
			m := p.forgetting(t, is)
			prepared(t, m, "x")
			is.a.Store(true)
			is.b.Store(true)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
			is.a.Store(false)
			txn.Rested(m)
			txn.Retry(m, t.Context())
			p.wantMessages(t, 1, 0)
			closeAll(t, m)
		},
		"asked again": func(t *testing.T, p place, is *downs) {
			m := half(t, p, is)
			for range 2 {
				txn.Rested(m)
				wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
			}
			is.b.Store(false)
			txn.Rested(m)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			closeAll(t, m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, is := newFastPlace(t), new(downs)
			before(t, p, is)
			if n := len(p.delivered(t, "a")); n != 1 {
				t.Errorf("%d messages in a, want 1", n)
			}
			m := p.forgetting(t, is)
			defer closeAll(t, m)
			is.b.Store(true)
			_ = m.Scan(t.Context()) // b is down yet
			is.b.Store(false)
			txn.Rested(m)
			p.recover(t, m)
			retryUntilIdle(t, m)
			p.wantMessages(t, 1, 1)
			list, err := m.List(t.Context())
			wantErr(t, err, nil)
			for _, tx := range list {
				if tx.Phase != txn.Committed || tx.Hazard != "" {
					t.Errorf("ended as %+v", tx)
				}
			}
			p.recover(t, m)
			p.wantTidy(t)
		})
	}
}

// TestHazardIsMetAgain: a resource of which the outcome is unknown has acknowledged nothing, so that a successor says so, too.
func TestHazardIsMetAgain(t *testing.T) {
	p, is := newFastPlace(t), new(downs)
	m := p.forgetting(t, is)
	prepared(t, m, "x")
	show, err := m.Show(t.Context(), "x")
	wantErr(t, err, nil)
	_, err = p.spools(t)[0].Resolve(t.Context(), show.GID, txn.Commit, "") // by an administrator
	wantErr(t, err, nil)
	is.b.Store(true)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
	closeAll(t, m)
	is.b.Store(false)
	m = p.forgetting(t, is)
	defer closeAll(t, m)
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
}

// TestToldNotKept: where it cannot be kept in the claim what a resource has acknowledged, the decision is told all the same.
func TestToldNotKept(t *testing.T) {
	p, is, broken := newFastPlace(t), new(downs), new(atomic.Bool)
	m := p.forgetting(t, is, failing("take claim", when(broken)))
	defer closeAll(t, m)
	prepared(t, m, "x")
	is.a.Store(true)
	is.b.Store(true)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
	is.a.Store(false)
	broken.Store(true)
	txn.Rested(m)
	txn.Retry(m, t.Context())
	broken.Store(false)
	is.b.Store(false)
	txn.Rested(m)
	retryUntilIdle(t, m)
	p.wantMessages(t, 1, 1)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
}
