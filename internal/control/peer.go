package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerKey is the context's key for the uid of who asks.
type peerKey struct{}

// asked notes who is at the other end of a request's connection. Where the kernel does not say, nobody is.
func asked(ctx context.Context, c net.Conn) context.Context {
	if uid, err := peer(c); err == nil {
		return context.WithValue(ctx, peerKey{}, uid)
	}
	return ctx
}

// peer is the uid of the process at the other end: of who connected or, to that one, of who listens.
func peer(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no unix socket", c)
	}
	raw, err := u.SyscallConn()
	var cred *unix.Ucred
	if err == nil {
		var cerr error
		err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return cred.Uid, nil
}

// ByRoot reports whether the request that a [Handler]'s context belongs to was made by root.
func ByRoot(ctx context.Context) bool {
	uid, known := ctx.Value(peerKey{}).(uint32)
	return known && uid == 0
}

// byOwn reports the same of the user that this process runs as.
func byOwn(ctx context.Context) bool {
	uid, known := ctx.Value(peerKey{}).(uint32)
	return known && int(uid) == os.Geteuid()
}

// expect makes sure that the owner of a directory is who listens at the other end.
func expect(c net.Conn, dir string) error {
	uid, err := peer(c)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if uid != st.Uid {
		return fmt.Errorf("%w: uid %d, and %s belongs to %d", ErrStranger, uid, dir, st.Uid)
	}
	return nil
}
