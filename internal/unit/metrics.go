package unit

import (
	"fmt"
	"strings"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

// MetricsName is the socket unit of the address at which metrics are served. As with a listener, another address is
// another unit: systemd closes a socket whose unit names another address after a daemon-reload.
func MetricsName(svc service.Service, a config.Address) string { return svc.Metrics(a.Canonical()) }

// RenderMetrics is the socket unit of the metrics. It is part of nothing that stops with fdt: that fdt is down must
// still be told, and a scrape starts fdt-metrics@.service alone.
func RenderMetrics(svc service.Service, a config.Address) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(header)
	line("[Unit]")
	line("Description=%s metrics at %s", svc, literal(a.Address))
	line("Documentation=man:fdt-metrics(8)")
	line("StartLimitIntervalSec=0")
	line("")
	line("[Socket]")
	line("ListenStream=%s", literal(a.Address))
	line("FileDescriptorName=metrics")
	line("Slice=%s", svc.Slice())
	switch a.Network {
	case "unix":
		line("DirectoryMode=0755")
		line("RemoveOnStop=yes")
	case "tcp6":
		line("BindIPv6Only=ipv6-only")
		fallthrough
	default:
		line("FreeBind=yes")
	}
	return b.String()
}
