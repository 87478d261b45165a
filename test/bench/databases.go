package main

import (
	"context"
	"fmt"
)

// accounts is how many there are in each database.
const accounts = 10_000

// Where the databases listen, and what fdt's workers are there: each knows them by their unix user.
const (
	postgresDSN = "host=/run/postgresql dbname=bank user=%s"
	mariadbDSN  = "%s@unix(/run/mysqld/mysqld.sock)/bank"
)

// bank makes sure that there is a bank in both databases, as Debian installs them but for what transactions of two phases and many
// clients need, and that this process (root) and fdt's workers may use it.
func (s *site) bank(ctx context.Context) error {
	if s.databases {
		return nil
	}
	_, err := s.shell(ctx, fmt.Sprintf(`
		cd /etc/postgresql/*/main/conf.d
		cat >bench.conf <<-END
			max_connections = 700
			max_prepared_transactions = 700
			shared_buffers = 256MB
		END
		cat >/etc/mysql/mariadb.conf.d/99-bench.cnf <<-END
			[mariadb]
			max_connections = 700
			innodb_buffer_pool_size = 256M
		END
		systemctl restart postgresql mariadb
		cd /
		su postgres -c "psql -q" <<-END
			CREATE ROLE root LOGIN SUPERUSER;
			CREATE ROLE fdt LOGIN;
			GRANT pg_read_all_stats, pg_signal_backend TO fdt;
			CREATE DATABASE bank OWNER fdt;
		END
		psql -q bank <<-END
			CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
			INSERT INTO account SELECT n, 1000000 FROM generate_series(1, %[1]d) n;
			CREATE TABLE ledger (src int, dst int, amount bigint, at timestamptz DEFAULT now());
			GRANT ALL ON account, ledger TO fdt;
			VACUUM ANALYZE account;
		END
		mariadb <<-END
			CREATE DATABASE bank;
			CREATE USER fdt@localhost IDENTIFIED VIA unix_socket;
			GRANT PROCESS ON *.* TO fdt@localhost;
			GRANT ALL ON bank.* TO fdt@localhost;
			CREATE TABLE bank.account (id int PRIMARY KEY, balance bigint NOT NULL);
			INSERT INTO bank.account SELECT seq, 1000000 FROM bank.seq_1_to_%[1]d;
		END`, accounts))
	s.databases = err == nil
	return err
}
