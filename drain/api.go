package drain

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Placeholders while the package is being written; see the package comment of server.go.
var (
	ErrServerClosed = errors.New("drain: server closed")
	ErrHangup       = errors.New("drain: the peer hung up")
	ErrDeadline     = errors.New("drain: the drain's deadline has passed")
	ErrForced       = errors.New("drain: connection closed by force")
	ErrExpired      = errors.New("drain: connection idle while draining")
)

type Server struct {
	Handler        func(ctx context.Context, c *Conn)
	Threads        int
	Reserve        int
	Idle           time.Duration
	Timeout        time.Duration
	Grace          time.Duration
	Logger         *slog.Logger
	AllowHalfClose bool
	KeepAlive      net.KeepAliveConfig
	UserTimeout    time.Duration
}

type Counts struct {
	Threads, Open, Busy, Idle, Reserve int
	Accepted                           uint64
	Draining                           bool
}

func (s *Server) Serve(l net.Listener) error         { return ErrServerClosed }
func (s *Server) Shutdown(ctx context.Context) error { return nil }
func (s *Server) Close() error                       { return nil }
func (s *Server) Hurry(within time.Duration)         {}
func (s *Server) Counts() Counts                     { return Counts{} }
func (s *Server) Draining() <-chan struct{}          { return nil }

type Conn struct{ net.Conn }

func (c *Conn) SetIdle()                          {}
func (c *Conn) SetBusy()                          {}
func (c *Conn) Draining() <-chan struct{}         { return nil }
func (c *Conn) Expired() <-chan struct{}          { return nil }
func (c *Conn) Acquire(ctx context.Context) error { return nil }
func (c *Conn) Reserved() bool                    { return false }
func (c *Conn) Listener() string                  { return "" }
func (c *Conn) PeerCred() (*unix.Ucred, error)    { return nil, nil }
func (c *Conn) Watch(on bool)                     {}
func (c *Conn) CloseWrite() error                 { return nil }
func (c *Conn) Linger(d time.Duration)            {}
