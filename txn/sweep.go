package txn

import (
	"context"
	"errors"
	"sync"

	"github.com/fdtserver/fdt/txn/internal/wal"
)

// sweeper remembers which committed transactions a resource still keeps a
// proof of. The proof may go once the END is on disk.
type sweeper struct {
	mu      sync.Mutex
	pending map[GID]proofs
	wake    chan struct{}
}

func (s *sweeper) init() { s.wake = make(chan struct{}, 1) }

func (s *sweeper) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) == 0
}

// woken receives after something came into an empty sweeper.
func (s *sweeper) woken() <-chan struct{} { return s.wake }

type proofs struct {
	resources []string
	end       wal.Number
}

func (s *sweeper) add(gid GID, p proofs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		s.pending = map[GID]proofs{}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.pending[gid] = p
}

// did tells whether no resource keeps a proof on our account.
func (s *sweeper) did(gid GID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.pending[gid]
	return !waits
}

func (s *sweeper) take() map[GID]proofs {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.pending
	s.pending = nil
	return all
}

// noteEnd notes that every resource knows the decision.
func (m *Manager) noteEnd(j *journal, gid GID, hazard string, branches []BranchID, d Decision) error {
	n, err := j.note(record{Kind: kindEnd, GID: gid, Hazard: hazard})
	if err != nil {
		return err
	}
	var keepers []string
	for _, b := range branches {
		if _, ok := m.resources[b.Resource].(Forgetter); ok && d == Commit {
			keepers = append(keepers, b.Resource)
		}
	}
	if len(keepers) > 0 {
		m.swept.add(gid, proofs{resources: keepers, end: n})
	}
	return nil
}

// sweep forces the ends and lets the resources drop their proofs.
func (m *Manager) sweep(ctx context.Context) error {
	all := m.swept.take()
	if len(all) == 0 {
		return nil
	}
	j, err := m.ours(ctx)
	if err == nil {
		var last wal.Number
		for _, p := range all {
			last = max(last, p.end)
		}
		err = j.forced(last)
	}
	errs := []error{err}
	for gid, p := range all {
		if err == nil {
			errs = append(errs, m.dropProofs(ctx, gid, p.resources))
		}
		if errs[len(errs)-1] != nil {
			m.swept.add(gid, p)
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) dropProofs(ctx context.Context, gid GID, resources []string) error {
	var errs []error
	for _, name := range resources {
		if f, ok := m.resources[name].(Forgetter); ok {
			errs = append(errs, f.Forget(ctx, gid))
		}
	}
	return errors.Join(errs...)
}

// renumbered says that the log was rewritten and all in it is durable.
func (s *sweeper) renumbered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for gid, p := range s.pending {
		p.end = 0
		s.pending[gid] = p
	}
}
