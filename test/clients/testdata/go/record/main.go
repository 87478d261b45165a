// Command record runs a client against a server and writes down what they say, message by message.
//
//	record SOCKET FILE COMMAND ARG…
//
// The client finds, in PGHOST and PGPORT, a port that leads to the server's unix-domain socket. Each of its connections is written
// by itself: what the client sent up to each Query or Sync, then what the server said up to each ReadyForQuery, so that the order of the
// lines does not depend on who was faster.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(socket, file string, args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	var talks []*talk
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t := &talk{}
			talks = append(talks, t)
			all.Go(func() {
				if err := t.relay(c, socket); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
					t.fault = err
				}
			})
		}
	})
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "PGHOST=127.0.0.1", "PGPORT="+port)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	fault := c.Run()
	err = l.Close()
	all.Wait()
	var b strings.Builder
	for _, t := range talks {
		t.write(&b)
	}
	return errors.Join(fault, err, os.WriteFile(file, []byte(b.String()), 0o644))
}
