// Package proxyheader reads the header by which a proxy tells for whom it speaks: version 2 of the PROXY protocol
// (haproxy.org/download/3.2/doc/proxy-protocol.txt, section 2.2). It holds 512 bytes at most, whatever length is announced, and
// reads nothing that comes after the header.
package proxyheader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// ErrBroken is wrapped by the errors about what was sent in place of a header.
var ErrBroken = errors.New("broken PROXY header")

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixed     = 16   // bytes before the addresses: the signature, version and command, family and transport, length
	longest   = 4096 // bytes of a header that is taken; a client's certificate, the longest that is told by it, has some 2,000
	piece     = 512  // bytes that are read at once
)

// Commands, with the version.
const (
	local = 0x20 // the proxy speaks for itself, as to see whether this end lives
	proxy = 0x21
)

// families are the families with their transports, and the bytes of their two addresses.
var families = map[byte]int{0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}

// Families of clients that have an address here.
const (
	tcp4 = 0x11
	tcp6 = 0x21
)

// Read reads a header from r, and returns the address of the client. It is not valid where the header names none: the connection
// is the proxy's own then. What is not a header gives ErrBroken, wrapped, with the reason; if there was nothing at all, the error
// is r's own.
func Read(r io.Reader) (client netip.AddrPort, err error) {
	var b [piece]byte
	for have := 0; have < fixed; {
		n, err := r.Read(b[have:fixed])
		have += n
		if err := begins(b[:have]); err != nil {
			return client, err
		}
		if err != nil && have < fixed {
			return client, early(have, err)
		}
	}
	command, family, length := b[12], b[13], int(binary.BigEndian.Uint16(b[14:]))
	size, known := families[family]
	switch {
	case command != local && command != proxy:
		return client, broken("version and command are %#02x", command)
	case command == proxy && !known:
		return client, broken("address family and transport are %#02x", family)
	case command == proxy && length < size:
		return client, broken("%d bytes are too few for the addresses of family %#02x", length, family)
	case length > longest-fixed:
		return client, broken("it has %d bytes, and %d at most are taken", fixed+length, longest)
	}
	for read := 0; read < length; {
		n, err := io.ReadFull(r, b[:min(length-read, piece)])
		if err != nil {
			return netip.AddrPort{}, early(fixed+read+n, err)
		}
		if read == 0 && command == proxy {
			client = source(family, b[:n])
		}
		read += n
	}
	return client, nil
}

// begins tells what is wrong with the first bytes of a header, as soon as they show it: who has sent them may wait for an answer.
func begins(b []byte) error {
	switch {
	case strings.HasPrefix(signature, string(b)) || strings.HasPrefix(string(b), signature):
		return nil
	case strings.HasPrefix(string(b), "PROXY"):
		return broken("it is of version 1, and must be of version 2, as by send-proxy-v2 of HAProxy")
	}
	return broken("the connection begins with %q", b)
}

// source is the client's address; not valid of a family that has none.
func source(family byte, b []byte) netip.AddrPort {
	switch family {
	case tcp4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
	case tcp6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[32:]))
	}
	return netip.AddrPort{}
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

// early is the error of a header that has ended after so many bytes.
func early(bytes int, err error) error {
	if bytes == 0 {
		return err
	}
	return fmt.Errorf("%w: it ends after %d bytes: %w", ErrBroken, bytes, err)
}
