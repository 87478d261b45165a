package drain_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
)

// crypto/tls takes ErrExpired for a deadline's error, which is not the end: the goodbye can be written.
func TestExpiryUnderTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	f := start(t, "tcp", &drain.Server{Idle: time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		secure := tls.Server(c, config)
		b := make([]byte, 1)
		if _, err := io.ReadFull(secure, b); err != nil {
			t.Error(err)
		}
		if _, err := secure.Read(b); !errors.Is(err, drain.ErrExpired) || !strings.Contains(err.Error(), "idle while draining") {
			t.Errorf("Read: %v", err)
		}
		if _, err := io.WriteString(secure, "bye\n"); err != nil {
			t.Error(err)
		}
		c.Linger(testwait.Patience)
	}})
	client := tls.Client(f.dial(), &tls.Config{InsecureSkipVerify: true})
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "accepted", func() bool { return f.s.Counts().Open == 1 })
	done := f.shutdown(t.Context())
	expect(t, client, "bye")
	_ = client.Close()
	testwait.For(t, "the drain's end", done)
}

// Many wait on the reserve, slots come, contexts end at the same moment: places are neither lost nor
// doubled.
func TestAcquireRace(t *testing.T) {
	f := start(t, "unix", &drain.Server{Threads: 2, Reserve: 30, Handler: func(ctx context.Context, c *drain.Conn) {
		ctx, cancel := context.WithTimeout(ctx, 60*time.Millisecond)
		defer cancel()
		for c.Acquire(ctx) != nil {
			if ctx.Err() != nil {
				return
			}
		}
		c.SetBusy()
		c.SetBusy()
		time.Sleep(time.Millisecond)
	}})
	var clients sync.WaitGroup
	for range 30 {
		clients.Go(func() {
			for range 10 {
				c, err := net.Dial("unix", f.l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	testwait.Until(t, "all gone", func() bool { return f.s.Counts().Open == 0 })
	if n := f.s.Counts(); n.Reserve != 0 || n.Busy != 0 {
		t.Errorf("%+v", n)
	}
	if a, b := f.dial(), f.dial(); a == nil || b == nil { // both slots are there
		t.Fatal()
	}
}

// A slot that becomes free while nobody waits is found by the next Acquire.
func TestAcquireFree(t *testing.T) {
	conns := make(chan *drain.Conn)
	release := map[bool]chan struct{}{false: make(chan struct{}), true: make(chan struct{})} // by who is on the reserve
	f := start(t, "unix", &drain.Server{Threads: 1, Reserve: 1, Handler: func(_ context.Context, c *drain.Conn) {
		over := release[c.Reserved()]
		conns <- c
		<-over
	}})
	_ = f.dial()
	testwait.For(t, "the first", conns)
	_ = f.dial()
	second := testwait.For(t, "the second, on the reserve", conns)
	if !second.Reserved() {
		t.Error("not on the reserve")
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if err := second.Acquire(ended); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	close(release[false])
	testwait.Until(t, "one left", func() bool { return f.s.Counts().Open == 1 })
	if err := second.Acquire(t.Context()); err != nil || second.Reserved() {
		t.Errorf("%v, reserved %v", err, second.Reserved())
	}
	close(release[true])
}

// A link-local peer has a zone.
func TestPeerZone(t *testing.T) {
	got := drain.PeerOf(&unix.SockaddrInet6{Addr: [16]byte{0xfe, 0x80, 15: 1}, Port: 7432, ZoneId: 2}).String()
	if got != "[fe80::1%2]:7432" {
		t.Error(got)
	}
}

// What Read says at a deadline is an error of the network, and passes, in the eyes of crypto/tls.
func TestDeadlineErrors(t *testing.T) {
	for _, err := range []error{drain.ErrExpired, drain.ErrDeadline} {
		ne, ok := errors.AsType[interface {
			net.Error
			Temporary() bool
		}](err)
		if !ok || !ne.Timeout() || !ne.Temporary() {
			t.Error(err)
		}
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	addrs := make(chan [2]string, 1)
	s := &drain.Server{Handler: func(_ context.Context, c *drain.Conn) {
		addrs <- [2]string{c.LocalAddr().String(), c.RemoteAddr().String()}
	}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp6", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := testwait.For(t, "the handler", addrs), [2]string{c.RemoteAddr().String(), c.LocalAddr().String()}; got != want {
		t.Errorf("local and remote %v, want %v", got, want)
	}
	_ = c.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	testwait.For(t, "Serve's return", served)
}

// Multipath TCP listeners are left as others are.
func TestFinalMultipath(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := new(testwait.Output)
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	s := &drain.Server{Handler: lines}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "x")
	s.Final()
	_ = c.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	testwait.For(t, "Serve's return", served)
	if said := log.String(); strings.Contains(said, "newcomers") {
		t.Errorf("log: %s", said)
	}
}
