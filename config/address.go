package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Address is one place to listen at.
type Address struct {
	Network string // tcp4, tcp6 or unix
	Address string // host:port with the host in numbers, or an absolute path
}

// maxUnixPath is sun_path of unix(7) without its final zero.
const maxUnixPath = 107

// ParseAddress reads "127.0.0.1:7432", "[::1]:7432" or "/run/fdt/socket". Equal places give equal addresses.
func ParseAddress(s string) (Address, error) {
	if strings.HasPrefix(s, "/") {
		if err := checkPath(s); err != nil {
			return Address{}, err
		}
		if len(s) > maxUnixPath {
			return Address{}, fmt.Errorf("the path of a unix socket has at most %d bytes, this one %d", maxUnixPath, len(s))
		}
		return Address{Network: "unix", Address: s}, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return Address{}, errors.New("write host:port, [host]:port or an absolute path")
	}
	host, digits := s[:i], s[i+1:]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return Address{}, fmt.Errorf("%q is no port; write a number from 1 to 65535", digits)
	}
	if host == "" || host == "*" {
		return Address{}, fmt.Errorf("write which: 0.0.0.0:%d, [::]:%d, or a list of both", port, port)
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		bare = strings.TrimSuffix(bare, "]")
	}
	ip, err := netip.ParseAddr(bare)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%q is no IP address; names are not resolved here", host)
	case ip.Is4() && bracketed:
		return Address{}, fmt.Errorf("an IPv4 address has no brackets; write %s:%d", ip, port)
	case ip.Is6() && !bracketed:
		return Address{}, fmt.Errorf("an IPv6 address needs brackets; write [%s]:%d", ip, port)
	case ip.Is4In6():
		return Address{}, fmt.Errorf("write the IPv4 address itself, %s:%d", ip.Unmap(), port)
	case ip.Zone() != "":
		return Address{}, errors.New("an address with a zone cannot be used; name one without")
	case ip.IsMulticast():
		return Address{}, errors.New("nothing can listen at a multicast address")
	}
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	return Address{Network: network, Address: netip.AddrPortFrom(ip, uint16(port)).String()}, nil
}

// ParseNetwork reads "10.0.0.0/8", "fd00::/8", or one address. Equal networks give equal prefixes.
func ParseNetwork(s string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(s)
	if ip, also := netip.ParseAddr(s); also == nil && ip.Zone() == "" {
		n, err = netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is no network; write an address and the bits that count, such as 10.0.0.0/8", s)
	case n.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write the IPv4 network itself, such as 10.0.0.0/8")
	case n != n.Masked():
		return netip.Prefix{}, fmt.Errorf("write it as %s, or with more bits", n.Masked())
	}
	return n, nil
}

// String is the address as the configuration has it.
func (a Address) String() string { return a.Address }

// Canonical names the address within systemd: "tcp4-127.0.0.1-7432", "tcp6-::1-7432" or "unix-NAME-HASH", with
// the last element of the path and a hash over all of it. Different addresses have different names, and every
// name is a valid instance of a unit without any escape (systemd.unit(5)).
func (a Address) Canonical() string {
	if a.Network == "unix" {
		sum := sha256.Sum256([]byte(a.Address))
		return "unix-" + unitSafe(path.Base(a.Address)) + "-" + hex.EncodeToString(sum[:6])
	}
	ap, err := netip.ParseAddrPort(a.Address)
	if err != nil {
		sum := sha256.Sum256([]byte(a.Address))
		return a.Network + "-" + hex.EncodeToString(sum[:6])
	}
	return fmt.Sprintf("%s-%s-%d", a.Network, ap.Addr(), ap.Port())
}

// unitSafe replaces what a unit's name cannot hold, and shortens.
func unitSafe(s string) string {
	safe := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '.' || r == '_' || r == '-') {
			return r
		}
		return '_'
	}, s)
	return strings.TrimLeft(safe[:min(len(safe), 40)], ".")
}

// Covers reports whether both cannot be listened at together: the same place, or one the wildcard of the other.
func (a Address) Covers(b Address) bool {
	if a == b {
		return true
	}
	if a.Network != b.Network || a.Network == "unix" {
		return false
	}
	x, errX := netip.ParseAddrPort(a.Address)
	y, errY := netip.ParseAddrPort(b.Address)
	return errX == nil && errY == nil && x.Port() == y.Port() &&
		(x.Addr().IsUnspecified() || y.Addr().IsUnspecified())
}

// checkPath accepts absolute paths that can stand in a unit file in any place, quoted or not.
func checkPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return errors.New("write an absolute path")
	case s != path.Clean(s):
		return fmt.Errorf("write it as %s", path.Clean(s))
	case s == "/":
		return errors.New("the root directory cannot be meant")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("a path must be printable UTF-8")
	case strings.ContainsAny(s, `"'\`):
		return errors.New("a path here cannot hold quotes or backslashes")
	case strings.TrimSpace(s) != s:
		return errors.New("a path cannot end in white space")
	}
	return nil
}
