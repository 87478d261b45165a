package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/test/scenario"
)

// stand has a unit's main process stand still.
func (m machine) stand(unit string) {
	m.Helper()
	m.must(scenario.Stand + "stand $(systemctl show -P MainPID " + unit + ")")
}

// serves is the unit of the worker that has a session.
func (m machine) serves(conn *pgconn.PgConn) string {
	m.Helper()
	return "fdt-worker@" + m.must(fmt.Sprintf(`fdtctl sessions --json | python3 -c 'import json, sys; print(*(s["worker"] for s in json.load(sys.stdin) if s["id"] == %d))'`, conn.PID())) + ".service"
}

// gone waits until none of the units is there any more.
func (m machine) gone(units []string) {
	m.Helper()
	pattern := strings.Join(units, " ")
	m.must("while [ $SECONDS -lt 150 ]; do [ -z \"$(systemctl list-units --plain --no-legend --all " + pattern + ")\" ] && exit 0; sleep 0.1; done; systemctl list-units --all " + pattern + "; exit 1")
}

// Workers that stand still are in nobody's way: not in that of a reload, nor of a stop, and they do not stay. (systemd's own
// stop sends SIGCONT with its SIGTERM, so those that are to stay still are stopped again.)
func TestFrozenWorkers(t *testing.T) {
	onBoth(t, func(m machine) {
		old := m.workers()
		for _, w := range old {
			m.stand(w)
		}
		m.must("timeout 60 fdtctl reload")
		m.call("served by the new ones")
		m.gone(old)

		// In the middle of a drain that has ten minutes.
		drains := func(begin string) {
			busy := m.serves(m.open())
			m.must(begin)
			m.eventually("[ $(systemctl show -P ActiveState " + busy + ") = deactivating ]")
			m.stand(busy)
			m.gone([]string{busy})
			said := m.must("journalctl --sync; journalctl -q -o cat --since=-3min SYSLOG_IDENTIFIER=fdt SYSLOG_IDENTIFIER=fdt-master SYSLOG_IDENTIFIER=fdtctl")
			if !strings.Contains(said, "stands still, and is killed: unit="+busy) {
				m.Errorf("nothing tells that %s was killed: %s", busy, said)
			}
		}
		drains("timeout 60 fdtctl reload")
		m.call("served by the newest")
		drains("systemctl stop --no-block fdt")
		m.eventually("[ $(systemctl is-active fdt) = inactive ]")
		if left := m.must("systemctl list-units --plain --no-legend --all 'fdt-worker@*'"); left != "" {
			m.Errorf("after the stop there are %s", left)
		}

		// One that serves is ended by its watchdog, and another takes its place.
		m.dropIn("fdt-worker@.service", "[Service]\nWatchdogSec=10s\n")
		m.must("systemctl daemon-reload; systemctl start fdt")
		w := m.workers()[0]
		pid := m.must("systemctl show -P MainPID " + w)
		m.stand(w)
		m.eventually("! kill -0 " + pid + " && [ $(systemctl list-units --plain --no-legend --state=active 'fdt-worker@*' | wc -l) = 2 ]")
		m.finish()
	})
}

// A new worker that comes to stand still within reload.settle fails the reload, though it has said READY and passed its
// self-check.
func TestFrozenWithinSettle(t *testing.T) {
	onBoth(t, func(m machine) {
		m.configure("10-quick", "workers: {count: 2}\nreload: {settle: 30s, ready_timeout: 2m}\n")
		old := m.workers()
		m.must("systemd-run --unit=reload -p RemainAfterExit=yes fdtctl reload")
		m.eventually("[ $(systemctl is-active fdt-worker@3-1.service) = active ] && [ -S /run/fdt/worker/3-1.sock ]")
		m.must("sleep 8") // past its self-check, which takes no time without a database
		m.stand("fdt-worker@3-1.service")
		m.must("while [ $SECONDS -lt 150 ]; do [ $(systemctl is-active reload) = failed ] && exit 0; sleep 0.1; done; systemctl status reload; exit 1")
		said := m.must("journalctl -q -o cat -u reload; fdtctl status")
		if !strings.Contains(said, "fdt-worker@3-1.service stands still") {
			m.Errorf("the reload's answer: %s", said)
		}
		if now := m.workers(); strings.Join(now, " ") != strings.Join(old, " ") {
			m.Errorf("%v serve, not %v", now, old)
		}
		m.call("served by the old ones")
		m.gone([]string{"'fdt-worker@3-*'"})
		m.finish()
	})
}
