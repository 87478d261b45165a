package clients

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// TestClients runs every client every way, and then pools of connections while fdt reloads. Of the tools it runs a few, and all if FDT_CLIENTS
// is all, as make clients sets it.
func TestClients(t *testing.T) {
	m := boot(t, "bookworm")
	t.Run("Statements", m.statements)
	t.Run("Tools", m.tools)
	t.Run("Start", m.starts)
	t.Run("Reloads", m.reloads)
	t.Run("Paused", m.paused)
	m.settled(t)
}

// TestNewerClients does the same with what Debian 13 has.
func TestNewerClients(t *testing.T) {
	if !everything() {
		t.Skip("make clients runs it")
	}
	m := boot(t, "trixie")
	t.Run("Statements", m.statements)
	t.Run("Tools", m.tools)
	t.Run("Reloads", m.reloads)
	t.Run("Paused", m.paused)
	m.settled(t)
}

// everything tells whether all tools are to be run.
func everything() bool { return os.Getenv("FDT_CLIENTS") == "all" }

// settled demands that nothing is left of what the clients did.
func (m *machine) settled(t *testing.T) {
	if got := m.run(t, "fdtctl txn list --json; runuser -u fdt -- psql -At bank -c 'SELECT gid FROM pg_prepared_xacts'"); got != "[]" && got != "" {
		t.Errorf("left in doubt: %s", got)
	}
	if got := m.run(t, "journalctl -b -q -u 'fdt*' -p warning"); got != "" {
		t.Errorf("complaints: %s", got)
	}
}

func (m *machine) statements(t *testing.T) {
	for _, client := range []struct {
		name string
		ways []string
		args []string
	}{
		{"Psycopg2", []string{"peer", "bound", "session", "transaction"}, []string{"python3", "/clients/psycopg2_client.py"}},
		{"Psycopg3", []string{"peer", "bound", "session"}, []string{"python3", "/clients/psycopg3_client.py"}},
		{"Zope", []string{"peer", "session", "transaction"}, []string{"python3", "/clients/zope_client.py"}},
		{"PgJDBC", []string{"scram"}, []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jars, "/clients/Jdbc.java"}},
		{"PGX", []string{"peer", "scram"}, []string{"/clients/bin/pgx"}},
		{"PQ", []string{"peer", "scram", "session"}, []string{"/clients/bin/pq"}},
		{"Node", []string{"peer", "scram", "session"}, []string{"node", "--no-deprecation", "/clients/node/client.js"}},
	} {
		for _, way := range client.ways {
			t.Run(client.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				m.play(t, way, m.account(), client.args...)
			})
		}
	}
	for _, way := range []string{"peer", "bound", "session"} {
		t.Run("Psql/"+way, func(t *testing.T) {
			t.Parallel()
			m.psql(t, way)
		})
	}
	for _, way := range []string{"peer", "session", "transaction"} {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			if way == "transaction" && mode == "prepared" && m.release == "bookworm" {
				continue // this version of PgBouncer knows no prepared statements there
			}
			t.Run("Pgbench/"+way+"/"+mode, func(t *testing.T) {
				t.Parallel()
				m.pgbench(t, way, mode)
			})
		}
	}
}

// psql prints what is in the golden file.
func (m *machine) psql(t *testing.T, way string) {
	const name = "testdata/psql.out"
	got := m.play(t, way, m.account(), "psql", "-X", "-f", "/clients/psql.sql")
	if *testgolden.Update && m.release == "bookworm" {
		testgolden.Write(t, name, got)
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", name, got)
	}
}

// pgbench makes 160 transactions by four clients; each adds 1 to one account, in two parts.
func (m *machine) pgbench(t *testing.T, way, mode string) {
	account := m.account()
	m.play(t, way, account, "sh", "-c", "exec pgbench --no-vacuum --protocol="+mode+
		" --client=4 --jobs=2 --transactions=40 --define=account=$ACCOUNT --file=/clients/pgbench.sql")
	if got := m.balance(t, account); got != "160" {
		t.Errorf("balance: %s", got)
	}
}

// node and others are how programs of a language are run.
var (
	node   = []string{"node", "--no-deprecation", "/clients/tools/node_tool.js"}
	python = []string{"/usr/bin/python3"}
	golang = []string{"/clients/bin/tools"}
)

// tool is an unmodified tool. Its program connects, selects a constant, and, unless its last argument is start, looks a procedure up,
// calls it, selects from it, makes transactions with and without savepoints, prepares statements, uses the tool's pool and its check of
// connections, and two-phase commit; each as far as the tool has it.
type tool struct {
	name   string
	ways   []string
	args   []string
	cheap  bool // also run where not all are
	newer  bool // Debian 13 has it, and Debian 12 does not
	silent bool // has no start of its own to be recorded
}

