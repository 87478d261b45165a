package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/unit"
)

// trap is a setting of the units and the failure that it prevents. The tests are the proof that each setting is
// needed: works must hold with the units as they are shipped, and must not hold once the setting is taken away.
type trap struct {
	name string
	// without are the drop-ins that take the setting away, by unit.
	without map[string]string
	// apply has them take effect beyond what systemd loads; empty: nothing to do.
	apply string
	// works exercises fdt and returns what is wrong, empty if nothing is.
	works func(m machine) string
}

// traps are the table, by the Debian to show them on. ARCHITECTURE.md tells the story of each.
var traps = map[string][]trap{
	"bookworm": {
		{
			name:    "NonBlocking of a companion",
			without: map[string]string{"fdt-listen@.service": "[Service]\nNonBlocking=no\n"},
			works:   nonBlocking,
		},
		{
			name: "NonBlocking of a worker",
			// A worker in any language, which takes the listener as it gets it.
			without: map[string]string{"fdt-worker@.service": "[Service]\nNonBlocking=no\nExecStart=\nExecStart=sleep infinity\nType=exec\nWatchdogSec=0\n"},
			works:   nonBlockingForeign,
		},
		{
			name:    "StartLimitIntervalSec=0 of a worker",
			without: map[string]string{"fdt-worker@.service": "[Unit]\nStartLimitIntervalSec=10min\nStartLimitBurst=5\n[Service]\nRestartSec=10ms\n"},
			works:   workersCrash,
		},
		{
			name: "StartLimitIntervalSec=0 of a companion",
			// The default is 5 in 10 s; a busy machine needs longer for so many.
			without: map[string]string{"fdt-listen@.service": "[Unit]\nStartLimitIntervalSec=10min\nStartLimitBurst=5\n"},
			works:   companionRestarts,
		},
		{
			name: "TriggerLimitIntervalSec=0 of a socket",
			// The default is 20 in 2 s; a busy machine needs longer for so many.
			without: map[string]string{"fdt-listen@.socket": "[Socket]\nTriggerLimitIntervalSec=10min\nTriggerLimitBurst=20\n"},
			works:   triggers,
		},
		{
			name:    "workers are not PartOf= the master",
			without: map[string]string{"fdt-worker@.service": "[Unit]\nPartOf=fdt.service\n"},
			works:   crashUnnoticed,
		},
		{
			name:    "workers are not ordered after the master",
			without: map[string]string{"fdt-worker@.service": "[Unit]\nAfter=fdt.service\n"},
			works:   reloads,
		},
		{
			name: "sockets stop before workers",
			// As units alone would do it: all stop in one transaction, in the reverse order of starting.
			without: map[string]string{
				"fdt-worker@.service": "[Unit]\nPartOf=fdt.service\n",
				"fdt-listen@.socket":  "[Unit]\nPartOf=fdt.service\n",
			},
			apply: "systemctl mask --now --runtime fdt-stop.service fdt-sweep.service || true; systemctl start fdt; systemctl reload fdt",
			works: refusedAtOnce,
		},
		{
			name:    "Restart=on-failure of a worker",
			without: map[string]string{"fdt-worker@.service": "[Service]\nRestart=always\nRestartSec=0\n"},
			works:   drainedStaysGone,
		},
		{
			name:    "StartLimitIntervalSec=0 of the master",
			without: map[string]string{"fdt.service": "[Unit]\nStartLimitIntervalSec=10min\nStartLimitBurst=5\n[Service]\nRestartSec=10ms\n"},
			works:   masterCrashes,
		},
		{
			name:    "TimeoutStopSec= of a worker outlasts the drain",
			without: map[string]string{"fdt-worker@.service": "[Service]\nTimeoutStopSec=2s\n"},
			works:   drainOutlastsReload,
		},
		{
			name:    "no RuntimeDirectory= of a worker",
			without: map[string]string{"fdt-worker@.service": "[Service]\nRuntimeDirectory=fdt/worker\n"},
			apply:   "systemctl reload fdt",
			works:   controlSocketsStay,
		},
		{
			name:    "CollectMode= of a worker",
			without: map[string]string{"fdt-worker@.service": "[Unit]\nCollectMode=inactive\n"},
			works:   failedIsForgotten,
		},
		{
			name:    "BindIPv6Only= of a socket",
			without: map[string]string{"fdt-listen@.socket": "[Socket]\nBindIPv6Only=both\n"},
			works:   bothFamilies,
		},
		{
			name:    "FreeBind= of a socket",
			without: map[string]string{"fdt-listen@.socket": "[Socket]\nFreeBind=no\n"},
			works:   addressToCome,
		},
		{
			name:    "no PrivateUsers= of a worker",
			without: map[string]string{"fdt-worker@.service": "[Service]\nPrivateUsers=yes\n"},
			apply:   "systemctl reload fdt",
			works:   peersAreKnown,
		},
		{
			name: "RequiresMountsFor= of a worker",
			// No drop-in takes one away again.
			apply: "sed '/^RequiresMountsFor=/d' /usr/lib/systemd/system/fdt-worker@.service >/etc/systemd/system/fdt-worker@.service; systemctl daemon-reload",
			works: volumeIsMounted,
		},
	},
	"trixie": { // 252 does not count the starts of sockets
		{
			name: "StartLimitIntervalSec=0 of a socket",
			// The default is 5 in 10 s; a busy machine needs longer for so many.
			without: map[string]string{"fdt-listen@.socket": "[Unit]\nStartLimitIntervalSec=10min\nStartLimitBurst=5\n"},
			works:   restarts,
		},
	},
}

