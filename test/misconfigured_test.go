package test

import (
	"strings"
	"testing"
)

// TestMisconfigured: a start with a configuration at fault fails once, with the reason, and not again and again; what serves goes on
// whatever becomes of the configuration and of the master.
func TestMisconfigured(t *testing.T) {
	onBoth(t, func(m machine) {
		m.must("systemctl stop fdt && mv /var/lib/fdt/last-good /var/lib/fdt/away && sed -i 's/^listen:/lisetn:/' /etc/fdt/config.yaml")
		m.failsOnce("fdt", "config.yaml:", "lisetn")
		if c, err := m.dial(); err == nil {
			c.Close()
			m.Error("a client is not refused")
		}
		m.must("mv /var/lib/fdt/away /var/lib/fdt/last-good && timeout 60 systemctl start fdt") // which serves
		m.call("served by the last good one")
		m.must("sed -i 's/^lisetn:/listen:/' /etc/fdt/config.yaml && timeout 60 systemctl reload fdt")

		conn := m.connect()
		m.must("rm -r /var/lib/fdt/last-good/* && sed -i 's/^listen:/lisetn:/' /etc/fdt/config.yaml")
		for _, end := range []string{"systemctl kill --signal=KILL --kill-whom=main fdt", "timeout 60 systemctl restart fdt"} {
			before := m.must("systemctl show -P MainPID fdt")
			m.must(end)
			m.eventually("[ $(systemctl show -P MainPID fdt) != " + before + " ] && systemctl --quiet is-active fdt && fdtctl status >/dev/null")
			if err := m.exec(conn, "SELECT 1"); err != nil {
				m.Errorf("%s: %v", end, err)
			}
			m.call("served after " + end)
		}
		m.must("systemctl stop fdt")
		m.failsOnce("fdt", "config.yaml:", "lisetn")
		m.must("sed -i 's/^lisetn:/listen:/' /etc/fdt/config.yaml && timeout 60 systemctl start fdt")
		m.call("served again")

		m.must("mkdir /etc/fdt/Shop-2 && cp /etc/fdt/config.yaml /etc/fdt/Shop-2")
		m.failsOnce("fdt@Shop-2", `"Shop-2" is not the name of a service`)
		m.must("rm -r /etc/fdt/Shop-2; systemctl reset-failed 'fdt*'")
		m.finish()
	})
}

// failsOnce demands that a start of a service fails, that its journal says why, and that systemd leaves it at that.
func (m machine) failsOnce(service string, why ...string) {
	m.Helper()
	if out, err := m.try("timeout 60 systemctl start " + service + " 2>&1"); err == nil || strings.Contains(out, "timeout") {
		m.Errorf("systemctl start %s: %v, %s", service, err, out)
	}
	m.eventually("systemctl --quiet is-failed " + service)
	if got := m.must("for p in Result ExecMainStatus NRestarts; do systemctl show -P $p " + service + "; done"); got != "exit-code\n78\n0" {
		m.Errorf("%s has failed with %s", service, got)
	}
	m.must("journalctl --sync")
	said := m.must("journalctl -q -o cat -b -u " + service + " --invocation=0 2>/dev/null || journalctl -q -o cat -b -u " + service)
	for _, w := range why {
		if !strings.Contains(said, w) {
			m.Errorf("%s does not say %s:\n%s", service, w, said)
		}
	}
}
