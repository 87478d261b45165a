package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
)

// debian are the packages that hold the clients and what they need.
var debian = []string{
	"postgresql", "python3-psycopg2", "python3-psycopg", "python3-psycopg-pool", "python3-transaction",
	"libpostgresql-jdbc-java", "libhikaricp-java", "default-jdk-headless", "nodejs", "pgbouncer",
	"python3-asyncpg", "python3-sqlalchemy", "python3-django", "python3-peewee", "pgcli", "libdbd-pg-perl", "php-cli", "php-pgsql", "ruby-pg", "node-pg",
}

// ways are how clients come in: by their environment.
var ways = map[string][]string{
	"peer": {"PGHOST=/run/fdt", "PGPORT=7432", "PGUSER=clerk", "PGDATABASE=shop", "PGSSLMODE=disable"},
	"scram": {"PGHOST=127.0.0.1", "PGPORT=7432", "PGUSER=app", "PGPASSWORD=correct horse", "PGDATABASE=shop",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + certificate, "NODE_EXTRA_CA_CERTS=" + certificate,
		"FDT_URL=jdbc:postgresql://127.0.0.1:7432/shop?user=app&password=correct%20horse&sslmode=verify-full&sslrootcert=" + certificate},
	// No tool has an option set here but where the server is and who comes: one takes TLS, another does not.
	"host": {"PGHOST=127.0.0.1", "PGPORT=7433", "PGUSER=app", "PGPASSWORD=correct horse", "PGDATABASE=shop"},
	// Where the recorder leads, which itself is let in by the kernel's word. lib/pq would insist on TLS.
	"start": {"PGUSER=clerk", "PGDATABASE=shop"},
	// libpq can also demand that the password's exchange is bound to the TLS channel.
	"bound": {"PGHOST=127.0.0.1", "PGPORT=7432", "PGUSER=app", "PGPASSWORD=correct horse", "PGDATABASE=shop",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + certificate, "PGCHANNELBINDING=require"},
	"session":     {"PGHOST=/run/pgbouncer", "PGPORT=6432", "PGUSER=clerk", "PGDATABASE=session", "PGSSLMODE=disable"},
	"hot":         {"PGHOST=/run/pgbouncer", "PGPORT=6433", "PGUSER=clerk", "PGDATABASE=transaction", "PGSSLMODE=disable"},
	"transaction": {"PGHOST=/run/pgbouncer", "PGPORT=6432", "PGUSER=clerk", "PGDATABASE=transaction", "PGSSLMODE=disable"},
}

const certificate = "/usr/local/share/fdt.crt"

// jars are PgJDBC and HikariCP, as Debian installs them.
const jars = "/usr/share/java/postgresql.jar:/usr/share/java/HikariCP.jar:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-nop.jar"

// machine is a container with fdt in front of a bank in PostgreSQL, and with all clients.
type machine struct {
	bed      *bed.Bed
	release  string
	accounts atomic.Int64
	hang     sync.Once
}

// boot boots it; the end of the test closes it.
func boot(t *testing.T, release string) *machine {
	t.Helper()
	if os.Getenv("FDT_BED") != "1" {
		t.Skip("set FDT_BED=1 (as root) and FDT_DEB to boot containers")
	}
	deb := os.Getenv("FDT_DEB")
	if deb == "" {
		t.Fatal("FDT_DEB names no package; make integration sets it")
	}
	files := t.TempDir()
	must(t, gather(t.Context(), files))
	cache := os.Getenv("FDT_CACHE")
	if cache == "" {
		cache = "/var/cache/fdt-bed"
	}
	npm, err := modules(t.Context(), "testdata/node/package-lock.json", cache)
	must(t, err)
	b, err := bed.Boot(t.Context(), bed.Options{Release: release, Packages: debian, Binds: []string{files + ":/clients", filepath.Join(npm, "node_modules") + ":/clients/node_modules"}})
	must(t, err)
	m := &machine{bed: b, release: release}
	t.Cleanup(func() { m.close(t) })
	if out, err := b.Install(t.Context(), deb); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := b.Shell(t.Context(), "exec 2>&1; source /clients/setup.sh"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return m
}

// gather puts what the container needs into a directory: the clients, those in Go built.
func gather(ctx context.Context, dir string) error {
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "bin")+"/", "./...")
	c.Dir = "testdata/go"
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Mkdir(filepath.Join(dir, "node_modules"), 0o755) // to be mounted on
}

func (m *machine) close(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if t.Failed() {
		journal, err := m.bed.Journal(ctx, "-b", "-o", "short-precise", "-u", "fdt*", "-u", "postgresql*")
		t.Logf("journal (%v):\n%s", err, journal)
		database, err := m.bed.Shell(ctx, "tail -n 100 /var/log/postgresql/*.log")
		t.Logf("log of PostgreSQL (%v):\n%s", err, database)
	} else {
		m.run(t, "systemctl stop fdt") // in order, so that instrumented programs leave their counters
	}
	if err := m.bed.Close(); err != nil {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a script inside as root, and returns what it printed without the last newline.
func (m *machine) run(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), 3*time.Minute, fmt.Errorf("it hangs: %s", script))
	defer cancel()
	out, err := m.bed.Shell(ctx, script)
	must(t, err)
	return strings.TrimSuffix(out, "\n")
}

// account is one that nobody else uses, nor the one after it.
func (m *machine) account() int64 { return m.accounts.Add(2) - 1 }

// command is a client's, as the unix user clerk, who comes in the way. Where it hangs until the context's deadline, the journal tells what
// the workers were at.
func (m *machine) command(ctx context.Context, way string, account int64, args ...string) *exec.Cmd {
	run := []string{"setpriv", "--reuid=clerk", "--regid=clerk", "--init-groups", "--", "env", "-C", "/", "HOME=/nonexistent",
		"PYTHONDONTWRITEBYTECODE=1", "PGCONNECT_TIMEOUT=20", "NODE_PATH=/usr/share/nodejs", "ACCOUNT=" + strconv.FormatInt(account, 10)}
	c := m.bed.Command(ctx, append(append(run, ways[way]...), args...)...)
	kill := c.Cancel
	c.Cancel = func() error {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			m.stacks()
		}
		return kill()
	}
	return c
}

// stacks ends the workers once, each of which writes its goroutines' stacks into the journal.
func (m *machine) stacks() {
	m.hang.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, _ = m.bed.Run(ctx, "systemctl", "kill", "--signal=ABRT", "fdt-worker@*") // the client's failure is told in any case
	})
}

// play runs a client to its end, which has to be good, and returns all that it printed.
func (m *machine) play(t *testing.T, way string, account int64, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, fmt.Errorf("it hangs"))
	defer cancel()
	out, err := m.command(ctx, way, account, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %v\n%s", err, context.Cause(ctx), out)
	}
	return string(out)
}

// balance is what the bank itself says.
func (m *machine) balance(t *testing.T, account int64) string {
	t.Helper()
	return m.run(t, fmt.Sprintf("runuser -u fdt -- psql -At bank -c 'SELECT balance FROM account WHERE id = %d'", account))
}
