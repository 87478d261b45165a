package drain_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/drain"
)

// A connection's whole life, as a client that asks once sees it: bare is a Go accept loop that does the
// same without a budget or a drain.
func BenchmarkConnection(b *testing.B) {
	for _, network := range []string{"tcp", "unix"} {
		b.Run(network+"/bare", func(b *testing.B) {
			l := benchListen(b, network)
			var all sync.WaitGroup
			all.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					all.Go(func() {
						once(c)
						_ = c.Close()
					})
				}
			})
			connect(b, l.Addr())
			_ = l.Close()
			all.Wait()
		})
		b.Run(network+"/drain", func(b *testing.B) {
			l := benchListen(b, network)
			s := &drain.Server{Handler: func(_ context.Context, c *drain.Conn) { once(c) }}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			connect(b, l.Addr())
			if err := s.Shutdown(b.Context()); err != nil {
				b.Error(err)
			}
			<-done
		})
	}
}

func benchListen(b *testing.B, network string) net.Listener {
	address := "127.0.0.1:0"
	if network == "unix" {
		address = b.TempDir() + "/s"
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(b.Context(), network, address)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// once echoes one byte.
func once(c net.Conn) {
	var buf [1]byte
	if _, err := c.Read(buf[:]); err == nil {
		_, _ = c.Write(buf[:])
	}
	_, _ = c.Read(buf[:])
}

func connect(b *testing.B, addr net.Addr) {
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var buf [1]byte
		for pb.Next() {
			c, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Write(buf[:])
			if _, err := c.Read(buf[:]); err != nil {
				b.Error(err)
			}
			_ = c.Close()
		}
	})
	b.StopTimer()
}

// What an idle, watched connection takes, with a handler that is blocked in Read, and the client's end,
// which is in the same process.
func BenchmarkIdleMemory(b *testing.B) {
	const n = 9000
	s := &drain.Server{Threads: n, Handler: func(_ context.Context, c *drain.Conn) {
		c.Watch(true)
		var buf [1]byte
		_, _ = c.Read(buf[:])
	}}
	l := benchListen(b, "unix")
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	clients := make([]net.Conn, 0, n)
	for len(clients) < n {
		c, err := net.Dial("unix", l.Addr().String())
		if errors.Is(err, syscall.EAGAIN) { // the queue is full
			runtime.Gosched()
			continue
		}
		if err != nil {
			b.Fatal(err)
		}
		clients = append(clients, c)
	}
	for s.Counts().Open < n {
		runtime.Gosched()
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse+m.StackInuse)/n, "B/conn")
	for range b.N {
		s.Counts()
	}
	for _, c := range clients {
		_ = c.Close()
	}
	if err := s.Shutdown(b.Context()); err != nil {
		b.Error(err)
	}
	<-done
}
