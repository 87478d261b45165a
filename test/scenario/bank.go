package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/test/ledger"
)

const (
	bankAccounts = 64 // in each database
	bankBalance  = 1000
	bankTellers  = 16
	bankFor      = 25 * time.Second
)

// Bank returns the bank test on the installed service: transfers over PostgreSQL, MariaDB and the outbox while everything
// is killed. It needs a container of its own, with databases.
func Bank() []Scenario {
	return []Scenario{
		{"Install", "apt install, two databases, and a small file system for the log", bankInstall},
		{"Transfers", "workers, master, databases and clients are killed, reloads run, the log's disk fills up", bankTransfers},
	}
}

// bankConfig moves money in both orders, so that transfers can also wait for each other across the databases.
const bankConfig = `
workers: {count: 2, threads: 64, backoff: {first: 100ms, longest: 500ms}}
drain: {idle: 1s, timeout: 5s}
reload: {settle: 0s, ready_timeout: 1m}
transaction: {timeout: 10s, lock_timeout: 1s}
resources:
  bank_a: {type: postgres, dsn: "host=/run/postgresql dbname=bank user=fdt"}
  bank_b: {type: mariadb, dsn: "fdt@unix(/run/mysqld/mysqld.sock)/bank", marker: fdt_marker}
procedures:
  transfer: &PARAMETERS
    steps:
      - {on: bank_a, sql: "UPDATE account SET balance = balance - :amount WHERE id = :a", rows: 1}
      - {on: bank_a, sql: "INSERT INTO ledger VALUES (:id)", rows: 1}
      - {on: bank_b, sql: "UPDATE account SET balance = balance + :amount WHERE id = :b", rows: 1}
      - {on: bank_b, sql: "INSERT INTO ledger VALUES (:id)", rows: 1}
      - {on: outbox, put: ":id"}
  back: &PARAMETERS
    steps:
      - {on: outbox, put: ":id"}
      - {on: bank_b, sql: "UPDATE account SET balance = balance + :amount WHERE id = :b", rows: 1}
      - {on: bank_b, sql: "INSERT INTO ledger VALUES (:id)", rows: 1}
      - {on: bank_a, sql: "UPDATE account SET balance = balance - :amount WHERE id = :a", rows: 1}
      - {on: bank_a, sql: "INSERT INTO ledger VALUES (:id)", rows: 1}
`

// bankSetup makes a bank in both databases, as Debian installs them but for prepared transactions, and has systemd start them
// again at once however they end.
const bankSetup = `
for unit in mariadb.service postgresql@.service; do
	mkdir -p /etc/systemd/system/$unit.d
	printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=200ms\n' >/etc/systemd/system/$unit.d/bank.conf
done
systemctl daemon-reload
printf 'max_prepared_transactions = 200\nmax_connections = 200\n' >$(echo /etc/postgresql/*/main/conf.d)/bank.conf
printf '[mariadb]\nmax_connections = 200\n' >/etc/mysql/mariadb.conf.d/99-bank.cnf
systemctl restart 'postgresql@*.service' mariadb
cd /
su postgres -c 'psql -q -v ON_ERROR_STOP=1' <<-END
	CREATE ROLE root LOGIN SUPERUSER;
	CREATE ROLE fdt LOGIN;
	GRANT pg_read_all_stats, pg_signal_backend TO fdt;
	CREATE DATABASE bank OWNER fdt;
END
mariadb <<-END
	CREATE DATABASE bank;
	CREATE USER fdt@localhost IDENTIFIED VIA unix_socket;
	GRANT PROCESS ON *.* TO fdt@localhost;
	GRANT ALL ON bank.* TO fdt@localhost;
END
tables="CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL); CREATE TABLE ledger (id varchar(40) PRIMARY KEY);"
psql -q -v ON_ERROR_STOP=1 bank -c "$tables INSERT INTO account SELECT n, %[2]d FROM generate_series(0, %[1]d - 1) n; GRANT ALL ON account, ledger TO fdt"
mariadb bank -e "$tables INSERT INTO account SELECT seq, %[2]d FROM seq_0_to_%[1]d WHERE seq < %[1]d"
systemctl stop fdt
rm -f /etc/fdt/transaction-log # an operator's word: another file system's log shall serve
mount -t tmpfs -o size=64m,mode=0750,uid=fdt,gid=fdt log /var/lib/fdt/txn
systemctl start fdt
`

func bankInstall(ctx context.Context, s *Stage) error {
	if said, err := s.Bed.Install(ctx, s.Deb); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	if _, err := s.Bed.Shell(ctx, fmt.Sprintf(bankSetup, bankAccounts, bankBalance)); err != nil {
		return err
	}
	config := strings.ReplaceAll(bankConfig, "&PARAMETERS", "\n    parameters: {id: text, a: integer, b: integer, amount: bigint}")
	if err := s.Bed.WriteFile(ctx, "/etc/fdt/config.d/50-bank.yaml", []byte(config)); err != nil {
		return err
	}
	if _, err := s.must(ctx, "fdtctl reload && fdtctl decider init bank_a"); err != nil {
		return err
	}
	// From the beginning, so that it has decided, whatever becomes of the reloads that take it out and name it again.
	_, err := s.Bed.Shell(ctx, bankDecider)
	return err
}

