package test

import (
	"fmt"
	"testing"
)

// remains is what of fdt still serves.
const remains = "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'fdt-worker@*' 'fdt-listen@*' | grep -q ."

// A stop closes what it finds: also one that the stopper has missed, also of a fdt that does not run.
func TestStopClosesWhatItFinds(t *testing.T) {
	onBoth(t, func(m machine) {
		m.Run("Missed", stopMissed)
		m.Run("MasterCannotStart", stopInCrashLoop)
		m.Run("Lazy", stopLazy)
		m.Run("Refreshing", stopRefreshing)
		m.Run("Isolate", isolate)
		m.finish()
	})
}

// stopMissed: a stopper that does nothing stands for one that systemd was restarting. The open transaction may end.
func stopMissed(m machine) {
	conn := m.open()
	m.dropIn("fdt-stop.service", "[Service]\nExecStop=\nExecStop=true\n")
	m.must("systemctl daemon-reload && systemctl stop fdt")
	m.eventually("! systemctl --quiet is-active " + m.socketUnit() + ".socket")
	m.eventually("systemctl list-units --plain --no-legend --state=deactivating 'fdt-worker@*' | grep -q .")
	if err := m.exec(conn, "COMMIT"); err != nil {
		m.Error(err)
	}
	m.eventually("! " + remains)
	m.shipped()
}

// stopInCrashLoop asks for the stop while the stopper is being restarted with a master that cannot start.
func stopInCrashLoop(m machine) {
	m.dropIn("fdt.service", "[Service]\nExecStart=\nExecStart=false\n")
	m.must(`systemctl daemon-reload; kill -9 $(systemctl show -P MainPID fdt)
		until [ $(systemctl show -P ActiveState fdt-stop) = deactivating ]; do :; done
		systemctl stop fdt`)
	m.eventually("! " + remains)
	m.shipped()
}

// stopLazy: listeners that wait for a first connection are closed by a stop, and one that was opened since is not.
func stopLazy(m machine) {
	listening := "systemctl --quiet is-active " + m.socketUnit() + ".socket"
	m.must("systemctl stop fdt && systemctl start fdt-sockets.target && " + listening)
	m.eventually("systemctl --quiet is-active fdt-stop && ! systemctl --quiet is-active fdt-sweep")
	m.must(listening + " && systemctl stop fdt")
	m.eventually("! " + remains)
	m.must("systemctl start fdt")
}

// stopRefreshing: who asks for the rescue mode, or for a stop, while a start still has systemd read the present configuration has the
// last word. A reload of systemd that takes long makes that while.
func stopRefreshing(m machine) {
	const slow = "/etc/systemd/system-generators/slow"
	m.must("systemctl stop fdt && mkdir -p /etc/systemd/system-generators" +
		" && printf '#!/bin/sh\nsleep 2\n' >" + slow + " && chmod +x " + slow)
	m.dropIn("rescue.service", "[Service]\nExecStart=\nExecStart=sleep infinity\n")
	for backlog, ask := range []string{"systemctl stop fdt-sockets.target", "systemctl isolate rescue.target"} {
		m.must(fmt.Sprintf(`printf 'listen: {refreshing: {address: /run/fdt/refreshing, backlog: %d}}\n' >/etc/fdt/config.d/99-refreshing.yaml
			since=$(date +%%s.%%N); systemctl start --no-block fdt-sockets.target
			until journalctl -q --since=@$since -u fdt-refresh -o cat | grep -q 'having it read them'; do :; done
			%s`, backlog+1, ask))
		m.eventually("[ $(systemctl show -P ActiveState fdt-refresh) = inactive ] && ! systemctl --quiet is-active fdt-sockets.target && ! " + remains)
	}
	m.must("systemctl is-active rescue.target; rm /etc/fdt/config.d/99-refreshing.yaml " + slow + "; systemctl isolate multi-user.target")
	m.shipped()
}

// isolate: with only the sockets' target enabled, as with none, fdt stays as it is. The rescue mode stops it.
func isolate(m machine) {
	conn := m.open()
	pid := m.must("systemctl disable --quiet fdt; systemctl show -P MainPID fdt")
	for _, prepare := range []string{"systemctl enable --quiet fdt-sockets.target", "systemctl disable --quiet fdt-sockets.target"} {
		m.must(prepare + " && systemctl isolate multi-user.target")
		m.call("served after isolate")
		if now := m.must("systemctl show -P MainPID fdt"); now != pid {
			m.Errorf("%s: the master was process %s and is %s", prepare, pid, now)
		}
	}
	if err := m.exec(conn, "COMMIT"); err != nil {
		m.Error(err)
	}
	// Its shell would end at once, for want of a terminal, and with it the rescue mode.
	m.dropIn("rescue.service", "[Service]\nExecStart=\nExecStart=sleep infinity\n")
	m.must("systemctl daemon-reload && systemctl isolate rescue.target")
	m.eventually("! " + remains)
	m.must("systemctl enable --quiet fdt; systemctl isolate multi-user.target")
	m.eventually("grep -q 2/2 <<<$(fdtctl status)")
}
