package bed

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects to an address inside: a unix socket's path, or host:port in the container's network, which has
// only a loopback interface. The caller is seen as root.
func (b *Bed) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "unix" {
		return d.DialContext(ctx, network, b.Path(address))
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	// Waited for below. The thread ends with the goroutine unless it is back where it came from.
	go func() {
		conn, err := b.dialInside(ctx, &d, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (b *Bed) dialInside(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.Leader()))
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the container's network: %w", err)
	}
	conn, err := d.DialContext(ctx, network, address)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread()
	}
	return conn, err
}
