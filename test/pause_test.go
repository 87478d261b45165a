package test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/test/load"
)

// pauseBank has every call write to both databases of a bank.
const pauseBank = `
procedures:
  enqueue:
    parameters: {body: text}
    steps:
      - {on: bank_a, sql: "INSERT INTO note VALUES (:body)", rows: 1}
      - {on: bank_b, sql: "INSERT INTO note VALUES (:body)", rows: 1}
      - {on: outbox, put: ":body"}
metrics: {address: "127.0.0.1:9432"}
`

// TestPause restarts databases under load, between fdtctl pause and resume, and no client is told an error.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := bank(t, release, pauseBank)
			m.Run("TakenBack", pauseTakenBack)
			m.Run("Restart", pauseRestart)
			m.Run("Unrehearsed", pauseUnrehearsed)
			m.finish()
		})
	}
}

// pauseTakenBack: a pause that has to wait for longer than it may, or that is interrupted, leaves all as it was.
func pauseTakenBack(m machine) {
	conn := m.open()
	for i, pause := range []func() (string, error){
		func() (string, error) { return m.try("fdtctl pause --timeout 5s bank_a 2>&1") },
		func() (string, error) { return m.interrupted("waiting for bank_a", "fdtctl", "pause", "--all") },
	} {
		out, err := pause()
		if err == nil || !strings.Contains(out, "waiting for bank_a (transactions there: 1") {
			m.Errorf("a pause that is to be taken back: %v, %s", err, out)
		}
		m.must(`test -z "$(ls /run/fdt/paused)"`)
		m.call(fmt.Sprintf("after a pause that was taken back: %d", i))
	}
	for _, lost := range []string{
		"fdtctl pause bank_a 2>&1 | head -c1", "fdtctl pause bank_a 2>&1 >/dev/null | head -n1", "fdtctl pause bank_a 2>/dev/full",
		"fdtctl pause bank_a 2>/dev/null & until [ -e /run/fdt/paused/bank_a.json ]; do sleep 0.1; done; kill -HUP $!; wait $!",
	} {
		if out, err := m.try("set -o pipefail; " + lost); err == nil {
			m.Errorf("%s: %s", lost, out)
		}
		m.must(`test -z "$(ls /run/fdt/paused)"`)
	}
	if out := m.must(`fdtctl pause bank_a 2>/tmp/pausing & until grep -q waiting /tmp/pausing; do sleep 0.1; done
		fdtctl resume bank_a; ! wait $!; cat /tmp/pausing; ls /run/fdt/paused`); !strings.Contains(out, "bank_a is used again") ||
		!strings.Contains(out, "bank_a is not paused any more: root resumed it at ") || strings.HasSuffix(out, "bank_a.json") {
		m.Error(out)
	}
	if err := m.exec(conn, "ROLLBACK"); err != nil {
		m.Error(err)
	}
	for command, want := range map[string]string{
		"fdtctl pause outbox":                      "there is no postgres or mariadb",
		"fdtctl resume bank_a":                     "bank_a is not paused",
		"runuser -u nobody -- fdtctl pause bank_a": "fdtctl pause: this is for root: ",
		"runuser -u nobody -- fdtctl sessions":     "fdtctl sessions: this is for root: ",
	} {
		if out, err := m.try(command + " 2>&1"); err == nil || !strings.Contains(out, want) {
			m.Errorf("%s: %v, %s", command, err, out)
		}
	}
}

// interrupted runs a command inside, and interrupts it when it has said what is awaited.
func (m machine) interrupted(awaited string, command ...string) (string, error) {
	m.Helper()
	var out testwait.Output
	c := m.bed.Command(m.Context(), command...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		m.Fatal(err)
	}
	testwait.Until(m.T, awaited, func() bool { return strings.Contains(out.String(), awaited) })
	if err := bed.Kill(c, unix.SIGINT); err != nil {
		m.Error(err)
	}
	err := c.Wait()
	return out.String(), err
}

