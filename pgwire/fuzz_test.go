package pgwire_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire"
)

// throw sends bytes on a new connection and closes the sending side; take reads
// until the server closes: it must neither hang nor die.
func throw(t *testing.T, f *fdt, b []byte, take func(net.Conn) error) {
	t.Helper()
	tell(t, f, b, true, take)
}

// tell is throw, for a client that may mean to hear the answers.
func tell(t *testing.T, f *fdt, b []byte, hangUp bool, take func(net.Conn) error) {
	t.Helper()
	conn, err := net.Dial("unix", f.sock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(9 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { // the server may close before it has read all
		_, _ = conn.Write(b)
		if hangUp {
			_ = conn.(*net.UnixConn).CloseWrite()
		}
	})
	if err := take(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, after % x", err, b)
	}
}

// FuzzStartup throws first bytes.
func FuzzStartup(f *testing.F) {
	for _, b := range [][]byte{
		startupPacket(version3, pairs("user", "a")...), startupPacket(80877103), startupPacket(80877104),
		startupPacket(80877102, 0, 0, 0, 1, 0, 0, 0, 2), startupPacket(version3+2, pairs("user", "a", "_pq_.x", "y", "options", "-c a.b=c")...),
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0x16, 3, 1, 0, 5},
	} {
		f.Add(b)
	}
	s := newFDT(f, bank{})
	f.Fuzz(func(t *testing.T, b []byte) {
		throw(t, s, b, func(conn net.Conn) error {
			_, err := io.Copy(io.Discard, conn)
			return err
		})
	})
}

// FuzzMessages throws what comes after startup, as it is or framed: each
// message's type, the length of its body in one byte, and the body. What
// comes back are messages of the protocol.
func FuzzMessages(f *testing.F) {
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "BEGIN; CALL enqueue('x'); ROLLBACK"}, &pgproto3.Query{String: "SELECT 1, 'x'::text"},
		&pgproto3.Parse{Name: "s", Query: "CALL echo($1, $2)", ParameterOIDs: []uint32{20, 1700}},
		&pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1, 0}, Parameters: [][]byte{{0, 0, 0, 0, 0, 0, 0, 1}, nil}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Close{ObjectType: 'S', Name: "s"},
		&pgproto3.Sync{}, &pgproto3.Flush{}, &pgproto3.Terminate{}, &pgproto3.FunctionCall{}, &pgproto3.CopyFail{Message: "x"},
	} {
		b, err := m.Encode(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, b)
		f.Add(false, append(b, message('S')...))
		f.Add(true, append([]byte{b[0], byte(len(b) - 5)}, b[5:]...))
	}
	f.Add(true, []byte("P\x0d\x00SELECT $1\x00\x00\x00B\x0d\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00D\x02P\x00E\x05\x00\x00\x00\x00\x00S\x00"))
	hello := startupPacket(version3, pairs("user", "a")...)
	s := newFDT(f, bank{})
	f.Fuzz(func(t *testing.T, framed bool, b []byte) {
		all := hello[:len(hello):len(hello)]
		if !framed {
			all, b = append(all, b...), nil
		}
		for len(b) >= 2 {
			n := min(int(b[1]), len(b)-2)
			all = append(all, message(b[0], b[2:2+n]...)...)
			b = b[2+n:]
		}
		throw(t, s, all, func(conn net.Conn) error {
			for front := pgproto3.NewFrontend(conn, nil); ; {
				if _, err := front.Receive(); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		})
	})
}

// FuzzPlan throws statements, to be run at once and to be prepared. What comes back are messages of the protocol up to
// the end of the request, whatever becomes of the statement, and the session lives.
func FuzzPlan(f *testing.F) {
	for _, h := range hostile {
		if len(h.text) < 1<<10 {
			f.Add(h.text)
		}
	}
	for _, text := range []string{
		"", "SELECT 1, 'a', $1::int8, $2", "CALL echo(1, b => '1e3')", "CALL echo($1, $2)", "SELECT * FROM echo(1, 2, 'x') AS x",
		"SELECT ARRAY[[1,2],[$1,3]]::int8[]", "SELECT ARRAY[ARRAY['{1}'::int[]]]", "SELECT gid FROM pg_prepared_xacts WHERE gid = $1 ORDER BY prepared DESC",
		"BEGIN; SET LOCAL a.b = 1; SAVEPOINT s; RESET ALL; ROLLBACK TO s", "SELECT current_setting('x', true), set_config('a.b', 'c', false)",
	} {
		f.Add(text)
	}
	s := newFDT(f, bank{})
	// TestHostile lets them work as long as they are allowed to.
	hello := startupPacket(version3, pairs("user", "a", "statement_timeout", "100ms")...)
	f.Fuzz(func(t *testing.T, text string) {
		all := append(hello[:len(hello):len(hello)], message('Q', append([]byte(strings.ReplaceAll(text, "\x00", " ")), 0)...)...)
		all = append(all, message('Q', []byte("ROLLBACK\x00")...)...)
		for _, m := range []pgproto3.FrontendMessage{
			&pgproto3.Parse{Query: strings.ReplaceAll(text, "\x00", " ")}, &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Bind{},
			&pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Query{String: "ROLLBACK"}, &pgproto3.Query{String: "SELECT 1"}, &pgproto3.Terminate{},
		} {
			b, err := m.Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		ready := 0
		tell(t, s, all, false, func(conn net.Conn) error {
			for front := pgproto3.NewFrontend(conn, nil); ; {
				m, err := front.Receive()
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return nil
				} else if err != nil {
					return err
				}
				if _, ok := m.(*pgproto3.ReadyForQuery); ok {
					ready++
				}
			}
		})
		if ready != 6 {
			t.Errorf("%q: %d requests of 6 were answered", text, ready)
		}
	})
}

// FuzzAuthentication throws what comes after a startup message at a listener that wants a password: nobody gets in, and
// nothing but messages of an authentication comes back.
func FuzzAuthentication(f *testing.F) {
	for _, b := range []string{
		"SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=x", "SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x00", "SCRAM-SHA-256\x00\xff\xff\xff\xff",
		"c=biws,r=x,p=", "\x00", "y,,n=a=2Cb,r=y",
	} {
		f.Add([]byte(b), []byte("c=biws,r=x,p=AAAA"), true)
		f.Add(message('p', []byte(b)...), message('Q', []byte("SELECT 1\x00")...), false)
	}
	how := users(f)
	s := newFDT(f, bank{}, func(f *fdt, _ *config.Config) { f.onUnix = append(f.onUnix, pgwire.Listener{Auth: how}) })
	s.sock = s.socks[0]
	hello := startupPacket(version3, pairs("user", "alice")...)
	f.Fuzz(func(t *testing.T, first, second []byte, framed bool) {
		all := hello[:len(hello):len(hello)]
		for _, b := range [][]byte{first, second} {
			if framed {
				b = message('p', b...)
			}
			all = append(all, b...)
		}
		throw(t, s, all, func(conn net.Conn) error {
			for front := pgproto3.NewFrontend(conn, nil); ; {
				m, err := front.Receive()
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return nil
				} else if err != nil {
					return err
				}
				switch m.(type) {
				case *pgproto3.AuthenticationSASL, *pgproto3.AuthenticationSASLContinue, *pgproto3.ErrorResponse:
				default:
					t.Errorf("%T", m)
				}
			}
		})
	})
}
