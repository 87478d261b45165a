package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// TestCircles: clients, the service and root are three circles. A hostile member of each does what it can against the
// next; the listener stays open, a reload succeeds, and a scrape is answered.
func TestCircles(t *testing.T) {
	t.Parallel()
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := installed(t, bed.Options{Release: release})
			m.must("useradd stranger; useradd --groups fdt-client clerk")
			m.configure("20-metrics", `metrics: {address: "127.0.0.1:9432"}`)
			m.must("systemctl reload fdt")
			m.write("/opt/hostile.py", hostile)
			m.Run("Client", hostileClient)
			m.Run("Exporter", hostileExporter)
			m.Run("Worker", hostileWorker)
			m.Run("Trust", trusting)
			m.finish()
		})
	}
}

// hostile tries one thing, and prints what came of it: asked of a control socket, a lock, or a file.
const hostile = `
import fcntl, glob, json, os, socket, sys

def ask(path, request):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall((json.dumps(request) + "\n").encode())
    return s.makefile().readline().strip()

def control(request):
    for path in ["/run/fdt/worker/%s.sock" % sys.argv[2]]:
        print(ask(path, request))

tries = {
    "status": lambda: control({"op": "status"}),
    "drain": lambda: control({"op": "drain", "within": "1ms"}),
    "final": lambda: control({"op": "drain", "final": True}),
    "final_on": lambda: control({"op": "drain", "final_on": ["x"]}),
    "check": lambda: control({"op": "check"}),
    "metrics": lambda: print(ask("/run/fdt/metrics/%s.sock" % sys.argv[2], {"op": "metrics"})),
    "metrics_drain": lambda: print(ask("/run/fdt/metrics/%s.sock" % sys.argv[2], {"op": "drain", "final": True})),
    "lock": lambda: fcntl.lockf(open("/var/lib/fdt/txn/" + sys.argv[2]), fcntl.LOCK_SH),
    "read": lambda: print(open(sys.argv[2]).read()),
    "list": lambda: print(os.listdir(sys.argv[2])),
    "write": lambda: open(sys.argv[2], "w"),
}
tries[sys.argv[1]]()
`

// instance is the name of one running worker, without what stands around it.
func (m machine) instance() string {
	m.Helper()
	all := m.workers() // those of an old generation first, which may be about to end
	return strings.TrimSuffix(strings.TrimPrefix(all[len(all)-1], "fdt-worker@"), ".service")
}

// denied demands that a user cannot do any of these.
func denied(m machine, user string, tries ...string) {
	m.Helper()
	for _, try := range tries {
		out, err := m.try(fmt.Sprintf("runuser -u %s -- python3 /opt/hostile.py %s 2>&1", user, try))
		if !strings.Contains(strings.ToLower(out), "permission denied") && !strings.Contains(out, "unknown operation") {
			m.Errorf("%s: %s: %v\n%s", user, try, err, out)
		}
	}
}

// well demands that nothing has come of it: the same workers serve, a client gets in, a reload and a scrape succeed.
func well(m machine, before []string) {
	m.Helper()
	if now := m.workers(); strings.Join(now, " ") != strings.Join(before, " ") {
		m.Errorf("the workers were %v, and are %v", before, now)
	}
	if err := m.exec(m.connect(), "CALL enqueue('still')"); err != nil {
		m.Error(err)
	}
	m.must("systemctl reload fdt")
	m.must("curl -fsS --max-time 10 http://127.0.0.1:9432/metrics | grep -x 'fdt_up 1'")
}

func hostileClient(m machine) {
	before, one := m.workers(), m.instance()
	m.must("runuser -u clerk -- psql -X -h /run/fdt -p 7432 -c \"CALL enqueue('x')\"")
	message := m.must("ls /var/lib/fdt/outbox/new/* | head -n 1")
	denied(m, "clerk", "status "+one, "drain "+one, "final "+one, "check "+one, "metrics "+one, "lock lock", "lock recovery", "lock seal",
		"list /run/fdt/txn", "list /run/fdt/worker", "list /run/fdt/metrics", "list /var/lib/fdt", "list /var/lib/fdt/txn", "list /var/lib/fdt/outbox/new",
		"read "+message, "write /var/lib/fdt/outbox/new/forged", "read /run/fdt/state.json", "list /run/fdt/generation", "read /etc/fdt/config.yaml")
	if out, err := m.try("runuser -u clerk -- fdtctl status 2>&1"); err == nil {
		m.Errorf("a client is told the status: %s", out)
	}
	well(m, before)
}

func hostileExporter(m machine) {
	before, one := m.workers(), m.instance()
	if out := m.must("runuser -u fdt-metrics -- python3 /opt/hostile.py metrics " + one); !strings.Contains(out, `"threads"`) {
		m.Errorf("fdt-metrics is told %s", out)
	}
	denied(m, "fdt-metrics", "metrics_drain "+one, "status "+one, "drain "+one, "final "+one, "lock lock", "list /run/fdt/generation",
		"read /run/fdt/state.json", "list /var/lib/fdt/txn", "list /var/lib/fdt/last-good", "read /etc/fdt/config.yaml")
	if got := m.must("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID '" + metricsUnit + "')/status | grep ^Groups:; id -G fdt-metrics"); strings.Contains(got, m.must("getent group fdt | cut -d: -f3")) {
		m.Errorf("fdt-metrics is in group fdt: %s", got)
	}
	well(m, before)
}

