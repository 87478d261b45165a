package drain

import "golang.org/x/sys/unix"

// Queues returns how many connections wait in the kernel's queue of each listener that is being served, by name. Other
// processes with the same socket see the same ones. Of a unix socket the kernel does not tell the number: 1 means any.
func (s *Server) Queues() map[string]int {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := make(map[string]int, len(s.loops))
	for a := range s.loops {
		_ = control(a.file, func(fd int) error { // a closed one has no queue
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			waiting := 0
			switch {
			case err == nil:
				waiting = int(info.Unacked) // of a listening socket: sk_ack_backlog, see tcp_get_info() of Linux
			case readable(fd):
				waiting = 1
			}
			n[a.name] += waiting
			return nil
		})
	}
	return n
}
