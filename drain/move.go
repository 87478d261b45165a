package drain

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that is idle while its server drains may go on in another process: the old one hands the descriptor over a unix-domain
// socket (SCM_RIGHTS, unix(7)), with a state that its handler wrote and the new one's handler reads. The peer notices nothing. What it
// sends meanwhile waits in the socket for whoever owns that.
//
// The two talk on a connection of their own, which the old process opens:
//
//	old process                        message      new process                             owner
//	serving                                         -                                       old
//	offering: has stopped reading      offer →      -                                       old
//	offering                                        holding: has a place and a session,     old
//	                                                does not touch the socket
//	offering                           ← accepted   holding                                 old
//	given: nothing more is done here   go →         holding, with "go" in its queue         new
//	given                                           serving                                 new
//
// What ends it otherwise:
//
//	in state   event                                           then
//	offering   refused, end of file, an error, time is up      the old process closes the talk and serves on
//	offering   "go" cannot be written                          the same: the new process has shut its side before, and owns nothing
//	offering   the old process dies                            the new one reads the end of file; the connection ends with its owner
//	given      the old process dies                            nothing: the new one has "go"
//	holding    end of file without "go"                        the new process closes its descriptor, which does nothing to the socket
//	holding    time is up                                      it shuts the talk for reading: "go" was queued before that, and it owns
//	                                                           the connection, or can never be written any more, and it does not
//	holding    the new process dies before "go" was queued     the old one's "go" fails, and it serves on
//	holding    the new process dies after that                 the connection ends with its owner
//
// Why nobody ever shares a connection, and none gets lost: what decides is whether one byte is in the new process's queue. The kernel
// puts it there or refuses it in one step, under the lock that a shutdown of the reading side takes, too. The old process owns the
// connection until its write has succeeded, and does nothing with it afterwards. The new one does nothing with it before it has read
// the byte, and always reads it if it is there. An answer that gets lost cannot make a difference: without "accepted" no "go" is sent.
// No time limit decides by itself who owns a connection; it only brings the question to that byte.

const (
	// moveFor is how long the other side may take for a step.
	moveFor = 5 * time.Second
	// moving is how many connections a server offers, and is offered, at the same time.
	moving = 16
	// talks is how many descriptors that takes at most: one for each talk, and one for each connection that may not be taken.
	talks = 3 * moving
	// MaxState is how many bytes a state that [Conn.Move] takes may have.
	MaxState = 1 << 20

	magic    = "fdtmove1" // the first bytes of an offer: its version is the last of them
	maxOffer = 2 * MaxState

	answerAccepted = 'A'
	answerRefused  = 'R' // the connection may not stay, or there is no place for it
	answerLeaving  = 'L' // as the old process
	messageGo      = 'G'
)

// Errors of Move, wrapped.
var (
	// ErrNoSuccessor means that there is no process to which the connection could go.
	ErrNoSuccessor = errors.New("drain: no other process takes connections over")
	// ErrRefused means that a successor does not take this connection.
	ErrRefused = errors.New("drain: refused by the successor")
	// ErrStays means that the connection is about to end here, by Terminate or at a limit of the drain.
	ErrStays = errors.New("drain: the connection ends here")
)

// ErrMove is what Read returns, inside a *net.OpError, once and only to a handler that asked for it by Movable: the server drains, and the
// connection is idle. Call Move, or read on.
var ErrMove error = &timeout{"drain: the server drains, and the connection may move"}

// offer is what a connection is beside its descriptor.
type offer struct {
	Listener string         `json:"listener"`
	Client   netip.AddrPort `json:"client"` // see SpeaksFor; not valid: the peer
	Since    time.Time      `json:"since"`
	State    []byte         `json:"state"`
}

// Movable says whether Read may return ErrMove when the server drains.
func (c *Conn) Movable(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.movable = on
	if on && c.loop.server.isDraining() {
		c.inviteLocked()
	}
}

// invite has Read return ErrMove, once, if the connection is idle.
func (c *Conn) invite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inviteLocked()
}

