package pool

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// shared is a process's pool within a budget: each open of the file is another owner of locks, as another process is.
func shared(t *testing.T, path string, limit, total int) (*Pool[int], *counted) {
	t.Helper()
	b, err := OpenBudget(path, total)
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{}
	p := New(limit, c.open, c.close).Within(b)
	t.Cleanup(p.Close)
	return p, c
}

// TestBudget: processes together never have more than the budget; what one gives back, or leaves idle, another gets.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "pool")
		old, oldConns := shared(t, path, 2, 3)
		young, _ := shared(t, path, 2, 3)
		get(t, old, "k", 1, false)
		get(t, old, "k", 2, false)
		get(t, young, "k", 1, false)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		why := ""
		var waiting atomic.Int64
		told := func(s string) { why = s }
		time.AfterFunc(time.Second/2, func() { waiting.Store(int64(young.Waiting())) })
		if _, _, err := young.Get(ctx, "k", told); !errors.Is(err, txn.ErrExhausted) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("beyond the budget: %v", err)
		}
		if why != "the service's pool of 3 is used up" || waiting.Load() != 1 || young.Waiting() != 0 {
			t.Errorf("it waits, as %q, and is counted as %d, then %d", why, waiting.Load(), young.Waiting())
		}
		old.Put("k", 1) // nobody waits any more: it stays
		if gone := oldConns.gone(); len(gone) != 0 {
			t.Errorf("closed %v", gone)
		}
		begun := time.Now()
		get(t, young, "k", 2, false) // idle there
		if took := time.Since(begun); took > 2*yieldEach {
			t.Errorf("an idle connection was given up after %s", took)
		}
		young.Drop(2)

		// One that is in use goes to another process that waits when it comes back.
		get(t, old, "k", 3, false)
		got := make(chan error, 1)
		go func() {
			_, _, err := young.Get(t.Context(), "k", nil)
			got <- err
		}()
		synctest.Wait()
		old.Put("k", 3)
		if err := <-got; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got, want := oldConns.gone(), []int{1, 3}; !slices.Equal(got, want) {
			t.Errorf("closed %v, want %v", got, want)
		}
	})
}

// TestBudgetParts: a connection that parts leaves the budget, and needs a place to come back.
func TestBudgetParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "pool")
		a, conns := shared(t, path, 2, 1)
		b, _ := shared(t, path, 2, 1)
		get(t, a, "k", 1, false)
		a.Part()
		get(t, b, "k", 1, false)
		a.Adopt("k", 1)
		if len(conns.gone()) != 1 {
			t.Error("a connection came back that has no place")
		}
		b.Part()
		a.Adopt("k", 7)
		get(t, a, "k", 7, true)
		conns.fail = errors.New("down")
		a.Drop(7)
		if _, _, err := a.Get(t.Context(), "k", nil); !errors.Is(err, conns.fail) {
			t.Errorf("got %v", err)
		}
		get(t, b, "k", 2, false) // a gave its place back
	})
}

// TestBudgetTurn: who comes while another process waits waits behind it.
func TestBudgetTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	var both [2]*Budget
	for i := range both {
		b, err := OpenBudget(path, 1)
		if err != nil {
			t.Fatal(err)
		}
		both[i] = b
	}
	for _, waiting := range []bool{true, false} {
		both[0].wait(map[bool]int{true: 1, false: -1}[waiting])
		if ok, err := both[1].takeNow(); ok == waiting || err != nil {
			t.Errorf("somebody waits: %v; a place: %v, %v", waiting, ok, err)
		}
	}
}

// TestBudgetFails: without its file a budget gives nothing away.
func TestBudgetFails(t *testing.T) {
	if _, err := OpenBudget(filepath.Join(t.TempDir(), "none", "pool"), 1); err == nil {
		t.Error("opened nothing")
	}
	b, err := OpenBudget(filepath.Join(t.TempDir(), "pool"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.take(t.Context()); err == nil || errors.Is(err, txn.ErrExhausted) {
		t.Errorf("got %v", err)
	}
}
