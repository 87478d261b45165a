package proxyheader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// header is one with a body of its true length.
func header(command, family byte, body string) string {
	return announcing(command, family, len(body), body)
}

// announcing is a header that announces so many bytes of a body.
func announcing(command, family byte, length int, body string) string {
	return signature + string(binary.BigEndian.AppendUint16([]byte{command, family}, uint16(length))) + body
}

var (
	four = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x1d\x08" // 192.0.2.7:4711 to 198.51.100.1:7432
	six  = "\x20\x01\x0d\xb8" + zeros(11) + "\x07" + "\x20\x01\x0d\xb8" + zeros(11) + "\x01" + "\x12\x67\x1d\x08"
	// mapped is 192.0.2.7 as an IPv6 address.
	mapped = zeros(10) + "\xff\xff\xc0\x00\x02\x07" + zeros(10) + "\xff\xff\xc6\x33\x64\x01" + "\x12\x67\x1d\x08"
)

func zeros(n int) string { return strings.Repeat("\x00", n) }

// tlv is a value of n bytes that nobody asked for.
func tlv(n int) string {
	return "\xea" + string(binary.BigEndian.AppendUint16(nil, uint16(n))) + zeros(n)
}

// TestRead is a table of headers, each followed by what is the client's, and read at once and byte by byte.
func TestRead(t *testing.T) {
	const after = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	for _, c := range []struct{ name, header, client string }{
		{"IPv4", header(proxy, tcp4, four), "192.0.2.7:4711"},
		{"IPv6", header(proxy, tcp6, six), "[2001:db8::7]:4711"},
		{"IPv4 as IPv6", header(proxy, tcp6, mapped), "192.0.2.7:4711"},
		{"with a value", header(proxy, tcp4, four+tlv(3)), "192.0.2.7:4711"},
		{"with a certificate", header(proxy, tcp6, six+tlv(2000)), "[2001:db8::7]:4711"},
		{"the longest", header(proxy, tcp4, four+tlv(longest-fixed-len(four)-3)), "192.0.2.7:4711"},
		{"nobody's", header(proxy, 0x00, ""), ""},
		{"nobody's, with a value", header(proxy, 0x00, tlv(9)), ""},
		{"of a unix socket", header(proxy, 0x31, zeros(216)), ""},
		{"of UDP", header(proxy, 0x12, four), ""},
		{"the proxy's own", header(local, 0x00, ""), ""},
		{"the proxy's own, with an address", header(local, tcp4, four), ""},
		{"the proxy's own, with what nobody knows", header(local, 0x47, tlv(700)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := strings.NewReader(c.header + after)
			slow := strings.NewReader(c.header + after)
			for r, from := range map[*strings.Reader]io.Reader{whole: whole, slow: iotest.OneByteReader(slow)} {
				client, err := Read(from)
				if got := client.String(); err != nil || client.IsValid() != (c.client != "") || client.IsValid() && got != c.client {
					t.Errorf("%s, %v", got, err)
				}
				if r.Len() != len(after) {
					t.Errorf("%d bytes are left, not %d", r.Len(), len(after))
				}
			}
		})
	}
}

// TestBroken is a table of what is no header.
func TestBroken(t *testing.T) {
	for _, c := range []struct{ name, bytes, want string }{
		{"version 1", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7432\r\n", "it is of version 1, and must be of version 2, as by send-proxy-v2 of HAProxy"},
		{"version 1 of nobody", "PROXY UNKNOWN\r\n", "it is of version 1, and must be of version 2, as by send-proxy-v2 of HAProxy"},
		{"a client of the protocol", "\x00\x00\x00\x08\x04\xd2\x16\x2f", `the connection begins with "\x00\x00\x00\b\x04\xd2\x16/"`},
		{"a client that ends lines first", "\r\n\r\nGET / HTTP/1.1", `the connection begins with "\r\n\r\nGET / HTTP/1"`},
		{"a client of TLS", "\x16\x03\x01\x02\x00\x01", `the connection begins with "\x16\x03\x01\x02\x00\x01"`},
		{"an end in the signature", signature[:7], "it ends after 7 bytes: EOF"},
		{"an end after the signature", signature, "it ends after 12 bytes: EOF"},
		{"an end in the length", announcing(proxy, tcp4, 12, "")[:15], "it ends after 15 bytes: EOF"},
		{"an end before the addresses", announcing(proxy, tcp4, 12, ""), "it ends after 16 bytes: EOF"},
		{"an end in the addresses", announcing(proxy, tcp6, 36, six[:35]), "it ends after 51 bytes: unexpected EOF"},
		{"an end in a value", announcing(proxy, tcp4, 1500, four+zeros(1000)), "it ends after 1028 bytes: unexpected EOF"},
		{"version 3", header(0x31, tcp4, four), "version and command are 0x31"},
		{"an unknown command", header(0x22, tcp4, four), "version and command are 0x22"},
		{"an unknown family", header(proxy, 0x41, four), "address family and transport are 0x41"},
		{"an unknown transport", header(proxy, 0x13, four), "address family and transport are 0x13"},
		{"addresses too short", header(proxy, tcp4, four[:11]), "11 bytes are too few for the addresses of family 0x11"},
		{"addresses of the other family", header(proxy, tcp6, four), "12 bytes are too few for the addresses of family 0x21"},
		{"a path too short", header(proxy, 0x31, zeros(215)), "215 bytes are too few for the addresses of family 0x31"},
		{"too long", announcing(proxy, tcp4, longest-fixed+1, four), "it has 4097 bytes, and 4096 at most are taken"},
		{"as long as can be told", announcing(local, 0x00, 1<<16-1, ""), "it has 65551 bytes, and 4096 at most are taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := Read(strings.NewReader(c.bytes))
			if !errors.Is(err, ErrBroken) || err.Error() != ErrBroken.Error()+": "+c.want || client.IsValid() {
				t.Errorf("%v, %v", client, err)
			}
		})
	}
}

// TestSilence: who says nothing has broken nothing.
func TestSilence(t *testing.T) {
	if _, err := Read(strings.NewReader("")); !errors.Is(err, io.EOF) || errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	if _, err := Read(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrBroken) {
		t.Error(err)
	}
}

// FuzzRead: whatever is sent, a header is read to its end and no further, in pieces as at once, and what is none is told as such.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		header(proxy, tcp4, four), header(proxy, tcp6, six+tlv(600)), header(local, 0x00, ""), header(proxy, 0x31, zeros(216)) + "after",
		announcing(proxy, tcp4, 1<<16-1, four), "PROXY UNKNOWN\r\n", "\x16\x03\x01", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := bytes.NewReader(b)
		client, err := Read(whole)
		again, also := Read(iotest.OneByteReader(bytes.NewReader(b)))
		if client != again || (err == nil) != (also == nil) {
			t.Fatalf("%v, %v; in pieces %v, %v", client, err, again, also)
		}
		read := len(b) - whole.Len()
		switch {
		case err != nil && (client != netip.AddrPort{} || len(b) > 0 && !errors.Is(err, ErrBroken)):
			t.Fatalf("%v with %v", client, err)
		case err == nil && read != fixed+int(binary.BigEndian.Uint16(b[14:])), read > longest:
			t.Fatalf("%d bytes are read of %q", read, b)
		}
	})
}
