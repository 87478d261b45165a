package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"
)

var dialer net.Dialer

// connecting is a client that connects, sends one HTTP request, reads the answer and is disconnected.
type connecting struct{ address string }

func (c *connecting) quit() {}

func (c *connecting) ask(ctx context.Context) error {
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(ctx, conn, bufio.NewReader(conn), "Connection: close\r\n")
	return err
}

// exchange is one HTTP request and the whole of its answer. It tells whether the server is to close the connection.
func exchange(ctx context.Context, conn net.Conn, in *bufio.Reader, header string) (last bool, err error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench\r\n"+header+"\r\n"); err != nil {
		return false, err
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK || len(body) == 0 {
		return false, errors.Join(fmt.Errorf("status %s, %d bytes", answer.Status, len(body)), err)
	}
	return answer.Close, nil
}

// keeping is a client that keeps its HTTP connection. It opens a new one when the server said, before the next request was sent, that
// it closes the old: by Connection: close, or by having closed. So the only requests that fail are those sent and not answered.
type keeping struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

func (c *keeping) quit() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *keeping) ask(ctx context.Context) (err error) {
	if c.conn != nil && readable(c.conn) {
		c.quit()
	}
	if c.conn == nil {
		if c.conn, err = dialer.DialContext(ctx, "tcp", c.address); err != nil {
			return err
		}
		c.in = bufio.NewReader(c.conn)
	}
	last, err := exchange(ctx, c.conn, c.in, "")
	if err != nil || last {
		c.quit()
	}
	return err
}

// readable tells whether the server has said something unasked, be it the end.
func readable(conn net.Conn) bool {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return true
	}
	there := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		there = !errors.Is(err, unix.EAGAIN)
		return true
	})
	return there || err != nil
}

// session is a client of fdt's default worker that keeps its session and sends the same statement again and again. It opens a new one
// when the server has said goodbye between two statements.
type session struct {
	statement string
	conn      net.Conn
	wire      *pgproto3.Frontend
}

// fdtSocket is the installed listener.
const fdtSocket = "/run/fdt/.s.PGSQL.7432"

func (c *session) quit() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *session) ask(ctx context.Context) error {
	if c.conn != nil && readable(c.conn) {
		c.quit()
	}
	if c.conn == nil {
		if err := c.open(ctx); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	err := c.conn.SetDeadline(deadline)
	if err == nil {
		c.wire.Send(&pgproto3.Query{String: c.statement})
		err = c.answer()
	}
	if err != nil {
		c.quit()
	}
	return err
}

// visitor is a client of fdt's default worker that logs in, sends the statement once and goes.
type visitor struct{ statement string }

func (v *visitor) quit() {}

func (v *visitor) ask(ctx context.Context) error {
	c := session{statement: v.statement}
	defer c.quit()
	return c.ask(ctx)
}

func (c *session) open(ctx context.Context) (err error) {
	for c.conn == nil {
		c.conn, err = dialer.DialContext(ctx, "unix", fdtSocket)
		if errors.Is(err, unix.EAGAIN) { // the queue is full; on TCP the kernel would wait
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	c.wire = pgproto3.NewFrontend(c.conn, c.conn)
	c.wire.Send(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "root", "database": "bench"},
	})
	return c.answer()
}

// answer flushes what is to be sent and reads until the server is ready for more.
func (c *session) answer() error {
	if err := c.wire.Flush(); err != nil {
		return err
	}
	var failure error
	for {
		message, err := c.wire.Receive()
		if err != nil {
			return errors.Join(failure, err)
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			return failure
		case *pgproto3.ErrorResponse:
			failure = fmt.Errorf("%s: %s", m.Code, m.Message)
		}
	}
}
