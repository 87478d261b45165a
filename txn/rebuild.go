package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// rebuild makes sure that the claims are those of this boot: the first process
// to need them derives them from the logs, the others wait for it.
func (m *Manager) rebuild(ctx context.Context) error {
	if m.rebuilt.Load() {
		return nil
	}
	mark := m.home.id.String() + "\n"
	if !m.marked(mark) {
		unlock, err := m.home.lock(ctx, "seal")
		if err != nil {
			return fmt.Errorf("rebuild claims: %w", err)
		}
		if !m.marked(mark) { // nobody else did while we waited
			err = m.rebuildClaims(ctx, mark)
		}
		if err = errors.Join(err, unlock()); err != nil {
			return fmt.Errorf("rebuild claims: %w", err)
		}
	}
	m.rebuilt.Store(true)
	return nil
}

// markPath is the file that names the log from which the claims were derived. It goes with the claims at a boot, for
// Options.ClaimDir is on a file system that does not outlive it, as /run by file-hierarchy(7).
func (m *Manager) markPath() string { return filepath.Join(m.claims.dir, "rebuilt") }

func (m *Manager) marked(mark string) bool {
	raw, err := os.ReadFile(m.markPath())
	return err == nil && string(raw) == mark
}

// rebuildClaims derives all claims anew. The caller holds the lock "seal", for
// which everybody who needs a claim waits until the mark is there.
func (m *Manager) rebuildClaims(ctx context.Context, mark string) error {
	if err := m.claims.clear(); err != nil {
		return err
	}
	if _, err := m.sealDead(ctx); err != nil {
		return err
	}
	s, err := m.home.survey()
	if err != nil {
		return err
	}
	for _, h := range s.histories {
		if h.tx.GID.Role != RoleExternal && !h.claimWorthy() || m.done(h) {
			continue
		}
		if err := m.claims.put(h.claim(s)); err != nil {
			return err
		}
	}
	temp := m.markPath() + ".new"
	if err := os.WriteFile(temp, []byte(mark), 0o640); err != nil {
		return err
	}
	return os.Rename(temp, m.markPath())
}

// claimWorthy tells whether a local transaction's outcome is worth showing.
func (h *history) claimWorthy() bool {
	return h.tx.Hazard != "" || h.tx.Heuristic || h.tx.HandsOff != ""
}

// claim is what the logs say, as a claim. Where a log is damaged, a decision
// may be lost that was made after the vote: then only an operator decides.
func (h *history) claim(s *survey) claimState {
	st := claimState{Transaction: h.tx, Claimant: h.responsible(), Decision: h.decision}
	st.Phase = h.phase()
	for n, err := range s.damaged {
		if n >= h.tx.GID.Incarnation && h.decision == 0 {
			st.HandsOff = joinHazards(st.HandsOff, fmt.Sprintf("log %d: %v", n, err))
		}
	}
	return st
}

// clear deletes all claims.
func (c claims) clear() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isClaimName(e.Name()) && !strings.HasPrefix(e.Name(), "new-") {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sealDead seals the log of every incarnation that is dead, and returns those
// that are. A damaged log is reported and counts as alive: nothing may be
// presumed of it. The caller holds the lock "seal".
func (m *Manager) sealDead(ctx context.Context) (map[uint64]bool, error) {
	list, err := m.home.logs()
	if err != nil {
		return nil, err
	}
	dead := map[uint64]bool{}
	for _, n := range list {
		if n == m.incarnation() {
			continue
		}
		alive, err := m.home.alive(n)
		if err != nil {
			return nil, err
		}
		if alive {
			continue
		}
		if err := m.home.seal(n); err != nil {
			if !m.once("damaged " + logName(n)) {
				continue
			}
			m.log.ErrorContext(ctx, "cannot read the log of a dead worker: its transactions are left alone",
				slog.String("file", m.home.path(logName(n))), slog.Any("error", err), event(eventDamaged))
			continue
		}
		dead[n] = true
	}
	return dead, nil
}

// compact rewrites the logs of dead incarnations without what nobody needs,
// and deletes those of which nothing is left.
func (m *Manager) compact(ctx context.Context, s *survey, dead map[uint64]bool, swept func(GID) bool, fenced func(uint64) bool) error {
	unlock, err := m.home.lock(ctx, "seal")
	if err != nil {
		return err
	}
	var errs []error
	for n := range dead {
		if s.damaged[n] != nil || !fenced(n) {
			continue
		}
		keep := s.needed(n, m.done, swept)
		switch all := len(s.records[n]); {
		case len(keep) == 0:
			errs = append(errs, ignoreNotExist(os.Remove(m.home.path(logName(n)))))
		case 2*len(keep) < all-2: // without open and dead
			errs = append(errs, m.home.rewrite(n, m.home.framed(s, n, keep)))
		}
	}
	return errors.Join(errors.Join(errs...), m.home.syncDir(), unlock())
}

// rotateAt is the size in bytes from which on the log of a living worker is
// rewritten without what nobody needs.
const rotateAt = 16 << 20

// rotate rewrites our own log if it has grown.
func (m *Manager) rotate(ctx context.Context, from int64) error {
	m.mu.Lock()
	j := m.journal
	m.mu.Unlock()
	if j == nil || j.size() < from {
		return nil
	}
	unlock, err := m.home.lock(ctx, "seal")
	if err != nil {
		return err
	}
	s, err := m.home.survey()
	if err == nil && s.damaged[j.incarnation] != nil {
		err = s.damaged[j.incarnation]
	}
	if err == nil {
		keep := s.needed(j.incarnation, m.done, m.swept.did)
		err = j.rotate(s, m.home.again(j.incarnation, keep...), m.swept.renumbered)
	}
	return errors.Join(err, unlock())
}

// framed yields the open and the dead record around what a sealed log keeps.
func (h *home) framed(s *survey, n uint64, keep []int64) iter.Seq2[[]byte, error] {
	all := s.records[n]
	offsets := append(append([]int64{all[0].offset}, keep...), all[len(all)-1].offset)
	return func(yield func([]byte, error) bool) {
		opened := false
		h.again(n, offsets...)(func(payload []byte, err error) bool {
			if err == nil && !opened {
				opened = true
				payload, err = reopened(payload, s.reserved[n])
			}
			return yield(payload, err)
		})
	}
}

// reopened is an open record that gives away sequence numbers through that one.
func reopened(payload []byte, through uint64) ([]byte, error) {
	opening, _, err := decodeRecord(payload)
	opening.Through = through
	return opening.encode(), err
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
