package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/internal/wal"
	"github.com/fdtserver/fdt/txn/xa"
)

// sequenceBlock is how many sequence numbers are reserved by one force.
const sequenceBlock = 1 << 16

// logFile is the log of this process's incarnation.
type logFile struct {
	dir         *directory
	incarnation uint64
	program     string
	forces      *meter.Histogram
	fault       Fault
	lost        func(error) // told that nothing more can be written
	events      Events
	used        atomic.Bool // a record was to be written behind the opening

	swap     sync.RWMutex // held for writing while log is replaced
	log      *wal.Log
	rotation int // how often it was

	deciding sync.Mutex
	decider  atomic.Pointer[xa.BranchID] // the store that is noted to keep decisions

	mu      sync.Mutex
	next    uint64 // sequence number to give away
	through uint64 // highest durably reserved
}

// openLog begins an incarnation: its number, its file and its first block
// of sequence numbers are durable when it returns.
func openLog(ctx context.Context, h *directory, opt *Options, lost func(error)) (*logFile, error) {
	n, err := h.allocate(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin an incarnation: %w", err)
	}
	j := &logFile{
		dir: h, incarnation: n, program: opt.Program, forces: opt.Forces, fault: opt.Fault, lost: lost, events: opt.Events,
		next: 1, through: sequenceBlock,
	}
	opening := j.opening()
	j.log, err = h.writeLog(n, behind(opening.encode(), nothing), opt.Fault)
	if err == nil {
		err = h.publishLog(n)
	}
	if err != nil {
		return nil, fmt.Errorf("begin incarnation %d: %w", n, err)
	}
	return j, nil
}

// Incarnation is the number of this life of this process.
func (j *logFile) Incarnation() uint64 { return j.incarnation }

// opening is the first record of the log.
func (j *logFile) opening() Record {
	return Record{
		Kind: KindOpen, At: time.Now(), Log: j.dir.id, Incarnation: j.incarnation, Through: j.through, Program: j.program,
	}
}

// rotate replaces the log by a new one with those records of s that are still
// needed. Meanwhile transactions go on; they wait only while the records of that
// time are copied. The caller holds the lock "seal".
//
// Nothing is written between the last copy and the new name: a decision that came in between would be forced into a
// file that nobody reads any more. A log that has failed is not replaced: what it shows may not be on the disk, its
// process has told nobody how that ended, and a copy would decide it. The new file is locked before it has the name, so
// that nobody finds this incarnation dead in between; and whoever looked at the old file sees that it has no name any
// more, and looks again.
func (j *logFile) rotate(s *Contents, keep iter.Seq2[[]byte, error]) error {
	j.mu.Lock()
	opening := j.opening()
	j.mu.Unlock()
	log, err := j.dir.writeLog(j.incarnation, behind(opening.encode(), keep), j.fault)
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	j.swap.Lock()
	defer j.swap.Unlock()
	err = j.log.Err()
	if err == nil {
		err = fill(log, wal.Replay(j.log.File(), s.read[j.incarnation]))
	}
	if err == nil {
		err = j.dir.publishLog(j.incarnation)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rotate log: %w", err), log.Close())
	}
	old := j.log
	j.log = log
	j.rotation++
	return old.Close()
}

// fill writes records as they are, durably.
func fill(log *wal.Log, payloads iter.Seq2[[]byte, error]) error {
	last, err := log.AppendAll(payloads)
	if err != nil {
		return err
	}
	return log.Force(last)
}

// behind yields a payload, then the rest.
func behind(first []byte, rest iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if yield(first, nil) {
			rest(yield)
		}
	}
}

// nothing yields nothing.
func nothing(func([]byte, error) bool) {}

// publishLog gives a log that writeLog made its name, in place of an older one.
func (h *directory) publishLog(incarnation uint64) error {
	name := h.path(logName(incarnation))
	if err := h.fault.At("publish log"); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), h.syncDir())
}

// writeLog makes a whole log durable, which publishLog gives its name. It is
// locked before.
func (h *directory) writeLog(incarnation uint64, payloads iter.Seq2[[]byte, error], fault Fault) (*wal.Log, error) {
	name := logName(incarnation)
	temp := h.path(name + ".new")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if ok, err := ofd.TryLock(f); !ok {
		return nil, errors.Join(fmt.Errorf("%s: locked by another process", temp), err, f.Close())
	}
	log, err := wal.Create(f, fault)
	if err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	if err := fill(log, payloads); err != nil {
		return nil, errors.Join(err, log.Close(), os.Remove(temp))
	}
	return log, nil
}

