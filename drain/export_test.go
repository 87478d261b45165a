package drain

import "time"

// Descriptor gives a test the descriptor.
func Descriptor(c *Conn, f func(fd int)) {
	_ = c.control(func(fd int) error {
		f(fd)
		return nil
	})
}

// PeerOf is peerOf.
var PeerOf = peerOf

// HungUp tells whether the watcher has seen the peer hang up.
func HungUp(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hungUp
}

// TurnOut is what a stranger is told whose place another needs.
func TurnOut(c *Conn) { c.turnOut() }

// SetMoveFor bounds the steps of handing connections over, in a test that waits for that.
func SetMoveFor(s *Server, d time.Duration) { s.moveFor = d }

// Sooner is how much sooner than after idle the connection of a number is told.
func Sooner(s *Server, id uint64, idle time.Duration) time.Duration {
	return (&Conn{loop: &loop{server: s}, id: id}).sooner(idle)
}
