package txn

import (
	"maps"
	"sync"
)

// work is the transactions that a session of this process has: from before a resource can know of one until all that
// is to be told of it was told, is pending, or is a coordinator's to decide.
type work struct {
	mu sync.Mutex
	at map[GID]bool // with RoleLocal
}

func (w *work) begin(gid GID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		w.at = map[GID]bool{}
	}
	w.at[local(gid)] = true
}

func (w *work) end(gid GID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.at, local(gid))
}

func (w *work) copy() map[GID]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.at)
}

// working returns this process's incarnation and the sequence numbers of what its sessions are at; 0 if
// it has none, or does not know any more how its transactions ended.
func (m *Manager) working() (own uint64, atWork map[uint64]bool) {
	all := m.work.copy()
	if m.Err() != nil { // after the copy: whose force failed was at work, or had made it fail
		return 0, nil
	}
	own, atWork = m.ledger.Incarnation(), map[uint64]bool{}
	for gid := range all {
		if gid.Log == m.ledger.ID() && gid.Incarnation == own {
			atWork[gid.Sequence] = true
		}
	}
	return own, atWork
}
