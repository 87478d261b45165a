package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// rebuild makes sure that the claims are those of this boot: the first process
// to need them derives them from the logs, the others wait for it.
func (f *Files) rebuild(ctx context.Context) error {
	_, err := f.rebuiltFrom(ctx)
	return err
}

// rebuiltFrom is rebuild. It returns what the logs said if it was this call that derived the claims; nil otherwise.
func (f *Files) rebuiltFrom(ctx context.Context) (s *Contents, err error) {
	if f.rebuilt.Load() {
		return nil, nil
	}
	mark := f.dir.id.String() + "\n"
	if !f.marked(mark) {
		if err := f.locked(ctx, "seal", func() error {
			if !f.marked(mark) { // another may have while we waited
				s, err = f.rebuildClaims(ctx)
			}
			return err
		}); err != nil {
			return nil, &rebuildError{err}
		}
	}
	f.rebuilt.Store(true)
	return s, nil
}

// rebuildError tells why there are no claims. It must not be taken for what fs.ErrNotExist and fs.ErrExist say of a single
// one: a coordinator would be told that its transaction does not exist.
type rebuildError struct{ why error }

func (e *rebuildError) Error() string { return "rebuild claims: " + e.why.Error() }

// Unwrap is what a client is told, and that there is more, which it is not.
func (e *rebuildError) Unwrap() []error {
	said := xa.ErrNoClaims
	if isFull(e.why) {
		said = xa.ErrNoRoom
	}
	return []error{said, errors.New(e.why.Error())}
}

func (e *rebuildError) Is(target error) bool {
	return target != fs.ErrNotExist && target != fs.ErrExist && errors.Is(e.why, target)
}

// rebuiltName is the shared fact that names the log from which the claims were derived. It goes with the claims at a boot, for
// they are on a file system that does not outlive it, as /run by file-hierarchy(7).
const rebuiltName = "rebuilt"

func (f *Files) marked(mark string) bool {
	raw, _, err := f.Shared(rebuiltName)
	return err == nil && string(raw) == mark
}

// rebuildClaims derives all claims anew. The caller holds the lock "seal", for
// which everybody who needs a claim waits until the mark is there.
//
// Its order is what matters. What a process that died half way has made goes first: a claim may have ended since. The
// logs of the dead are sealed before any is read. Were they not, a decision could be taken from a log in which it was
// written but never got to the disk: its coordinator is told "committed", a resource commits, and the next failure of
// power leaves the vote alone, which may be rolled back elsewhere. The mark comes last. Were it there before the last
// claim, a COMMIT PREPARED would find none and be told that there is no such transaction, which a coordinator takes for
// "finished", while its branches keep their locks.
func (f *Files) rebuildClaims(ctx context.Context) (*Contents, error) {
	if err := f.claims.clear(); err != nil {
		return nil, err
	}
	f.claims.tally.zero()
	s, err := f.known(ctx)
	if err != nil {
		return nil, err
	}
	return s, f.derive(s, f.claims.put, func(h *History) bool { return h.Tx.GID.Role == xa.RoleExternal || h.claimWorthy() })
}

// known is what all logs say, those of the dead sealed. The caller holds the lock "seal".
func (f *Files) known(ctx context.Context) (*Contents, error) {
	dead, err := f.sealThem(ctx)
	if err != nil {
		return nil, err
	}
	s, err := f.dir.contents()
	if err != nil {
		return nil, err
	}
	s.Supersede(dead)
	return s, nil
}

// mend puts what the logs say to a claim that somebody has spoilt; one that they do not know, as of a transaction that is over,
// goes. Who is at work on it writes it anew himself, and so is left alone.
func (f *Files) mend(ctx context.Context, name string) error {
	lock, err := f.claims.lock(name, attempt)
	if errors.Is(err, ErrHeld) {
		return nil
	}
	if err != nil {
		return &rebuildError{err}
	}
	err = f.locked(ctx, "seal", func() error {
		file, err := os.OpenFile(f.claims.path(name), os.O_RDWR|os.O_APPEND|syscall.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		free, err := ofd.TryLock(file)
		if free {
			err = f.mendLocked(ctx, &claimFile{f.claims, file, nil, f.claims.path(name)})
		}
		return errors.Join(err, ofd.Close(file))
	})
	if err = errors.Join(err, ofd.Close(lock)); err != nil {
		return &rebuildError{err}
	}
	return nil
}

func (f *Files) mendLocked(ctx context.Context, c *claimFile) error {
	if _, err := readClaim(c.path); err == nil {
		return nil // another has mended it
	}
	s, err := f.known(ctx)
	if err != nil {
		return err
	}
	for _, h := range s.Histories {
		if ClaimName(&h.Tx) == filepath.Base(c.path) && !h.Unnamed && !f.Done(h) {
			return c.append(h.State(s))
		}
	}
	return os.Remove(c.path)
}

// noClaims says of an error what it is about: the directory of claims cannot be read or written.
func noClaims(err error) error {
	if err == nil || isFull(err) {
		return err
	}
	return fmt.Errorf("%w: %w", xa.ErrNoClaims, err)
}

// barred is noClaims where it may also be about one claim, and say that there is one of that name or none.
func barred(err error) error {
	if _, file := errors.AsType[*fs.PathError](err); !file || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return err
	}
	return noClaims(err)
}

