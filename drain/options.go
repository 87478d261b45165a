package drain

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// option is one of tcp(7) or socket(7).
type option struct{ level, name, value int }

// missingOptions are those that sockets accepted from file should have and do not inherit from it: each
// costs a system call per connection, and none is needed if the socket unit sets them (KeepAlive=,
// KeepAliveTimeSec=, NoDelay= …, systemd.socket(5)). The shared listening socket is left as it is.
func (s *Server) missingOptions(file *os.File) (missing []option) {
	_ = control(file, func(fd int) error {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil || domain == unix.AF_UNIX {
			return err
		}
		for _, o := range s.tcpOptions() {
			if v, err := unix.GetsockoptInt(fd, o.level, o.name); err == nil && v != o.value {
				missing = append(missing, o)
			}
		}
		return nil
	})
	return missing
}

func (s *Server) tcpOptions() []option {
	ka := s.KeepAlive
	if ka == (net.KeepAliveConfig{}) {
		ka = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
	}
	options := []option{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}}
	add := func(level, name, value int) {
		if value > 0 {
			options = append(options, option{level, name, value})
		}
	}
	if ka.Enable {
		add(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		add(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(ka.Idle))
		add(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(ka.Interval))
		add(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, ka.Count)
	}
	add(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
		int(orDefault(s.UserTimeout, 2*time.Minute)/time.Millisecond))
	return options
}

// seconds rounds up, as the options have no smaller unit.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// nowhere is the number of a network interface that no host has.
const nowhere = 1<<31 - 1

// refuseNewcomers closes a listening socket, for all who have it, to new connections, and keeps those in
// its queue. It returns for how long some may still come to the queue.
//
// A unix-domain socket that is shut down for receiving refuses connect(2) and still hands out what it has
// queued. A TCP one would reset its queue. It is bound to an interface that does not exist instead (socket(7),
// SO_BINDTODEVICE): Linux finds no listener for a SYN that comes from another, and refuses it, while handshakes that are
// half done find theirs by themselves. That takes no privilege, unless the socket is bound to an interface already.
func (a *loop) refuseNewcomers() (wait time.Duration) {
	err := control(a.file, func(fd int) error {
		if domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); domain == unix.AF_UNIX { // of a socket it does not fail
			return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_RD))
		}
		wait = handshakes
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, nowhere)
		if now, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); now == nowhere {
			return nil // another process has done it
		}
		return os.NewSyscallError("setsockopt", err)
	})
	if err != nil {
		wait = 0
		a.server.logger().Warn("cannot close a listener to newcomers", "listener", a.name, "error", err)
	}
	return wait
}
