package txn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// hung is a resource that does not answer until its caller gives up.
type hung struct {
	down

	asked chan struct{}
}

func (h hung) Resolve(ctx context.Context, gid txn.GID, what txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if h.is.Load() {
		select {
		case h.asked <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return h.down.Resolve(ctx, gid, what, p)
}

// TestHungResource: decisions for other resources are not held up by one that
// hangs, and neither is the end of the worker.
func TestHungResource(t *testing.T) {
	p := newFastPlace(t)
	for _, x := range []string{"x", "y"} {
		if _, killed := p.worker(t, "begin put:a put:b prepare:"+x+" commit-prepared:"+x, "decide: durable"); !killed {
			t.Fatal("not killed")
		}
	}
	is, asked := new(atomic.Bool), make(chan struct{}, 1)
	is.Store(true)
	m := p.open(t, func(o *txn.Options) {
		o.Resources[1] = hung{down{o.Resources[1].(*spool.Spool), is}, asked}
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Recover(ctx) }()
	testwait.For(t, "the question", asked)
	testwait.Until(t, "a's message, though b hangs", func() bool { return len(p.delivered(t, "a")) > 0 })
	stop()
	if err := testwait.For(t, "the end of recovery", done); err != nil {
		t.Error(err)
	}
	closeAll(t, m)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantMessages(t, 2, 2)
}

// TestCount: how many are in doubt all processes know at once, and a process that does not recover learns from the one that does since when
// the oldest waits.
func TestCount(t *testing.T) {
	p := newFastPlace(t)
	a := p.open(t)
	defer closeAll(t, a)
	prepared(t, a, "x")
	if n := a.Counts().InDoubt; n != 1 {
		t.Errorf("%d in doubt, want 1", n)
	}
	lock, err := os.OpenFile(p.dir("log")+"/recovery", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	b := p.open(t)
	defer closeAll(t, b)
	hold := func() {
		if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
	}
	hold()
	wantErr(t, b.Scan(t.Context()), nil)
	if c := b.Counts(); c.InDoubt != 1 || !c.Oldest.IsZero() || b.Stats().Resources["a"].InDoubt != 1 {
		t.Errorf("%+v before anybody counted", c)
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, a.Scan(t.Context()), nil)
	hold()
	wantErr(t, b.Scan(t.Context()), nil)
	if n := b.Counts().InDoubt; n != 1 {
		t.Errorf("%d in doubt, want 1", n)
	}
	list, err := a.List(t.Context())
	if err != nil || len(list) != 1 || !b.Counts().Oldest.Equal(list[0].Since) || !a.Counts().Oldest.Equal(list[0].Since) {
		t.Errorf("the oldest waits since %s, listed are %+v, %v", b.Counts().Oldest, list, err)
	}
	if st, other := a.Stats(), b.Stats(); st.Scanned.IsZero() || !other.Scanned.IsZero() {
		t.Errorf("scanned %s, the other %s", st.Scanned, other.Scanned)
	}
	wantErr(t, b.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	for _, m := range []*txn.Manager{a, b} {
		if c := m.Counts(); c.InDoubt != 0 || !c.Oldest.IsZero() || m.Stats().Resources["a"].InDoubt != 0 {
			t.Errorf("%+v, want none in doubt", c)
		}
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

// TestLongDoubt: a transaction that waits long is told once by each process
// that looks, with the identifier of the catalog's entry.
func TestLongDoubt(t *testing.T) {
	p := newFastPlace(t)
	var said bytes.Buffer
	m := p.open(t, func(o *txn.Options) {
		o.Limits.Doubt = time.Hour
		o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	})
	prepared(t, m, "x")
	wantErr(t, m.Scan(t.Context()), nil)
	if said.Len() > 0 {
		t.Errorf("said too early:\n%s", said.String())
	}
	closeAll(t, m)
	m = p.open(t, func(o *txn.Options) {
		o.Limits.Doubt = time.Nanosecond
		o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	})
	defer closeAll(t, m)
	for range 2 {
		wantErr(t, m.Scan(t.Context()), nil)
	}
	got := said.String()
	if strings.Count(got, "message_id=48292507ce5f5b42941d4ffea9ac1d18") != 1 || !strings.Contains(got, "gid=x") || !strings.Contains(got, "owner=alice") {
		t.Errorf("said:\n%s", got)
	}
	if err := os.WriteFile(p.dir("claims")+"/counted", []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(p.dir("log")+"/recovery", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if m.Scan(t.Context()) == nil {
		t.Error("a count that is none is taken")
	}
	wantErr(t, lock.Close(), nil)
}

// TestRetention: an outcome that nobody acknowledged is shown as long as it is
// kept, and no longer.
func TestRetention(t *testing.T) {
	p := newFastPlace(t)
	for _, test := range []struct {
		retain time.Duration
		want   int
	}{{time.Hour, 1}, {time.Nanosecond, 0}} {
		m := p.open(t, func(o *txn.Options) { o.Limits.Retain = test.retain })
		if test.want > 0 {
			prepared(t, m, "x")
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		}
		wantErr(t, m.Scan(t.Context()), nil)
		list, err := m.List(t.Context())
		wantErr(t, err, nil)
		if len(list) != test.want {
			t.Errorf("kept for %s, after a scan there are %d outcomes, want %d", test.retain, len(list), test.want)
		}
		closeAll(t, m)
	}
}

// TestConcludeLate: a claim that a dead worker left behind its log is not
// concluded by what was read of it, if something came between.
func TestConcludeLate(t *testing.T) {
	for name, test := range map[string]struct {
		between func(claim string) error
		want    error
		after   txn.Phase
	}{
		"failure": {func(string) error { return syscall.EIO }, syscall.EIO, txn.Aborting},
		"deleted": {os.Remove, nil, txn.Aborted},
		"taken over": {func(claim string) error {
			raw, err := os.ReadFile(claim)
			next := bytes.ReplaceAll(raw, []byte(`"claimant":1,`), []byte(`"claimant":99,`))
			return errors.Join(err, os.WriteFile(claim, next, 0o600))
		}, nil, txn.Aborting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, "begin put:a put:b prepare:x rollback-prepared:x", "end: noted"); !killed {
				t.Fatal("not killed")
			}
			claims, err := filepath.Glob(p.dir("claims") + "/x-*")
			if err != nil || len(claims) != 1 {
				t.Fatal(claims, err)
			}
			var once sync.Once
			m := p.open(t, func(o *txn.Options) {
				txn.SetFault(o, func(step string) (err error) {
					if step == "take claim" {
						once.Do(func() { err = test.between(claims[0]) })
					}
					return err
				})
			})
			defer closeAll(t, m)
			wantErr(t, m.Scan(t.Context()), test.want)
			list, err := m.List(t.Context())
			wantErr(t, err, nil)
			if len(list) != 1 || list[0].Phase != test.after {
				t.Errorf("after the scan there are %+v", list)
			}
			wantErr(t, m.Scan(t.Context()), nil)
			p.wantNoneOpen(t, m)
		})
	}
}
