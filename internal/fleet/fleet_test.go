package fleet

import (
	"testing"

	"github.com/fdtserver/fdt/internal/service"
)

// TestReady judges fdt in each state that a balancer may find it in.
func TestReady(t *testing.T) {
	master, job := Unit{Name: "fdt.service", Active: "active"}, Unit{Name: "fdt.service", Active: "active", JobType: "stop"}
	socket, closed := Unit{Name: "fdt-listen@a.socket", Active: "active"}, Unit{Name: "fdt-listen@a.socket", Active: "failed"}
	worker := func(active, job string) Unit {
		return Unit{Name: "fdt-worker@7-1.service", Active: active, JobType: job}
	}
	for name, c := range map[string]struct {
		units []Unit
		why   string
	}{
		"serving":             {[]Unit{master, socket, worker("active", ""), worker("failed", "")}, ""},
		"the master is dead":  {[]Unit{{Name: "fdt.service", Active: "failed"}, socket, worker("active", "")}, ""},
		"a reload":            {[]Unit{master, socket, worker("deactivating", ""), worker("active", "")}, ""},
		"a stop begins":       {[]Unit{job, socket, worker("active", "")}, "fdt is being stopped"},
		"a stop, no master":   {[]Unit{{Name: "fdt-stop.service", Active: "deactivating", JobType: "stop"}, socket, worker("active", "")}, "fdt is being stopped"},
		"a master restarts":   {[]Unit{{Name: "fdt-stop.service", Active: "deactivating", JobType: "restart"}, socket, worker("active", "")}, ""},
		"only drains":         {[]Unit{master, socket, worker("deactivating", "")}, "no worker accepts connections"},
		"about to drain":      {[]Unit{master, socket, worker("active", "stop")}, "no worker accepts connections"},
		"waits to be started": {[]Unit{socket}, "no worker accepts connections"},
		"closed":              {[]Unit{master, closed, worker("active", "")}, "no listener is open"},
		"nothing":             {nil, "no worker accepts connections"},
	} {
		if why, ready := Ready(service.Default, c.units); why != c.why || ready != (c.why == "") {
			t.Errorf("%s: %t, %s", name, ready, why)
		}
	}
}

// TestState has systemd's words for a worker as fdtctl's.
func TestState(t *testing.T) {
	for want, units := range map[string][]Unit{
		"ready": {{Active: "active"}, {Active: "reloading"}, {Active: "refreshing"}}, "draining": {{Active: "deactivating"}},
		"failed":   {{Active: "failed"}, {Active: "activating", Sub: "auto-restart"}, {Active: "activating", Sub: "auto-restart-queued"}},
		"starting": {{Active: "activating"}, {Active: "inactive", JobType: "start"}}, "": {{Active: "inactive"}},
	} {
		for _, u := range units {
			if got := State(u); got != want {
				t.Errorf("%+v: %s, want %s", u, got, want)
			}
		}
	}
}
