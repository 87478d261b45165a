package txn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// doubt is how many transactions wait for a decision, and since when the
// oldest does, in nanoseconds since 1970.
type doubt struct {
	count, oldest int64
	on            map[string]int64 // of those, how many have a branch on a resource
}

// add counts a transaction, if it is in doubt.
func (d *doubt) add(t *Transaction) {
	if t.Phase != Prepared {
		return
	}
	d.count++
	if at := t.Since.UnixNano(); d.oldest == 0 || at < d.oldest {
		d.oldest = at
	}
	if d.on == nil {
		d.on = map[string]int64{}
	}
	for _, b := range t.Branches {
		d.on[b.Resource]++
	}
}

// text is for the other processes: the count and the oldest, then a line for each resource.
func (d *doubt) text() []byte {
	out := fmt.Appendln(nil, d.count, d.oldest)
	for _, name := range slices.Sorted(maps.Keys(d.on)) {
		out = fmt.Appendln(out, d.on[name], name)
	}
	return out
}

// parse is the inverse of text.
func (d *doubt) parse(raw []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Scan()
	_, err := fmt.Sscan(lines.Text(), &d.count, &d.oldest)
	d.on = map[string]int64{}
	for err == nil && lines.Scan() {
		var n int64
		var name string
		_, err = fmt.Sscan(lines.Text(), &n, &name)
		d.on[name] = n
	}
	return errors.Join(err, lines.Err())
}

func (m *Manager) doubt(d doubt) {
	m.inDoubt.Store(d.count)
	m.oldest.Store(d.oldest)
	for name, n := range m.doubtOn {
		n.Store(d.on[name])
	}
}

// doubted counts a transaction that came to be in doubt here, by 1, or is no more, by -1.
func (m *Manager) doubted(t *Transaction, by int64) {
	m.inDoubt.Add(by)
	for _, b := range t.Branches {
		if n := m.doubtOn[b.Resource]; n != nil {
			n.Add(by)
		}
	}
}

// countName is the shared fact that tells the other processes what the recovering one
// counted, so that not each has to.
const countName = "in-doubt"

func (m *Manager) writeCount(d doubt) error { return m.files.Share(countName, d.text()) }

// heard takes over what another process has counted, if it has come to the end
// of a scan since.
func (m *Manager) heard(ctx context.Context, since time.Time) bool {
	_, at, err := m.files.Shared(countName)
	if err != nil || at.Before(since) {
		return false
	}
	m.warn(ctx, "read what another counted", m.readCount())
	return true
}

func (m *Manager) readCount() error {
	raw, _, err := m.files.Shared(countName)
	if err != nil {
		return ignoreNotExist(err) // nobody has counted yet
	}
	if err := m.countUnexplained(); err != nil {
		return err
	}
	var d doubt
	if err := d.parse(raw); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(m.opt.ClaimDir, countName), err)
	}
	m.doubt(d)
	return nil
}
