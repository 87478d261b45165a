package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// banks are one resource in each database, with a procedure that needs both.
var banks = settings{
	resources: `{bank_a: {type: postgres, dsn: "host=/run/postgresql dbname=bank user=fdt", pool: 4},` +
		` bank_b: {type: mariadb, dsn: "fdt@unix(/run/mysqld/mysqld.sock)/bank", pool: 4}}`,
	procedures: `{transfer: {parameters: {amount: bigint}, steps: [` +
		`{on: bank_a, sql: "UPDATE account SET balance = balance - :amount", rows: 1}, ` +
		`{on: bank_b, sql: "UPDATE account SET balance = balance + :amount", rows: 1}]}}`,
}

// rehearsal rolls out resources in databases that are not fit for them, as Debian installs those, and mends them one by one.
func rehearsal(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	if err := s.configure(ctx, banks); err != nil {
		return err
	}
	for _, step := range []struct{ what, before, reason string }{
		{"databases that are down", "systemctl stop postgresql mariadb", "resource bank_b:"},
		{"a PostgreSQL without max_prepared_transactions, as it is installed", `systemctl start postgresql mariadb &&
			runuser -u postgres -- psql -q -c 'CREATE ROLE fdt LOGIN' -c 'GRANT pg_read_all_stats, pg_signal_backend TO fdt' -c 'CREATE DATABASE bank OWNER fdt' &&
			runuser -u postgres -- psql -q bank -c 'CREATE TABLE account (balance bigint); INSERT INTO account VALUES (100); GRANT ALL ON account TO fdt' &&
			mariadb -e 'CREATE DATABASE bank; CREATE USER fdt@localhost IDENTIFIED VIA unix_socket; GRANT PROCESS ON *.* TO fdt@localhost; GRANT ALL ON bank.* TO fdt@localhost'`,
			"max_prepared_transactions"},
		{"a procedure's statement for a table that is not there", `echo 'max_prepared_transactions = 16' >$(echo /etc/postgresql/*/main/conf.d)/fdt.conf && systemctl restart postgresql`,
			"step 2 of procedure transfer, on bank_b"},
	} {
		if _, err := s.must(ctx, step.before); err != nil {
			return err
		}
		if err := s.refusedRollout(ctx, step.what, step.reason); err != nil {
			return err
		}
	}
	out, err := s.quiet(ctx, "systemctl show -P StatusText fdt")
	s.check(err == nil && strings.Contains(out, "/etc/fdt/config.d/50-rollout.yaml:5:"), "STATUS has where in the configuration that statement is", "%s", grep(out, "50-rollout"))
	if _, err := s.must(ctx, "mariadb bank -e 'CREATE TABLE account (balance bigint); INSERT INTO account VALUES (100)'"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt && "+psql+` -c "CALL transfer(1)"`); err != nil {
		return err
	}
	out, err = s.must(ctx, `runuser -u postgres -- psql -At bank -c 'SELECT balance FROM account' -c 'SELECT gid FROM pg_prepared_xacts'; mariadb -N bank -e 'SELECT balance FROM account; XA RECOVER'`)
	if err != nil {
		return err
	}
	s.check(strings.Join(strings.Fields(out), " ") == "99 101", "rehearsed on both databases: the reload succeeds, a transfer commits, nothing is left prepared", "%q", out)

	// The reload may be what mends it.
	if _, err := s.must(ctx, "systemctl kill --signal=STOP 'postgresql@*'"); err != nil {
		return err
	}
	out, err = s.show(ctx, "fdtctl reload")
	s.check(err == nil, "a database that stands still for both generations does not hold up a reload", "%s", lastLine(out))
	if _, err := s.must(ctx, "systemctl kill --signal=CONT 'postgresql@*' && systemctl stop mariadb"); err != nil {
		return err
	}
	out, err = s.show(ctx, "fdtctl reload")
	s.check(err == nil, "a database that is down for the serving generation as well does not hold up a reload", "%s", lastLine(out))
	s.check(strings.Contains(out, "warning: resource bank_b: unreachable: "), "the reload's answer names it", "%s", out)
	if err := s.resourcesTold(ctx); err != nil {
		return err
	}
	broken := banks
	broken.procedures = `{lookup: {steps: [{on: bank_a, sql: "SELECT 1 FROM nowhere"}]}}`
	if err := s.configure(ctx, broken); err != nil {
		return err
	}
	if err := s.refusedRollout(ctx, "beside it, a statement that is new and wrong", "step 1 of procedure lookup, on bank_a"); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl stop postgresql"); err != nil {
		return fmt.Errorf("tidy up: %w", err)
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "generations whose rehearsal failed")
}

// resourcesTold looks where an operator looks while bank_b is down and bank_a is not: the status, STATUS=, and what is printed as JSON.
func (s *Stage) resourcesTold(ctx context.Context) error {
	out, err := s.show(ctx, "fdtctl status")
	if err != nil {
		return err
	}
	var rows []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "bank_") || strings.HasPrefix(line, "local") {
			rows = append(rows, strings.Join(strings.Fields(line), " "))
		}
	}
	text := strings.Join(rows, "\n")
	s.check(strings.Contains(text, "bank_a postgres reachable") && strings.Contains(text, "bank_b mariadb unreachable") &&
		strings.Contains(text, "local "+socketPath+" open"), "the status tells how each resource fares, and names listeners as the configuration does", "%s", text)
	_, err = until(ctx, "STATUS= names it", func() (bool, error) {
		out, err = s.quiet(ctx, "systemctl show -P StatusText fdt")
		return strings.Contains(out, "; resource bank_b unreachable"), err
	})
	s.check(err == nil, "the line of systemctl status names what cannot be used", "%s", strings.TrimSpace(out))
	out, err = s.quiet(ctx, "fdtctl reload --json")
	var answer struct {
		Generation int      `json:"generation"`
		Warnings   []string `json:"warnings"`
	}
	if jerr := json.Unmarshal([]byte(out), &answer); err == nil {
		err = jerr
	}
	s.check(err == nil && answer.Generation > 0 && len(answer.Warnings) > 0 && strings.HasPrefix(answer.Warnings[0], "resource bank_b: unreachable: "),
		"--json has the same words", "%+v", answer)
	return ctx.Err()
}