// pauseRestart has 32 clients call while both databases are restarted, one after the other, and a reload comes in between.
func pauseRestart(m machine) {
	dial := func(context.Context, string, string) (net.Conn, error) { return m.dial() }
	clients := load.Sessions(m.Context(), load.Target{Network: "unix", Address: "/run/fdt/.s.PGSQL.7432", User: "root", Dial: dial}, 32, 5*time.Millisecond)
	progress := func(what string) {
		m.Helper()
		n := clients.Progress()
		testwait.Until(m.T, what, func() bool { return clients.Progress() > n+64 })
	}
	progress("clients are served")

	m.must("fdtctl pause bank_a")
	if n := m.must(`psql -X -At bank -c "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fdt'"`); n != "0" {
		m.Errorf("%s sessions on the paused PostgreSQL", n)
	}
	m.eventually(`fdtctl status --json | python3 -c 'import json, sys; sys.exit(not any(r["name"] == "bank_a" and r["state"] == "paused" and r["waiting"] == 32 for r in json.load(sys.stdin)["resources"]))'`)
	m.eventually(`fdtctl sessions --json | python3 -c 'import json, sys; w = [s.get("waits", [{}])[0] for s in json.load(sys.stdin)]; sys.exit([(x.get("resource"), x.get("for")) for x in w] != 32 * [("bank_a", "resume")])'`)
	m.eventually("systemctl show -P StatusText fdt | grep -q 'resource bank_a paused'")
	for _, ask := range []string{"fdtctl ready", "runuser -u nobody -- fdtctl ready", "curl -sf http://127.0.0.1:9432/ready"} {
		if out := m.must(ask); out != "ready; paused: bank_a" {
			m.Errorf("%s: %s", ask, out)
		}
	}
	m.eventually(`curl -s http://127.0.0.1:9432/metrics | grep -q 'fdt_resource_paused{resource="bank_a"} 1'`)
	m.must("systemctl stop 'postgresql@*.service'")
	if out := m.must("fdtctl reload 2>&1"); !strings.Contains(out, "bank_a is paused: it was not rehearsed") { // what is paused is not asked
		m.Error(out)
	}
	if out := m.must("fdtctl check 2>&1"); !strings.Contains(out, "bank_a is paused: a reload does not rehearse it") {
		m.Error(out)
	}
	if out := m.must("fdtctl status"); !strings.Contains(out, "paused") || strings.Contains(out, "unreachable") {
		m.Error(out)
	}
	m.must("systemctl start postgresql && fdtctl pause bank_a") // again: it says that all is so
	m.must("until psql -X bank -c ''; do sleep 0.1; done; fdtctl resume bank_a")
	progress("clients are served after a restart of PostgreSQL")

	m.must("fdtctl pause --all && systemctl restart mariadb && fdtctl resume --all")
	progress("clients are served after a restart of MariaDB")

	books := clients.Stop()
	for _, c := range books.Lost() {
		m.Errorf("a client was told %v", c.Err)
	}
	m.must(`test -z "$(ls /run/fdt/paused)"; journalctl -b -o cat | grep 'a resource is used again' >/dev/null`)
	m.Logf("%d calls, none lost", len(books.Calls))
}

// pauseUnrehearsed: what a reload could not try is tried by who ends the pause, and a pause outlives its resource, of which is told.
func pauseUnrehearsed(m machine) {
	m.must("fdtctl pause bank_a && sed -i 's/dbname=bank/dbname=nope/' /etc/fdt/config.d/50-bank.yaml")
	if out := m.must("fdtctl reload 2>&1"); !strings.Contains(out, "bank_a is paused: it was not rehearsed") {
		m.Error(out)
	}
	if out := m.must("fdtctl resume bank_a 2>&1"); !strings.Contains(out, "warning: bank_a: transactions of generation ") || !strings.Contains(out, "nope") {
		m.Error(out)
	}
	m.must("sed -i 's/dbname=nope/dbname=bank/' /etc/fdt/config.d/50-bank.yaml && fdtctl reload && fdtctl pause bank_a && mv /etc/fdt/config.d/50-bank.yaml /tmp && echo 'procedures: {}' >/etc/fdt/config.d/50-none.yaml")
	for _, ask := range []string{"fdtctl reload 2>&1", "fdtctl status"} {
		if out := strings.Join(strings.Fields(m.must(ask)), " "); !strings.Contains(out, "bank_a is paused, and no resource any more") {
			m.Errorf("%s: %s", ask, out)
		}
	}
	m.must("rm /etc/fdt/config.d/50-none.yaml && mv /tmp/50-bank.yaml /etc/fdt/config.d && fdtctl resume bank_a && fdtctl reload")
}
