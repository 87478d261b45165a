package pgwire_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
)

func length(kind byte, n uint32, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, n), body...)
}

// TestMalformed is a table of what a session may be sent, and what it answers
// to it and to the Sync that follows.
func TestMalformed(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.MaxMessage = 1 << 20; f.wire.MaxStatements = 3 })
	sync := message('S')
	parse := func(name, text string) []byte { return message('P', []byte(name+"\x00"+text+"\x00\x00\x00")...) }
	bind := func(portal, name, rest string) []byte {
		return message('B', []byte(portal+"\x00"+name+"\x00"+rest)...)
	}
	const plain = "\x00\x00\x00\x00\x00\x00" // no formats, no parameters
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"length zero":                    {length('Q', 0), "closed"},
		"length three":                   {length('Q', 3), "closed"},
		"length minus one":               {length('Q', 0xffffffff), "closed"},
		"length 2^31-1":                  {length('Q', 0x7fffffff), "closed"},
		"longer than allowed":            {length('Q', 2<<20), "E FATAL 54000 a message of 2097148 bytes is longer than the 1048576 that are taken here, closed"},
		"long Sync":                      {length('S', 1<<20), "E FATAL 08P01 invalid message length, closed"},
		"unknown type":                   {message('z'), "E FATAL 08P01 invalid frontend message type 122, closed"},
		"password":                       {message('p', 'x', 0), "E FATAL 08P01 unexpected password message, closed"},
		"function call":                  {message('F', 0, 0, 0, 0), "E ERROR 0A000 fdt has no functions to call by OID, Z I, Z I"},
		"copy data":                      {append(append(message('d', 'x'), message('c')...), message('f', 'x', 0)...), "Z I"},
		"Query with NUL":                 {message('Q', []byte("SELECT 1\x00SELECT 2\x00")...), "E FATAL 08P01 invalid message format: Query body is invalid, closed"},
		"Query without end":              {message('Q', []byte("SELECT 1")...), "E FATAL 08P01 invalid message format: Query body is invalid, closed"},
		"Query not UTF-8":                {message('Q', []byte("SELECT '\xff'\x00")...), "E ERROR 22021 invalid byte sequence for encoding \"UTF8\", Z I, Z I"},
		"Parse without end":              {message('P', 'x'), "E FATAL 08P01 invalid message format: EOF, closed"},
		"Parse not UTF-8":                {parse("", "SELECT '\xff'"), "E ERROR 22021 invalid byte sequence for encoding \"UTF8\", Z I"},
		"Parse, unknown type":            {message('P', []byte("\x00SELECT $1\x00\x00\x01\x00\x00\xff\xff")...), "E ERROR 0A000 parameter $1 has a type with OID 65535, which fdt does not know, Z I"},
		"Parse, open type":               {message('P', []byte("\x00SELECT 1\x00\x00\x01\x00\x00\x00\x00")...), "E ERROR 42P18 could not determine data type of parameter $1, Z I"},
		"Bind without end":               {message('B', 'x'), "E FATAL 08P01 invalid message format: Bind body is invalid, closed"},
		"Bind, odd format":               {append(parse("", "SELECT 1"), bind("", "", "\x00\x00\x00\x00\x00\x01\x00\x02")...), "1, E ERROR 22023 unsupported format code: 2, Z I"},
		"Bind, more formats":             {append(parse("", "SELECT 1"), bind("", "", "\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00")...), "1, E ERROR 08P01 bind message has 2 result formats but query has 1 columns, Z I"},
		"Bind, more parameter formats":   {append(parse("", "SELECT 1"), bind("", "", "\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00")...), "1, E ERROR 08P01 bind message has 2 parameter formats but 0 parameters, Z I"},
		"Bind, odd parameter format":     {append(parse("", "SELECT $1"), bind("", "", "\x00\x01\x00\x07\x00\x01\x00\x00\x00\x01x\x00\x00")...), "1, E ERROR 22023 unsupported format code: 7, Z I"},
		"Bind not UTF-8":                 {append(parse("", "SELECT $1"), bind("", "", "\x00\x00\x00\x01\x00\x00\x00\x01\xff\x00\x00")...), "1, E ERROR 22021 invalid byte sequence for encoding \"UTF8\", Z I"},
		"Bind, binary of another length": {append(parse("", "SELECT $1::int8"), bind("", "", "\x00\x01\x00\x01\x00\x01\x00\x00\x00\x01x\x00\x00")...), "1, E ERROR 08P01 insufficient data left in message, Z I"},
		"Describe without end":           {message('D', 'S'), "E FATAL 08P01 invalid message format: Describe body is invalid, closed"},
		"Describe what":                  {message('D', 'X', 0), "E FATAL 08P01 invalid DESCRIBE message subtype 88, closed"},
		"Close without end":              {message('C', 'S'), "E FATAL 08P01 invalid message format: Close body is invalid, closed"},
		"Close what":                     {message('C', 'X', 0), "E FATAL 08P01 invalid CLOSE message subtype 88, closed"},
		"Execute without end":            {message('E', 0), "E FATAL 08P01 invalid message format: Execute body is invalid, closed"},
		"Flush":                          {append(parse("", "SELECT 1"), message('H')...), "1, Z I"},
		"many statements":                {bytes.Join([][]byte{parse("a", ""), parse("b", ""), parse("c", ""), parse("d", "")}, nil), "1, 1, 1, E ERROR 53400 more than 3 prepared statements and portals in one session, Z I"},
		"many unnamed":                   {bytes.Join([][]byte{parse("", "SELECT 1"), bind("a", "", plain), bind("", "", plain), bind("", "", plain), parse("", "SELECT 1")}, nil), "1, 2, 2, 2, 1, Z I"},
		"many portals": {bytes.Join([][]byte{parse("", "SELECT 1"), bind("a", "", plain), bind("b", "", plain), bind("c", "", plain)}, nil),
			"1, 2, 2, E ERROR 53400 more than 3 prepared statements and portals in one session, Z I"},
		"half a message": {length('Q', 100, 'x'), ""},
		"half a header":  {[]byte("Q\x00\x00"), ""},
		"goodbye":        {message('X'), "closed"},
		"long query":     {message('Q', []byte("SELECT '"+strings.Repeat("x", 100000)+"'\x00")...), "T ?column?:25/-1/0, D " + strings.Repeat("x", 100000) + ", C SELECT 1, Z I, Z I"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := connect(t, "unix", f.sock, "a")
			cl.raw(c.send)
			if c.want == "" { // the client dies in the message
				_ = cl.conn.Close()
				return
			}
			if !strings.HasSuffix(c.want, "closed") {
				cl.raw(sync)
			}
			var got []string
			for range strings.Count(c.want, "Z ") {
				got = append(got, cl.read()...)
			}
			if strings.HasSuffix(c.want, "closed") {
				got = append(got, cl.read()...)
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got %.300s, want %.300s", g, c.want)
			}
		})
	}
	testwait.Until(t, "all gone", func() bool { return f.server.Counts().Busy == 0 })
	c := f.connect("a")
	c.want("CALL enqueue('alive')", "C CALL", "Z I")
	f.delivered("alive")
}

// TestBytewise sends a conversation byte by byte, and all of it at once.
func TestBytewise(t *testing.T) {
	f := newFDT(t, bank{})
	var all []byte
	all = append(all, startupPacket(version3, pairs("user", "a")...)...)
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "CALL enqueue('" + strings.Repeat("x", 2000) + "')"},
		&pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Query{String: "SELECT 2"}, &pgproto3.Terminate{},
	} {
		b, err := m.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	for _, step := range []int{1, 7, 511, 512, 513, len(all)} {
		c := dial(t, "unix", f.sock)
		for rest := all; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			c.raw(rest[:min(step, len(rest))])
		}
		hello := c.read()
		c.answers("startup", hello[len(hello)-1:], "Z I")
		c.answers("call", c.read(), "C CALL", "Z I")
		c.answers("extended", c.read(), "1", "2", "D 1", "C SELECT 1", "Z I")
		c.answers("simple", c.read(), "T ?column?:23/4/0", "D 2", "C SELECT 1", "Z I")
		c.answers("end", c.read(), "closed")
	}
}
