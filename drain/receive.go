package drain

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// This file is the new side of move.go.

// errNotOffered is of a talk that does not begin as it must.
var errNotOffered = errors.New("drain: not an offer of a connection")

// Receive takes connections over that other processes of the same user offer on l, a unix-domain socket, until l is closed; then it
// returns an error that wraps net.ErrClosed, and no offer is under way. A server that drains refuses them. See Server.Adopt.
func (s *Server) Receive(l *net.UnixListener) error {
	s.init()
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, moving)
	pause := minPause
	for {
		places <- struct{}{}
		talk, err := l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("drain: %w", err)
		case err != nil: // as a lack of descriptors, which passes
			<-places
			time.Sleep(pause)
			pause = min(2*pause, maxPause)
			continue
		}
		pause = minPause
		all.Go(func() {
			defer func() { <-places }()
			defer talk.Close()
			if err := s.receive(talk); err != nil {
				s.logger().Warn("a connection that another process offered is not taken over", "error", err)
			}
		})
	}
}

// receive is one talk. An error is one of the other process, or of what it says.
func (s *Server) receive(talk *net.UnixConn) error {
	_ = talk.SetDeadline(time.Now().Add(s.step()))
	if err := sameUser(talk); err != nil {
		return err
	}
	o, file, err := readOffer(talk)
	if err != nil || file == nil { // who says nothing looks whether somebody listens
		return err
	}
	c, serve, answer := s.hold(o, file)
	if _, err = talk.Write([]byte{answer}); c == nil {
		return nil
	}
	if err != nil || !gone(talk) {
		c.moved = true // it is still the other's
		serve(c.ctx, false)
		s.end(c)
		return nil
	}
	go func() { // Shutdown waits for it by way of s.conns
		defer s.end(c)
		serve(c.ctx, true)
	}()
	return nil
}

// gone waits for "go", and tells whether the connection is ours.
func gone(talk *net.UnixConn) bool {
	var b [1]byte
	n, err := talk.Read(b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = talk.CloseRead()                              // from now on it cannot be sent any more
		_ = talk.SetReadDeadline(time.Now().Add(moveFor)) // it does not wait
		n, _ = talk.Read(b[:])
	}
	return n == 1 && b[0] == messageGo
}

// readOffer reads an offer with its descriptor, which the file then owns.
func readOffer(talk *net.UnixConn) (o offer, file *os.File, err error) {
	head := make([]byte, len(magic)+4)
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := talk.ReadMsgUnix(head, oob)
	if errors.Is(err, io.EOF) || err == nil && n == 0 {
		return o, nil, nil
	}
	if err != nil {
		return o, nil, err
	}
	fds := descriptors(oob[:oobn])
	defer func() {
		if file == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}()
	if _, err := io.ReadFull(talk, head[n:]); err != nil {
		return o, nil, err
	}
	size := binary.BigEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || size > maxOffer {
		return o, nil, errNotOffered
	}
	if len(fds) != 1 || flags&unix.MSG_CTRUNC != 0 {
		return o, nil, fmt.Errorf("%w: its descriptor is missing, as when this process has too many", errNotOffered)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(talk, body); err != nil {
		return o, nil, err
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return o, nil, fmt.Errorf("%w: %w", errNotOffered, err)
	}
	kind, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return o, nil, fmt.Errorf("%w: the descriptor is of no connection", errNotOffered)
	}
	return o, os.NewFile(uintptr(fds[0]), ""), nil
}

// descriptors are those that came with a message.
func descriptors(oob []byte) (fds []int) {
	messages, _ := unix.ParseSocketControlMessage(oob) // of the kernel's making
	for _, m := range messages {
		list, _ := unix.ParseUnixRights(&m) // what is something else has none
		fds = append(fds, list...)
	}
	return fds
}

// hold makes a connection of what was offered, with a place of its own; or it tells why not, and closes the file.
func (s *Server) hold(o offer, file *os.File) (c *Conn, serve func(context.Context, bool), answer byte) {
	c, answer = s.seatOffered(o, file)
	if c == nil {
		_ = file.Close()
		return nil, nil, answer
	}
	serve, err := s.Adopt(c, o.State)
	if err != nil {
		s.logger().Debug("a connection may not go on here", "listener", o.Listener, "remote", c.Peer(), "reason", err)
		c.moved = true
		s.end(c)
		return nil, nil, answerRefused
	}
	return c, serve, answerAccepted
}

// seatOffered gives a slot to a connection that was offered.
func (s *Server) seatOffered(o offer, file *os.File) (*Conn, byte) {
	c := &Conn{file: file, since: o.Since, welcome: true, place: onSlot}
	_ = control(file, func(fd int) error {
		sa, err := unix.Getpeername(fd)
		c.peer = peerOf(sa)
		return err
	})
	if o.Client.IsValid() {
		c.SpeaksFor(o.Client)
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != serving {
		return nil, answerLeaving
	}
	for l := range s.loops {
		if l.name == o.Listener {
			c.loop = l
		}
	}
	if s.Adopt == nil || c.loop == nil || !s.takeSlot() {
		return nil, answerRefused
	}
	s.nextID++
	c.id = s.nextID
	s.conns[c.id] = c
	c.loop.tally.open.Add(1)
	return c, answerAccepted
}

// takeSlot takes a slot that is free, or that of a stranger. s.mu is held.
func (s *Server) takeSlot() bool {
	if s.slots.free > 0 {
		s.slots.free--
		return true
	}
	st := s.seated()
	if st == nil {
		return false
	}
	st.place = onPorch
	s.slots.outside++
	return true
}