func (c *Conn) inviteLocked() {
	if !c.movable || c.asked || c.busy || c.phase != open || c.loop.server.Successors == nil {
		return
	}
	c.asked = true
	c.phase = invited
	_ = c.file.SetReadDeadline(past)
}

// stay takes an invitation back. c.mu is held.
func (c *Conn) stay() {
	c.phase = open
	_ = c.file.SetReadDeadline(c.deadline)
}

// Move hands the connection to another process, of those that Server.Successors names, which goes on with state, at most MaxState bytes:
// see Server.Adopt. The handler must have read whole requests and written their replies, and calls it from the goroutine that reads. On
// nil the connection is the other process's, and closed here: the handler returns, and touches nothing. After an error it is as before.
func (c *Conn) Move(state []byte) error {
	s := c.loop.server
	if s.Successors == nil || s.isFinal("") {
		return ErrNoSuccessor
	}
	if len(state) > MaxState {
		return fmt.Errorf("drain: a state of %d bytes is longer than the %d that are handed over", len(state), MaxState)
	}
	o := offer{Listener: c.loop.name, Since: c.since, State: state}
	if client := c.client.Load(); client != nil {
		o.Client = *client
	}
	s.movers <- struct{}{}
	defer func() { <-s.movers }()
	refused := false
	for _, group := range s.Successors() {
		for _, path := range group {
			if s.dismissed(path) {
				continue
			}
			switch err := c.offer(path, o); {
			case err == nil:
				return nil
			case errors.Is(err, ErrStays):
				return err
			case errors.Is(err, ErrRefused):
				refused = true
			default:
				s.dismissSuccessor(path)
			}
		}
		if refused { // who is not wanted by the new code does not go on with the old
			return ErrRefused
		}
	}
	return ErrNoSuccessor
}

// step is how long the other side may take.
func (s *Server) step() time.Duration { return orDefault(s.moveFor, moveFor) }

// dismissed tells whether a successor did not answer an offer, or leaves: it is not asked again.
func (s *Server) dismissed(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent[path]
}

func (s *Server) dismissSuccessor(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent[path] = true
}

// offer is the old side of the talk with one process. An error other than ErrRefused and ErrStays is that process's.
func (c *Conn) offer(path string, o offer) error {
	d := net.Dialer{Timeout: c.loop.server.step()}
	conn, err := d.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	talk, _ := conn.(*net.UnixConn) // "unix" gives nothing else
	_ = talk.SetDeadline(time.Now().Add(c.loop.server.step()))
	if err := sameUser(talk); err != nil {
		return err
	}
	body, _ := json.Marshal(o) // of strings, times and bytes: cannot fail
	head := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(body)))
	err = c.control(func(fd int) error {
		_, _, err := talk.WriteMsgUnix(head, unix.UnixRights(fd), nil)
		return err
	})
	if err == nil {
		_, err = talk.Write(body)
	}
	var answer [1]byte
	if err == nil {
		_, err = io.ReadFull(talk, answer[:])
	}
	switch {
	case err != nil:
		return err
	case answer[0] == answerAccepted:
		return c.give(talk)
	case answer[0] == answerRefused:
		return ErrRefused
	}
	return ErrNoSuccessor
}

// give sends "go", unless the connection is about to end. Nothing can come between: who ends a connection takes c.mu.
func (c *Conn) give(talk *net.UnixConn) error {
	c.mu.Lock()
	if !c.phase.reads() {
		c.mu.Unlock()
		return ErrStays
	}
	if _, err := talk.Write([]byte{messageGo}); err != nil {
		c.mu.Unlock()
		return err
	}
	c.phase, c.moved = closed, true
	registered := c.registered
	c.mu.Unlock()
	if registered { // the socket lives on, and with it what epoll knows of it
		_ = c.control(func(fd int) error { return c.loop.server.watch.remove(fd) })
	}
	c.loop.server.moved.Add(1)
	_ = c.file.Close() // this process's descriptor
	return nil
}

// sameUser makes sure that the process at the other end, as of when it began to listen or connected, is of our own user.
func sameUser(talk *net.UnixConn) error {
	raw, err := talk.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("drain: a process of uid %d takes part in handing connections over", cred.Uid)
	}
	return nil
}