// hostileWorker is a worker that was taken over: it is user fdt. What it does to files that others read must not stop
// them, and it cannot shut the listener of all through a sibling.
func hostileWorker(m machine) {
	before, one := m.workers(), m.instance()
	if out := m.must("runuser -u fdt -- python3 /opt/hostile.py status " + one); !strings.Contains(out, `"pid"`) {
		m.Errorf("a sibling is told %s", out)
	}
	denied(m, "fdt", "final "+one, "final_on "+one)
	m.must(`runuser -u fdt -- sh -ec '
		mkfifo /run/fdt/metrics/0-0.last /run/fdt/metrics/0-1.sock /run/fdt/metrics/` + one + `.last.new
		ln -s /dev/zero /run/fdt/metrics/0-2.last
		ln -s /run/systemd/private /run/fdt/metrics/0-3.sock
		ln -s /run/systemd/private /run/fdt/worker/0-3.sock
		head -c 2000000 /dev/zero >/run/fdt/metrics/0-4.last
		echo "{\"generation\": ` + strings.Replace(one, "-", `, \"slot\": `, 1) + `}" >/run/fdt/metrics/0-5.last'`)
	well(m, before)
	m.must("for i in 1 2 3 4 5 6; do curl -fsS --max-time 10 -o /dev/null http://127.0.0.1:9432/metrics; done")
	m.eventually("! systemctl --quiet is-active " + before[0])
	// The drained worker was not held up by the FIFO in the place of its counts, and these are told.
	m.must("curl -fsS http://127.0.0.1:9432/metrics | grep 'fdt_worker_cpu_seconds_total{generation=\"" + strings.Replace(one, "-", `",slot="`, 1) + "\"}'")
	m.must("rm -f /run/fdt/metrics/0-* /run/fdt/worker/0-*")
}

// trusting: a socket without proof is for the clients' group.
func trusting(m machine) {
	m.configure("30-trust", "listen: {open: {address: /run/fdt/.s.PGSQL.7433, auth: trust}}")
	m.must("systemctl reload fdt")
	if got := m.must("stat -c '%a %U %G' /run/fdt/.s.PGSQL.7433"); got != "660 root fdt-client" {
		m.Errorf("a trust socket is %s", got)
	}
	m.must("runuser -u clerk -- psql -X -U clerk -h /run/fdt -p 7433 -c 'SELECT 1'")
	if out, err := m.try("runuser -u stranger -- psql -X -U clerk -h /run/fdt -p 7433 -c 'SELECT 1' 2>&1"); err == nil || !strings.Contains(out, "Permission denied") {
		m.Errorf("a stranger is answered %s", out)
	}
	m.must("rm /etc/fdt/config.d/30-trust.yaml && systemctl reload fdt")
}

// groupsOfOld makes of an installed package one in which a single group was for clients and for the service.
const groupsOfOld = `
	groupdel fdt-client
	rm -r /run/fdt/metrics
	chmod 0755 /run/fdt && chgrp root /run/fdt /run/fdt/state.json && chmod 0644 /run/fdt/state.json
	chmod 0750 /run/fdt/txn /var/lib/fdt/txn && chmod 2770 /var/lib/fdt/outbox`

// TestUpgradeOfGroups upgrades a package in which one group was for all, FDT_OLD_DEB if that names one. Its members get
// in as before and are named, with what to do; what they could reach and stop is closed, and nothing is interrupted.
func TestUpgradeOfGroups(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_RELEASE_DEB")
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := boot(t, bed.Options{Release: release})
			if old := os.Getenv("FDT_OLD_DEB"); old != "" {
				m.install(old)
			} else {
				m.install(path)
				m.must(groupsOfOld)
			}
			m.must("useradd --groups fdt clerk; useradd --groups fdt auditor; useradd stranger; chmod 640 /etc/fdt/config.yaml")
			m.configure("10-quick", quick)
			conn := m.open()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m.write("/var/tmp/"+filepath.Base(path), string(data)) // from which the next version is made
			repack(m, path)
			said, err := m.try("apt-get install -q -y /var/tmp/newer.deb 2>&1")
			if err != nil || !strings.Contains(said, "were added: clerk auditor") || !strings.Contains(said, "gpasswd --delete USER fdt") {
				t.Errorf("the upgrade says %v\n%s", err, said)
			}
			if err := m.exec(conn, "COMMIT"); err != nil {
				m.Errorf("the open transaction: %v", err)
			}
			for _, user := range []string{"clerk", "auditor"} {
				m.must("runuser -u " + user + " -- psql -X -h /run/fdt -p 7432 -c \"CALL enqueue('x')\"")
			}
			m.write("/opt/hostile.py", hostile)
			one := m.instance()
			denied(m, "clerk", "lock lock", "lock recovery", "lock seal", "list /run/fdt/txn", "list /var/lib/fdt/txn", "drain "+one, "final "+one, "check "+one)
			denied(m, "stranger", "read /run/fdt/state.json", "status "+one)
			// What the administrator was told to do is enough.
			m.must("gpasswd --delete clerk fdt")
			denied(m, "clerk", "status "+one, "read /etc/fdt/config.yaml", "list /run/fdt/generation", "list /var/lib/fdt/outbox/new", "write /var/lib/fdt/outbox/new/forged")
			m.finish()
		})
	}
}
