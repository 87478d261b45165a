package test

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// TestRootIsApart: a worker that was taken over reaches nothing of root's. What root does to the transaction log is done
// by the workers' user, and shares neither terminal nor environment with root.
func TestRootIsApart(t *testing.T) {
	t.Parallel()
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := installed(t, bed.Options{Release: release})
			m.write("/opt/hold.py", hold)
			m.Run("Txn", txnApart)
			m.Run("Interrupt", txnInterrupted)
			m.Run("Memory", memoryApart)
			m.Run("Stopped", txnWhileStopped)
			m.finish()
		})
	}
}

// hold takes the log's lock, so that who opens the log waits.
const hold = `
import fcntl, time
f = open("/var/lib/fdt/txn/lock", "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
open("/tmp/held", "w")
time.sleep(600)
`

// holding runs a script while the log is held, with the process that waits for it in $pid.
func (m machine) holding(command, script string) string {
	m.Helper()
	return m.must(`
		rm -f /tmp/held; runuser -u fdt -- python3 /opt/hold.py & holder=$!
		trap 'kill $(pgrep -u fdt -f /opt/hold.py) || true' EXIT
		until [ -e /tmp/held ]; do sleep 0.1; done
		` + command + ` >/tmp/said 2>&1 & asker=$!
		until pid=$(pgrep -u fdt -x fdtctl); do sleep 0.1; done
		` + script)
}

// txnApart looks at the process that root's fdtctl txn has made, from a terminal and with a secret in the environment.
func txnApart(m machine) {
	got := m.holding(`env HUNTER2=secret script -qec "fdtctl txn list" /dev/null`, `
		echo "tty $(cut -d' ' -f7 /proc/$pid/stat)"
		tr '\0' '\n' </proc/$pid/environ | grep -c HUNTER2 || true
		ls -l /proc/$pid/fd | grep -c /dev/pts || true
		ps -o user=,unit= -p $pid | sed 's/fdt-txn-[0-9]*/fdt-txn-N/' | xargs
		grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/$pid/status | xargs
		{ runuser -u fdt -- dd if=/proc/$pid/mem count=1 2>&1 || true; } | grep -o 'Permission denied'
		systemd-analyze security --threshold=7 "$(ps -o unit= -p $pid)" >/tmp/security || tail -n 1 /tmp/security
		kill $(pgrep -u fdt -f /opt/hold.py); wait $asker && cat /tmp/said`)
	want := []string{"tty 0", "0", "0", "fdt fdt-txn-N.service", "CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2", "Permission denied"}
	lines := strings.Split(got, "\n")
	if len(lines) != len(want)+1 || !strings.HasPrefix(lines[len(want)], "No transaction") {
		m.Fatalf("got\n%s", got)
	}
	for i, line := range want {
		if lines[i] != line {
			m.Errorf("%q, want %q", lines[i], line)
		}
	}
}

// txnInterrupted: an interrupt of root's fdtctl, and its death, end the unit.
func txnInterrupted(m machine) {
	for _, signal := range []string{"INT", "KILL"} {
		m.holding("fdtctl txn list", `
			kill -`+signal+` $(pgrep -u root -x fdtctl); ! wait $asker
			while pgrep -u fdt -x fdtctl >/dev/null; do sleep 0.1; done`)
	}
}

// memoryApart: no process of fdt can be read by another of its user, and none leaves a core: what is undumpable belongs to
// root in /proc, proc(5).
func memoryApart(m machine) {
	got := m.must(`
		for pid in $(pgrep -u fdt -x fdt-worker) $(systemctl show -P MainPID fdt); do
			out=$(runuser -u fdt -- dd if=/proc/$pid/mem count=1 2>&1) && echo "read $pid"
			case $out in *"Permission denied"*) ;; *) echo "$pid: $out" ;; esac
			[ "$(stat -c %U /proc/$pid/environ)" = root ] || echo "$pid may dump core"
			grep -q '^Max core file size *0 *0' /proc/$pid/limits || echo "$pid has a core"
		done`)
	if got != "" {
		m.Error(got)
	}
}

// txnWhileStopped: transactions are shown and settled with fdt stopped, too.
func txnWhileStopped(m machine) {
	conn := m.connect()
	if err := m.exec(conn, "BEGIN; CALL enqueue('kept'); PREPARE TRANSACTION '$HOME %n \"x'"); err != nil {
		m.Fatal(err)
	}
	m.must("systemctl stop fdt")
	if got := m.must("fdtctl txn list"); !strings.Contains(got, "in doubt") {
		m.Errorf("listed is\n%s", got)
	}
	if got := m.must(`fdtctl txn commit '$HOME %n "x'`); !strings.Contains(got, "committed") {
		m.Errorf("said is\n%s", got)
	}
	if got := m.must("cat /var/lib/fdt/outbox/new/* | grep -c kept; find /var/lib/fdt/txn /var/lib/fdt/outbox ! -user fdt; fdtctl txn show none 2>&1 || echo $?; fdtctl txn show a b 2>&1 || echo $?"); !strings.HasPrefix(got, "1\n") ||
		!strings.Contains(got, "\n1\n") || !strings.HasSuffix(got, "\n2") {
		m.Errorf("then\n%s", got)
	}
	m.must("systemctl start fdt")
}
