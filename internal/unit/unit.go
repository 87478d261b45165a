// Package unit knows the names of fdt's systemd units and writes those that depend on the configuration.
// Everything it writes is literal: no specifier, variable or escape is left for systemd to expand, whatever the
// configuration holds.
package unit

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

// Generator is where the package installs fdt-generator, systemd.generator(7).
const Generator = "/usr/lib/systemd/system-generators/fdt-generator"

// Packaged is where the package installs units.
const Packaged = "/usr/lib/systemd/system"

// SocketName is the socket unit of an address.
func SocketName(svc service.Service, a config.Address) string { return svc.Socket(a.Canonical()) }

// CompanionName is the service that a first connection at the address starts.
func CompanionName(svc service.Service, a config.Address) string { return svc.Companion(a.Canonical()) }

// FDName is the name under which the workers inherit the address. sd_listen_fds_with_names(3) separates names by
// colons, so the colons of IPv6 are underscores here; no two addresses meet, since a canonical name has no other
// underscore outside of a unix socket's.
func FDName(a config.Address) string { return strings.ReplaceAll(a.Canonical(), ":", "_") }

// FDNameOf is the [FDName] of the address that a socket unit is for.
func FDNameOf(socket string) string {
	_, name, _ := strings.Cut(strings.TrimSuffix(socket, ".socket"), "@")
	return strings.ReplaceAll(name, ":", "_")
}

// literal protects a value from the expansion of specifiers, systemd.unit(5).
func literal(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// command is one literal argument of a command line, systemd.service(5).
func command(s string) string {
	return `"` + strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// quoted is one literal word of a list of words, systemd.syntax(7).
func quoted(s string) string {
	s = literal(s)
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

const header = "# Written by fdt-generator from the configuration that serves. Do not edit: see fdt.yaml(5).\n"

// RenderSocket is the socket unit of one address of a listener.
//
// There is no ReusePort= and no FlushPending=: both lose connections that wait in the queue. The trigger limit is
// off because it fails the socket for good when a worker dies under load, and the start limit because five stops
// and starts of fdt within ten seconds are no fault. NonBlocking= is the services' setting.
func RenderSocket(svc service.Service, l config.Listener, a config.Address) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(header)
	line("[Unit]")
	line("Description=%s listener %s at %s", svc, literal(l.Name), literal(a.Address))
	line("Documentation=man:fdt.yaml(5)")
	line("PartOf=%s", svc.Sockets())
	line("StartLimitIntervalSec=0")
	line("Wants=%s", svc.Refresh())
	line("After=%s", svc.Refresh())
	line("Upholds=%s", svc.Stopper()) // systemctl stop fdt closes it, also where no connection has started fdt yet
	line("IgnoreOnIsolate=yes")
	line("")
	line("[Socket]")
	line("ListenStream=%s", literal(a.Address))
	line("Service=%s", CompanionName(svc, a))
	line("FileDescriptorName=%s", FDName(a))
	line("Backlog=%d", l.Backlog)
	line("TriggerLimitIntervalSec=0")
	line("Slice=%s", svc.Slice())
	switch a.Network {
	case "unix":
		line("SocketMode=%04o", l.Mode.Perm())
		line("SocketGroup=%s", literal(cmp.Or(l.Group, "root"))) // the directory's setgid bit gives another
		line("DirectoryMode=0755")
		line("RemoveOnStop=yes")
		line("ExecStartPre=%s -guard %s", Generator, command(a.Address))
	case "tcp6":
		line("BindIPv6Only=ipv6-only")
		fallthrough
	default:
		line("FreeBind=yes")
		// What package drain sets on a connection whose listener has not: inherited, it costs nothing.
		line("NoDelay=yes")
		line("KeepAlive=yes")
		line("KeepAliveTimeSec=60")
		line("KeepAliveIntervalSec=15")
		line("KeepAliveProbes=4")
	}
	return b.String()
}
