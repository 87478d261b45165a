package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// forgetClaims deletes what is in the directory of claims, as by hand.
func (p place) forgetClaims() error {
	all, err := filepath.Glob(p.dir("claims") + "/*")
	for _, path := range all {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// TestClaimsDeleted: claims that somebody deletes under living workers are made anew, by whoever needs one first: nobody is told that
// what is prepared does not exist, and its name is not given away.
func TestClaimsDeleted(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, m *txn.Manager){
		"decided": func(t *testing.T, m *txn.Manager) {
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		},
		"prepared again": func(t *testing.T, m *txn.Manager) {
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "again")
			wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
		},
		"another prepared": func(t *testing.T, m *txn.Manager) {
			prepared(t, m, "y")
			wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "y"), nil)
		},
		"shown": func(t *testing.T, m *txn.Manager) {
			_, err := m.Show(t.Context(), "x")
			wantErr(t, err, nil)
		},
		"listed":  func(t *testing.T, m *txn.Manager) { _, err := m.List(t.Context()); wantErr(t, err, nil) },
		"scanned": func(t *testing.T, m *txn.Manager) { wantErr(t, m.Scan(t.Context()), nil) },
		"unknown": func(t *testing.T, m *txn.Manager) {
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "z"), txn.ErrUnknownGID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			m, other := p.open(t), p.open(t)
			defer closeAll(t, m)
			defer closeAll(t, other)
			prepared(t, m, "x")
			prepared(t, other, "w")
			wantErr(t, p.forgetClaims(), nil)
			use(t, other)
			for _, gid := range []string{"x", "w"} {
				if err := m.NewSession(alice).CommitPrepared(t.Context(), gid); err != nil {
					t.Errorf("%s: %v", gid, err)
				}
			}
			p.wantMessages(t, 2, 2)
			wantErr(t, m.Scan(t.Context()), nil)
			p.wantNoneOpen(t, m)
		})
	}
}

// TestClaimsMissing: while the directory of claims is missing, or may not be entered, nobody is told that what is prepared does not
// exist.
func TestClaimsMissing(t *testing.T) {
	for name, hide := range map[string]func(dir string) (back func() error, err error){
		"moved": func(dir string) (func() error, error) {
			return func() error { return os.Rename(dir+".away", dir) }, os.Rename(dir, dir+".away")
		},
		"a file": func(dir string) (func() error, error) {
			back := func() error { return errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)) }
			return back, errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFastPlace(t)
			m := p.open(t)
			defer closeAll(t, m)
			prepared(t, m, "x")
			back, err := hide(p.dir("claims"))
			wantErr(t, err, nil)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrNoClaims)
			wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "x"), txn.ErrNoClaims)
			_, err = m.Show(t.Context(), "x")
			wantErr(t, err, txn.ErrNoClaims)
			_, err = m.List(t.Context())
			wantErr(t, err, txn.ErrNoClaims)
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "y")
			wantErr(t, s.Prepare(t.Context(), "y"), txn.ErrNoClaims)
			wantErr(t, back(), nil)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			p.wantMessages(t, 1, 1)
			p.wantNoneOpen(t, m)
		})
	}
}