// claimWorthy tells whether a local transaction's outcome is worth showing.
func (h *History) claimWorthy() bool {
	return h.Tx.Hazard != "" || h.Tx.Heuristic || h.Tx.HandsOff != ""
}

// State is what the logs say, as a claim. Where a log is damaged, a decision
// may be lost that was made after the vote: then only an operator decides.
func (h *History) State(s *Contents) State {
	st := State{Transaction: h.Tx, Claimant: s.Responsible(h), Decision: h.Decision}
	st.Phase = h.Phase()
	switch {
	case st.Phase.Terminal():
		st.Ended = h.DecidedAt
	case h.Decision != 0:
		st.Decided = h.DecidedAt
	}
	for n, err := range s.Damaged {
		if n >= h.Tx.GID.Incarnation && h.Decision == 0 {
			st.HandsOff = xa.JoinHazards(st.HandsOff, fmt.Sprintf("log %d: %v", n, err))
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

// SealDead seals the log of every incarnation that is dead, and returns those
// that are. A damaged log is reported and counts as alive: nothing may be
// presumed of it.
func (f *Files) SealDead(ctx context.Context) (dead map[uint64]bool, err error) {
	s, err := f.rebuiltFrom(ctx)
	if err != nil {
		return nil, err
	}
	err = f.locked(ctx, "seal", func() error {
		dead, err = f.sealThem(ctx)
		return err
	})
	if err == nil && s != nil && s.keepsSealed(dead) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.fresh = s
	}
	return dead, err
}

// sealThem is sealDead for a caller that holds the lock "seal".
func (f *Files) sealThem(ctx context.Context) (map[uint64]bool, error) {
	list, err := f.dir.logs()
	if err != nil {
		return nil, err
	}
	dead := map[uint64]bool{}
	for _, n := range list {
		if n == f.Incarnation() {
			continue
		}
		alive, err := f.dir.alive(n)
		if err != nil {
			return nil, err
		}
		if alive {
			continue
		}
		if err := f.dir.seal(n); err != nil {
			f.opt.Events.Damaged(ctx, f.dir.path(logName(n)), err)
			continue
		}
		dead[n] = true
	}
	return dead, nil
}

// Compact rewrites the logs of dead incarnations without what nobody needs,
// and deletes those of which nothing is left. Those that are not fenced everywhere stay: by its log a dead incarnation is
// known to be one, and its late PREPARE would be found by nobody who fences.
func (f *Files) Compact(ctx context.Context, s *Contents, dead map[uint64]bool, forgotten func(xa.GID) bool, fenced func(uint64) bool) error {
	return f.locked(ctx, "seal", func() error {
		var errs []error
		for n := range dead {
			if s.Damaged[n] != nil || !fenced(n) {
				continue
			}
			keep := s.Needed(n, f.Done, forgotten)
			switch all := len(s.records[n]); {
			case len(keep) == 0:
				if err := os.Remove(f.dir.path(logName(n))); !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
			case 2*len(keep) < all-2: // without open and dead
				errs = append(errs, f.dir.rewrite(n, f.dir.framed(s, n, keep)))
			}
		}
		return errors.Join(errors.Join(errs...), f.dir.syncDir())
	})
}

// RotateAt is the size in bytes from which on the log of a living worker is
// rewritten without what nobody needs.
const RotateAt = 16 << 20

// Rotate rewrites our own log if it has grown.
func (f *Files) Rotate(ctx context.Context, from int64, dispensable func(xa.GID) bool) error {
	f.mu.Lock()
	j := f.own
	f.mu.Unlock()
	if j == nil || j.size() < from {
		return nil
	}
	return f.locked(ctx, "seal", func() error {
		s, err := f.dir.contents()
		if err == nil && s.Damaged[j.incarnation] != nil {
			err = s.Damaged[j.incarnation]
		}
		if err == nil {
			keep := s.Needed(j.incarnation, f.Done, dispensable)
			err = j.rotate(s, f.dir.again(j.incarnation, keep...))
		}
		return err
	})
}

// framed yields the open and the dead record around what a sealed log keeps.
func (h *directory) framed(s *Contents, n uint64, keep []int64) iter.Seq2[[]byte, error] {
	all := s.records[n]
	offsets := append(append([]int64{all[0].offset}, keep...), all[len(all)-1].offset)
	return func(yield func([]byte, error) bool) {
		opened := false
		h.again(n, offsets...)(func(payload []byte, err error) bool {
			if err == nil && !opened {
				opened = true
				payload, err = reopened(payload, s.Reserved[n])
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
