package txn

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Between two reports of the same trouble the pause doubles, from troubleFirst to troubleMost.
const (
	troubleFirst = 10 * time.Second
	troubleMost  = 10 * time.Minute
)

// troubles is which steps of recovery fail, and why. Recovery comes by many times a second: each cause is
// told when it is new, then ever more rarely for as long as it lasts; the rest is for who debugs.
type troubles struct {
	mu    sync.Mutex
	steps map[string]map[string]*trouble // by step and cause
}

type trouble struct {
	next   time.Time // when to tell it again
	pause  time.Duration
	untold int // how often it came since it was told
}

// came notes a failure, and returns whether to tell it and how often it came untold since the last time.
func (t *troubles) came(step string, err error, now time.Time) (tell bool, untold int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.steps[step]
	if of == nil {
		if t.steps == nil {
			t.steps = map[string]map[string]*trouble{}
		}
		of = map[string]*trouble{}
		t.steps[step] = of
	}
	for why, is := range of { // a cause that has long been away is new when it returns
		if now.After(is.next.Add(troubleMost)) {
			delete(of, why)
		}
	}
	why := cause(err)
	is := of[why]
	if is == nil {
		is = &trouble{}
		of[why] = is
	}
	if now.Before(is.next) {
		is.untold++
		return false, 0
	}
	untold, is.untold = is.untold, 0
	is.pause = min(max(2*is.pause, troubleFirst), troubleMost)
	is.next = now.Add(is.pause)
	return true, untold
}

// over notes that a step succeeded, and returns whether it had failed before.
func (t *troubles) over(step string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, failed := t.steps[step]
	delete(t.steps, step)
	return failed
}

// cause names what is at the root of an error, without what was tried: that differs from one transaction to the next.
func cause(err error) string {
	roots := map[string]bool{}
	var dig func(error)
	dig = func(err error) {
		switch e := err.(type) { //nolint:errorlint // it is taken apart
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				dig(inner)
				return
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				dig(inner)
			}
			return
		}
		roots[err.Error()] = true
	}
	dig(err)
	all := make([]string, 0, len(roots))
	for root := range roots {
		all = append(all, root)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// warn reports a step of recovery that failed and is tried again, or that it no longer fails.
func (m *Manager) warn(ctx context.Context, step string, err error) {
	if ctx.Err() != nil || err != nil && cause(err) == ErrPaused.Error() {
		return // called off, whatever it says, or by an operator
	}
	if err == nil {
		if m.troubles.over(step) {
			m.log.InfoContext(ctx, "a step of transaction recovery that had failed is done", slog.String("step", step))
		}
		return
	}
	level := slog.LevelDebug
	tell, untold := m.troubles.came(step, err, time.Now())
	if tell {
		level = slog.LevelWarn
	}
	m.log.Log(ctx, level, "a step of transaction recovery failed, it will be tried again",
		slog.String("step", step), slog.Any("error", err), slog.Int("also_failed_since_told", untold))
}
