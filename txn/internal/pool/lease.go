package pool

import (
	"io"
	"sync/atomic"
)

// Lease is a branch's hold of a connection, which others may end at any time. A
// connection whose lease was cut is given to nobody else.
type Lease struct {
	over   atomic.Bool
	socket io.Closer // nil: it cannot be closed beneath its driver
}

// Hold begins a lease, before others know it.
func (l *Lease) Hold(socket io.Closer) { l.socket = socket }

// Cut ends the lease and closes the socket; false if the lease has ended already.
func (l *Lease) Cut() bool {
	if l.over.Swap(true) {
		return false
	}
	if l.socket != nil {
		_ = l.socket.Close() // who uses it is told
	}
	return true
}

// End ends the lease; false if others have.
func (l *Lease) End() bool { return !l.over.Swap(true) }
