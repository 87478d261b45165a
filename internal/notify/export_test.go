package notify

import "golang.org/x/sys/unix"

// CloseSocket takes the process back to where it has sent nothing yet.
func CloseSocket() {
	socket.Lock()
	defer socket.Unlock()
	if socket.open {
		_ = unix.Close(socket.fd)
	}
	socket.open = false
}
