package drain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/fdtserver/fdt/drain"
)

// A handler says when it is busy, and goes when the server drains: with a reply if there is one, and when
// Read says so if not.
func Example() {
	server := &drain.Server{Threads: 64, Handler: func(ctx context.Context, c *drain.Conn) {
		in := bufio.NewReader(c)
		for {
			name, err := in.ReadString('\n')
			if errors.Is(err, drain.ErrExpired) || errors.Is(err, drain.ErrDeadline) {
				_, _ = io.WriteString(c, "goodbye\n")
				c.Linger(time.Second)
				return
			}
			if err != nil {
				return
			}
			c.SetBusy()
			reply := "hello " + name
			select {
			case <-c.Draining():
				_, _ = io.WriteString(c, reply+"goodbye\n")
				c.Linger(time.Second)
				return
			default:
				_, _ = io.WriteString(c, reply)
				c.SetIdle()
			}
		}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = io.WriteString(client, "world\n")
	in := bufio.NewScanner(client)
	in.Scan()
	fmt.Println(in.Text())
	drained := make(chan error, 1)
	go func() { drained <- server.Shutdown(context.Background()) }()
	<-server.Draining()
	_, _ = io.WriteString(client, "again\n")
	for in.Scan() {
		fmt.Println(in.Text())
	}
	_ = client.Close()
	fmt.Println(<-drained, <-served)
	// Output:
	// hello world
	// hello again
	// goodbye
	// <nil> drain: server closed
}
