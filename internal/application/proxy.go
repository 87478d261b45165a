package application

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/proxyheader"
	"github.com/fdtserver/fdt/internal/throttle"
	"github.com/fdtserver/fdt/internal/unit"
)

// proxies tell for whom they speak, before anything else on a connection: also before TLS, and whatever serves the listener.
type proxies struct {
	of     map[string][]netip.Prefix // where they are, by the name under which systemd passes the listener
	within time.Duration             // from the connection's begin to the header's end
	log    *slog.Logger
	broken throttle.Throttle // of lines in the log
}

// newProxies returns those of the configuration.
func newProxies(cfg *config.Config, log *slog.Logger) *proxies {
	p := &proxies{of: map[string][]netip.Prefix{}, within: cfg.Session.AuthenticationTimeout, log: log}
	for _, l := range cfg.Listen {
		for _, a := range l.Addresses {
			p.of[unit.FDName(a)] = l.Proxy
		}
	}
	return p
}

// before is a drain.Server's Handler: next, for which a connection begins after the header.
func (p *proxies) before(next func(context.Context, *drain.Conn)) func(context.Context, *drain.Conn) {
	return func(ctx context.Context, c *drain.Conn) {
		if !in(p.of[c.Listener()], c) {
			next(ctx, c)
			return
		}
		_ = c.SetReadDeadline(c.Since().Add(p.within)) // a closed connection fails in Read
		client, err := proxyheader.Read(c)
		if err != nil {
			if errors.Is(err, proxyheader.ErrBroken) { // who says nothing at all is looking whether somebody listens
				p.broken.Sparing(p.log).WarnContext(ctx, "a proxy's connection is closed, as it must begin with a PROXY header",
					slog.String("listener", c.Listener()), slog.String("remote", c.Peer()), slog.Any("error", err), journal.ID(journal.ProxyBroken))
			}
			return
		}
		if client.IsValid() {
			c.SpeaksFor(client)
		}
		_ = c.SetReadDeadline(time.Time{})
		next(ctx, c)
	}
}

// in tells whether a connection's peer is in one of the networks.
func in(networks []netip.Prefix, c *drain.Conn) bool {
	if len(networks) == 0 { // as of most listeners
		return false
	}
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := peer.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}
