package pgwire_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// client speaks the protocol message by message.
type client struct {
	t     testing.TB
	conn  net.Conn
	front *pgproto3.Frontend
	key   *pgproto3.BackendKeyData
	hello []string // what came up to the first ReadyForQuery
	cols  []int16  // formats of the last RowDescription
}

// connect opens a session as user; more are name, value pairs for startup.
func connect(t testing.TB, network, address, user string, more ...string) *client {
	t.Helper()
	c := dial(t, network, address)
	params := map[string]string{"user": user, "database": "db"}
	for i := 0; i+1 < len(more); i += 2 {
		params[more[i]] = more[i+1]
	}
	c.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params})
	c.hello = c.flush()
	return c
}

func dial(t testing.TB, network, address string) *client {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(9 * time.Minute)); err != nil { // only against a hang, within go test's ten minutes: a crowded machine is slow
		t.Fatal(err)
	}
	return &client{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn)}
}

func (f *fdt) connect(user string, more ...string) *client {
	f.t.Helper()
	return connect(f.t, "unix", f.sock, user, more...)
}

// param returns a parameter that the server reported at startup.
func (c *client) param(name string) string {
	for _, m := range c.hello {
		if v, ok := strings.CutPrefix(m, "S "+name+"="); ok {
			return v
		}
	}
	return ""
}

// raw sends bytes as they are.
func (c *client) raw(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// flush sends what is waiting and reads up to ReadyForQuery, or the end.
func (c *client) flush() []string {
	c.t.Helper()
	if err := c.front.Flush(); err != nil {
		c.t.Fatal(err)
	}
	return c.read()
}

// read returns messages up to ReadyForQuery; "closed" is the end of the
// connection.
func (c *client) read() []string {
	c.t.Helper()
	var list []string
	for {
		m, err := c.front.Receive()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return append(list, "closed")
		case err != nil:
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				c.t.Fatalf("no answer after %q", list)
			}
			return append(list, "closed by "+err.Error())
		}
		list = append(list, c.print(m))
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return list
		}
	}
}

func (c *client) query(text string) []string {
	c.t.Helper()
	c.front.Send(&pgproto3.Query{String: text})
	return c.flush()
}

// want runs a query and compares the answer.
func (c *client) want(text string, want ...string) {
	c.t.Helper()
	c.answers(text, c.query(text), want...)
}

func (c *client) answers(what string, got []string, want ...string) {
	c.t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		c.t.Errorf("%s:\ngot\n%s\nwant\n%s", what, g, w)
	}
}

func (c *client) print(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.AuthenticationOk:
		return "R ok"
	case *pgproto3.ParameterStatus:
		return "S " + m.Name + "=" + m.Value
	case *pgproto3.BackendKeyData:
		k := *m
		c.key = &k
		return "K"
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.EmptyQueryResponse:
		return "I"
	case *pgproto3.ParseComplete:
		return "1"
	case *pgproto3.BindComplete:
		return "2"
	case *pgproto3.CloseComplete:
		return "3"
	case *pgproto3.NoData:
		return "n"
	case *pgproto3.PortalSuspended:
		return "s"
	case *pgproto3.ParameterDescription:
		return "t " + strings.Trim(fmt.Sprint(m.ParameterOIDs), "[]")
	case *pgproto3.RowDescription:
		b := "T"
		c.cols = nil
		for _, f := range m.Fields {
			b += fmt.Sprintf(" %s:%d/%d/%d", f.Name, f.DataTypeOID, f.DataTypeSize, f.Format)
			c.cols = append(c.cols, f.Format)
		}
		return b
	case *pgproto3.DataRow:
		var list []string
		for _, v := range m.Values {
			switch {
			case v == nil:
				list = append(list, "NULL")
			case utf8.Valid(v) && !strings.ContainsFunc(string(v), func(r rune) bool { return r < ' ' }):
				list = append(list, string(v))
			default:
				list = append(list, `\x`+hex.EncodeToString(v))
			}
		}
		return "D " + strings.Join(list, "|")
	case *pgproto3.ErrorResponse:
		return "E " + severity(m.Severity, m.Code, m.Message, m.Position)
	case *pgproto3.NoticeResponse:
		return "N " + severity(m.Severity, m.Code, m.Message, m.Position)
	case *pgproto3.NegotiateProtocolVersion:
		return fmt.Sprintf("v %d.%d %q", m.NewestMinorProtocol>>16, m.NewestMinorProtocol&0xffff, m.UnrecognizedOptions)
	}
	return fmt.Sprintf("%T", m)
}