func TestTraps(t *testing.T) {
	t.Parallel()
	for release, list := range traps {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := installed(t, bed.Options{Release: release})
			for _, trap := range list {
				m.Run(trap.name, func(m machine) { m.spring(trap) })
			}
		})
	}
}

func (m machine) spring(trap trap) {
	defer m.shipped()
	if wrong := trap.works(m); wrong != "" {
		m.Fatalf("with the units as shipped: %s", wrong)
	}
	m.must("systemctl start fdt")
	for unit, settings := range trap.without {
		m.dropIn(unit, settings)
	}
	m.must("systemctl daemon-reload; " + trap.apply)
	if trap.works(m) == "" {
		m.Error("nothing is wrong without it: is it still needed?")
	}
}

// shipped has fdt start anew with the units as shipped, whatever state it is in.
func (m machine) shipped() {
	m.must(`find /etc/systemd/system -name 99-test.conf -delete; rm -f /etc/systemd/system/fdt-worker@.service
		systemctl unmask --quiet --runtime fdt-stop.service fdt-sweep.service
		systemctl daemon-reload
		timeout 20 systemctl stop fdt fdt-sockets.target || true
		systemctl list-jobs --plain --no-legend 'fdt*' | awk '{print $1}' | xargs -r systemctl cancel || true
		systemctl kill -s KILL 'fdt*.service' 2>/dev/null || true
		systemctl stop 'fdt-worker@*' 'fdt-listen@*' 'fdt-sockets.target'
		systemctl reset-failed 'fdt*' 2>/dev/null || true
		systemd-tmpfiles --create fdt.conf
		systemctl start fdt`)
}

// O_NONBLOCK as open(2) has it, in the octal of /proc/PID/fdinfo.
const nonBlock = 0o4000

// blocking tells whether the listener, as process pid has it, is a blocking one.
func blocking(m machine, pid string) (bool, error) {
	// The listener is the descriptor 3 of a service, sd_listen_fds(3).
	text := m.must("awk '/^flags:/ {print $2}' /proc/" + pid + "/fdinfo/3")
	flags, err := strconv.ParseInt(text, 8, 64)
	return flags&nonBlock == 0, err
}

