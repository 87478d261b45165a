package testdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// ErrNoMariaDB says that no MariaDB server is installed here, and what to install.
var ErrNoMariaDB = errors.New("no mariadbd and mariadb-install-db found: apt-get install --no-install-recommends mariadb-server")

// MariaDB is one MariaDB instance with the superuser "root" and the user "fdt", both without a password.
// The user "fdt" has all rights on the databases made by Database, and beyond only PROCESS.
type MariaDB struct {
	server
}

// StartMariaDB makes an instance and starts it. Settings are "name=value", as on mariadbd's command line. The caller calls Close.
func StartMariaDB(settings ...string) (*MariaDB, error) {
	const path = "/usr/sbin:/usr/bin"
	mariadbd, err := exec.LookPath("/usr/sbin/mariadbd")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoMariaDB, err)
	}
	install, err := exec.LookPath("/usr/bin/mariadb-install-db")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoMariaDB, err)
	}
	cred, err := account("mysql")
	if err != nil {
		return nil, err
	}
	dir, err := directory("fdt-my-", cred)
	if err != nil {
		return nil, err
	}
	m := &MariaDB{}
	m.server = server{name: "MariaDB", dir: dir, cred: cred, stop: syscall.SIGTERM, death: syscall.SIGKILL, ping: m.answer, env: []string{"PATH=" + path}}
	data := filepath.Join(dir, "data")
	m.argv = []string{
		mariadbd, "--no-defaults", "--datadir=" + data, "--socket=" + m.Socket(), "--skip-networking", "--skip-name-resolve",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=32M", "--performance-schema=OFF", "--max-connections=200",
	}
	for _, s := range settings {
		m.argv = append(m.argv, "--"+s)
	}
	err = run(dir, cred, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if err == nil {
		err = m.Start()
	}
	if err == nil {
		err = m.Exec(context.Background(), "", "CREATE USER fdt@localhost", "GRANT PROCESS ON *.* TO fdt@localhost")
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Socket is the path of the instance's unix socket.
func (m *MariaDB) Socket() string { return filepath.Join(m.dir, "s") }

// DSN is the connection string (go-sql-driver's form) of a database for a user.
func (m *MariaDB) DSN(user, database string) string {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.DBName = user, "unix", m.Socket(), database
	return c.FormatDSN()
}

// Database makes a database that the user "fdt" owns.
func (m *MariaDB) Database(ctx context.Context, name string) error {
	return m.Exec(ctx, "", "CREATE DATABASE `"+name+"`", "GRANT ALL ON `"+name+"`.* TO fdt@localhost")
}

// Exec runs statements in a database ("" for none), as root, on one connection.
func (m *MariaDB) Exec(ctx context.Context, database string, statements ...string) error {
	db, err := sql.Open("mysql", m.DSN("root", database))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// answer reads a table: a node of a Galera cluster answers before it does.
func (m *MariaDB) answer(ctx context.Context) error {
	return m.Exec(ctx, "", "DO (SELECT COUNT(*) FROM mysql.db)")
}