// bankDecider has PostgreSQL's own commit be the decision from now on, or no longer, if it was. What is decided there already is
// carried out by workers of either kind.
const bankDecider = `
f=/etc/fdt/config.d/50-bank.yaml
if grep -q 'decider: bank_a, ' $f; then sed -i 's/decider: bank_a, //' $f; else sed -i 's/^transaction: {/&decider: bank_a, /' $f; fi
fdtctl reload
`

// harm is something bad that happens to the bank again and again.
type harm struct {
	what      string
	low, high time.Duration // pause before it
	script    string
	mayFail   bool // as may a reload while a database is down
	times     atomic.Int64
}

// harms are those that come from outside the clients.
func harms() []*harm {
	return []*harm{
		{what: "SIGKILL of a worker", low: 300 * time.Millisecond, high: 2 * time.Second, mayFail: true, // there may be none at the moment
			script: `kill -9 $(systemctl show -P MainPID 'fdt-worker@*' | grep -vx -e 0 -e '' | shuf -n 1)`},
		{what: "SIGKILL of the master", low: 2 * time.Second, high: 5 * time.Second, mayFail: true,
			script: "kill -9 $(systemctl show -P MainPID fdt | grep -vx 0)"},
		{what: "SIGKILL of PostgreSQL", low: 2 * time.Second, high: 6 * time.Second, mayFail: true,
			script: "systemctl kill --signal=KILL --kill-who=main 'postgresql@*.service'; " + patiently("psql bank -c 'SELECT 1'")},
		{what: "SIGKILL of MariaDB", low: 2 * time.Second, high: 6 * time.Second, mayFail: true,
			script: "systemctl kill --signal=KILL --kill-who=main mariadb; " + patiently("mariadb bank -e 'SELECT 1'")},
		{what: "reload that names a decider, or takes it out", low: time.Second, high: 3 * time.Second, mayFail: true, script: bankDecider},
		{what: "full disk", low: time.Second, high: 4 * time.Second,
			script: "! cat /dev/zero >/var/lib/fdt/txn/.full; sleep 0.7; rm /var/lib/fdt/txn/.full"},
	}
}

// patiently is a script that runs a command again until it succeeds.
func patiently(command string) string {
	return "for i in {1..300}; do " + command + " && exit; sleep 0.1; done >/dev/null 2>&1; exit 1"
}

// happen lets it happen until ctx ends, and then until it has happened: a reload may not get through before the others
// are quiet.
func (d *harm) happen(ctx context.Context, s *Stage) error {
	whole := context.WithoutCancel(ctx)
	for tries := 0; tries < 100; tries++ {
		select {
		case <-ctx.Done():
			if d.times.Load() > 0 {
				return nil
			}
			time.Sleep(200 * time.Millisecond)
		case <-time.After(d.low + rand.N(d.high-d.low)):
		}
		out, err := s.quiet(whole, d.script)
		switch {
		case err == nil:
			d.times.Add(1)
		case !d.mayFail:
			return fmt.Errorf("%s: %w: %s", d.what, err, out)
		default:
			s.say("no %s: %s", d.what, strings.TrimSpace(out))
		}
	}
	return nil
}

func bankTransfers(ctx context.Context, s *Stage) error {
	books := new(ledger.Ledger)
	bad := harms()
	var said heard
	running, cancel := context.WithTimeout(ctx, bankFor)
	defer cancel()
	var harming, working sync.WaitGroup
	errs := make([]error, len(bad))
	for i, d := range bad {
		harming.Go(func() { errs[i] = d.happen(running, s) })
	}
	open, close := context.WithCancel(ctx)
	defer close()
	for n := range bankTellers {
		working.Go(func() { (&teller{s: s, books: books, heard: &said, name: fmt.Sprintf("t%d", n)}).work(open) })
	}
	harming.Wait()
	close()
	working.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.say("said of transfers: %s", books)
	s.say("clients heard: %v", said.kinds)
	for _, d := range bad {
		s.check(d.times.Load() > 0, "it happened: "+d.what, "%d times", d.times.Load())
	}
	s.check(said.cuts.Load() > 0, "it happened: a client died in a call", "%d times", said.cuts.Load())
	s.check(len(said.internal) == 0, "no client heard of an internal error", "%d times, %.300q", len(said.internal), slices.Compact(slices.Sorted(slices.Values(said.internal))))
	if err := s.bankSettle(ctx, books); err != nil {
		return err
	}
	return s.bankAudit(ctx, books)
}
