package test

import (
	"strings"
	"testing"
)

// fill leaves a file system in memory without room, until the returned function is called.
func (m machine) fill(dir, size string) (free func()) {
	m.Helper()
	m.must("mount -o remount,size=" + size + " " + dir + " && ! head -c 1G /dev/zero >" + dir + "/ballast 2>/dev/null")
	return func() { m.must("rm " + dir + "/ballast") }
}

// With /run full a reload is refused with the reason, and nothing is lost; a restart says that what serves goes on serving,
// and is carried out when there is room; a stop works, and what cannot start refuses.
func TestRunFull(t *testing.T) {
	onBoth(t, func(m machine) {
		conn := m.connect()
		old := strings.Join(m.workers(), " ")
		free := m.fill("/run", "24m")
		out, err := m.try("timeout 60 fdtctl reload 2>&1")
		if err == nil || !strings.Contains(out, "no space left on device") {
			m.Errorf("a reload: %q, %v", out, err)
		}
		if said := m.must("fdtctl status"); !strings.Contains(said, "no space left on device") {
			m.Errorf("the status: %s", said)
		}
		m.must("timeout 60 systemctl restart fdt")
		m.eventually("fdtctl status")
		if now := strings.Join(m.workers(), " "); now != old {
			m.Errorf("%s serve, not %s", now, old)
		}
		m.must("journalctl --sync")
		said := m.must("journalctl -q -o cat _COMM=fdt-master")
		if strings.Contains(said, "listeners are closed") || !strings.Contains(said, "what served goes on serving") {
			m.Errorf("the master says %s", said)
		}
		if err := m.exec(conn, "SELECT 1"); err != nil {
			m.Error(err)
		}
		free()
		m.eventually("[[ $(fdtctl status --json) != *'no space left'* ]] && ! systemctl --quiet is-active " + old)
		m.call("served by those that the restart asked for")

		free = m.fill("/run", "24m")
		m.must("timeout 60 systemctl stop fdt")
		if left := m.workers(); len(left) > 0 {
			m.Errorf("after the stop there are %v", left)
		}
		m.must("! head -c 1G /dev/zero >>/run/ballast 2>/dev/null") // the stop has made room
		m.must("systemctl start --no-block fdt")
		m.eventually("journalctl -q -o cat -b _COMM=fdt-master | grep -q 'cannot serve; its listeners are closed'")
		m.eventually("! systemctl --quiet is-active " + m.socketUnit() + ".socket")
		free()
		m.eventually("grep -q 2/2 <<<$(fdtctl status)")
		m.call("served again")
		m.finish()
	})
}

// With /var full an operator decides as well as a client, a reload either works or is refused with the reason, and the copy of the last good configuration is made
// when there is room.
func TestVarFull(t *testing.T) {
	onBoth(t, func(m machine) {
		m.must("systemctl stop fdt && cp -a /var/lib/fdt /var/lib/fdt.was && rm -f /var/lib/fdt.was/program/* && mount -t tmpfs -o size=32m,mode=2750 none /var/lib/fdt && chgrp fdt /var/lib/fdt && cp -a /var/lib/fdt.was/. /var/lib/fdt/ && systemctl start fdt")
		if err := m.exec(m.connect(), "BEGIN; CALL enqueue('doubtful'); PREPARE TRANSACTION 'x'"); err != nil {
			m.Fatal(err)
		}
		m.eventually("[ -s /var/lib/fdt/txn/room ]")
		free := m.fill("/var/lib/fdt", "32m")
		m.must("timeout 60 fdtctl txn commit x")
		m.configure("30-changed", "drain: {idle: 1s}\n")
		out, err := m.try("timeout 60 fdtctl reload 2>&1")
		if err == nil || !strings.Contains(out, "disk full") && !strings.Contains(out, "no space left on device") {
			m.Errorf("a reload: %q, %v", out, err)
		}
		if _, err := m.try("grep -q 2/2 <<<$(timeout 60 fdtctl status)"); err != nil {
			m.Errorf("those that served do not: %v", err)
		}
		free()
		m.must("fdtctl reload")
		m.eventually("[ -e /var/lib/fdt/last-good/config.d/30-changed.yaml ]")
		m.call("served")
		m.finish()
	})
}

// Without /var/lib/fdt, as when its volume is not mounted, clients are refused and do not hang; when it is there, fdt serves
// by itself.
func TestNoStateDirectory(t *testing.T) {
	onBoth(t, func(m machine) {
		m.must("systemctl stop fdt && mv /var/lib/fdt /var/lib/fdt.away && systemctl start --no-block fdt")
		m.eventually("journalctl -q -o cat -b _COMM=fdt-master | grep 'cannot serve; its listeners are closed' | grep -q 'is missing'")
		c, err := m.dial()
		if err == nil {
			c.Close()
			m.eventually("! systemctl --quiet is-active " + m.socketUnit() + ".socket") // between two attempts
		}
		m.must("mv /var/lib/fdt.away /var/lib/fdt")
		m.eventually("grep -q 2/2 <<<$(fdtctl status)")
		m.call("served again")
		m.Run("Unmounted", unmounted)
		m.finish()
	})
}

// unmounted: an empty directory in place of the volume, or another volume, is not taken for the log that served.
func unmounted(m machine) {
	if err := m.exec(m.connect(), "BEGIN; CALL enqueue('kept'); PREPARE TRANSACTION 'kept'"); err != nil {
		m.Fatal(err)
	}
	m.eventually("grep -q -f /etc/machine-id /etc/fdt/transaction-log")
	refused := func(why string) {
		m.Helper()
		m.must("systemd-tmpfiles --create fdt.conf; systemctl start --no-block fdt")
		m.eventually("journalctl -q -o cat -b _COMM=fdt-master | grep 'cannot serve; its listeners are closed' | grep -q '" + why + "'")
		if _, err := m.try("fdtctl txn list"); err == nil {
			m.Errorf("%s: fdtctl txn list answers", why)
		}
	}
	m.must("systemctl stop fdt; mount -t tmpfs -o mode=755 none /var/lib/fdt")
	refused("is its volume mounted")
	m.must("systemctl stop fdt; mv /etc/fdt/transaction-log /etc/fdt/kept; systemctl start fdt") // the operator's word
	m.call("served by a new log")
	m.must("systemctl stop fdt; mv /etc/fdt/kept /etc/fdt/transaction-log")
	refused("is the right volume mounted")
	m.must("umount -l /var/lib/fdt") // and fdt goes on by itself
	m.eventually("grep -q 2/2 <<<$(fdtctl status)")
	if err := m.exec(m.connect(), "COMMIT PREPARED 'kept'"); err != nil {
		m.Error(err)
	}
}
