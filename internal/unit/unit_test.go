package unit

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

func TestAddressNames(t *testing.T) {
	a := config.Address{Network: "tcp6", Address: "[::1]:7432"}
	socket, companion := SocketName(service.Default, a), CompanionName(service.Default, a)
	if socket != "fdt-listen@tcp6-::1-7432.socket" || companion != "fdt-listen@tcp6-::1-7432.service" || FDName(a) != "tcp6-__1-7432" {
		t.Errorf("%s has %s, %s, %s", a, socket, companion, FDName(a))
	}
	if got := FDNameOf(socket); got != FDName(a) {
		t.Errorf("%s is passed as %s", socket, got)
	}
	if got, ok := service.Default.SocketOf(companion); got != socket || !ok {
		t.Errorf("the socket of %s is %s, %v", companion, got, ok)
	}
	if got, ok := service.Default.CompanionOf(socket); got != companion || !ok {
		t.Errorf("the companion of %s is %s, %v", socket, got, ok)
	}
	for _, name := range []string{"fdt.service", "fdt.socket", "fdt-worker@1-1.service", "fdt-listen@a.mount"} {
		if got, ok := service.Default.SocketOf(name); ok {
			t.Errorf("%s has a socket %s", name, got)
		}
		if got, ok := service.Default.CompanionOf(name); ok {
			t.Errorf("%s has a companion %s", name, got)
		}
	}
}

// FuzzRender: whatever address and names are accepted, the unit has exactly the lines that it always has, the
// address stands in it literally, and the name fits sd_listen_fds_with_names(3).
func FuzzRender(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7432", "[::1]:7432", "/run/fdt/.s.PGSQL.7432", "/run/my app/100%n", "/run/a;b#c=[Socket]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := config.ParseAddress(s)
		if err != nil {
			return
		}
		listener := config.Listener{Name: "fuzz", Addresses: []config.Address{a}, Mode: 0o600, Backlog: 1}
		for _, text := range []string{RenderSocket(service.Default, listener, a), RenderMetrics(service.Default, a)} {
			sections, stream := 0, ""
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "[") {
					sections++
				}
				if rest, ok := strings.CutPrefix(line, "ListenStream="); ok {
					stream = strings.TrimSuffix(rest, "\n")
				}
				if strings.HasSuffix(strings.TrimSpace(line), `\`) {
					t.Errorf("%q continues a line:\n%s", s, text)
				}
			}
			if sections != 2 || strings.ReplaceAll(stream, "%%", "%") != a.Address || strings.TrimSpace(stream) != stream {
				t.Errorf("%q is\n%s", s, text)
			}
		}
		longest, _ := service.Parse(strings.Repeat("a", 16))
		if name := FDName(a); strings.ContainsAny(name, ": %") || len(name) > 255 || len(SocketName(longest, a)) > 255 || len(MetricsName(longest, a)) > 255 {
			t.Errorf("%q has the name %q", s, name)
		}
	})
}

// TestTraceNeedsNetwork: workers that tell a collector of traces must reach it.
func TestTraceNeedsNetwork(t *testing.T) {
	for endpoint, want := range map[string]bool{"": false, "http://127.0.0.1:4318": true} {
		if got := NeedsOf(&config.Config{}, &config.Config{Trace: config.Trace{Endpoint: endpoint}}).Network; got != want {
			t.Errorf("%q: %v", endpoint, got)
		}
	}
}
