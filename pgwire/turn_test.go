package pgwire

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/internal/lane"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestTurns shows that who waits comes first when a slice is over, and that nobody waits longer than he is there.
func TestTurns(t *testing.T) {
	line := newTurns(nil)
	a, b := turn{of: line}, turn{of: line}
	a.take(t.Context())
	a.take(t.Context()) // held already
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	b.take(gone)
	if !a.held || b.held {
		t.Fatalf("held: %v, %v", a.held, b.held)
	}
	a.goOn(t.Context()) // its slice is not over, or nobody waits
	got := make(chan struct{})
	go func() {
		b.take(t.Context())
		close(got)
	}()
	a.till = time.Now()
	testwait.Until(t, "the other's turn", func() bool { // as soon as it waits
		select {
		case <-got:
			return true
		default:
		}
		within, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		a.goOn(within)
		a.till = time.Time{}
		return false
	})
	a.rest() // without one
	b.rest()
	var none turn
	none.goOn(t.Context())
	none.rest()
	a.take(t.Context())
}

// TestTurnsOfAllWorkers shows that a turn takes a seat of all workers', too, and that who does not get that gives the turn up.
func TestTurnsOfAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lane")
		here, err := lane.Open(path, 2)
		if err != nil {
			t.Fatal(err)
		}
		there, err := lane.Open(path, 2)
		if err != nil {
			t.Fatal(err)
		}
		there.Take(t.Context())
		line := newTurns(here)
		a, b := turn{of: line}, turn{of: line}
		short, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		a.take(short)
		if a.held || len(line.one) != 0 {
			t.Error("a turn beside another worker's, or one that nobody has")
		}
		there.Rest()
		a.take(t.Context())
		a.rest()
		b.take(t.Context())
		if !b.held || there.Take(short) {
			t.Error("no turn, or another worker's beside it")
		}
		b.rest()
		if !there.Take(short) {
			t.Error("the seat was kept")
		}
	})
}

// TestShare shows that a session's share of the common memory follows what it holds, and that the sum is bounded.
func TestShare(t *testing.T) {
	p := &pool{most: 4 * grain}
	a, b := share{of: p}, share{of: p}
	for _, step := range []struct {
		of    *share
		bytes int
		ok    bool
		taken int64
	}{
		{&a, own, true, 0},
		{&a, own + 1, true, grain},
		{&b, own + 3*grain, true, 4 * grain},
		{&a, own + grain, true, 4 * grain},
		{&a, own + grain + 1, false, 4 * grain},
		{&b, own + 2*grain, true, 3 * grain},
		{&a, own + grain + 1, true, 4 * grain},
		{&b, 0, true, 2 * grain},
		{&a, 0, true, 0},
	} {
		if ok := step.of.cover(step.bytes); ok != step.ok || p.taken.Load() != step.taken {
			t.Errorf("%d bytes: %v, and %d are taken; want %v and %d", step.bytes, ok, p.taken.Load(), step.ok, step.taken)
		}
	}
}
