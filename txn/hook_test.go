package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestHooks tells the hooks of each way in which a transaction can end.
func TestHooks(t *testing.T) {
	veto := errors.New("vetoed")
	commit := func(ctx context.Context, s *txn.Session) error { return s.Commit(ctx) }
	for _, test := range []struct {
		name  string
		hook  error // of the first before completion
		what  string
		end   func(context.Context, *txn.Session) error
		err   error
		calls string
		sent  int
	}{
		{"commit", nil, "", commit, nil, "before1 before2 committed committed", 2},
		{"prepare", nil, "", func(ctx context.Context, s *txn.Session) error { return s.Prepare(ctx, "x") }, nil, "before1 before2 prepared prepared", 0},
		{"rollback", nil, "", func(ctx context.Context, s *txn.Session) error { return s.Rollback(ctx) }, nil, "rolled back rolled back", 0},
		{"close", nil, "", func(ctx context.Context, s *txn.Session) error { return s.Close(ctx) }, nil, "rolled back rolled back", 0},
		{"failed", nil, "", func(ctx context.Context, s *txn.Session) error {
			s.Fail(errBroken)
			return s.Commit(ctx)
		}, txn.ErrFailedTransaction, "rolled back rolled back", 0},
		{"veto of commit", veto, "", commit, veto, "before1 rolled back rolled back", 0},
		{"veto of prepare", veto, "", func(ctx context.Context, s *txn.Session) error { return s.Prepare(ctx, "x") }, veto, "before1 rolled back rolled back", 0},
		{"no vote", nil, "prepare", commit, txn.ErrRolledBack, "before1 before2 rolled back rolled back", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newFastPlace(t)
			m := p.withB(t, func(s *spool.Spool) txn.Resource { return broken{s, test.what} })
			defer closeAll(t, m)
			s := m.NewSession(alice)
			wantErr(t, s.BeforeCompletion(nil), txn.ErrNoTransaction)
			wantErr(t, s.AfterCompletion(nil), txn.ErrNoTransaction)
			begin(t, s)
			put(t, s, "a", "1")
			calls := ""
			for i, err := range []error{test.hook, nil} {
				wantErr(t, s.BeforeCompletion(func(context.Context) error {
					calls += fmt.Sprint("before", i+1, " ")
					if err == nil {
						put(t, s, "b", fmt.Sprint(i)) // it may still write
					}
					return err
				}), nil)
				wantErr(t, s.AfterCompletion(func(e txn.Ending) { calls += e.String() + " " }), nil)
			}
			err := test.end(t.Context(), s)
			wantErr(t, err, test.err)
			if test.hook != nil {
				wantErr(t, err, txn.ErrRolledBack)
			}
			if calls != test.calls+" " {
				t.Errorf("called %q, want %q", calls, test.calls)
			}
			if n := len(p.delivered(t, "b")); n != test.sent {
				t.Errorf("%d messages, want %d", n, test.sent)
			}
			wantErr(t, s.Close(t.Context()), nil)
			if calls != test.calls+" " {
				t.Errorf("called again: %q", calls)
			}
		})
	}
}

// TestHookUnknown: an outcome that is lost is told as that.
func TestHookUnknown(t *testing.T) {
	p := newFastPlace(t)
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return broken{s, "lost reply"} })
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "b", "1")
	var got txn.Ending
	wantErr(t, s.AfterCompletion(func(e txn.Ending) { got = e }), nil)
	if err := s.Commit(t.Context()); !txn.InDoubt(err) || got != txn.EndUnknown {
		t.Errorf("%v, hook told %s", err, got)
	}
}
