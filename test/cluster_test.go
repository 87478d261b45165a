package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
)

// clusterServers has two databases answer in a directory that two machines share. Users of the one machine are not known to the other, so
// they need no proof there.
const clusterServers = `
chmod 0777 /srv/shared
printf "max_prepared_transactions = 200\nmax_connections = 200\nunix_socket_directories = '/run/postgresql, /srv/shared'\n" >$(echo /etc/postgresql/*/main/conf.d)/bank.conf
sed -i '1i local bank fdt trust' $(echo /etc/postgresql/*/main/pg_hba.conf)
printf '[mysqld]\nsocket = /srv/shared/mysqld.sock\n[client]\nsocket = /srv/shared/mysqld.sock\n' >/etc/mysql/mariadb.conf.d/99-shared.cnf
systemctl restart 'postgresql@*.service' mariadb
` + bankDatabases + `
mariadb -e "ALTER USER fdt@localhost IDENTIFIED BY ''"
`

// clusterConfig is that of both hosts.
const clusterConfig = `
resources:
  bank_a: {type: postgres, dsn: "host=/srv/shared dbname=bank user=fdt"}
  bank_b: {type: mariadb, dsn: "fdt@unix(/srv/shared/mysqld.sock)/bank"}
procedures:
  pay:
    parameters: {body: text}
    steps:
      - {on: bank_a, sql: "INSERT INTO note VALUES (:body)", rows: 1}
      - {on: bank_b, sql: "INSERT INTO note VALUES (:body)", rows: 1}
`

const onFDT = "psql -X -At 'host=/run/fdt port=7432 dbname=fdt' -v ON_ERROR_STOP=1 "

// TestCluster has two hosts with the same databases settle each other's transactions: while both live, when one is cut off its power under
// load, and when a worker is killed.
func TestCluster(t *testing.T) {
	t.Parallel()
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			shared := filepath.Join(t.TempDir(), "shared")
			if err := os.Mkdir(shared, 0o777); err != nil {
				t.Fatal(err)
			}
			bind := []string{shared + ":/srv/shared"}
			b := installed(t, bed.Options{Release: release, Databases: true, Binds: bind})
			a := installed(t, bed.Options{Release: release, Binds: bind, Disk: true})
			b.must(clusterServers)
			for _, m := range []machine{a, b} {
				m.must("sed -i '/^procedures:/,$d' /etc/fdt/config.yaml")
				m.configure("50-bank", clusterConfig)
				m.must("systemctl reload fdt")
			}
			a.must(onFDT + `-c "BEGIN" -c "CALL pay('before')" -c "PREPARE TRANSACTION 'before'"`)
			out := a.must("fdtctl cluster init bank_a")
			if !strings.Contains(out, "cluster: {decider: bank_a}") {
				t.Errorf("cluster init: %s", out)
			}
			for _, m := range []machine{a, b} {
				m.configure("60-cluster", "cluster: {decider: bank_a}\n")
				m.must("systemctl reload fdt")
			}
			a.Run("Before", func(a machine) { a.wasThereBefore(b) })
			a.Run("Any", func(a machine) { a.anySettles(b) })
			a.Run("Worker", func(a machine) { a.workerDies(b) })
			a.Run("Power", func(a machine) { a.losesPower(b) })
			b.same()
			a.finish()
			b.finish()
		})
	}
}

// wasThereBefore settles what the host had prepared before it joined.
func (m machine) wasThereBefore(b machine) {
	if out := b.must(onFDT + `-c "SELECT gid FROM pg_prepared_xacts"`); out != "" {
		m.Errorf("the other host shows %q", out)
	}
	if out := m.must(onFDT + `-c "SELECT gid FROM pg_prepared_xacts" -c "COMMIT PREPARED 'before'"`); out != "before\nCOMMIT PREPARED" {
		m.Error(out)
	}
}