func severity(s, code, message string, position int32) string {
	if position > 0 {
		return fmt.Sprintf("%s %s %s @%d", s, code, message, position)
	}
	return fmt.Sprintf("%s %s %s", s, code, message)
}

// say parses and sends one line of a conversation, and tells whether an
// answer up to ReadyForQuery follows it:
//
//	Q text                          simple query
//	P name oid,… text               Parse; name _ is unnamed, oids may be -
//	B portal statement fmt arg…     Bind; fmt is t or b for all results, or one for each; an argument is text, NULL or \xHEX (binary)
//	D S name, D P name              Describe
//	E portal limit                  Execute
//	C S name, C P name              Close
//	S, H                            Sync, Flush
func (c *client) say(line string) (answered bool) {
	c.t.Helper()
	kind, rest, _ := strings.Cut(line, " ")
	unnamed := func(s string) string { return strings.TrimSuffix(s, "_") }
	field := func() string {
		var f string
		f, rest, _ = strings.Cut(rest, " ")
		return f
	}
	switch kind {
	case "Q":
		c.front.Send(&pgproto3.Query{String: rest})
		return true
	case "P":
		m := &pgproto3.Parse{Name: unnamed(field())}
		if oids := field(); oids != "-" {
			for s := range strings.SplitSeq(oids, ",") {
				n, err := strconv.ParseUint(s, 10, 32)
				if err != nil {
					c.t.Fatal(err)
				}
				m.ParameterOIDs = append(m.ParameterOIDs, uint32(n))
			}
		}
		m.Query = rest
		c.front.Send(m)
	case "B":
		m := &pgproto3.Bind{DestinationPortal: unnamed(field()), PreparedStatement: unnamed(field())}
		if formats := field(); formats != "t" {
			for _, f := range formats {
				m.ResultFormatCodes = append(m.ResultFormatCodes, map[rune]int16{'b': 1}[f])
			}
		}
		for rest != "" {
			switch a := field(); {
			case a == "NULL":
				m.Parameters = append(m.Parameters, nil)
				m.ParameterFormatCodes = append(m.ParameterFormatCodes, 0)
			case strings.HasPrefix(a, `\x`):
				b, err := hex.DecodeString(a[2:])
				if err != nil {
					c.t.Fatal(err)
				}
				m.Parameters = append(m.Parameters, b)
				m.ParameterFormatCodes = append(m.ParameterFormatCodes, 1)
			default:
				m.Parameters = append(m.Parameters, []byte(a))
				m.ParameterFormatCodes = append(m.ParameterFormatCodes, 0)
			}
		}
		c.front.Send(m)
	case "D":
		m := &pgproto3.Describe{ObjectType: field()[0]}
		m.Name = unnamed(rest)
		c.front.Send(m)
	case "E":
		m := &pgproto3.Execute{Portal: unnamed(field())}
		if rest != "" {
			n, err := strconv.ParseUint(rest, 10, 32)
			if err != nil {
				c.t.Fatal(err)
			}
			m.MaxRows = uint32(n)
		}
		c.front.Send(m)
	case "C":
		m := &pgproto3.Close{ObjectType: field()[0]}
		m.Name = unnamed(rest)
		c.front.Send(m)
	case "H":
		c.front.Send(&pgproto3.Flush{})
	case "S":
		c.front.Send(&pgproto3.Sync{})
		return true
	default:
		c.t.Fatalf("not a line of a conversation: %q", line)
	}
	return false
}

// cancelRequest sends a CancelRequest and waits for the server's close.
func cancelRequest(t testing.TB, network, address string, key *pgproto3.BackendKeyData) {
	t.Helper()
	c := dial(t, network, address)
	b, err := (&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.raw(b)
	if rest, err := io.ReadAll(c.conn); err != nil || len(rest) > 0 {
		t.Fatalf("answer to CancelRequest: %q, %v", rest, err)
	}
}

func message(kind byte, body ...byte) []byte {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+4))
	return append(b, body...)
}

func startupPacket(code uint32, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)+8))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}
