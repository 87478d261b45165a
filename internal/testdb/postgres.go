package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// ErrNoPostgres says that no PostgreSQL server is installed here, and what to install.
var ErrNoPostgres = errors.New("no PostgreSQL server found in /usr/lib/postgresql/*/bin: apt-get install postgresql")

// Postgres is one PostgreSQL cluster with the superuser "fdt", trust authentication and max_prepared_transactions=64.
type Postgres struct {
	server
	bin      string // where its programs are
	settings []string
}

// StartPostgres makes a cluster and starts it. Settings are "name=value", added to or overriding the defaults. The caller calls Close.
func StartPostgres(settings ...string) (*Postgres, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return nil, ErrNoPostgres
	}
	bin := filepath.Dir(slices.Max(found))
	cred, err := account("postgres")
	if err != nil {
		return nil, err
	}
	dir, err := directory("fdt-pg-", cred)
	if err != nil {
		return nil, err
	}
	return postgres(bin, dir, cred, settings, "initdb", "-A", "trust", "-U", "fdt", "-E", "UTF8", "--locale=C", "--no-sync")
}

// Standby makes a copy of the cluster, which goes on receiving what changes there, and starts it. The caller calls Close.
func (p *Postgres) Standby() (*Postgres, error) {
	dir, err := directory("fdt-pg-", p.cred)
	if err != nil {
		return nil, err
	}
	return postgres(p.bin, dir, p.cred, p.settings, "pg_basebackup", "-h", p.dir, "-U", "fdt", "-R", "-X", "stream", "-c", "fast", "--no-sync")
}

// postgres has a program make a cluster in dir, and starts it.
func postgres(bin, dir string, cred *syscall.Credential, settings []string, maker string, args ...string) (*Postgres, error) {
	p := &Postgres{bin: bin, settings: settings}
	p.server = server{name: "PostgreSQL", dir: dir, cred: cred, stop: syscall.SIGINT, death: syscall.SIGQUIT, ping: p.answer}
	data := filepath.Join(dir, "data")
	p.argv = []string{filepath.Join(bin, "postgres"), "-D", data}
	defaults := []string{
		"listen_addresses=", "unix_socket_directories=" + dir, "max_prepared_transactions=64", "shared_buffers=16MB", "max_connections=200",
		"max_wal_size=256MB", "autovacuum=off", "log_checkpoints=off",
	}
	for _, s := range append(defaults, settings...) {
		p.argv = append(p.argv, "-c", s)
	}
	err := run(dir, cred, append([]string{filepath.Join(bin, maker), "-D", data}, args...)...)
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// DSN is the connection string of a database, for the superuser "fdt".
func (p *Postgres) DSN(database string) string {
	return fmt.Sprintf("host=%s user=fdt dbname=%s sslmode=disable", p.dir, database)
}

// Exec runs statements in a database, as the superuser.
func (p *Postgres) Exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, p.DSN(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (p *Postgres) answer(ctx context.Context) error { return p.Exec(ctx, "postgres") }
