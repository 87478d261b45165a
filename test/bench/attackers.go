package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// assault is an attack, or an ordinary thing that others are compared with. One attacker does it again and again until ctx ends, when its
// connection is cut, and calls did for each attempt.
type assault struct {
	name string
	peer string // the ordinary thing
	do   func(ctx context.Context, a *attacker) error
}

// The ordinary things.
const (
	idle     = "idle sessions"
	querying = "sessions querying"
	entering = "clients logging in"
)

var ordinary = []assault{
	{idle, "", func(ctx context.Context, a *attacker) error {
		return a.inSession(ctx, func(*pgconn.PgConn) error { return a.hold(ctx) })
	}},
	{querying, "", asking("SELECT 1")},
	{entering, "", func(ctx context.Context, a *attacker) error { return visit(ctx, secureAddress, "mallory") }},
}

// attackReport is what the attackers say of themselves.
type attackReport struct{ Attempts int }

// attacker is one of them.
type attacker struct {
	number int
	count  *atomic.Int64
	begun  func() // it is where it wants to be, or has made an attempt
}

// attackLoop is the attackers: attack NAME NUMBER. They end with their standard input.
func attackLoop(ctx context.Context, args []string) error {
	all := slices.Concat(ordinary, assaults)
	i := slices.IndexFunc(all, func(a assault) bool { return a.name == args[0] })
	number, err := strconv.Atoi(args[1])
	if i < 0 || err != nil {
		return fmt.Errorf("no attack %q", args)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var attempts atomic.Int64
	var crowd, begun sync.WaitGroup
	for n := range number {
		begun.Add(1)
		crowd.Go(func() {
			a := &attacker{n, &attempts, sync.OnceFunc(begun.Done)}
			defer a.begun()
			for ctx.Err() == nil {
				if err := all[i].do(ctx, a); err != nil { // refused, cut off: again
					sleepUntil(ctx, time.Now().Add(time.Millisecond))
				}
				a.did()
			}
		})
	}
	begun.Wait()
	fmt.Println("begun")
	crowd.Wait()
	return json.NewEncoder(os.Stdout).Encode(attackReport{int(attempts.Load())})
}

// did counts an attempt.
func (a *attacker) did() {
	a.count.Add(1)
	a.begun()
}

// hold does nothing until the end.
func (a *attacker) hold(ctx context.Context) error {
	a.begun()
	<-ctx.Done()
	return nil
}

// connected runs what is done on a connection, which ends with ctx.
func connected(ctx context.Context, address string, do func(net.Conn) error) error {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return do(conn)
}

// sending is an attack that sends these bytes first and then waits for the server to hang up.
func sending(address string, first []byte) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return connected(ctx, address, func(conn net.Conn) error {
			if _, err := conn.Write(first); err != nil {
				return err
			}
			a.begun()
			_, err := io.Copy(io.Discard, conn)
			return err
		})
	}
}

// packet is a startup packet with this code and body.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

const (
	versionCode = 3 << 16
	sslCode     = 80877103
	cancelCode  = 80877102
	mallory     = "user\x00mallory\x00database\x00bench\x00\x00"
	longest     = 16 << 20
)

// message is a message of a type with this length, whatever its body.
func message(kind byte, length uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, length), body...)
}

// unbroken is a client's first message of TLS, after which it does not answer.
func unbroken(held bool) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return connected(ctx, secureAddress, func(conn net.Conn) error {
			if _, err := conn.Write(packet(sslCode, "")); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				return err
			}
			// The handshake fails at the server's answer, which is cut off; by then the server has signed it.
			half := &halfConn{Conn: conn}
			_ = tls.Client(half, &tls.Config{InsecureSkipVerify: true}).Handshake()
			a.begun()
			if held {
				_, err := io.Copy(io.Discard, conn)
				return err
			}
			return nil
		})
	}
}

// halfConn is a connection of which the first answer alone is waited for, and none is read.
type halfConn struct{ net.Conn }

func (h *halfConn) Read([]byte) (int, error) {
	if _, err := h.Conn.Read(make([]byte, 1)); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// proving is an attack on a login by password: it goes so far, and then says what it must not, or nothing.
func proving(step int, last []byte) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return connected(ctx, clearAddress, func(conn net.Conn) error {
			wire := pgproto3.NewFrontend(conn, conn)
			if _, err := conn.Write(packet(versionCode, mallory)); err != nil {
				return err
			}
			if _, err := wire.Receive(); err != nil {
				return err
			}
			if step > 0 {
				wire.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abcdefghijklmnopqrstuvwx")})
				if err := wire.Flush(); err != nil {
					return err
				}
				said, err := wire.Receive()
				if err != nil {
					return err
				}
				if more, ok := said.(*pgproto3.AuthenticationSASLContinue); ok && step > 1 {
					nonce, _, _ := strings.Cut(string(more.Data), ",")
					wire.Send(&pgproto3.SASLResponse{Data: []byte("c=biws," + nonce + ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")})
					if err := wire.Flush(); err != nil {
						return err
					}
				}
			}
			if _, err := conn.Write(last); err != nil {
				return err
			}
			a.begun()
			_, err := io.Copy(io.Discard, conn)
			return err
		})
	}
}

// inSession runs what is done in a session, which ends with ctx.
func (a *attacker) inSession(ctx context.Context, do func(*pgconn.PgConn) error) error {
	conn, err := login(ctx, clearAddress, "mallory")
	if err != nil {
		return err
	}
	defer conn.Conn().Close()
	defer context.AfterFunc(ctx, func() { conn.Conn().Close() })()
	return do(conn)
}

// asking is an attack that sends the same texts again and again, and reads the answers, which may be errors.
func asking(texts ...string) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return a.inSession(ctx, func(conn *pgconn.PgConn) error {
			for {
				for _, text := range texts {
					answer := conn.Exec(ctx, text)
					for answer.NextResult() {
						_, _ = answer.ResultReader().Close()
					}
					err := answer.Close()
					if _, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || conn.IsClosed()) {
						return err
					}
				}
				a.did()
			}
		})
	}
}
