package txn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// moody is a resource that fails as a test wants.
type moody struct {
	*spool.Spool

	resolve  func(gid txn.GID) error
	identity func() error
}

func (r moody) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if err := r.resolve(gid); err != nil {
		return 0, err
	}
	return r.Spool.Resolve(ctx, gid, d, p)
}

func (r moody) Identity(ctx context.Context) (string, error) {
	if err := r.identity(); err != nil {
		return "", err
	}
	return r.Spool.Identity(ctx)
}

// TestOneBranchInTrouble: what the errors of a resource mean for its other
// branches, the same for what is decided now and for what is told again.
func TestOneBranchInTrouble(t *testing.T) {
	for name, test := range map[string]struct {
		of     error // of the first transaction's branch in b
		silent error // of the resource, while that fails
		others bool  // can be told
	}{
		"busy":                       {of: txn.Busy.Mark(errBroken), others: true},
		"refused":                    {of: txn.Refused.Mark(errBroken), others: true},
		"not ours":                   {of: txn.NotOurs.Mark(errBroken), others: true},
		"says nothing":               {of: errBroken, others: true},
		"out of connections":         {of: fmt.Errorf("%w: %w", txn.ErrExhausted, errBroken), others: true},
		"unreachable":                {of: txn.Unreachable.Mark(errBroken)},
		"silent":                     {of: errBroken, silent: errors.New("no answer")},
		"silent, out of connections": {of: errBroken, silent: txn.ErrExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The time does not pass by itself, in which a resource that is silent is not asked again.
			synctest.Test(t, func(t *testing.T) {
				p := newFastPlace(t)
				var first txn.GID
				failing, asked := true, 0
				m := p.withB(t, func(s *spool.Spool) txn.Resource {
					return moody{s, func(gid txn.GID) error {
						if failing && gid.Same(first) {
							asked++
							return test.of
						}
						return nil
					}, func() error {
						if failing && asked > 0 {
							return test.silent
						}
						return nil
					}}
				})
				defer closeAll(t, m)
				prepared(t, m, "x")
				list, err := m.List(t.Context())
				wantErr(t, err, nil)
				first = list[0].GID
				prepared(t, m, "y")
				prepared(t, m, "z")
				s := m.NewSession(alice)
				wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
				for _, gid := range []string{"y", "z"} {
					if err := s.CommitPrepared(t.Context(), gid); (err == nil) != test.others {
						t.Errorf("%s: %v", gid, err)
					}
				}
				txn.Retry(m, t.Context())
				if n := len(p.delivered(t, "b")); (n == 2) != test.others {
					t.Errorf("%d of 2 are told", n)
				}
				failing = false
				txn.Rested(m)
				retryUntilIdle(t, m)
				p.wantMessages(t, 3, 3)
				show, err := m.Show(t.Context(), "x")
				if err != nil || show.Phase != txn.Committed || strings.Contains(show.Hazard, "b") {
					t.Errorf("%+v, %v", show, err)
				}
			})
		})
	}
}
