package drain_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
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

// A protocol keeps its connections over new code: each says how many lines it has had, and goes on counting in another process. Here
// that is another server of the same one.
func ExampleConn_Move() {
	dir, err := os.MkdirTemp("", "move")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	next := filepath.Join(dir, "next")

	count := func(name string, c *drain.Conn, n uint32) {
		in := bufio.NewReader(c)
		c.Movable(true)
		for {
			_, err := in.ReadString('\n')
			switch {
			case errors.Is(err, drain.ErrMove): // nothing is read that was not answered
				if c.Move(binary.BigEndian.AppendUint32(nil, n)) == nil {
					return
				}
				continue
			case err != nil:
				return
			}
			c.SetBusy()
			n++
			fmt.Fprintf(c, "%s: line %d\n", name, n)
			c.SetIdle()
		}
	}
	was := &drain.Server{
		Handler:    func(_ context.Context, c *drain.Conn) { count("old", c, 0) },
		Successors: func() [][]string { return [][]string{{next}} },
	}
	is := &drain.Server{
		Handler: func(_ context.Context, c *drain.Conn) { count("new", c, 0) },
		Adopt: func(c *drain.Conn, state []byte) (func(context.Context, bool), error) {
			if len(state) != 4 {
				return nil, errors.New("not a count")
			}
			return func(_ context.Context, ours bool) {
				if ours {
					count("new", c, binary.BigEndian.Uint32(state))
				}
			}, nil
		},
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		fmt.Println(err)
		return
	}
	offers, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		fmt.Println(err)
		return
	}
	shared, err := l.File() // both serve it, as workers do a socket of systemd
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := net.FileListener(shared)
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 3)
	go func() { ended <- was.Serve(l) }()
	client, err := net.Dial("unix", filepath.Join(dir, "socket"))
	if err != nil {
		fmt.Println(err)
		return
	}
	in := bufio.NewScanner(client)
	ask := func() {
		_, _ = io.WriteString(client, "hello\n")
		in.Scan()
		fmt.Println(in.Text())
	}
	ask()
	go func() { ended <- is.Serve(again) }()
	for len(is.Counts().Listeners) == 0 {
		time.Sleep(time.Millisecond) // until it serves
	}
	go func() { ended <- is.Receive(offers) }()
	fmt.Println("drained:", was.Shutdown(context.Background())) // its last connection has moved
	ask()
	_ = client.Close()
	_ = offers.Close()
	fmt.Println("drained:", is.Shutdown(context.Background()))
	for range 3 {
		<-ended
	}
	_ = shared.Close()
	// Output:
	// old: line 1
	// drained: <nil>
	// new: line 2
	// drained: <nil>
}
