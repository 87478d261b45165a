package txn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// doubt is how many transactions wait for a decision, and since when the
// oldest does, in nanoseconds since 1970.
type doubt struct{ count, oldest int64 }

// add counts a transaction, if it is in doubt.
func (d *doubt) add(t *Transaction) {
	if t.Phase != Prepared {
		return
	}
	d.count++
	if at := t.Since.UnixNano(); d.oldest == 0 || at < d.oldest {
		d.oldest = at
	}
}

func (m *Manager) doubt(d doubt) {
	m.inDoubt.Store(d.count)
	m.oldest.Store(d.oldest)
}

// countPath is the file that tells the other processes what the recovering one
// counted, so that not each has to.
func (m *Manager) countPath() string { return filepath.Join(m.claims.dir, "in-doubt") }

func (m *Manager) writeCount(d doubt) error {
	temp := m.countPath() + ".new"
	if err := os.WriteFile(temp, fmt.Appendln(nil, d.count, d.oldest), 0o640); err != nil {
		return err
	}
	return os.Rename(temp, m.countPath())
}

// heard takes over what another process has counted, if it has come to the end
// of a scan since.
func (m *Manager) heard(ctx context.Context, since time.Time) bool {
	info, err := os.Stat(m.countPath())
	if err != nil || info.ModTime().Before(since) {
		return false
	}
	m.warn(ctx, "read what another counted", m.readCount())
	return true
}

func (m *Manager) readCount() error {
	raw, err := os.ReadFile(m.countPath())
	if err != nil {
		return ignoreNotExist(err) // nobody has counted yet
	}
	var d doubt
	if _, err := fmt.Sscan(string(raw), &d.count, &d.oldest); err != nil {
		return fmt.Errorf("%s: %w", m.countPath(), err)
	}
	m.doubt(d)
	return nil
}
