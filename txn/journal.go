package txn

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
	"github.com/fdtserver/fdt/txn/internal/ofd"
	"github.com/fdtserver/fdt/txn/internal/wal"
)

// sequenceBlock is how many sequence numbers are reserved by one force.
const sequenceBlock = 1 << 16

// journal is the log of this process's incarnation.
type journal struct {
	home        *home
	incarnation uint64
	program     string
	forces      *meter.Histogram
	fault       faultFunc
	lost        func(error) // told that nothing more can be written
	used        atomic.Bool // a record was to be written behind the opening

	swap sync.RWMutex // held for writing while log is replaced
	log  *wal.Log

	mu      sync.Mutex
	next    uint64 // sequence number to give away
	through uint64 // highest durably reserved
}

// openJournal begins an incarnation: its number, its file and its first block
// of sequence numbers are durable when it returns.
func openJournal(ctx context.Context, h *home, program string, forces *meter.Histogram, fault faultFunc, lost func(error)) (*journal, error) {
	n, err := h.allocate(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin an incarnation: %w", err)
	}
	j := &journal{
		home: h, incarnation: n, program: program, forces: forces, fault: fault, lost: lost, next: 1, through: sequenceBlock,
	}
	opening := j.opening()
	j.log, err = h.writeLog(n, behind(opening.encode(), nothing), fault)
	if err == nil {
		err = h.publishLog(n)
	}
	if err != nil {
		return nil, fmt.Errorf("begin incarnation %d: %w", n, err)
	}
	return j, nil
}

// opening is the first record of the log.
func (j *journal) opening() record {
	return record{
		Kind: kindOpen, At: time.Now(), Log: j.home.id, Incarnation: j.incarnation, Through: j.through, Program: j.program,
	}
}

// rotate replaces the log by a new one without the records that drop says
// nobody needs. Meanwhile transactions go on; they wait only while the
// records of that time are copied. The caller holds the lock "seal".
func (j *journal) rotate(s *survey, keep iter.Seq2[[]byte, error], renumbered func()) error {
	j.mu.Lock()
	opening := j.opening()
	j.mu.Unlock()
	log, err := j.home.writeLog(j.incarnation, behind(opening.encode(), keep), j.fault)
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
		err = j.home.publishLog(j.incarnation)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rotate log: %w", err), log.Close())
	}
	old := j.log
	j.log = log
	renumbered()
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
func (h *home) publishLog(incarnation uint64) error {
	name := h.path(logName(incarnation))
	if err := h.fault.at("publish log"); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), h.syncDir())
}

// writeLog makes a whole log durable, which publishLog gives its name. It is
// locked before.
func (h *home) writeLog(incarnation uint64, payloads iter.Seq2[[]byte, error], fault faultFunc) (*wal.Log, error) {
	name := logName(incarnation)
	temp := h.path(name + ".new")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_CLOEXEC, 0o640)
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

// gid gives away a gid, reserving numbers first if need be.
func (j *journal) gid(role Role) (GID, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next > maxSequence {
		err := fmt.Errorf("%w: incarnation %d has no numbers left", ErrPoisoned, j.incarnation)
		j.lost(err) // the next one has
		return GID{}, err
	}
	if j.next > j.through {
		through := j.through + sequenceBlock
		if err := j.force(record{Kind: kindBlock, Through: through}); err != nil {
			return GID{}, err
		}
		j.through = through
	}
	g := GID{Log: j.home.id, Incarnation: j.incarnation, Sequence: j.next, Role: role}
	j.next++
	return g, nil
}

// note writes a record that survives the death of this process, not of the
// machine.
func (j *journal) note(r record) (wal.Number, error) {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return j.append(r)
}

func (j *journal) append(r record) (wal.Number, error) {
	j.used.Store(true)
	if linked, err := ofd.Linked(j.log.File()); err != nil || !linked {
		// A recoverer took this incarnation for dead and sealed its log.
		err = fmt.Errorf("incarnation %d was declared dead: %w", j.incarnation, errors.Join(ErrPoisoned, err))
		j.lost(err)
		return 0, err
	}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	n, err := j.log.Append(r.encode(), wal.Urgency(kinds[r.Kind].urgent))
	return n, j.explain(err)
}

// force writes a record and returns when it is durable. After an error for
// which InDoubt holds it may be durable all the same.
func (j *journal) force(r record) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	n, err := j.append(r)
	if err != nil {
		return err
	}
	return j.wait(n)
}

// wait returns when the record of that number is durable. The caller holds swap.
func (j *journal) wait(n wal.Number) error {
	began := time.Now()
	err := j.log.Force(n)
	j.forces.Observe(time.Since(began))
	return j.explain(err)
}

func (j *journal) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrFull):
		return fmt.Errorf("%w: %w", ErrLogFull, err)
	case errors.Is(err, wal.ErrPoisoned):
		err = fmt.Errorf("%w: %w", ErrPoisoned, err)
		j.lost(err)
	}
	return err
}

// close closes the log, and deletes it if no successor needs to read it.
func (j *journal) close(finished bool) error {
	var err error
	if finished {
		err = errors.Join(os.Remove(j.home.path(logName(j.incarnation))), j.home.syncDir())
	}
	return errors.Join(err, j.log.Close())
}

// forced returns when the record of that number is durable.
func (j *journal) forced(n wal.Number) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return j.wait(n)
}

// size is how many bytes the records take.
func (j *journal) size() int64 {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return j.log.Size()
}
