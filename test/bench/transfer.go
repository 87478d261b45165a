package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	pgbenchRounds = 3
	pgbenchPeriod = 2 // seconds
)

// The transfer in PostgreSQL, as pgbench(1) scripts. Both draw the accounts and the amount in the client.
const (
	draw = `\set src random(1, 10000)
\set dst random(1, 10000)
\set amount random(1, 100)
`
	straightScript = draw + `BEGIN;
UPDATE account SET balance = balance - :amount WHERE id = :src;
UPDATE account SET balance = balance + :amount WHERE id = :dst;
INSERT INTO ledger (src, dst, amount) VALUES (:src, :dst, :amount);
SELECT balance FROM account WHERE id = :src;
COMMIT;
`
	callScript = draw + "CALL transfer(:src, :dst, :amount);\n"
)

// transfers compares a transfer of four statements in one PostgreSQL, by pgbench: straight, through Debian's PgBouncer (pooling
// transactions), and as one CALL to fdt, whose procedure has the same four statements. All are sent in the simple protocol, the only
// one that Debian's PgBouncer can pool.
func transfers(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.bank(ctx); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, fmt.Sprintf(`
workers: {count: 2}
reload: {settle: 0s}
resources: {bank_a: {type: postgres, dsn: %q, pool: 64}}
procedures:
  transfer:
    parameters: {src: int, dst: int, amount: bigint}
    steps:
      - {on: bank_a, sql: "UPDATE account SET balance = balance - :amount WHERE id = :src", rows: 1}
      - {on: bank_a, sql: "UPDATE account SET balance = balance + :amount WHERE id = :dst", rows: 1}
      - {on: bank_a, sql: "INSERT INTO ledger (src, dst, amount) VALUES (:src, :dst, :amount)"}
      - {on: bank_a, sql: "SELECT balance FROM account WHERE id = :src", rows: 1}
`, fmt.Sprintf(postgresDSN, "fdt")), ""); err != nil {
		return nil, err
	}
	if err := s.pgbouncer(ctx); err != nil {
		return nil, err
	}
	for _, clients := range []int{1, 16, 64} {
		figures, err := interleave(ctx, pgbenchRounds,
			s.pgbench("straight.sql", clients, "-h /run/postgresql"),
			s.pgbench("straight.sql", clients, "-h /run/pgbouncer -p 6432"),
			s.pgbench("call.sql", clients, "-h /run/fdt -p 7432"))
		if err != nil {
			return rows, err
		}
		straight, pooled, call := figures[0], figures[1], figures[2]
		fdt := fmt.Sprintf("%.0f/s", call.median())
		rows = append(rows, row{
			measure: fmt.Sprintf("transfer of four statements as one CALL, %d clients, over PgBouncer", clients),
			fdt:     fdt, peer: fmt.Sprintf("through PgBouncer %.0f/s", pooled.median()),
			ratio: call.over(pooled), aim: atLeast(1.5),
		}, row{
			measure: fmt.Sprintf("transfer of four statements as one CALL, %d clients, over PostgreSQL", clients),
			fdt:     fdt, peer: fmt.Sprintf("straight %.0f/s", straight.median()),
			ratio: call.over(straight), aim: atLeast(1),
		})
	}
	return rows, nil
}

// pgbouncer starts Debian's, with as many connections to the database as fdt may open.
func (s *site) pgbouncer(ctx context.Context) error {
	if err := write("/etc/pgbouncer/pgbouncer.ini", `
[databases]
bank = host=/run/postgresql user=postgres
[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /run/pgbouncer/pgbouncer.pid
listen_addr =
listen_port = 6432
unix_socket_dir = /run/pgbouncer
auth_type = any
pool_mode = transaction
default_pool_size = 64
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
`); err != nil {
		return err
	}
	_, err := s.shell(ctx, `
		psql -q bank -c "GRANT ALL ON account, ledger TO postgres"
		mkdir -p /run/pgbouncer && chown postgres /run/pgbouncer
		systemctl restart pgbouncer`)
	return err
}

// pgbench is a side: transactions per second by a script.
func (s *site) pgbench(script string, clients int, where string) side {
	return func(ctx context.Context) (float64, error) {
		path := filepath.Join(scratch, script)
		text := straightScript
		if script == "call.sql" {
			text = callScript
		}
		if err := write(path, text); err != nil {
			return 0, err
		}
		out, err := s.shell(ctx, fmt.Sprintf(`$(ls /usr/lib/postgresql/*/bin/pgbench) -n -M simple -f %s -c %d -j 2 -T %d -U root %s bank`,
			path, clients, pgbenchPeriod, where))
		if err != nil {
			return 0, err
		}
		_, after, _ := strings.Cut(out, "tps = ")
		return strconv.ParseFloat(strings.Fields(after + " ?")[0], 64)
	}
}
