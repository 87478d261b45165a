package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
)

// firstListener is the descriptor of the first inherited socket, sd_listen_fds(3).
const firstListener = 3

// bareLoop is what a Go programmer writes who wants no more than to serve: the least that new connections can cost.
func bareLoop(ctx context.Context, _ []string) error {
	file := os.NewFile(firstListener, "listener")
	l, err := net.FileListener(file)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	go func() { // ends with the process
		<-ctx.Done()
		l.Close()
	}()
	if err := tell("READY=1"); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go echo(c) // ends with the client, or the process
	}
}

func echo(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

// tell writes to systemd, or who stands in for it, sd_notify(3).
func tell(state string) error {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.WriteString(c, state)
	return err
}
