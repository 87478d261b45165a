package txn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestScanAtEveryStep: a worker's recovery never touches what its own sessions
// are at, at whatever step it comes by.
func TestScanAtEveryStep(t *testing.T) {
	const put = "begin put:a put:b "
	for script, want := range map[string]int{
		put + "commit":                                        1,
		put + "prepare:x commit-prepared:x":                   1,
		put + "prepare:x rollback-prepared:x":                 0,
		put + "prepare:x commit-prepared:x " + put + "commit": 2,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			var m *txn.Manager
			var scanning sync.Mutex
			scans := 0
			hook := func(step string) error {
				flow := strings.Contains(step, ": ") || strings.HasPrefix(step, "send ") || strings.HasPrefix(step, "got ")
				if !flow || !scanning.TryLock() {
					return nil // of a scan itself, or a call to the system, under locks that a scan takes
				}
				defer scanning.Unlock()
				scans++
				p.recover(t, m)
				return nil
			}
			m = p.open(t, func(o *txn.Options) {
				txn.SetFault(o, hook)
				for i, r := range o.Resources {
					o.Resources[i] = faulty{r.(*spool.Spool), hook}
				}
			})
			defer closeAll(t, m)
			s := m.NewSession(alice)
			for word := range strings.FieldsSeq(script) {
				wantErr(t, obey(t.Context(), m, s, word), nil)
			}
			if scans == 0 && want > 0 {
				t.Error("no step was met")
			}
			p.wantMessages(t, want, want)
			p.recover(t, m)
			p.wantMessages(t, want, want)
			p.wantNoneOpen(t, m)
		})
	}
}

// TestComesBackToTheLiving: a resource brings back what had ended. The worker
// that had noted the end lives, and tells it again what was decided.
func TestComesBackToTheLiving(t *testing.T) {
	for script, test := range map[string]struct{ a, b int }{
		"prepare:x commit-prepared:x":   {1, 1},
		"prepare:x rollback-prepared:x": {0, 0},
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			m := p.open(t)
			defer closeAll(t, m)
			prepared(t, m, "x")
			then := filepath.Join(t.TempDir(), "b")
			wantErr(t, os.CopyFS(then, os.DirFS(p.dir("b"))), nil)
			words := strings.Fields(script)
			s := m.NewSession(alice)
			wantErr(t, obey(t.Context(), m, s, words[1]), nil)
			wantErr(t, s.Acknowledge(), nil)
			wantErr(t, errors.Join(os.RemoveAll(p.dir("b")), os.CopyFS(p.dir("b"), os.DirFS(then))), nil)
			p.wantMessages(t, test.a, 0)
			p.recover(t, m)
			p.wantMessages(t, test.a, test.b)
			wantErr(t, txn.Rotate(m, t.Context()), nil)
			wantErr(t, txn.Sweep(m, t.Context()), nil)
			p.recover(t, m)
			p.wantTidy(t)
		})
	}
}

// TestDecisionOutlastsItsReturn: while a commit that is back cannot be told, no
// log gives the decision up, be it of the living or of the dead.
func TestDecisionOutlastsItsReturn(t *testing.T) {
	for _, how := range []string{"rotated", "compacted"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			away := false
			m := p.withB(t, func(s *spool.Spool) txn.Resource { return absent{s, &away} })
			prepared(t, m, "x")
			then := filepath.Join(t.TempDir(), "b")
			wantErr(t, os.CopyFS(then, os.DirFS(p.dir("b"))), nil)
			s := m.NewSession(alice)
			wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
			wantErr(t, s.Acknowledge(), nil)
			wantErr(t, txn.Sweep(m, t.Context()), nil)
			if how == "compacted" {
				prepared(t, m, "y") // so that its log stays
				closeAll(t, m)
				m = p.withB(t, func(s *spool.Spool) txn.Resource { return absent{s, &away} })
				wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "y"), nil)
			}
			wantErr(t, errors.Join(os.RemoveAll(p.dir("b")), os.CopyFS(p.dir("b"), os.DirFS(then))), nil)
			away = true
			for range 2 {
				p.recover(t, m)
				wantErr(t, txn.Rotate(m, t.Context()), nil)
			}
			p.wantMessages(t, 1, 0)
			closeAll(t, m)
			m = p.open(t)
			defer closeAll(t, m)
			p.recover(t, m)
			p.wantMessages(t, 1, 1)
		})
	}
}

// TestEndsWhileListed: a transaction that a resource has listed ends before it is looked at who is at it. It is not told once more:
// by then its session may be another's.
func TestEndsWhileListed(t *testing.T) {
	p := newFastPlace(t)
	listed, ended := make(chan struct{}), make(chan struct{})
	scan := make(chan error, 1)
	var m *txn.Manager
	hook := func(step string) error {
		if step == "send resolve a" {
			t.Error("it is told once more")
		}
		if step == "commit: prepared" {
			go func() { scan <- m.Scan(context.WithoutCancel(t.Context())) }()
			testwait.For(t, "the list", listed)
		}
		return nil
	}
	var once sync.Once
	m = p.open(t, func(o *txn.Options) {
		txn.SetFault(o, hook)
		o.Resources[0] = slowList{faulty{o.Resources[0].(*spool.Spool), hook}, func() {
			once.Do(func() {
				close(listed)
				<-ended
			})
		}}
	})
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	b, err := s.Branch(t.Context(), "a")
	wantErr(t, err, nil)
	wantErr(t, b.(faultyBranch).Branch.(*spool.Branch).Put(t.Context(), []byte("1")), nil)
	put(t, s, "b", "1")
	wantErr(t, s.Commit(t.Context()), nil)
	close(ended)
	wantErr(t, testwait.For(t, "the scan", scan), nil)
	txn.Retry(m, t.Context())
	p.wantMessages(t, 1, 1)
}

// slowList is a spool whose list is long under way.
type slowList struct {
	faulty

	then func()
}

func (s slowList) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	list, err := s.faulty.InDoubt(ctx, id)
	s.then()
	return list, err
}
