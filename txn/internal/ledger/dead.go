package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/fdtserver/fdt/txn/internal/wal"
	"github.com/fdtserver/fdt/txn/xa"
)

// DeadLog returns what the log of a dead incarnation says about a transaction,
// nil if nothing.
type DeadLog func(incarnation uint64, gid xa.GID) (*History, error)

// DeadLogs seals the log of a dead incarnation and reads it.
func (f *Files) DeadLogs(ctx context.Context) DeadLog {
	return func(incarnation uint64, gid xa.GID) (*History, error) {
		if err := f.sealed(ctx, incarnation); err != nil {
			return nil, err
		}
		s := NewContents()
		if err := f.index.of(incarnation).add(f.dir, s, incarnation, gid); err != nil {
			return nil, err
		}
		return s.Histories[gid], nil
	}
}

// DeadLogsOf answers from what was read of all logs where that is final, for the dead that were sealed before; else from the
// log itself. It is for one goroutine.
func (f *Files) DeadLogsOf(ctx context.Context, s *Contents, dead map[uint64]bool) DeadLog {
	last := f.DeadLogs(ctx)
	index := map[uint64]map[*History][]int64{} // of the logs that were asked for
	return func(n uint64, gid xa.GID) (*History, error) {
		if !dead[n] || s.Damaged[n] != nil {
			return last(n, gid)
		}
		if index[n] == nil {
			index[n] = s.places(n)
		}
		only := NewContents()
		for payload, err := range f.dir.again(n, index[n][s.Histories[gid]]...) {
			var rec Record
			if err == nil {
				rec, _, err = decodeRecord(payload)
			}
			if err != nil {
				return nil, err
			}
			only.Add(n, rec)
		}
		return only.Histories[gid], nil
	}
}

// places sorts the places of a log's records by transaction.
func (s *Contents) places(n uint64) map[*History][]int64 {
	at := map[*History][]int64{}
	for _, rec := range s.records[n] {
		if rec.of != nil {
			at[rec.of] = append(at[rec.of], rec.offset)
		}
	}
	return at
}

// Damaged returns what cannot be read of the logs of the dead. It reads each once, and waits for nobody.
func (f *Files) Damaged(context.Context) error {
	logs, err := f.dir.logs()
	if err != nil {
		return err
	}
	var damage []error
	for _, n := range logs {
		if _, sealed := f.dir.sealed.Load(n); sealed || n == f.Incarnation() {
			continue
		}
		if alive, err := f.Alive(n); alive || err != nil {
			damage = append(damage, err)
			continue
		}
		s := NewContents()
		if err := f.index.of(n).add(f.dir, s, n); err != nil {
			damage = append(damage, err)
		} else if s.Damaged[n] != nil {
			damage = append(damage, fmt.Errorf("log of incarnation %d: %w", n, s.Damaged[n]))
		}
	}
	return errors.Join(damage...)
}

// Deciders reads each log once, and of one that is damaged what can be read. A log that is rewritten meanwhile is another file,
// which keeps what this asks for; the one that was opened stays as it was.
func (f *Files) Deciders() (map[xa.BranchID]bool, error) {
	logs, err := f.dir.logs()
	if err != nil {
		return nil, err
	}
	all := map[xa.BranchID]bool{}
	for _, n := range logs {
		err := f.dir.replay(n, func(replay iter.Seq2[[]byte, error]) error {
			_, _ = readRecords(n, f.dir.id, wal.Position{}, replay, func(_ int64, r Record) {
				if r.Kind == KindDecider {
					for _, at := range r.Branches {
						all[at] = true
					}
				}
			})
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// Orphaned leaves that to who starts in the place of a process that died.
func (f *Files) Orphaned(context.Context) (bool, error) { return false, nil }
