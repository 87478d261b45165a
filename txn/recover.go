package txn

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// Recover tells what is pending in this process and recovers what dead ones
// left, for ever, until ctx ends (nil) or the log fails (ErrPoisoned). It
// waits for the goroutines that it starts: two loops, and one for each executor
// at work.
func (m *Manager) Recover(ctx context.Context) error {
	var err error
	if m.ledger.Incarnation() == 0 {
		err = m.skipOthers(ctx)
	}
	if err == nil {
		// A transaction's first use of a resource need not wait for our log then.
		_, err = m.ledger.Log(ctx)
	}
	m.warn(ctx, "begin an incarnation", err)
	var wg sync.WaitGroup
	wg.Go(func() { m.retryLoop(ctx) })
	wg.Go(func() { m.scanLoop(ctx) })
	if m.host != nil {
		wg.Go(func() {
			m.warn(ctx, "recover what this host had open before it joined the cluster", m.host.Recover(ctx))
		})
	}
	wg.Wait()
	return m.Err()
}

// skipOthers looks in the resources whether another copy of the log went on, as after the machine was set back to a snapshot: what
// that one began must not be taken for ours. Of a resource that does not answer the scan tells.
func (m *Manager) skipOthers(ctx context.Context) error {
	ctx, cancel := m.asking(ctx)
	defer cancel()
	var mu sync.Mutex
	var shown uint64
	var wg sync.WaitGroup
	for _, r := range m.resources {
		wg.Go(func() {
			list, _ := r.InDoubt(ctx, m.ledger.ID())
			mu.Lock()
			defer mu.Unlock()
			for _, b := range list {
				shown = max(shown, b.GID.Incarnation)
			}
		})
	}
	wg.Wait()
	return m.ledger.SkipOthers(context.WithoutCancel(ctx), shown)
}

// sweepEvery bounds how long a resource keeps the proof of a finished commit.
const sweepEvery = time.Second

func (m *Manager) retryLoop(ctx context.Context) {
	var queues sync.WaitGroup
	defer queues.Wait()
	for {
		pause := sweepEvery
		if d, any := m.pending.Wait(time.Now()); any {
			pause = min(pause, d)
		} else if m.swept.empty() {
			pause = time.Hour // until something comes in
		}
		select {
		case <-ctx.Done():
			return
		case <-m.Failed():
			return
		case <-m.pending.Added():
		case <-m.swept.woken():
			continue // others follow soon: one force for all
		case <-time.After(pause):
		}
		m.retry(ctx, &queues)
		m.sweepBeside(ctx, &queues)
	}
}

// scanAgain is when to look whether another process has come to the end of its scan.
const scanAgain = time.Second

func (m *Manager) scanLoop(ctx context.Context) {
	for more := true; more; {
		begun := time.Now()
		// Another that is at it may leave or die before it is done: then its work is ours, at once.
		for !m.scanned(ctx) && m.rest(ctx, scanAgain) && !m.heard(ctx, begun) {
		}
		m.warn(ctx, "shorten the log", m.ledger.Rotate(ctx, ledger.RotateAt, m.dispensable))
		m.ledger.KeepRoom()
		every := max(m.opt.Limits.Scan, 10*time.Since(begun)) // never more than a tenth of the time
		more = m.watch(ctx, every/3+rand.N(every*2/3))
	}
}

// watchEvery is how often is looked for an incarnation that has died on another host, on average.
const watchEvery = time.Second

// watch is rest that ends as soon as such a one is found.
func (m *Manager) watch(ctx context.Context, pause time.Duration) bool {
	if m.host == nil {
		return m.rest(ctx, pause)
	}
	for over := time.Now().Add(pause); time.Now().Before(over); {
		if !m.rest(ctx, watchEvery/2+rand.N(watchEvery)) {
			return false
		}
		if orphaned, err := m.ledger.Orphaned(ctx); err == nil && orphaned {
			return true
		}
	}
	return true
}

// scanned scans, and tells whether it could: false if another process is at it.
func (m *Manager) scanned(ctx context.Context) bool {
	mine, err := m.tryScan(ctx)
	m.warn(ctx, "recover", err)
	return mine || err != nil
}

// rest waits, and tells whether to go on after that.
func (m *Manager) rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-m.Failed():
		return false
	case <-time.After(pause):
		return true
	}
}

// Scan recovers once, unless another process is at it. The error tells what
// could not be done; the rest was.
func (m *Manager) Scan(ctx context.Context) error {
	_, err := m.tryScan(ctx)
	return err
}

// tryScan tells in mine whether it was this process that scanned.
func (m *Manager) tryScan(ctx context.Context) (mine bool, err error) {
	_, err = m.Asides() // counted, also if another recovers
	m.warn(ctx, "read a log that was put aside", err)
	mine, err = m.ledger.Recovering(ctx, false, func() error {
		if m.host == nil {
			m.reportAside(ctx)
		}
		return errors.Join(m.scan(ctx), m.trim(ctx))
	})
	if !mine && err == nil {
		err = m.readCounted()
	}
	return mine, err
}

// scanNow is Scan that waits for another process that recovers.
func (m *Manager) scanNow(ctx context.Context) error {
	_, err := m.ledger.Recovering(ctx, true, func() error { return m.scan(ctx) })
	return err
}
