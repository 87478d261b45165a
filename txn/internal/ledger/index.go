package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/fdtserver/fdt/txn/internal/wal"
	"github.com/fdtserver/fdt/txn/xa"
)

// indexes are what this process knows of where records lie in the logs, for
// questions about single transactions. A log is read once, and then on from there.
// No lock of the directory is needed: a log that is rewritten meanwhile is
// another file, and the old one stays as it was for who has it open.
type indexes struct {
	mu  sync.Mutex
	all map[uint64]*index // by incarnation
}

// index is one log's.
type index struct {
	mu       sync.Mutex
	file     *os.File            // what was read; nil if there is no such log
	at       map[xa.GID][]int64  // offsets of each transaction's records, in order
	names    map[string][]xa.GID // those that outside coordinators have named, by their claims' names, until they are over
	claims   map[xa.GID]string   // the other way round
	reserved uint64              // highest sequence number
	read     wal.Position        // up to where
	damaged  error               // why it cannot be read further
}

// of returns the index of log n.
func (x *indexes) of(n uint64) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all = map[uint64]*index{}
	}
	if x.all[n] == nil {
		x.all[n] = &index{}
	}
	return x.all[n]
}

// close forgets all.
func (x *indexes) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for _, i := range x.all {
		errs = append(errs, i.forget())
	}
	x.all = nil
	return errors.Join(errs...)
}

// prune forgets the logs that are gone.
func (x *indexes) prune(there []uint64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for n, i := range x.all {
		if !slices.Contains(there, n) {
			errs = append(errs, i.forget())
			delete(x.all, n)
		}
	}
	return errors.Join(errs...)
}

func (i *index) forget() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reset(nil)
}

func (i *index) reset(f *os.File) error {
	var err error
	if i.file != nil {
		err = i.file.Close()
	}
	i.file, i.at, i.reserved, i.read, i.damaged = f, map[xa.GID][]int64{}, 0, wal.Position{}, nil
	i.names, i.claims = map[string][]xa.GID{}, map[xa.GID]string{}
	return err
}

// add reads on in log n, and adds to s what it says of these transactions; of a damaged log,
// all that can be read.
func (i *index) add(h *directory, s *Contents, n uint64, of ...xa.GID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(h, n); err != nil || i.file == nil {
		return err
	}
	i.readOn(n, h.id)
	if i.damaged != nil {
		s.Damaged[n] = s.readLog(n, h.id, wal.Replay(i.file, wal.Position{}))
		return nil
	}
	s.Begin(n)
	s.Reserved[n] = i.reserved
	for _, gid := range of {
		for payload, err := range wal.At(i.file, i.at[gid]) {
			var r Record
			if err == nil {
				r, _, err = decodeRecord(payload)
			}
			if err != nil {
				return fmt.Errorf("log of incarnation %d: %w", n, err)
			}
			s.Add(n, r)
		}
	}
	return nil
}

// open opens the log that has the name now, if it is another than that which was read.
func (i *index) open(h *directory, n uint64) error {
	is, err := os.Stat(h.path(logName(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return i.reset(nil)
	}
	if err != nil {
		return err
	}
	if i.file != nil && i.damaged == nil {
		was, err := i.file.Stat()
		if err != nil || os.SameFile(is, was) {
			return err
		}
	}
	f, err := os.Open(h.path(logName(n)))
	if err = errors.Join(err, h.fault.At("open log")); errors.Is(err, fs.ErrNotExist) {
		return i.reset(nil)
	}
	if err != nil {
		return err
	}
	return i.reset(f)
}

// readOn reads what has been written since.
func (i *index) readOn(n uint64, id xa.LogID) {
	since := wal.Follow(i.file, i.read)
	if i.read.Offset == 0 {
		since = wal.Replay(i.file, i.read)
	}
	i.read, i.damaged = readRecords(n, id, i.read, since, func(at int64, r Record) {
		i.reserved = max(i.reserved, r.Through)
		if r.GID.IsZero() {
			return
		}
		i.name(r)
		i.at[r.GID] = append(i.at[r.GID], at)
	})
}

// name keeps which transactions an outside coordinator may still ask for by a name.
func (i *index) name(r Record) {
	switch name, known := i.claims[r.GID]; {
	case known && r.Kind == KindForget:
		i.unname(r.GID, name)
	case !known && r.ClientGID != "":
		name = ClientName(r.ClientGID)
		i.claims[r.GID] = name
		i.names[name] = append(i.names[name], r.GID)
	}
}

// sealed makes sure that the log of a dead incarnation is sealed, or gone: only
// what is durable counts.
func (f *Files) sealed(ctx context.Context, n uint64) error {
	if _, known := f.dir.sealed.Load(n); known {
		return nil
	}
	if _, err := os.Lstat(f.dir.path(logName(n))); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return f.locked(ctx, "seal", func() error { return f.dir.seal(n) })
}

// LookUp returns what the log of one incarnation says of these transactions; of those
// that the log gave to an outside coordinator, what all logs say. That log is read last:
// what it still has has not been dropped from the others before.
func (f *Files) LookUp(ctx context.Context, began uint64, of ...xa.GID) (*Contents, error) {
	alive, err := f.Alive(began)
	if err != nil {
		return nil, err
	}
	if !alive {
		if err := f.sealed(ctx, began); err != nil { // only what is durable counts
			return nil, fmt.Errorf("%w: %w", xa.ErrUnknownOutcome, err)
		}
	}
	logs, err := f.dir.logs()
	if err != nil {
		return nil, err
	}
	if err := f.index.prune(logs); err != nil {
		return nil, err
	}
	s, err := f.of([]uint64{began}, of...)
	if err != nil || !slices.ContainsFunc(of, func(g xa.GID) bool { return g.Role == xa.RoleExternal && s.Histories[g] != nil }) {
		return s, err
	}
	others := slices.DeleteFunc(logs, func(n uint64) bool { return n == began })
	return f.of(append(others, began), of...)
}
