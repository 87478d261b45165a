package txn

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Recover retries what this process left over and recovers what dead ones
// left, for ever, until ctx ends (nil) or the log fails (ErrPoisoned). It
// waits for the goroutines that it starts: two loops, and one for each queue of
// leftovers.
func (m *Manager) Recover(ctx context.Context) error {
	// A transaction's first use of a resource need not wait for our log then.
	_, err := m.ours(ctx)
	m.warn(ctx, "begin an incarnation", err)
	var wg sync.WaitGroup
	wg.Go(func() { m.retryLoop(ctx) })
	wg.Go(func() { m.scanLoop(ctx) })
	wg.Wait()
	return m.Err()
}

// sweepEvery bounds how long a resource keeps the proof of a finished commit.
const sweepEvery = time.Second

func (m *Manager) retryLoop(ctx context.Context) {
	var queues sync.WaitGroup
	defer queues.Wait()
	for {
		pause := sweepEvery
		if d, any := m.left.wait(time.Now()); any {
			pause = min(pause, d)
		} else if m.swept.empty() {
			pause = time.Hour // until something comes in
		}
		select {
		case <-ctx.Done():
			return
		case <-m.Failed():
			return
		case <-m.left.added:
		case <-m.swept.woken():
			continue // others follow soon: one force for all
		case <-time.After(pause):
		}
		m.retry(ctx, &queues)
		m.warn(ctx, "drop proofs", m.sweep(ctx))
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
		m.warn(ctx, "shorten the log", m.rotate(ctx, rotateAt))
		every := max(m.opt.Limits.Scan, 10*time.Since(begun)) // never more than a tenth of the time
		more = m.rest(ctx, every/3+rand.N(every*2/3))
	}
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

// warn reports what could not be done and is tried again.
func (m *Manager) warn(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "transaction recovery goes on", slog.String("step", what), slog.Any("error", err))
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
	unlock, err := m.home.tryLock("recovery")
	if err != nil {
		return false, err
	}
	if unlock == nil {
		return false, m.readCount()
	}
	return true, errors.Join(m.scan(ctx), unlock())
}

// scanNow is Scan that waits for another process that recovers.
func (m *Manager) scanNow(ctx context.Context) error {
	unlock, err := m.home.lock(ctx, "recovery")
	if err != nil {
		return err
	}
	return errors.Join(m.scan(ctx), unlock())
}
