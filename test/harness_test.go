package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/test/scenario"
)

// machine is a container with fdt installed, for one test.
type machine struct {
	*testing.T
	bed *bed.Bed
}

// deb is the package to test.
func deb(t *testing.T, variable string) string {
	t.Helper()
	if os.Getenv("FDT_BED") != "1" {
		t.Skip("set FDT_BED=1 (as root) and " + variable + " to boot containers")
	}
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s names no package; make integration sets it", variable)
	}
	return path
}

// boot boots a container that the test's end closes. If the test has failed, the journal goes into its log.
func boot(t *testing.T, o bed.Options) machine {
	t.Helper()
	b, err := bed.Boot(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			journal, err := b.Journal(ctx, "-b", "-o", "short-precise", "-n", "300")
			t.Logf("journal (%v):\n%s", err, journal)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return machine{t, b}
}

// Run runs a subtest with the machine as its own: what fails there fails the subtest. In the place of T's method, so that
// no subtest ends its parent, which may not be.
func (m machine) Run(name string, f func(m machine)) bool {
	m.Helper()
	return m.T.Run(name, func(t *testing.T) { f(machine{t, m.bed}) })
}

// acts plays a scenario as a subtest, in which every claim must hold, and tells whether they did.
func (m machine) acts(deb string, sc scenario.Scenario) bool {
	return m.Run(sc.Name, func(m machine) { m.play(deb, sc) })
}

// play plays a scenario, in which every claim must hold.
func (m machine) play(deb string, sc scenario.Scenario) {
	m.Helper()
	stage := &scenario.Stage{Bed: m.bed, Deb: deb, Out: m.Output()}
	if err := stage.Play(m.Context(), sc); err != nil {
		m.Fatal(err)
	}
	for _, f := range stage.Failed() {
		m.Errorf("%s: %s", f.Claim, f.Seen)
	}
}

// finish stops fdt in order, so that instrumented programs leave their counters.
func (m machine) finish() {
	m.Helper()
	if !m.Failed() {
		m.must("systemctl stop fdt")
	}
}

// quick is a configuration with which rollouts take no longer than they must. A worker may take as long to start as a busy
// machine needs: no test waits for that.
const quick = `
workers: {count: 2}
reload: {settle: 0s, ready_timeout: 2m}
`

// installed boots a container, installs the package and has it serve with few workers and quick reloads.
func installed(t *testing.T, o bed.Options) machine {
	t.Helper()
	path := deb(t, "FDT_DEB")
	m := boot(t, o)
	m.install(path)
	m.configure("10-quick", quick)
	m.must("systemctl reload fdt")
	return m
}

// bankDatabases makes two databases with a table in servers that run, bankSetup has the servers take them, and bankResources are they.
const (
	bankDatabases = `
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
psql -q -v ON_ERROR_STOP=1 bank -c "CREATE TABLE note (body text PRIMARY KEY); GRANT ALL ON note TO fdt"
mariadb bank -e "CREATE TABLE note (body varchar(80) PRIMARY KEY)"
`
	bankSetup = `
printf 'max_prepared_transactions = 200\nmax_connections = 200\n' >$(echo /etc/postgresql/*/main/conf.d)/bank.conf
systemctl restart 'postgresql@*.service'
` + bankDatabases
	bankResources = `
resources:
  bank_a: {type: postgres, dsn: "host=/run/postgresql dbname=bank user=fdt"}
  bank_b: {type: mariadb, dsn: "fdt@unix(/run/mysqld/mysqld.sock)/bank"}
`
)

// bank boots a machine with such databases, and has fdt serve them, with what more the configuration is to have behind its resources.
func bank(t *testing.T, release, more string) machine {
	t.Helper()
	m := installed(t, bed.Options{Release: release, Databases: true})
	m.must(bankSetup + "sed -i '/^procedures:/,$d' /etc/fdt/config.yaml")
	m.configure("50-bank", bankResources+more)
	m.must("systemctl reload fdt")
	return m
}

func (m machine) install(path string) {
	m.Helper()
	if out, err := m.bed.Install(m.Context(), path); err != nil {
		m.Fatalf("%v\n%s", err, out)
	}
}

// configure writes a file below /etc/fdt/config.d, without applying it.
func (m machine) configure(name, yaml string) {
	m.Helper()
	m.write("/etc/fdt/config.d/"+name+".yaml", yaml)
}

// dropIn gives a unit a drop-in, which systemd has yet to load.
func (m machine) dropIn(unit, settings string) {
	m.Helper()
	m.must("mkdir -p /etc/systemd/system/" + unit + ".d")
	m.write("/etc/systemd/system/"+unit+".d/99-test.conf", settings)
}

func (m machine) write(path, text string) {
	m.Helper()
	if err := m.bed.WriteFile(m.Context(), path, []byte(text)); err != nil {
		m.Fatal(err)
	}
}

// must runs a script inside that has to succeed, and returns what it printed, without the last newline.
func (m machine) must(script string) string {
	m.Helper()
	out, err := m.try(script)
	if err != nil {
		why, _ := m.bed.Journal(m.Context(), "-b", "-o", "cat", "-n", "10", "-p", "warning", "-u", "fdt*")
		m.Fatalf("%v\nthe last warnings of fdt:\n%s", err, why)
	}
	return out
}

// try runs a script inside, for at most twice as long as a test waits for one thing.
func (m machine) try(script string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(m.Context(), 2*testwait.Patience, fmt.Errorf("it hangs: %s", script))
	defer cancel()
	out, err := m.bed.Shell(ctx, script)
	return strings.TrimSuffix(out, "\n"), err
}

// eventually waits until a script inside succeeds.
func (m machine) eventually(script string) {
	m.Helper()
	m.must(fmt.Sprintf("while [ $SECONDS -lt %d ]; do if %s; then exit 0; fi; sleep 0.1; done >/dev/null; exit 1", int(testwait.Patience.Seconds()), script))
}

// socketUnit is the one listener's unit, without its suffix.
func (m machine) socketUnit() string {
	m.Helper()
	return strings.TrimSuffix(m.must("cd /run/systemd/generator && ls -d fdt-listen@*.socket | head -n 1"), ".socket")
}

// workers are the names of the running workers' units.
func (m machine) workers() []string {
	m.Helper()
	return strings.Fields(m.must("systemctl list-units --plain --no-legend --state=active 'fdt-worker@*' | awk '{print $1}'"))
}

// dial connects to the default listener as root.
func (m machine) dial() (net.Conn, error) {
	return m.bed.Dial(m.Context(), "unix", "/run/fdt/.s.PGSQL.7432")
}

// connect opens a session on the default listener, closed by the test's end.
func (m machine) connect() *pgconn.PgConn {
	m.Helper()
	conn, err := m.session()
	if err != nil {
		m.Fatal(err)
	}
	return conn
}

// session is connect for a goroutine of the test, which may not end the test.
func (m machine) session() (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=/run/fdt port=7432 user=root database=fdt sslmode=disable connect_timeout=30")
	if err != nil {
		return nil, err
	}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return m.dial() }
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	conn, err := pgconn.ConnectConfig(m.Context(), config)
	if err != nil {
		return nil, err
	}
	m.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn.Close(ctx)
	})
	return conn, nil
}

// exec runs statements in a session.
func (m machine) exec(conn *pgconn.PgConn, sql string) error {
	ctx, cancel := context.WithTimeout(m.Context(), testwait.Patience)
	defer cancel()
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

// open opens a session with a transaction.
func (m machine) open() *pgconn.PgConn {
	m.Helper()
	conn := m.connect()
	if err := m.exec(conn, "BEGIN; CALL enqueue('open')"); err != nil {
		m.Fatal(err)
	}
	return conn
}

// releases are those of Debian on which what takes long is played, if the version of systemd has no say in it: the newest, and with
// FDT_FULL=1 all.
func releases() []string {
	if os.Getenv("FDT_FULL") == "1" {
		return []string{"trixie", "bookworm"}
	}
	return []string{"trixie"}
}