// Number gives away a gid, reserving numbers first if need be.
func (j *logFile) Number(role xa.Role) (xa.GID, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next > xa.MaxSequence {
		err := fmt.Errorf("%w: incarnation %d has no numbers left", xa.ErrPoisoned, j.incarnation)
		j.lost(err) // the next one has
		return xa.GID{}, err
	}
	if j.next > j.through {
		through := j.through + sequenceBlock
		if err := j.Force(Record{Kind: KindBlock, Through: through}); err != nil {
			return xa.GID{}, err
		}
		j.through = through
	}
	g := xa.GID{Log: j.dir.id, Incarnation: j.incarnation, Sequence: j.next, Role: role}
	j.next++
	return g, nil
}

// Mark is a record's place in the log of this process, until it was rewritten: then all that was in it is durable.
type Mark struct {
	rotation int
	number   wal.Number
}

// MarkIn is the place of a record in the log of an incarnation that has one log for all its life.
func MarkIn(incarnation, place uint64) Mark {
	return Mark{int(incarnation), wal.Number(place)} //nolint:gosec // far below its limit, xa.MaxIncarnation
}

// In tells whether MarkIn made it for that incarnation, and for which place.
func (k Mark) In(incarnation uint64) (place uint64, ok bool) {
	return uint64(k.number), uint64(k.rotation) == incarnation //nolint:gosec // not negative
}

// Later returns whichever record lies behind the other.
func (k Mark) Later(o Mark) Mark {
	if o.rotation > k.rotation || o.rotation == k.rotation && o.number > k.number {
		return o
	}
	return k
}

// Note writes a record that survives the death of this process, not of the
// machine.
func (j *logFile) Note(r Record) (Mark, error) {
	j.swap.RLock()
	defer j.swap.RUnlock()
	n, err := j.append(r)
	return Mark{j.rotation, n}, err
}

func (j *logFile) append(r Record) (wal.Number, error) {
	j.used.Store(true)
	if linked, err := ofd.Linked(j.log.File()); err != nil || !linked {
		// A recoverer took this incarnation for dead and sealed its log.
		err = fmt.Errorf("incarnation %d was declared dead: %w", j.incarnation, errors.Join(xa.ErrPoisoned, err))
		j.lost(err)
		return 0, err
	}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	n, err := j.log.Append(r.encode(), wal.Urgency(kinds[r.Kind].urgent))
	return n, j.explain(err)
}

// Force writes a record and returns when it is durable. After an error for
// which InDoubt holds it may be durable all the same.
func (j *logFile) Force(r Record) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	n, err := j.append(r)
	if err != nil {
		return err
	}
	return j.wait(n)
}

// wait returns when the record of that number is durable. The caller holds swap.
func (j *logFile) wait(n wal.Number) error {
	began := time.Now()
	err := j.log.Force(n)
	j.forces.Observe(time.Since(began))
	return j.explain(err)
}

func (j *logFile) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrFull):
		return j.events.Full(context.Background(), fmt.Errorf("%w: %w", xa.ErrLogFull, err))
	case errors.Is(err, wal.ErrPoisoned):
		err = fmt.Errorf("%w: %w", xa.ErrPoisoned, err)
		j.lost(err)
	}
	return err
}

// close closes the log, and deletes it if no successor needs to read it.
func (j *logFile) close(finished bool) error {
	var err error
	if finished {
		err = errors.Join(os.Remove(j.dir.path(logName(j.incarnation))), j.dir.syncDir())
	}
	return errors.Join(err, j.log.Close())
}

// Forced returns when that record is durable.
func (j *logFile) Forced(k Mark) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	if k.rotation < j.rotation {
		return nil
	}
	return j.wait(k.number)
}

// Wrote is so of every mark: a process has one log of this kind.
func (j *logFile) Wrote(Mark) bool { return true }

// size is how many bytes the records take.
func (j *logFile) size() int64 {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return j.log.Size()
}

// DecidedIn notes, before the first decision there, that a store keeps
// decisions of this incarnation: without that a recoverer that finds none here
// would presume that there is none. An fdt that does not know such a record
// takes the log for damaged, and presumes nothing of it.
func (j *logFile) DecidedIn(store xa.BranchID) error {
	store.Proof = ""
	if is := j.decider.Load(); is != nil && *is == store {
		return nil
	}
	j.deciding.Lock()
	defer j.deciding.Unlock()
	if is := j.decider.Load(); is != nil && *is == store {
		return nil
	}
	if err := j.Force(Record{Kind: KindDecider, Branches: []xa.BranchID{store}}); err != nil {
		return err
	}
	j.decider.Store(&store)
	return nil
}

// Decider tells whether DecidedIn has noted a store.
func (j *logFile) Decider() bool { return j.decider.Load() != nil }
