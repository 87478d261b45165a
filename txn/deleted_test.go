package txn_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
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

// TestClaimDeletedAtWork: a claim that is deleted while somebody is at work on it is made anew, by him, and keeps nobody from being told.
func TestClaimDeletedAtWork(t *testing.T) {
	for _, step := range []string{"decide: claimed", "decide: durable", "decide: published", "end: noted"} {
		t.Run(step, func(t *testing.T) {
			p := newFastPlace(t)
			deleted := false
			m := p.open(t, func(o *txn.Options) {
				txn.SetFault(o, func(is string) error {
					if is != step || deleted {
						return nil
					}
					deleted = true
					return p.forgetClaims()
				})
			})
			defer closeAll(t, m)
			prepared(t, m, "x")
			s := m.NewSession(alice)
			wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
			if !deleted {
				t.Error("nothing was deleted")
			}
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "x"), txn.ErrAlreadyCommitted)
			p.recover(t, m)
			wantErr(t, s.Acknowledge(), nil)
			wantErr(t, txn.Sweep(m, t.Context()), nil)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
			p.wantMessages(t, 1, 1)
		})
	}
}

// TestRivalsWithoutClaims: claims that are deleted within the span of a decision let nobody make another: who comes with the
// opposite waits, and is told what was decided.
func TestRivalsWithoutClaims(t *testing.T) {
	for _, step := range []string{"decide: claimed", "write", "sync", "decide: durable"} {
		for _, fresh := range []bool{false, true} { // the rival has had to do with claims before, or has not
			t.Run(fmt.Sprintf("%s/%t", step, fresh), func(t *testing.T) { rivalWithoutClaims(t, step, fresh) })
		}
	}
}

func rivalWithoutClaims(t *testing.T, step string, fresh bool) {
	p := newFastPlace(t)
	waits := make(chan struct{}, 100)
	rival := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(is string) error {
			if is == "lock claim" {
				waits <- struct{}{}
			}
			return nil
		})
	})
	defer closeAll(t, rival)
	wantErr(t, started(t, rival), nil)
	if !fresh {
		wantErr(t, rival.Scan(t.Context()), nil)
	}
	answer := make(chan error, 1)
	deciding := false
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(is string) error {
			if is == "decide: claimed" {
				deciding = true
			}
			if is != step || !deciding {
				return nil
			}
			deciding = false
			err := p.forgetClaims()
			for len(waits) > 0 {
				<-waits
			}
			go func() {
				answer <- rival.NewSession(alice).RollbackPrepared(t.Context(), "x")
				waits <- struct{}{}
			}()
			testwait.For(t, "the rival wants the claim, or has decided", waits)
			return err
		})
	})
	defer closeAll(t, m)
	prepared(t, m, "x")
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, testwait.For(t, "the rival is answered", answer), txn.ErrAlreadyCommitted)
	p.wantMessages(t, 1, 1)
	p.recover(t, m)
	p.recover(t, rival)
	p.wantNoneOpen(t, m)
}

// TestOneClaimDeleted: a single claim that is deleted is made anew from the logs by whoever asks for its transaction, in whichever
// log that is. What no log knows, or has forgotten, is unknown.
func TestOneClaimDeleted(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, m *txn.Manager) error{
		"committed": func(t *testing.T, m *txn.Manager) error { return m.NewSession(alice).CommitPrepared(t.Context(), "x") },
		"rolled back": func(t *testing.T, m *txn.Manager) error {
			return m.NewSession(alice).RollbackPrepared(t.Context(), "x")
		},
		"shown": func(t *testing.T, m *txn.Manager) error { _, err := m.Show(t.Context(), "x"); return err },
		"listed after a scan": func(t *testing.T, m *txn.Manager) error {
			err := m.Scan(t.Context())
			if list, lerr := m.List(t.Context()); lerr != nil || len(list) != 2 {
				t.Errorf("%+v, %v", list, lerr)
			}
			return err
		},
	} {
		for whose, who := range map[string]func(m, other, dead *txn.Manager) *txn.Manager{
			"its own": func(m, _, _ *txn.Manager) *txn.Manager { return m }, "another's": func(_, other, _ *txn.Manager) *txn.Manager { return other },
			"of the dead": func(_, _, dead *txn.Manager) *txn.Manager { return dead },
		} {
			t.Run(name+"/"+whose, func(t *testing.T) {
				t.Parallel()
				p := newFastPlace(t)
				m, other, dead := p.open(t), p.open(t), p.open(t)
				defer closeAll(t, m)
				defer closeAll(t, other)
				by := who(m, other, dead)
				prepared(t, by, "x")
				prepared(t, other, "y")
				wantErr(t, dead.Close(t.Context()), nil)
				p.forgetClaim(t, "x")
				wantErr(t, use(t, m), nil)
				wantErr(t, ignoreOver(m.NewSession(alice).CommitPrepared(t.Context(), "x")), nil)
				s := m.NewSession(alice)
				wantErr(t, s.CommitPrepared(t.Context(), "y"), nil)
				wantErr(t, s.Acknowledge(), nil)
				wantErr(t, txn.Sweep(m, t.Context()), nil)
				for _, unknown := range []string{"y", "z"} {
					wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), unknown), txn.ErrUnknownGID)
				}
				if name == "rolled back" {
					p.wantMessages(t, 1, 1)
				} else {
					p.wantMessages(t, 2, 2)
				}
				wantErr(t, m.Scan(t.Context()), nil)
			})
		}
	}
}

// ignoreOver drops the error of what was rolled back before.
func ignoreOver(err error) error {
	if errors.Is(err, txn.ErrAlreadyRolledBack) {
		return nil
	}
	return err
}

// forgetClaim deletes the claim of a client's gid, as by hand.
func (p place) forgetClaim(t *testing.T, gid string) {
	t.Helper()
	wantErr(t, os.Remove(p.dir("claims")+"/"+ledger.ClientName(gid)), nil)
}
