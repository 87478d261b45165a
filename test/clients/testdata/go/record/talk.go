package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// talk is one connection.
type talk struct {
	opening        []string // up to the startup message
	client, server []string
	names          map[string]string // of prepared statements and portals, which some tools draw by lot
	fault          error
}

// ends mark where the other side's turn begins; they stand in the lists behind the message.
const turn = "\x00"

func (t *talk) relay(client net.Conn, socket string) error {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := t.open(client, server); err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() {
		heard <- t.hear(client, server)
		client.Close()
	}()
	err = t.say(client, server)
	server.(*net.UnixConn).CloseWrite() // what is under way comes to its end
	if herr := <-heard; err == io.EOF {
		err = herr
	}
	return err
}

// open passes on what comes before the startup message, and that.
func (t *talk) open(client, server net.Conn) error {
	t.names = map[string]string{"": ""}
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(client, head); err != nil {
			return err
		}
		packet := make([]byte, binary.BigEndian.Uint32(head))
		copy(packet, head)
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return err
		}
		if _, err := server.Write(packet); err != nil {
			return err
		}
		code := binary.BigEndian.Uint32(packet[4:])
		name, asked := map[uint32]string{80877103: "SSLRequest", 80877104: "GSSEncRequest"}[code]
		if !asked {
			t.opening = append(t.opening, "> "+startup(packet))
			return nil
		}
		letter := make([]byte, 1)
		if _, err := io.ReadFull(server, letter); err != nil {
			return err
		}
		t.opening = append(t.opening, "> "+name, "< "+string(letter))
		if _, err := client.Write(letter); err != nil {
			return err
		}
	}
}

func startup(packet []byte) string {
	if binary.BigEndian.Uint32(packet[4:]) == 80877102 {
		return "CancelRequest"
	}
	var m pgproto3.StartupMessage
	if err := m.Decode(packet[4:]); err != nil {
		return "startup message: " + err.Error()
	}
	s := fmt.Sprintf("StartupMessage %d.%d", m.ProtocolVersion>>16, m.ProtocolVersion&0xffff)
	for _, name := range slices.Sorted(maps.Keys(m.Parameters)) {
		s += fmt.Sprintf(" %s=%q", name, m.Parameters[name])
	}
	return s
}

func (t *talk) say(client, server net.Conn) error {
	from, to := pgproto3.NewBackend(client, io.Discard), pgproto3.NewFrontend(strings.NewReader(""), server)
	for {
		m, err := from.Receive()
		if err != nil {
			return err
		}
		t.client = append(t.client, t.frontend(m))
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			t.client = append(t.client, turn)
		}
		to.Send(m)
		if err := to.Flush(); err != nil {
			return err
		}
	}
}

func (t *talk) hear(client, server net.Conn) error {
	from, to := pgproto3.NewFrontend(server, io.Discard), pgproto3.NewBackend(strings.NewReader(""), client)
	for {
		m, err := from.Receive()
		if err != nil {
			return err
		}
		t.server = append(t.server, backend(m))
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			t.server = append(t.server, turn)
		}
		to.Send(m)
		if err := to.Flush(); err != nil {
			return err
		}
	}
}

// name stands for one of a statement or portal: the first that the connection uses is #1.
func (t *talk) name(n string) string {
	if _, ok := t.names[n]; !ok {
		t.names[n] = fmt.Sprintf("#%d", len(t.names))
	}
	return t.names[n]
}

func (t *talk) frontend(m pgproto3.FrontendMessage) string {
	switch m := m.(type) {
	case *pgproto3.Query:
		return "> Query " + line(m.String)
	case *pgproto3.Parse:
		return fmt.Sprintf("> Parse %s%v %s", t.name(m.Name), m.ParameterOIDs, line(m.Query))
	case *pgproto3.Bind:
		return fmt.Sprintf("> Bind %s %s%v results %v", t.name(m.DestinationPortal), t.name(m.PreparedStatement), m.ParameterFormatCodes, m.ResultFormatCodes)
	case *pgproto3.Describe:
		return fmt.Sprintf("> Describe %c %s", m.ObjectType, t.name(m.Name))
	case *pgproto3.Execute:
		return fmt.Sprintf("> Execute %s limit %d", t.name(m.Portal), m.MaxRows)
	case *pgproto3.Close:
		return fmt.Sprintf("> Close %c %s", m.ObjectType, t.name(m.Name))
	}
	return "> " + kind(m)
}

func backend(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("< ParameterStatus %s=%q", m.Name, m.Value)
	case *pgproto3.ReadyForQuery:
		return fmt.Sprintf("< ReadyForQuery %c", m.TxStatus)
	case *pgproto3.ErrorResponse:
		return fmt.Sprintf("< ErrorResponse %s %s %s", m.Severity, m.Code, line(m.Message))
	case *pgproto3.NoticeResponse:
		return fmt.Sprintf("< NoticeResponse %s %s %s", m.Severity, m.Code, line(m.Message))
	case *pgproto3.CommandComplete:
		return "< CommandComplete " + string(m.CommandTag)
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("< ParameterDescription %v", m.ParameterOIDs)
	case *pgproto3.RowDescription:
		s := "< RowDescription"
		for _, f := range m.Fields {
			s += fmt.Sprintf(" %s:%d:%d", f.Name, f.DataTypeOID, f.Format)
		}
		return s
	case *pgproto3.DataRow:
		s := "< DataRow"
		for _, v := range m.Values {
			if v == nil {
				s += " null"
				continue
			}
			s += fmt.Sprintf(" %q", v)
		}
		return s
	}
	return "< " + kind(m)
}

func kind(m any) string { return strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.") }

// line is a text in one line, with one space where there was any.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }

// write writes the talk down, one turn after the other. More rows than a few of one result are counted.
func (t *talk) write(b *strings.Builder) {
	fmt.Fprintln(b, "connection")
	for _, l := range t.opening {
		fmt.Fprintln(b, l)
	}
	client, server := append([]string{turn}, t.client...), t.server // the server's first turn answers the startup message
	for len(client) > 0 || len(server) > 0 {
		for _, side := range []*[]string{&client, &server} {
			i := slices.Index(*side, turn)
			if i < 0 {
				i = len(*side) - 1
			}
			for _, l := range few((*side)[:i+1]) {
				if l != turn {
					fmt.Fprintln(b, l)
				}
			}
			*side = (*side)[i+1:]
		}
	}
	if t.fault != nil {
		fmt.Fprintln(b, "fault:", t.fault)
	}
}

// few replaces more than three rows behind one another by their number.
func few(lines []string) []string {
	var out []string
	for i := 0; i < len(lines); {
		n := 0
		for i+n < len(lines) && strings.HasPrefix(lines[i+n], "< DataRow") {
			n++
		}
		switch {
		case n == 0:
			out = append(out, lines[i])
			n = 1
		case n <= 3:
			out = append(out, lines[i:i+n]...)
		default:
			out = append(out, fmt.Sprintf("< DataRow × %d", n))
		}
		i += n
	}
	return out
}
