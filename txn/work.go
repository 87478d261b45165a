package txn

import (
	"maps"
	"sync"
)

// work is the transactions of this process's incarnation that a session has, by
// their sequence numbers: from before a resource can know of one until all that
// is to be told of it was told, is pending, or is a coordinator's to decide.
type work struct {
	mu sync.Mutex
	at map[uint64]bool
}

func (w *work) begin(gid GID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		w.at = map[uint64]bool{}
	}
	w.at[gid.Sequence] = true
}

func (w *work) end(gid GID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.at, gid.Sequence)
}

func (w *work) copy() map[uint64]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.at)
}

// working returns this process's incarnation and what its sessions are at; 0 if
// it has none, or does not know any more how its transactions ended.
func (m *Manager) working() (own uint64, atWork map[uint64]bool) {
	atWork = m.work.copy()
	if m.Err() != nil { // after the copy: whose force failed was at work, or had made it fail
		return 0, nil
	}
	return m.ledger.Incarnation(), atWork
}