// nonBlocking: the start of a companion leaves the listener of running workers non-blocking.
func nonBlocking(m machine) string {
	m.must("systemctl restart " + m.socketUnit() + ".service")
	for _, worker := range m.workers() {
		if yes, err := blocking(m, m.must("systemctl show -P MainPID "+worker)); err != nil || yes {
			return fmt.Sprintf("the listener of %s blocks (%v)", worker, err)
		}
	}
	return ""
}

// nonBlockingForeign: so does the start of a worker.
func nonBlockingForeign(m machine) string {
	defer m.freeze()()
	old := m.must("systemctl show -P MainPID " + m.workers()[0])
	// As shipped it fails, for there is no generation 900; either way it has been handed the sockets.
	m.try("systemctl start fdt-worker@900-1.service")
	defer m.try("systemctl stop fdt-worker@900-1.service")
	if yes, err := blocking(m, old); err != nil || yes {
		return fmt.Sprintf("the listener of the older worker blocks (%v)", err)
	}
	return ""
}

// freeze stops the master's process, so that systemd is on its own, until the returned function is called.
func (m machine) freeze() (thaw func()) {
	m.stand("fdt")
	return func() { m.try("systemctl kill --kill-who=main -s CONT fdt") }
}

// workersCrash: workers that crash again and again, with no master to look after them, do not take the listener
// with them.
func workersCrash(m machine) string {
	defer m.freeze()()
	m.must(`for i in {1..8}; do
		systemctl kill -s KILL 'fdt-worker@*' 2>/dev/null || true
		for j in {1..30}; do sleep 0.1; systemctl --quiet is-active 'fdt-worker@*' && break; done
	done; true`)
	return listening(m)
}

func listening(m machine) string {
	state := m.must("systemctl show -p ActiveState -p Result " + m.socketUnit() + ".socket")
	if !strings.Contains(state, "Result=success") || !strings.Contains(state, "ActiveState=active") {
		return "the socket is " + state
	}
	return ""
}

// companionRestarts: a companion that comes and goes does not take the listener with it.
func companionRestarts(m machine) string {
	defer m.freeze()()
	m.must("systemctl stop 'fdt-worker@*'")
	conn, err := m.dial() // nobody takes it: it starts the companion each time
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	m.must(`for i in {1..8}; do
		systemctl stop ` + m.socketUnit() + `.service
		until systemctl --quiet is-active ` + m.socketUnit() + `.service || systemctl --quiet is-failed ` + m.socketUnit() + `.socket; do sleep 0.1; done
	done`)
	return listening(m)
}

// restarts: closed and opened often, the listener still opens, with no master there to mend it.
func restarts(m machine) string {
	defer m.freeze()()
	unit := m.socketUnit()
	if _, err := m.try("for i in {1..8}; do systemctl stop " + unit + ".service " + unit + ".socket; systemctl start " + unit + ".socket; done"); err != nil {
		return err.Error()
	}
	return listening(m)
}

// triggers: any number of times may connections start the companion within a short time, as they do when
// workers die under load.
func triggers(m machine) string {
	defer m.freeze()()
	since := m.must("date +%s.%N")
	m.dropIn("fdt-listen@.service", "[Service]\nRemainAfterExit=no\n")
	m.must("systemctl daemon-reload; systemctl stop 'fdt-worker@*' " + m.socketUnit() + ".service")
	conn, err := m.dial() // nobody takes it: systemd starts the companion for it again and again
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	m.eventually(`[ "$(journalctl -b -q --since=@` + since + ` -u ` + m.socketUnit() + `.service | grep -c Finished)" -gt 30 ] || systemctl --quiet is-failed ` + m.socketUnit() + `.socket`)
	wrong := listening(m)
	m.must("rm /etc/systemd/system/fdt-listen@.service.d/99-test.conf && systemctl daemon-reload")
	return wrong
}

