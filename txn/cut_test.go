package txn_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

var errGone = errors.New("the client is gone")

// TestCutOff: code that goes on for longer than the grace after its context's end can do nothing more with the session, neither in the
// transaction nor in one that it begins then; who called it may.
func TestCutOff(t *testing.T) {
	p := newFastPlace(t)
	synctest.Test(t, func(t *testing.T) {
		m := p.open(t)
		defer closeAll(t, m)
		grace := m.Limits().Grace
		s := m.NewSession(alice)
		ctx, cancel := context.WithCancelCause(t.Context())
		release := s.Guard(ctx, "procedure p")
		begin(t, s)
		wantErr(t, s.Savepoint(t.Context(), "sp"), nil)
		put(t, s, "a", "cut")
		cancel(errGone)
		time.Sleep(grace - 1)
		put(t, s, "a", "cut, too") // it is its own affair yet
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		_, err := s.Branch(t.Context(), "a")
		wantErr(t, err, txn.ErrCutOff)
		wantErr(t, err, errGone)
		wantErr(t, s.Savepoint(t.Context(), "more"), txn.ErrCutOff)
		wantErr(t, s.RollbackTo(t.Context(), "sp"), txn.ErrCutOff)
		wantErr(t, s.Commit(t.Context()), txn.ErrCutOff)
		begin(t, s)
		_, err = s.Branch(t.Context(), "a")
		wantErr(t, err, txn.ErrCutOff)
		wantErr(t, s.Rollback(t.Context()), nil)
		release()
		begin(t, s)
		put(t, s, "a", "kept")
		wantErr(t, s.Commit(t.Context()), nil)
	})
	want(t, p.delivered(t, "a"), "kept")
}

// TestCutOffInTime: code that returns within the grace loses nothing but its context.
func TestCutOffInTime(t *testing.T) {
	p := newFastPlace(t)
	synctest.Test(t, func(t *testing.T) {
		m := p.open(t)
		defer closeAll(t, m)
		for _, after := range []time.Duration{0, m.Limits().Grace - 1} {
			s := m.NewSession(alice)
			ctx, cancel := context.WithCancel(t.Context())
			outer, inner := s.Guard(t.Context(), "outer"), s.Guard(ctx, "inner")
			begin(t, s)
			put(t, s, "a", after.String())
			cancel()
			if after > 0 {
				time.Sleep(after)
			}
			inner()
			time.Sleep(time.Hour)
			wantErr(t, s.Commit(t.Context()), nil)
			outer()
		}
	})
	want(t, p.delivered(t, "a"), "0s", "4.999999999s")
}

// TestTimeIsUp: so does its time limit for every transaction, and whoever holds it is told; another one's limit is its own.
func TestTimeIsUp(t *testing.T) {
	p := newFastPlace(t)
	synctest.Test(t, func(t *testing.T) {
		m := p.open(t)
		defer closeAll(t, m)
		s := m.NewSession(alice)
		for name, end := range map[string]func(*txn.Session) error{
			"commit":  func(s *txn.Session) error { return s.Commit(t.Context()) },
			"prepare": func(s *txn.Session) error { return s.Prepare(t.Context(), "x") },
		} {
			begin(t, s)
			put(t, s, "a", "long")
			s.Limit(time.Minute, 0)
			s.Limit(0, 0)
			time.Sleep(time.Hour)
			put(t, s, "a", "longer")
			s.Limit(2*time.Hour, 0)
			time.Sleep(time.Hour + m.Limits().Grace)
			synctest.Wait()
			_, err := s.Branch(t.Context(), "a")
			wantErr(t, err, txn.ErrCutOff)
			wantErr(t, err, txn.ErrTimeout)
			s.Limit(0, 0)
			if err := end(s); !errors.Is(err, txn.ErrCutOff) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.Limit(time.Minute, 0)
		for range 3 { // each has a minute
			begin(t, s)
			put(t, s, "a", "short")
			time.Sleep(time.Minute - 1)
			wantErr(t, s.Commit(t.Context()), nil)
		}
	})
	want(t, p.delivered(t, "a"), "short", "short", "short")
}

// slow is a spool of which a branch may come late.
type slow struct {
	*spool.Spool

	in, out chan struct{}
}

func (s slow) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	s.in <- struct{}{}
	<-s.out
	return s.Spool.Enlist(ctx, opt)
}

// TestCutOffBeforeBranch: a branch that comes after its transaction was cut off is not the code's either.
func TestCutOffBeforeBranch(t *testing.T) {
	p := newFastPlace(t)
	late, err := spool.Open("late", p.dir("b"))
	if err != nil {
		t.Fatal(err)
	}
	of := slow{late, make(chan struct{}), make(chan struct{})}
	var log testwait.Output
	m := p.open(t, func(o *txn.Options) {
		o.Resources = append(o.Resources, of)
		o.Limits.Grace = time.Millisecond
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	defer closeAll(t, m)
	s := m.NewSession(alice)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer s.Guard(ctx, "procedure p")()
	begin(t, s)
	put(t, s, "a", "cut")
	var all sync.WaitGroup
	all.Go(func() {
		_, err := s.Branch(t.Context(), "late")
		wantErr(t, err, txn.ErrCutOff)
	})
	testwait.For(t, "the branch is asked for", of.in)
	cancel(errGone)
	testwait.Until(t, "the transaction is cut off", func() bool { return strings.Contains(log.String(), "were cut off") })
	close(of.out)
	all.Wait()
	wantErr(t, s.Rollback(t.Context()), nil)
	if n := strings.Count(log.String(), "were cut off"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
