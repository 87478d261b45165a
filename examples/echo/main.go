// Echo is the smallest worker: every line comes back. It shows the whole contract of a drain.Server's
// handler: say busy, watch for a hang-up while working, answer, and go when draining.
//
// By hand: go run ./examples/echo, then nc 127.0.0.1 7777. Under systemd it serves whatever sockets its
// unit passes; see the worker units of fdt for what else they should set.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/worker"
)

func main() {
	pretend := flag.Duration("work", 10*time.Millisecond, "how long a line takes to answer")
	flag.Parse()
	server := &drain.Server{Threads: 100, Handler: func(ctx context.Context, c *drain.Conn) { echo(ctx, c, *pretend) }}
	err := worker.Run(server,
		worker.WithAddress("tcp", "127.0.0.1:7777"),
		worker.WithDrainTimeout(time.Minute),
		worker.WithStatus(func() string { return fmt.Sprintf("%d connections", server.Counts().Open) }),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// echo serves one connection.
func echo(ctx context.Context, c *drain.Conn, pretend time.Duration) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, drain.ErrExpired) || errors.Is(err, drain.ErrDeadline) {
			goodbye(c, "")
			return
		}
		if err != nil {
			return
		}
		c.SetBusy()
		c.Watch(true)
		reply, err := work(ctx, line, pretend)
		c.Watch(false)
		if err != nil {
			return // the client has gone, or the drain's deadline has come
		}
		select {
		case <-c.Draining(): // in one write, so that the client sees it before it sends its next line
			goodbye(c, reply)
			return
		default:
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
		c.SetIdle()
	}
}

// work stands for what takes time; it ends with ctx.
func work(ctx context.Context, line string, takes time.Duration) (string, error) {
	if takes == 0 {
		return line, nil
	}
	select {
	case <-time.After(takes):
		return line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func goodbye(c *drain.Conn, reply string) {
	_, _ = io.WriteString(c, reply+"goodbye\n") // the client may have gone
	c.Linger(5 * time.Second)
}