// crashUnnoticed: the death of the master leaves the workers alone.
func crashUnnoticed(m machine) string {
	const processes = "systemctl show -p Id -p MainPID -p ActiveState 'fdt-worker@*'"
	before := m.must(processes)
	master := m.must("systemctl show -P MainPID fdt")
	conn := m.open()
	m.must("kill -9 " + master)
	m.eventually("pid=$(systemctl show -P MainPID fdt); [ $pid != 0 -a $pid != " + master + " ] && systemctl --quiet is-active fdt")
	if after := m.must(processes); after != before {
		return "the workers were\n" + before + "\nand are\n" + after
	}
	if err := m.exec(conn, "COMMIT"); err != nil {
		return "an open transaction: " + err.Error()
	}
	return ""
}

func reloads(m machine) string {
	if _, err := m.try("timeout 60 systemctl reload fdt"); err != nil {
		return err.Error()
	}
	return ""
}

// refusedAtOnce: while a stop waits for an open transaction, new connections are refused and not kept waiting.
func refusedAtOnce(m machine) string {
	conn := m.open()
	since := m.must("date +%s.%N")
	m.must("systemctl stop --no-block fdt")
	defer func() {
		m.exec(conn, "COMMIT")
		m.try("timeout 30 systemctl stop fdt 'fdt-worker@*'")
	}()
	// All that a stop closes at once is closed by then, as the workers' own copies of the listener are.
	m.eventually("journalctl -b -q --since=@" + since + " -u 'fdt-worker@*' | grep draining")
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		other, err := m.dial()
		if err != nil {
			return ""
		}
		other.Close()
	}
	return "a connection is accepted while fdt stops"
}

// drainedStaysGone: a worker that has drained is not started again, also if it ends before the master has had systemd
// told so.
func drainedStaysGone(m machine) string {
	defer m.freeze()()
	worker := m.workers()[0]
	pid := m.must("systemctl show -P MainPID " + worker)
	m.must("kill -TERM " + pid)
	const state = "systemctl show -p ActiveState -p SubState -p NRestarts "
	m.eventually("! kill -0 " + pid + " 2>/dev/null && " + state + worker + " | grep -q -e '^ActiveState=inactive' -e '^NRestarts=[1-9]'")
	if got := m.must(state + worker); !strings.Contains(got, "ActiveState=inactive") {
		return worker + " is " + got
	}
	return ""
}

// masterCrashes: however often the master dies, it comes back.
func masterCrashes(m machine) string {
	m.must(`for i in {1..8}; do
		pid=$(systemctl show -P MainPID fdt)
		[ "$pid" = 0 ] || kill -9 "$pid" 2>/dev/null || true
		for j in {1..40}; do [ "$(systemctl show -P MainPID fdt)" != "$pid" ] && [ "$(systemctl show -P MainPID fdt)" != 0 ] && break; sleep 0.05; done
	done`)
	if m.must("until state=$(systemctl show -P ActiveState fdt); [ $state = active -o $state = failed ]; do sleep 0.1; done; echo $state") == "failed" {
		return "the master is failed"
	}
	return ""
}

// drainOutlastsReload: an open transaction in a draining worker survives somebody's daemon-reload.
func drainOutlastsReload(m machine) string {
	conn := m.open()
	m.must("systemctl reload fdt && systemctl daemon-reload")
	// Longer than the TimeoutStopSec= that stands in the table, and than a busy machine needs to keep to it.
	m.try("while [ $SECONDS -lt 10 ]; do systemctl list-units --plain --no-legend --state=deactivating 'fdt-worker@*' | grep -q . || exit; sleep 0.1; done")
	if err := m.exec(conn, "COMMIT"); err != nil {
		return "an open transaction in a draining worker: " + err.Error()
	}
	return ""
}

// controlSocketsStay: the end of one worker takes nothing from the others.
func controlSocketsStay(m machine) string {
	m.must("systemctl reload fdt")
	workers := m.workers()
	m.must("systemctl stop " + workers[0])
	if _, err := m.try("test -S /run/fdt/worker/" + strings.TrimSuffix(strings.TrimPrefix(workers[1], "fdt-worker@"), ".service") + ".sock"); err != nil {
		return "the control socket of " + workers[1] + " went with " + workers[0]
	}
	return ""
}

