// Package unit knows the names of fdt's systemd units and writes those that depend on the configuration.
// Everything it writes is literal: no specifier, variable or escape is left for systemd to expand, whatever the
// configuration holds.
package unit

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/config"
)

// Names of the units that do not depend on the configuration.
const (
	Master         = "fdt.service"
	Stopper        = "fdt-stop.service"
	Sockets        = "fdt-sockets.target"
	Refresh        = "fdt-refresh.service"
	Slice          = "system-fdt.slice"
	WorkerPattern  = "fdt-worker@*.service"
	SocketPattern  = "fdt-listen@*.socket"
	MetricsPattern = "fdt-metrics@*.socket"

	workerPrefix  = "fdt-worker@"
	listenPrefix  = "fdt-listen@"
	metricsPrefix = "fdt-metrics@"
	serviceSuffix = ".service"
	socketSuffix  = ".socket"

	// Generator is where the package installs fdt-generator, systemd.generator(7).
	Generator = "/usr/lib/systemd/system-generators/fdt-generator"

	// DropIn is where the workers' generated settings belong, below a directory of units.
	DropIn = "fdt-worker@.service.d/50-fdt.conf"
)

// WorkerName is the unit of the worker in a slot of a generation: fdt-worker@7-0.service.
func WorkerName(gen, slot int) string {
	return workerPrefix + Instance(gen, slot) + serviceSuffix
}

// Instance is the part of [WorkerName] after the @: GEN-SLOT.
func Instance(gen, slot int) string {
	return strconv.Itoa(gen) + "-" + strconv.Itoa(slot)
}

// ParseWorker is the inverse of [WorkerName]. It accepts nothing that WorkerName does not return for numbers that
// are not negative.
func ParseWorker(name string) (gen, slot int, ok bool) {
	instance, found := strings.CutPrefix(name, workerPrefix)
	if !found {
		return 0, 0, false
	}
	if instance, found = strings.CutSuffix(instance, serviceSuffix); !found {
		return 0, 0, false
	}
	return ParseInstance(instance)
}

// ParseInstance is the inverse of [Instance], as strict as [ParseWorker].
func ParseInstance(instance string) (gen, slot int, ok bool) {
	left, right, _ := strings.Cut(instance, "-")
	gen, errGen := strconv.Atoi(left)
	slot, errSlot := strconv.Atoi(right)
	if errGen != nil || errSlot != nil || gen < 0 || slot < 0 || Instance(gen, slot) != instance {
		return 0, 0, false
	}
	return gen, slot, true
}

// SocketName is the socket unit of an address.
func SocketName(a config.Address) string { return listenPrefix + a.Canonical() + socketSuffix }

// CompanionName is the service that a first connection at the address starts.
func CompanionName(a config.Address) string { return listenPrefix + a.Canonical() + serviceSuffix }

// FDName is the name under which the workers inherit the address. sd_listen_fds_with_names(3) separates names by
// colons, so the colons of IPv6 are underscores here; no two addresses meet, since a canonical name has no other
// underscore outside of a unix socket's.
func FDName(a config.Address) string { return strings.ReplaceAll(a.Canonical(), ":", "_") }

// FDNameOf is the [FDName] of the address that a socket unit is for.
func FDNameOf(socket string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(socket, listenPrefix), socketSuffix)
	return strings.ReplaceAll(name, ":", "_")
}

// IsSocket reports whether a unit is a listener's socket.
func IsSocket(name string) bool {
	return strings.HasPrefix(name, listenPrefix) && strings.HasSuffix(name, socketSuffix)
}

// SocketOf returns the socket unit of a companion, or the companion of a socket unit.
func SocketOf(companion string) (socket string, ok bool) {
	instance, ok := strings.CutPrefix(companion, listenPrefix)
	if !ok {
		return "", false
	}
	instance, ok = strings.CutSuffix(instance, serviceSuffix)
	return listenPrefix + instance + socketSuffix, ok
}

// CompanionOf returns the companion of a socket unit.
func CompanionOf(socket string) (companion string, ok bool) {
	instance, ok := strings.CutPrefix(socket, listenPrefix)
	if !ok {
		return "", false
	}
	instance, ok = strings.CutSuffix(instance, socketSuffix)
	return listenPrefix + instance + serviceSuffix, ok
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
func RenderSocket(l config.Listener, a config.Address) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(header)
	line("[Unit]")
	line("Description=fdt listener %s at %s", literal(l.Name), literal(a.Address))
	line("Documentation=man:fdt.yaml(5)")
	line("PartOf=%s", Sockets)
	line("StartLimitIntervalSec=0")
	line("Wants=%s", Refresh)
	line("After=%s", Refresh)
	line("Upholds=%s", Stopper) // systemctl stop fdt closes it, also where no connection has started fdt yet
	line("IgnoreOnIsolate=yes")
	line("")
	line("[Socket]")
	line("ListenStream=%s", literal(a.Address))
	line("Service=%s", CompanionName(a))
	line("FileDescriptorName=%s", FDName(a))
	line("Backlog=%d", l.Backlog)
	line("TriggerLimitIntervalSec=0")
	line("Slice=%s", Slice)
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
