package txn_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// atWork locks the only claim, as who works on the transaction does, until done.
func (p place) atWork(t *testing.T) (done func()) {
	t.Helper()
	claims, err := filepath.Glob(p.dir("claims") + "/x-*")
	if err != nil || len(claims) != 1 {
		t.Fatal(claims, err)
	}
	f, err := os.OpenFile(claims[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ofd.TryLock(f); !ok {
		t.Fatal("the claim is locked", err)
	}
	return func() { wantErr(t, ofd.Close(f), nil) }
}

// messages names all that the resources hold, but for proofs of a commit.
func (p place) messages(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(p.tree(t), func(path string) bool { return filepath.Ext(path) == ".committed" })
}

// TestWorkedOn: a transaction that somebody works on while recovery comes by is
// looked at again once it is free, and not only by the next scan.
func TestWorkedOn(t *testing.T) {
	for _, test := range []struct {
		script, die string
		want        int // messages in the end
	}{
		{"begin put:a put:b prepare:x", "vote: prepared", 0},
		{"begin put:a put:b prepare:x commit-prepared:x", "send resolve b", 1},
		{"begin put:a put:b prepare:x rollback-prepared:x", "send resolve b", 0},
		{"begin put:a put:b prepare:x commit-prepared:x", "end: noted", 1},
	} {
		t.Run(test.script+"/"+test.die, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, test.script, test.die); !killed {
				t.Fatal("not killed")
			}
			m := p.open(t)
			defer closeAll(t, m)
			done := p.atWork(t)
			before := p.messages(t)
			p.recover(t, m)
			want(t, p.messages(t), before...)
			if n := m.Counts().Pending; n != 1 {
				t.Errorf("%d wait to be looked at again, want 1", n)
			}
			done()
			retryUntilIdle(t, m)
			p.wantMessages(t, test.want, test.want)
			p.wantNoneOpen(t, m)
			p.wantTidy(t)
		})
	}
}

// TestWorkedOnEnded: what ended meanwhile, or cannot be looked at, needs no
// second look.
func TestWorkedOnEnded(t *testing.T) {
	for name, between := range map[string]func(string) error{
		"gone":       os.Remove,
		"unreadable": func(claim string) error { return os.Truncate(claim, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, "begin put:a put:b prepare:x", "vote: prepared"); !killed {
				t.Fatal("not killed")
			}
			m := p.open(t)
			defer closeAll(t, m)
			done := p.atWork(t)
			p.recover(t, m)
			claims, _ := filepath.Glob(p.dir("claims") + "/x-*")
			wantErr(t, between(claims[0]), nil)
			done()
			retryUntilIdle(t, m)
		})
	}
}

// TestWorkedOnWhileServing: a client whose COMMIT PREPARED of what never voted
// meets recovery leaves its branches to be rolled back, soon, though the next
// scan is far away.
func TestWorkedOnWhileServing(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b prepare:x", "vote: prepared"); !killed {
		t.Fatal("not killed")
	}
	locked, goOn := make(chan struct{}), make(chan struct{})
	client := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "take claim" {
				close(locked)
				<-goOn
			}
			return nil
		})
	})
	defer closeAll(t, client)
	answer := make(chan error, 1)
	go func() { answer <- client.NewSession(alice).CommitPrepared(t.Context(), "x") }()
	testwait.For(t, "the claim is taken", locked)
	m := p.open(t, func(o *txn.Options) { o.Limits.Scan = 1000 * time.Hour })
	defer closeAll(t, m)
	ctx, stop := context.WithCancel(t.Context())
	recovered := make(chan error, 1)
	go func() { recovered <- m.Recover(ctx) }()
	testwait.Until(t, "the first scan's end", func() bool { return !m.Stats().Scanned.IsZero() })
	close(goOn)
	wantErr(t, testwait.For(t, "the answer", answer), txn.ErrUnknownGID)
	testwait.Until(t, "the end of the claim, which goes last", func() bool {
		claims, err := filepath.Glob(p.dir("claims") + "/x-*")
		wantErr(t, err, nil)
		return len(claims) == 0
	})
	stop()
	wantErr(t, testwait.For(t, "the end of recovery", recovered), nil)
	p.wantMessages(t, 0, 0)
	p.wantNoneOpen(t, m)
	p.wantTidy(t)
}

// TestNameOfEnded: the name of a transaction whose worker died when all knew
// the outcome, but before the claim said so, can be given anew at once.
func TestNameOfEnded(t *testing.T) {
	for _, script := range []string{"commit-prepared:x", "rollback-prepared:x"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, "begin put:a put:b prepare:x "+script, "end: noted"); !killed {
				t.Fatal("not killed")
			}
			m := p.open(t)
			defer closeAll(t, m)
			before := len(p.delivered(t, "a"))
			prepared(t, m, "x")
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			p.wantMessages(t, before+1, before+1)
			p.recover(t, m)
			p.wantNoneOpen(t, m)
			p.wantTidy(t)
		})
	}
}

// TestClaimsGone: claims that can no longer be listed end a scan.
func TestClaimsGone(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "list claims" {
				return os.RemoveAll(p.dir("claims"))
			}
			return nil
		})
	})
	prepared(t, m, "x")
	wantErr(t, m.Scan(t.Context()), txn.ErrNoClaims)
	_, err := m.List(t.Context())
	wantErr(t, err, txn.ErrNoClaims)
	closeAll(t, m)
}
