package application

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/testwait"
)

// Headers of a proxy.
const (
	speaksFor = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x1d\x08" // 192.0.2.7:4711
	itself    = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// from dials from one of the host's own addresses.
func from(t *testing.T, host, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	c, err := d.DialContext(t.Context(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestProxied: a proxy's client is the client for both kinds of handler, also with TLS, which comes after the header; who is no proxy
// needs none.
func TestProxied(t *testing.T) {
	const proxies = ", proxy: [10.0.0.0/8, 127.0.0.2]"
	t.Run("HTTP", func(t *testing.T) {
		f := newLife(t, Handler{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })}, proxies)
		for _, c := range []struct{ host, header, client string }{
			{"127.0.0.2", speaksFor, "192.0.2.7:4711"}, {"127.0.0.2", itself, ""}, {"127.0.0.1", "", ""},
		} {
			conn := from(t, c.host, f.addr)
			say(t, conn, c.header+"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(c, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if c.client == "" {
				c.client = conn.LocalAddr().String()
			}
			if string(body) != c.client || err != nil {
				t.Errorf("%s of %s, %v", body, c.client, err)
			}
		}
		conn := from(t, "127.0.0.2", f.addr)
		say(t, conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if answer, _ := io.ReadAll(conn); len(answer) > 0 { // it ends, or is reset
			t.Errorf("served without a header: %s", answer)
		}
		testwait.Until(t, "the journal tells", func() bool { return strings.Contains(f.log.String(), "must begin with a PROXY header") })
		if line := f.log.String(); !strings.Contains(line, "remote="+conn.LocalAddr().String()) || !strings.Contains(line, "listener=tcp4-") ||
			!strings.Contains(line, journal.ProxyBroken) || !strings.Contains(line, "GET / HTTP/1.1") {
			t.Error(line)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		dir := t.TempDir()
		crt, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
		certificate(t, crt, key)
		f := newLife(t, Handler{Stream: func(_ context.Context, c *Conn) error {
			err := c.Next()
			_, _ = io.WriteString(c, c.Peer())
			return err
		}}, fmt.Sprintf(", tls: {certificate: %s, key: %s}%s", crt, key, proxies))
		c := from(t, "127.0.0.2", f.addr)
		say(t, c, speaksFor)
		encrypted := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		say(t, encrypted, "x")
		if answer, err := io.ReadAll(encrypted); string(answer) != "192.0.2.7:4711" || err != nil {
			t.Errorf("%s, %v", answer, err)
		}
	})
}

// TestProxyHeld: a proxy that stops within a header is closed at the deadline and told of once, one that says nothing is not told of, and
// peers on a unix socket are no proxies.
func TestProxyHeld(t *testing.T) {
	var log testwait.Output
	p := &proxies{of: map[string][]netip.Prefix{}, within: 50 * time.Millisecond, log: slog.New(slog.NewTextHandler(&log, nil))}
	server := &drain.Server{Handler: p.before(func(_ context.Context, c *drain.Conn) { _, _ = io.WriteString(c, "served") })}
	ended := make(chan error, 2)
	listeners := map[string]net.Listener{}
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		listeners[network] = l
		p.of[l.Addr().String()] = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	defer func() {
		_ = server.Close()
		for range listeners {
			if err := testwait.For(t, "it is served no more", ended); !errors.Is(err, drain.ErrServerClosed) {
				t.Error(err)
			}
		}
	}()
	answer := func(network, said string) string {
		c, err := net.Dial(network, listeners[network].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if said != "" {
			say(t, c, said)
		}
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		return string(all)
	}
	if got := answer("unix", ""); got != "served" {
		t.Errorf("by the unix socket: %q", got)
	}
	if got := answer("tcp4", ""); got != "" || log.String() != "" {
		t.Errorf("silent: %q\n%s", got, log.String())
	}
	if got := answer("tcp4", speaksFor[:20]); got != "" || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "it ends after 20 bytes: ") {
		t.Errorf("held: %q\n%s", got, log.String())
	}
}
