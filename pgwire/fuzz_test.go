package pgwire_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// throw sends bytes on a new connection, closes the sending side, and reads
// until the server closes: it must neither hang nor die.
func throw(t *testing.T, f *fdt, b []byte) {
	t.Helper()
	conn, err := net.Dial("unix", f.sock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { // the server may close before it has read all
		_, _ = conn.Write(b)
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Fatalf("no end of % x", b)
		}
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
	s := newFDT(f, "")
	f.Fuzz(func(t *testing.T, b []byte) { throw(t, s, b) })
}

// FuzzMessages throws what comes after startup.
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
		f.Add(b)
		f.Add(append(b, message('S')...))
	}
	hello := startupPacket(version3, pairs("user", "a")...)
	s := newFDT(f, "")
	f.Fuzz(func(t *testing.T, b []byte) { throw(t, s, append(hello[:len(hello):len(hello)], b...)) })
}