// anySettles prepares here, and decides there.
func (m machine) anySettles(b machine) {
	m.must(onFDT + `-c "BEGIN" -c "CALL pay('x')" -c "PREPARE TRANSACTION 'x'" -c "BEGIN" -c "CALL pay('y')" -c "PREPARE TRANSACTION 'y'"`)
	if out := b.must(onFDT + `-c "SELECT gid FROM pg_prepared_xacts ORDER BY gid"`); out != "x\ny" {
		m.Errorf("the other host shows %q", out)
	}
	if out, err := b.try(onFDT + `-c "BEGIN" -c "CALL pay('z')" -c "PREPARE TRANSACTION 'x'" 2>&1`); err == nil || !strings.Contains(out+err.Error(), "already") {
		m.Errorf("the name is given away twice: %s, %v", out, err)
	}
	b.must(onFDT + `-c "COMMIT PREPARED 'x'"`)
	b.must("fdtctl txn rollback y")
	if out, err := m.try(onFDT + `-c "COMMIT PREPARED 'y'" 2>&1`); err == nil || !strings.Contains(out+err.Error(), "rolled back") {
		m.Errorf("COMMIT PREPARED of what an operator has rolled back: %s, %v", out, err)
	}
	b.must("fdtctl txn forget y")
	if out := m.must("fdtctl cluster status"); strings.Count(out, "alive") < 4 {
		m.Errorf("cluster status:\n%s", out)
	}
	m.must("fdtctl cluster status --json | python3 -m json.tool")
}

// load begins calls on a host that go on until it ends, or until stopped.
func (m machine) load(name string) (stop func()) {
	m.write("/usr/local/bin/load", "#!/bin/sh\nn=0\nwhile :; do n=$((n+1)); "+onFDT+"-q -c \"CALL pay('$1-$n')\"; done\n")
	m.must("chmod +x /usr/local/bin/load; systemd-run --quiet --unit=" + name + " /usr/local/bin/load " + name)
	return func() { m.must("systemctl stop " + name) }
}

// workerDies kills a worker under load; nothing is left of what it had begun.
func (m machine) workerDies(b machine) {
	stop := m.load("w1")
	for range 3 {
		was := b.rows("w1-")
		m.eventually(fmt.Sprintf("[ $(psql -X -At 'host=/srv/shared dbname=bank user=fdt' -c \"SELECT count(*) FROM note WHERE body LIKE 'w1-%%'\") -gt %d ]", was+5))
		m.must("systemctl kill --signal=KILL --kill-whom=main " + m.workers()[0])
	}
	stop()
	b.quiet()
}

// losesPower cuts the host off its power under load, with a transaction in doubt.
func (m machine) losesPower(b machine) {
	m.must(onFDT + `-c "BEGIN" -c "CALL pay('doubt')" -c "PREPARE TRANSACTION 'doubt'"`)
	m.load("p1")
	m.eventually(`[ $(psql -X -At 'host=/srv/shared dbname=bank user=fdt' -c "SELECT count(*) FROM note WHERE body LIKE 'p1-%'") -gt 20 ]`)
	cut := time.Now()
	if err := m.bed.PowerCut(m.Context()); err != nil {
		m.Fatal(err)
	}
	b.must(onFDT + `-c "COMMIT PREPARED 'doubt'"`)
	b.quiet()
	m.Logf("nothing of the lost host is left after %s, its boot included", time.Since(cut).Round(time.Millisecond))
	m.eventually("fdtctl ready")
	m.must(onFDT + `-c "CALL pay('back')"`)
}

// rows counts those of a prefix.
func (m machine) rows(prefix string) (n int) {
	m.Helper()
	if _, err := fmt.Sscan(m.must(`psql -X -At bank -c "SELECT count(*) FROM note WHERE body LIKE '`+prefix+`%'"`), &n); err != nil {
		m.Fatal(err)
	}
	return n
}

// quiet waits until nothing is prepared in either database.
func (m machine) quiet() {
	m.Helper()
	m.eventually(`[ -z "$(psql -X -At bank -c 'SELECT gid FROM pg_prepared_xacts')$(mariadb -N -e 'XA RECOVER')" ]`)
}

// same checks that both databases have the same rows.
func (m machine) same() {
	m.Helper()
	m.quiet()
	testwait.Until(m, "both databases to have the same", func() bool {
		one := strings.Fields(m.must(`psql -X -At bank -c 'SELECT body FROM note ORDER BY body COLLATE "C"'`))
		two := strings.Fields(m.must(`mariadb -N bank -e 'SELECT body FROM note ORDER BY BINARY body'`))
		return strings.Join(one, " ") == strings.Join(two, " ") && len(one) > 40
	})
}
