package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
)

// waitsBank has a procedure for each database, so that one can wait in either, and one more resource, with one connection.
const waitsBank = `
  narrow: {type: postgres, dsn: "host=/run/postgresql dbname=bank user=fdt", pool: 1}
procedures:
  enqueue:
    parameters: {body: text}
    steps: [{on: outbox, put: ":body"}]
  note_a:
    parameters: {body: text}
    steps: [{on: bank_a, sql: "INSERT INTO note VALUES (:body)", rows: 1}]
  note_b:
    parameters: {body: text}
    steps: [{on: bank_b, sql: "INSERT INTO note VALUES (:body)", rows: 1}]
  note_narrow:
    parameters: {body: text}
    steps: [{on: narrow, sql: "INSERT INTO note VALUES (:body)", rows: 1}]
`

// TestWaits has a session wait for a lock in PostgreSQL and in MariaDB, behind another session, a transaction in doubt and somebody who uses
// the database directly, and for the only connection of a pool, and looks who or what is named, by fdtctl sessions and through the wire.
func TestWaits(t *testing.T) {
	t.Parallel()
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := bank(t, release, waitsBank)
			m.Run("PostgreSQL", func(m machine) {
				m.waits("note_a", "bank_a", "psql -X -q bank", "(user root, database bank, application psql)",
					`psql -X -At bank -c "SELECT state FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND application_name = 'psql'" | grep -q 'idle in transaction'`)
			})
			m.Run("MariaDB", func(m machine) {
				m.waits("note_b", "bank_b", "mariadb --unbuffered bank", "(user root, database bank, from localhost)",
					// Of its own connection: the server may show the transactions of a tenth of a second ago, in which others have rows.
					`mariadb -N -e "SELECT trx_rows_modified FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST ON ID = trx_mysql_thread_id WHERE USER = 'root'" | grep -q 1`)
			})
			m.Run("Pool", machine.waitsForPool)
			m.finish()
		})
	}
}

// waitsForPool has a session wait for a connection that another has. It is in the same worker, or in another.
func (m machine) waitsForPool() {
	holder, waiter := m.connect(), m.connect()
	if err := m.exec(holder, "BEGIN; CALL note_narrow('has it')"); err != nil {
		m.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.exec(waiter, "BEGIN; CALL note_narrow('wants it'); ROLLBACK") }()
	m.eventually(`fdtctl sessions | grep -E "waits [0-9]+s on narrow for a connection \((the worker's share|the service's pool) of 1 is used up\)"`)
	m.eventually(`psql -X -At 'host=/run/fdt port=7432 dbname=fdt' -c "SELECT wait_event_type, wait_event FROM pg_stat_activity" | grep '^Extension|narrow: a connection (.* of 1 is used up)'`)
	m.eventually(`fdtctl status --json | python3 -c 'import json, sys; sys.exit(not any(r["name"] == "narrow" and r["waiting"] == 1 for r in json.load(sys.stdin)["resources"]))'`)
	if err := m.exec(holder, "ROLLBACK"); err != nil {
		m.Error(err)
	}
	if err := <-done; err != nil {
		m.Error(err)
	}
}

// waits has a session wait behind each kind of holder. client is a program that speaks with the database directly, known how fdt is to name
// it, and has succeeds when it has the lock.
func (m machine) waits(procedure, resource, client, known, has string) {
	m.Helper()
	call := "CALL " + procedure + "('contended')"
	// waiting has a session wait until letGo, and is told for whom.
	waiting := func(what, want string, letGo func()) {
		m.Helper()
		waiter := m.connect()
		done := make(chan error, 1)
		go func() { done <- m.exec(waiter, "BEGIN; "+call+"; ROLLBACK") }()
		var shown string
		testwait.Until(m.T, what+": "+want, func() bool {
			shown = m.must("fdtctl sessions")
			words := strings.Join(strings.Fields(shown), " ") // lines are wrapped
			return strings.Contains(words, " on "+resource+" for ") && strings.Contains(words, want)
		})
		m.Logf("%s:\n%s", what, shown)
		testwait.Until(m.T, what+" through the wire", func() bool { // of another worker's sessions it may be a second behind
			told := m.must(`psql -X -At 'host=/run/fdt port=7432 dbname=fdt' -c "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE wait_event_type = 'Lock'"`)
			return strings.HasPrefix(told, "Lock|"+resource+": ") && strings.Contains(told, want)
		})
		letGo()
		if err := <-done; err != nil {
			m.Errorf("%s: %v", what, err)
		}
	}

	holder := m.connect()
	say := func(sql string) {
		m.Helper()
		if err := m.exec(holder, sql); err != nil {
			m.Fatalf("%s: %v", sql, err)
		}
	}
	say("BEGIN; " + call)
	waiting("behind another session", fmt.Sprintf("session %d", holder.PID()), func() { say("ROLLBACK") })

	say("BEGIN; " + call)
	say("PREPARE TRANSACTION 'doubt-" + procedure + "'")
	m.toldInDoubt(1) // at once, by whatever worker
	waiting("behind a transaction in doubt", `prepared "doubt-`+procedure+`"`, func() { m.must("fdtctl txn rollback doubt-" + procedure) })
	m.toldInDoubt(0)

	m.must(`systemd-run -q --unit=stranger-` + procedure + ` sh -c "(echo \"BEGIN; INSERT INTO note VALUES ('contended');\"; exec sleep infinity) | ` + client + `"`)
	m.eventually(has)
	waiting("behind a stranger", known, func() { m.must("systemctl stop stranger-" + procedure) })
}

// toldInDoubt has all workers and the master tell of so many transactions in doubt.
func (m machine) toldInDoubt(n int) {
	m.Helper()
	ask := `fdtctl status --json | python3 -c 'import json, sys; s = json.load(sys.stdin); print(s["in_doubt"], sorted({r["in_doubt"] for r in s["resources"]})[-1])'`
	if got, want := m.must(ask), fmt.Sprint(n, n); got != want {
		m.Errorf("in doubt, and at a resource: %s, not %s", got, want)
	}
}