// TestClaimSpoilt: a claim of which nothing can be read is made anew from the logs by whoever meets it, and neither keeps workers from
// starting nor others from being listed.
func TestClaimSpoilt(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, p place, m *txn.Manager){
		"decided": func(t *testing.T, _ place, m *txn.Manager) {
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		},
		"prepared again": func(t *testing.T, _ place, m *txn.Manager) {
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "again")
			wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
		},
		"shown": func(t *testing.T, _ place, m *txn.Manager) {
			_, err := m.Show(t.Context(), "x")
			wantErr(t, err, nil)
		},
		"listed": func(t *testing.T, _ place, m *txn.Manager) {
			list, err := m.List(t.Context())
			if err != nil || len(list) != 2 {
				t.Errorf("%+v, %v", list, err)
			}
		},
		"scanned": func(t *testing.T, _ place, m *txn.Manager) { wantErr(t, m.Scan(t.Context()), nil) },
		"met by another": func(t *testing.T, p place, _ *txn.Manager) {
			m := p.open(t)
			wantErr(t, m.Scan(t.Context()), nil)
			closeAll(t, m)
		},
	} {
		for _, content := range []string{"", "nonsense\n"} {
			t.Run(name+"/"+strings.TrimSpace(content), func(t *testing.T) {
				t.Parallel()
				p := newFastPlace(t)
				m := p.open(t)
				defer closeAll(t, m)
				prepared(t, m, "x")
				prepared(t, m, "w")
				p.spoil(t, content)
				use(t, p, m)
				for _, gid := range []string{"x", "w"} {
					wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), gid), nil)
				}
				p.wantMessages(t, 2, 2)
				wantErr(t, m.Scan(t.Context()), nil)
				p.wantNoneOpen(t, m)
			})
		}
	}
	t.Run("of nothing", func(t *testing.T) {
		p := newFastPlace(t)
		m := p.open(t)
		defer closeAll(t, m)
		prepared(t, m, "x")
		wantErr(t, os.WriteFile(p.dir("claims/x-00"), nil, 0o600), nil)
		list, err := m.List(t.Context())
		if err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	})
	t.Run("at work", func(t *testing.T) {
		p := newFastPlace(t)
		m := p.open(t)
		defer closeAll(t, m)
		prepared(t, m, "x")
		at, on := make(chan struct{}), make(chan struct{})
		other := p.open(t, func(o *txn.Options) {
			txn.SetFault(o, func(is string) error {
				if is == "decide: claimed" {
					close(at)
					<-on
				}
				return nil
			})
		})
		defer closeAll(t, other)
		decided := make(chan error)
		go func() { decided <- other.NewSession(alice).CommitPrepared(t.Context(), "x") }()
		testwait.For(t, "the decision is at its claim", at)
		p.spoil(t, "")
		list, err := m.List(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no complete state") {
			t.Errorf("%+v, %v", list, err)
		}
		close(on)
		wantErr(t, <-decided, nil)
		p.wantMessages(t, 1, 1)
		p.wantNoneOpen(t, m)
	})
}

// spoil overwrites the claims of what coordinators decide.
func (p place) spoil(t *testing.T, content string) {
	t.Helper()
	all, _ := filepath.Glob(p.dir("claims") + "/x-*")
	for _, path := range all {
		wantErr(t, os.WriteFile(path, []byte(content), 0o600), nil)
	}
}

// TestClaimDeletedAtWork: who is at work on a claim that is deleted promises nothing by it; what was decided by then is durable, and
// found by the next worker.
func TestClaimDeletedAtWork(t *testing.T) {
	for step, want := range map[string]*txn.Error{
		"decide: claimed": txn.ErrPoisoned, "decide: durable": txn.ErrPoisoned, "decide: published": txn.ErrUnknownOutcome,
	} {
		t.Run(step, func(t *testing.T) {
			p := newFastPlace(t)
			deleted := false
			m := p.open(t, func(o *txn.Options) {
				txn.SetFault(o, func(is string) error {
					if is != step || deleted || len(p.delivered(t, "a")) > 0 {
						return nil
					}
					if list, _ := os.ReadDir(p.dir("a") + "/prepared"); len(list) == 0 {
						return nil
					}
					deleted = true
					return p.forgetClaims()
				})
			})
			prepared(t, m, "x")
			err := m.NewSession(alice).CommitPrepared(t.Context(), "x")
			wantErr(t, err, want)
			if !txn.InDoubt(err) {
				t.Error(err)
			}
			closeAll(t, m)
			m = p.open(t)
			defer closeAll(t, m)
			p.recover(t, m)
			retryUntilIdle(t, m)
			if err := m.NewSession(alice).CommitPrepared(t.Context(), "x"); err != nil && !errors.Is(err, txn.ErrUnknownGID) {
				t.Error(err)
			}
			p.wantMessages(t, 1, 1)
		})
	}
}
