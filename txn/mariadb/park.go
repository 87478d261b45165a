package mariadb

import (
	"sync"

	"github.com/fdtserver/fdt/txn"
)

// parking keeps the sessions of branches that voted for an outside coordinator, since a branch is ended best by the session that prepared
// it: see settled. What is parked counts outside the pool; when there are too many, the oldest goes.
type parking struct {
	mu    sync.Mutex
	limit int
	list  []parked // oldest first
}

type parked struct {
	gid  txn.GID
	conn *conn
}

// put parks a session, or closes it if limit is 0.
func (p *parking) put(gid txn.GID, c *conn) {
	p.mu.Lock()
	p.list = append(p.list, parked{gid, c})
	var out []parked
	if n := len(p.list) - p.limit; n > 0 {
		out = append(out, p.list[:n]...)
		p.list = append(p.list[:0], p.list[n:]...)
	}
	p.mu.Unlock()
	for _, o := range out {
		o.conn.close()
	}
}

// take returns the session that prepared the branch and is nobody else's from now on; nil if it is not here.
func (p *parking) take(gid txn.GID) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range p.list {
		if o.gid.Same(gid) {
			p.list = append(p.list[:i], p.list[i+1:]...)
			return o.conn
		}
	}
	return nil
}

// hold parks no more than limit from now on, and closes all that is parked.
func (p *parking) hold(limit int) {
	p.mu.Lock()
	list := p.list
	p.list, p.limit = nil, limit
	p.mu.Unlock()
	for _, o := range list {
		o.conn.close()
	}
}

// close closes all; what is parked later is closed at once.
func (p *parking) close() { p.hold(0) }

// count is how many are parked.
func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}
