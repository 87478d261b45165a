package txn

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// countedName is the shared fact that a recovering process has come to the end of
// a scan, with since when the oldest transaction in doubt waits, in nanoseconds
// since 1970, so that not each has to scan. How many there are all know at any
// time: see ledger.Limits.
const countedName = "counted"

// older takes note of a transaction of which the oldest in doubt is to be found.
func older(oldest *int64, t *Transaction) {
	if at := t.Since.UnixNano(); t.Phase == Prepared && (*oldest == 0 || at < *oldest) {
		*oldest = at
	}
}

func (m *Manager) writeCounted(oldest int64) error {
	m.oldest.Store(oldest)
	return m.ledger.Share(countedName, fmt.Appendln(nil, oldest))
}

// heard takes over what another process has counted, if it has come to the end
// of a scan since.
func (m *Manager) heard(ctx context.Context, since time.Time) bool {
	_, at, err := m.ledger.Shared(countedName)
	if err != nil || at.Before(since) {
		return false
	}
	m.warn(ctx, "read what another counted", m.readCounted())
	return true
}

func (m *Manager) readCounted() error {
	raw, _, err := m.ledger.Shared(countedName)
	if err != nil {
		return ignoreNotExist(err) // nobody has counted yet
	}
	if err := m.countUnexplained(); err != nil {
		return err
	}
	var oldest int64
	if _, err := fmt.Sscan(string(raw), &oldest); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(m.opt.ClaimDir, countedName), err)
	}
	m.oldest.Store(oldest)
	return nil
}