var toolbox = []tool{
	{name: "asyncpg", ways: []string{"host", "peer"}, args: append(python, "/clients/tools/asyncpg_tool.py"), cheap: true},
	{name: "SQLAlchemy on psycopg2", ways: []string{"host", "peer"}, args: append(python, "/clients/tools/sqlalchemy_tool.py", "psycopg2"), cheap: true},
	{name: "SQLAlchemy on asyncpg", ways: []string{"host"}, args: append(python, "/clients/tools/sqlalchemy_tool.py", "asyncpg")},
	{name: "SQLAlchemy on psycopg 3", ways: []string{"host"}, args: append(python, "/clients/tools/sqlalchemy_tool.py", "psycopg"), newer: true},
	{name: "Django", ways: []string{"host", "peer"}, args: append(python, "/clients/tools/django_tool.py")},
	{name: "peewee", ways: []string{"host", "peer"}, args: append(python, "/clients/tools/peewee_tool.py")},
	{name: "PDO", ways: []string{"host", "peer"}, args: []string{"php", "/clients/tools/pdo.php"}},
	{name: "DBD::Pg", ways: []string{"host", "peer"}, args: []string{"perl", "/clients/tools/dbd.pl"}},
	{name: "ruby-pg", ways: []string{"host", "peer"}, args: []string{"ruby", "/clients/tools/pg.rb"}},
	{name: "postgres.js", ways: []string{"host"}, args: append(node, "postgres"), cheap: true},
	{name: "sequelize", ways: []string{"host"}, args: append(node, "sequelize"), cheap: true},
	{name: "knex", ways: []string{"host", "peer"}, args: append(node, "knex")},
	{name: "drizzle", ways: []string{"host", "peer"}, args: append(node, "drizzle")},
	{name: "pg-promise", ways: []string{"host", "peer"}, args: append(node, "pg-promise")},
	{name: "pgx", ways: []string{"host", "peer"}, args: append(golang, "pgx")},
	{name: "lib/pq", ways: []string{"host"}, args: append(golang, "pq")},
	{name: "sqlx", ways: []string{"host"}, args: append(golang, "sqlx")},
	{name: "gorm", ways: []string{"host", "peer"}, args: append(golang, "gorm")},
	{name: "bun", ways: []string{"host", "scram"}, args: append(golang, "bun")},
	{name: "go-pg", ways: []string{"host", "scram"}, args: append(golang, "go-pg")},
	{name: "Debian's node-postgres", ways: []string{"host", "peer"}, args: []string{"node", "--no-deprecation", "/run/debian/client.js"}, silent: true},
	{name: "pgcli", ways: []string{"peer"}, args: []string{"sh", "/clients/tools/pgcli.sh"}, silent: true},
	{name: "psql's lists", ways: []string{"peer"}, args: []string{"sh", "/clients/tools/psql.sh"}, cheap: true, silent: true},
}

// absent are the versions and tools that the registries which the tests reach do not have: Debian's packages, Go's module proxy and npm.
var absent = []string{
	"PyPI: what is newer than Debian 13 has of asyncpg, SQLAlchemy, psycopg2, psycopg 3, Django, peewee and pgcli",
	"Maven Central: what is newer than Debian 13 has of PgJDBC and HikariCP; Hibernate, jOOQ, R2DBC, Quarkus",
	"RubyGems: what is newer than Debian 13 has of ruby-pg; ActiveRecord, Sequel",
	"Packagist: Doctrine, Laravel; PDO is PHP's own",
	"CPAN: what is newer than Debian 13 has of DBD::Pg",
	"crates.io: tokio-postgres, sqlx, diesel, sea-orm",
	"NuGet: Npgsql, Entity Framework",
	"Debian packages gorm, sqlx, bun, pgx and lib/pq as sources of libraries alone, so they are Go's newest",
}

// tools runs those of the release.
func (m *machine) tools(t *testing.T) {
	if everything() {
		t.Logf("not to be had here, and so not run:\n%s", strings.Join(absent, "\n"))
	}
	for _, tool := range toolbox {
		if !tool.cheap && !everything() || tool.newer && m.release == "bookworm" {
			continue
		}
		for _, way := range tool.ways {
			t.Run(tool.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				m.play(t, way, m.account(), slices.Clone(tool.args)...)
			})
		}
	}
}