// failedIsForgotten: a worker that failed does not stay in systemd's memory.
func failedIsForgotten(m machine) string {
	defer m.freeze()()
	conn := m.open()
	const draining = "systemctl list-units --plain --no-legend --state=deactivating 'fdt-worker@*'"
	m.must("systemctl stop --no-block 'fdt-worker@*'")
	m.eventually("! systemctl list-units --plain --no-legend --state=active 'fdt-worker@*' | grep -q . && [ $(" + draining + " | wc -l) = 1 ]") // the one with the transaction
	worker := m.must(draining + " | awk '{print $1}'")
	m.must("systemctl kill -s KILL " + worker)
	if err := m.exec(conn, "COMMIT"); err == nil {
		return "the worker is still there"
	}
	m.eventually("! systemctl list-units --plain --no-legend --state=deactivating " + worker + " | grep -q .")
	if got := m.must("systemctl list-units --all --plain --no-legend " + worker); got != "" {
		return got
	}
	return ""
}

// opens opens sockets as the generator writes them, beside a stopped fdt.
func (m machine) opens(addresses ...string) string {
	m.must("systemctl stop fdt")
	var names []string
	for _, text := range addresses {
		address, err := config.ParseAddress(text)
		if err != nil {
			m.Fatal(err)
		}
		name := unit.SocketName(service.Default, address)
		names = append(names, name)
		m.write("/run/systemd/system/"+name, unit.RenderSocket(service.Default, config.Listener{Name: "public", Backlog: 16}, address))
	}
	m.must("systemctl daemon-reload")
	defer func() {
		for _, name := range names {
			m.must("systemctl stop " + name + "; rm /run/systemd/system/" + name)
		}
		m.must("systemctl daemon-reload")
	}()
	for _, name := range names {
		if _, err := m.try("systemctl start " + name); err != nil {
			return m.must("journalctl -b -q -u " + name)
		}
	}
	return ""
}

// bothFamilies: one port on all addresses of IPv4 and of IPv6 are two listeners.
func bothFamilies(m machine) string { return m.opens("0.0.0.0:7433", "[::]:7433") }

// addressToCome: an address that the host does not have yet can be listened on.
func addressToCome(m machine) string { return m.opens("192.0.2.1:7433") }

// peersAreKnown: a worker sees who its local clients are.
func peersAreKnown(m machine) string {
	m.must("id clerk >/dev/null 2>&1 || useradd --groups fdt-client clerk")
	if _, err := m.try("runuser -u clerk -- psql -X -h /run/fdt -p 7432 -c \"CALL enqueue('x')\""); err != nil {
		return err.Error()
	}
	return ""
}

// volumeIsMounted: the log's volume is mounted before a worker starts, also where the boot does not wait for it, as with nofail.
func volumeIsMounted(m machine) string {
	m.must("systemctl stop fdt && mv /var/lib/fdt /var/lib/volume && mkdir /var/lib/fdt")
	m.write("/etc/systemd/system/var-lib-fdt.mount", "[Mount]\nWhat=/var/lib/volume\nWhere=/var/lib/fdt\nType=none\nOptions=bind\n")
	defer m.must("systemctl stop fdt; systemctl stop var-lib-fdt.mount; rm /etc/systemd/system/var-lib-fdt.mount; systemctl daemon-reload; rm -r /var/lib/fdt && mv /var/lib/volume /var/lib/fdt")
	m.must("systemctl daemon-reload; systemctl start --no-block fdt")
	const refused = "journalctl -q -o cat -b _COMM=fdt-master --since=-5s | grep -q 'cannot serve; its listeners are closed'"
	m.eventually("systemctl --quiet is-active fdt || " + refused)
	if _, err := m.try("systemctl --quiet is-active var-lib-fdt.mount"); err != nil {
		return "the volume is not mounted"
	}
	m.call("served from the volume")
	return ""
}
