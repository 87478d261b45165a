// Package pool keeps a bounded number of connections of one resource.
// It never opens more than its limit and never hands out one connection twice; it does not test an idle connection before it hands it
// out, since only the first statement can tell.
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// ErrClosed is what Get returns after Close.
var ErrClosed = errors.New("the resource is closed")

// Pool holds connections of type C. Each was opened for a key, and is handed out again only for the same one.
type Pool[C any] struct {
	open  func(ctx context.Context, key string) (C, error)
	close func(C)       // of one that counts
	end   func(C)       // of one that has parted
	slots chan struct{} // one token per connection that is out or being opened; those who wait are served in their order
	queue atomic.Int64  // how many wait for one
	done  chan struct{}

	budget *Budget // nil: none beside the limit

	mu   sync.Mutex
	idle []entry[C] // the one used last is the last
	shut bool
	held bool        // it opens none, and keeps none that is idle
	look *time.Timer // until idle connections may be wanted elsewhere; nil without a budget
}

type entry[C any] struct {
	key  string
	conn C
}

// New returns a pool of at most limit connections. close must not block for long and is called once for each connection.
func New[C any](limit int, open func(ctx context.Context, key string) (C, error), close func(C)) *Pool[C] {
	return &Pool[C]{open: open, close: close, end: close, slots: make(chan struct{}, limit), done: make(chan struct{})}
}

// Within has the pool keep to a budget, which it owns, before it is used.
func (p *Pool[C]) Within(b *Budget) *Pool[C] {
	p.budget = b
	p.close = func(conn C) {
		p.end(conn)
		b.give()
	}
	p.mu.Lock() // yield waits for it
	defer p.mu.Unlock()
	p.look = time.AfterFunc(yieldEach, p.yield)
	return p
}

// yield closes the connection that has been idle for longest if another process waits for one, and looks again after a while.
func (p *Pool[C]) yield() {
	p.mu.Lock()
	var oldest []entry[C]
	if len(p.idle) > 0 && p.budget.wanted() {
		oldest, p.idle = p.idle[:1], p.idle[1:]
	}
	if !p.shut {
		p.look.Reset(yieldEach)
	}
	p.mu.Unlock()
	for _, e := range oldest {
		p.close(e.conn)
	}
}

// Get returns a connection for key and whether it has been used before. It waits for a free one until ctx ends, then the error is
// txn.ErrExhausted; while the pool is held it is txn.ErrPaused. The caller gives the connection to Put or Drop. Before it waits it calls
// waiting with what for, unless that is nil.
func (p *Pool[C]) Get(ctx context.Context, key string, waiting func(why string)) (conn C, used bool, err error) {
	var none C
	if waiting == nil {
		waiting = func(string) {}
	}
	select {
	case <-p.done:
		return none, false, ErrClosed
	default:
	}
	if err := p.slot(ctx, waiting); err != nil {
		return none, false, err
	}
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held {
		<-p.slots
		return none, false, txn.ErrPaused
	}
	for {
		e, ok := p.pop()
		if !ok {
			break
		}
		if e.key == key {
			return e.conn, true, nil
		}
		p.close(e.conn)
	}
	conn, err = p.fresh(ctx, key, waiting)
	if err != nil {
		<-p.slots
		return none, false, err
	}
	return conn, false, nil
}

// slot waits for a place of one connection.
func (p *Pool[C]) slot(ctx context.Context, waiting func(why string)) error {
	select {
	case p.slots <- struct{}{}: // nobody waits
		return nil
	default:
	}
	waiting(fmt.Sprintf("the worker's share of %d is used up", cap(p.slots)))
	p.queue.Add(1)
	defer p.queue.Add(-1)
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: all %d are in use (%w)", txn.ErrExhausted, cap(p.slots), context.Cause(ctx))
	}
}

// fresh opens a connection, as far as the budget lets it.
func (p *Pool[C]) fresh(ctx context.Context, key string, waiting func(why string)) (conn C, err error) {
	if err := p.afford(ctx, waiting); err != nil {
		return conn, err
	}
	waiting("it is being opened")
	conn, err = p.open(ctx, key)
	if err != nil && p.budget != nil {
		p.budget.give()
	}
	return conn, err
}

// afford waits for a place in the budget, if there is one.
func (p *Pool[C]) afford(ctx context.Context, waiting func(why string)) error {
	if p.budget == nil {
		return nil
	}
	if ok, err := p.budget.takeNow(); ok || err != nil {
		return err
	}
	waiting(fmt.Sprintf("the service's pool of %d is used up", p.budget.limit()))
	p.queue.Add(1)
	defer p.queue.Add(-1)
	return p.budget.take(ctx)
}

func (p *Pool[C]) pop() (entry[C], bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return entry[C]{}, false
	}
	e := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return e, true
}

// Put gives a connection back for further use, here or in another process that waits for one.
func (p *Pool[C]) Put(key string, conn C) {
	wanted := p.budget != nil && p.budget.wanted()
	p.mu.Lock()
	if p.shut || p.held || wanted {
		p.mu.Unlock()
		p.Drop(conn)
		return
	}
	p.idle = append(p.idle, entry[C]{key, conn})
	p.mu.Unlock()
	<-p.slots
}

// Drop closes a connection that Get returned, and frees its place.
func (p *Pool[C]) Drop(conn C) {
	p.close(conn)
	<-p.slots
}

// Part frees the place of a connection that Get returned, which is the caller's own from now on.
func (p *Pool[C]) Part() {
	if p.budget != nil {
		p.budget.give()
	}
	<-p.slots
}

// Adopt takes a connection that had parted back if there is room for it, and else closes it.
func (p *Pool[C]) Adopt(key string, conn C) {
	p.mu.Lock()
	room := !p.shut && !p.held && len(p.idle)+len(p.slots) < cap(p.slots)
	if room && p.budget != nil {
		room, _ = p.budget.try()
	}
	if room {
		p.idle = append(p.idle, entry[C]{key, conn})
	}
	p.mu.Unlock()
	if !room {
		p.end(conn)
	}
}

// Flush closes the idle connections: one of them was found dead, and so may be the others.
func (p *Pool[C]) Flush() {
	for e, ok := p.pop(); ok; e, ok = p.pop() {
		p.close(e.conn)
	}
}

// Hold closes the idle connections, and each that is out when it comes back, and opens none, until Free.
func (p *Pool[C]) Hold() {
	p.hold(true)
	p.Flush()
}

// Free ends Hold.
func (p *Pool[C]) Free() { p.hold(false) }

func (p *Pool[C]) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
}

// Open returns how many connections there are, with those that are being opened or closed.
func (p *Pool[C]) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) + len(p.idle)
}

// InUse returns how many connections are out or being opened.
func (p *Pool[C]) InUse() int { return len(p.slots) }

// Waiting returns how many calls of Get wait for a connection to be given back.
func (p *Pool[C]) Waiting() int { return int(p.queue.Load()) }

// Limit returns how many connections there may be.
func (p *Pool[C]) Limit() int { return cap(p.slots) }

// Close closes the idle connections at once and those that are out when they come back. It may be called again.
func (p *Pool[C]) Close() {
	p.mu.Lock()
	if !p.shut {
		p.shut = true
		close(p.done)
		if p.look != nil {
			p.look.Stop()
		}
	}
	p.mu.Unlock()
	p.Flush()
}
