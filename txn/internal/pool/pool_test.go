package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// counted opens numbers instead of connections and keeps a list of those closed.
type counted struct {
	mu     sync.Mutex // of closed, for pools that close by themselves
	next   int
	closed []int
	fail   error
}

func (c *counted) open(context.Context, string) (int, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	c.next++
	return c.next, nil
}

func (c *counted) close(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = append(c.closed, n)
}

func (c *counted) gone() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.closed)
}

func get(t *testing.T, p *Pool[int], key string, want int, wantUsed bool) int {
	t.Helper()
	got, used, err := p.Get(t.Context(), key, nil)
	if err != nil || got != want || used != wantUsed {
		t.Fatalf("Get(%q) = %d, %v, %v; want %d, %v", key, got, used, err, want, wantUsed)
	}
	return got
}

func TestReuse(t *testing.T) {
	c := &counted{}
	p := New(2, c.open, c.close)
	a := get(t, p, "k", 1, false)
	b := get(t, p, "k", 2, false)
	p.Put("k", a)
	p.Put("k", b)
	get(t, p, "k", 2, true) // the one used last
	p.Put("k", 2)
	get(t, p, "other", 3, false)
	if want := []int{2, 1}; !slices.Equal(c.closed, want) {
		t.Errorf("closed %v, want %v: connections of another key are no use", c.closed, want)
	}
	p.Drop(3)
	if n := p.InUse(); n != 0 {
		t.Errorf("%d in use, want 0", n)
	}
}

func TestExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{}
		p := New(1, c.open, c.close)
		get(t, p, "k", 1, false)
		late := errors.New("no time left")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
		defer cancel()
		why := ""
		if _, _, err := p.Get(ctx, "k", func(s string) { why = s }); !errors.Is(err, txn.ErrExhausted) || !errors.Is(err, late) || why != "the worker's share of 1 is used up" {
			t.Fatalf("Get of a full pool: %v, want ErrExhausted and the cause; it waits, as %s", err, why)
		}
		go func() {
			time.Sleep(time.Second)
			p.Put("k", 1)
		}()
		get(t, p, "k", 1, true) // waits
	})
}

func TestOpenFails(t *testing.T) {
	c := &counted{fail: errors.New("down")}
	p := New(1, c.open, c.close)
	for range 3 { // the place is free again
		if _, _, err := p.Get(t.Context(), "k", nil); !errors.Is(err, c.fail) {
			t.Fatalf("Get: %v, want %v", err, c.fail)
		}
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{}
		p := New(2, c.open, c.close)
		a, b := get(t, p, "k", 1, false), get(t, p, "k", 2, false)
		waits := make(chan error, 1)
		go func() {
			_, _, err := p.Get(t.Context(), "k", nil)
			waits <- err
		}()
		synctest.Wait()
		p.Close()
		p.Close()
		if err := <-waits; !errors.Is(err, ErrClosed) {
			t.Errorf("a waiting Get: %v, want ErrClosed", err)
		}
		p.Put("k", a)
		p.Drop(b)
		if _, _, err := p.Get(t.Context(), "k", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Get after Close: %v, want ErrClosed", err)
		}
		if want := []int{1, 2}; !slices.Equal(c.closed, want) {
			t.Errorf("closed %v, want %v", c.closed, want)
		}
	})
}

func TestPart(t *testing.T) {
	c := &counted{}
	p := New(1, c.open, c.close)
	a := get(t, p, "k", 1, false)
	p.Part()
	b := get(t, p, "k", 2, false)
	p.Adopt("k", a) // no room
	p.Put("k", b)
	get(t, p, "k", 2, true)
	p.Part()
	p.Adopt("k", b)
	get(t, p, "k", 2, true)
	p.Part()
	p.Close()
	p.Adopt("k", b)
	if want := []int{1, 2}; !slices.Equal(c.closed, want) {
		t.Errorf("closed %v, want %v", c.closed, want)
	}
}

func TestFlush(t *testing.T) {
	c := &counted{}
	p := New(2, c.open, c.close)
	a := get(t, p, "k", 1, false)
	get(t, p, "k", 2, false)
	p.Put("k", a)
	p.Flush()
	if want := []int{1}; !slices.Equal(c.closed, want) {
		t.Errorf("closed %v, want %v: those in use stay", c.closed, want)
	}
}

// TestHold: a pool that is held opens nothing and keeps nothing, until it is free again.
func TestHold(t *testing.T) {
	c := &counted{}
	p := New(3, c.open, c.close)
	a, b, parted := get(t, p, "k", 1, false), get(t, p, "k", 2, false), get(t, p, "k", 3, false)
	p.Part()
	p.Put("k", b)
	if n := p.Open(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	p.Hold()
	if _, _, err := p.Get(t.Context(), "k", nil); !errors.Is(err, txn.ErrPaused) {
		t.Errorf("Get: %v, want ErrPaused", err)
	}
	p.Put("k", a)
	p.Adopt("k", parted)
	if want := []int{2, 1, 3}; !slices.Equal(c.closed, want) || p.Open() != 0 {
		t.Errorf("closed %v, want %v; %d left", c.closed, want, p.Open())
	}
	p.Free()
	get(t, p, "k", 4, false)
}

func TestUnavailable(t *testing.T) {
	cause := errors.New("refused")
	err := error(&Unavailable{Resource: "bank", Err: cause})
	if !errors.Is(err, cause) || txn.SQLState(err) != "08001" || txn.InDoubt(err) {
		t.Errorf("%v has state %s", err, txn.SQLState(err))
	}
	if want := "resource bank is not available: refused"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
