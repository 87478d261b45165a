package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// database is one PostgreSQL for all tests: a resource of fdt's, and the
// oracle that fdt is compared to.
var database struct {
	sync.Mutex
	pg *testdb.Postgres
}

func TestMain(m *testing.M) {
	code := m.Run()
	if database.pg != nil {
		if err := database.pg.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tables are in both databases. What breaks child's constraint is noticed at
// the commit.
var tables = []string{
	"CREATE TABLE account (id bigint PRIMARY KEY, balance numeric NOT NULL)",
	"CREATE TABLE child (id bigint REFERENCES account DEFERRABLE INITIALLY DEFERRED)",
}

// postgresql starts PostgreSQL at its first use, with the database "bank" for
// fdt's resource.
func postgresql(t testing.TB) *testdb.Postgres {
	t.Helper()
	database.Lock()
	defer database.Unlock()
	if database.pg == nil {
		pg, err := testdb.StartPostgres("timezone=UTC", "log_line_prefix=%e ")
		if err != nil {
			t.Fatal(err)
		}
		database.pg = pg
		anew(t, pg, "bank")
	}
	return database.pg
}

// anew makes a database with the tables, and what more says.
func anew(t testing.TB, pg *testdb.Postgres, name string, more ...string) {
	t.Helper()
	if err := errors.Join(pg.Exec(t.Context(), "postgres", "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)", "CREATE DATABASE "+name),
		pg.Exec(t.Context(), name, append(tables, more...)...)); err != nil {
		t.Fatal(err)
	}
}

// fdt is a server under test, with all that it stands on.
type fdt struct {
	t       testing.TB
	wire    *pgwire.Server
	server  *drain.Server
	manager *txn.Manager
	limits  txn.Limits
	outbox  string // directory of the spool
	claims  string // directory of the claims
	sock    string // unix socket, any user
	tcp     string // loopback address, any user unless onTCP says otherwise
	onTCP   *pgwire.Listener
	onUnix  []pgwire.Listener // more unix sockets, with these paths:
	socks   []string
	dir     string // of the unix sockets
	all     sync.WaitGroup
}

// shutdown begins a drain, and waits in the background for its end.
func (f *fdt) shutdown() (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.server.Shutdown(context.WithoutCancel(f.t.Context())); err != nil {
			f.t.Error(err)
		}
	}()
	<-f.server.Draining()
	return done
}

// tune alters a server before it starts.
type tune func(*fdt, *config.Config)

// onTCP says how clients come in by TCP.
func onTCP(how pgwire.Listener) tune {
	return func(f *fdt, _ *config.Config) { f.onTCP = &how }
}

const procedures = `
listen:
  local: {address: /run/fdt/.s.PGSQL.7432, auth: peer}
resources:
  outbox: {type: spool, directory: %s}
  %s
procedures:
  enqueue:
    parameters: {body: text}
    steps: [{on: outbox, put: ":body"}]
  echo:
    parameters: {a: bigint, b: numeric, c: {type: text, default: "none"}}
    steps: [{on: outbox, put: ":a :b :c"}]
    returns: {a: bigint, b: numeric, c: text}
  secret:
    steps: [{on: outbox, put: "secret"}]
    allow: ["trust:alice"]
  proven:
    steps: [{on: outbox, put: "proven"}]
    allow: [alice]
  by_password:
    steps: [{on: outbox, put: "proven"}]
    allow: ["scram:alice"]
  by_peer:
    steps: [{on: outbox, put: "proven"}]
    allow: ["peer:alice"]
%s
`

// bank is a database behind procedures; the zero value is none.
type bank struct{ kind, dsn, procedures string }

// resource is its line in the configuration.
func (b bank) resource() string {
	if b.kind == "" {
		return ""
	}
	return fmt.Sprintf("bank: {type: %s, dsn: %q, pool: 8}", b.kind, b.dsn)
}

func (b bank) open() (txn.Resource, error) {
	if b.kind == "mariadb" {
		return mariadb.New(mariadb.Options{Name: "bank", DSN: b.dsn, Pool: 8})
	}
	return postgres.New(postgres.Options{Name: "bank", DSN: b.dsn, Pool: 8})
}

const bankProcedures = `
  deposit:
    parameters: {id: bigint, amount: numeric}
    steps:
      - {on: bank, sql: "INSERT INTO account VALUES (:id, :amount) ON CONFLICT (id) DO UPDATE SET balance = account.balance + :amount"}
  withdraw:
    parameters: {id: bigint, amount: numeric}
    steps:
      - {on: bank, sql: "UPDATE account SET balance = balance - :amount WHERE id = :id AND balance >= :amount", rows: 1, else: "insufficient funds"}
  balance:
    parameters: {id: bigint}
    steps: [{on: bank, sql: "SELECT balance FROM account WHERE id = :id", as: balance}]
    returns: {balance: numeric}
  transfer:
    parameters: {src: bigint, dst: bigint, amount: numeric}
    steps:
      - {on: bank, sql: "UPDATE account SET balance = balance - :amount WHERE id = :src", rows: 1}
      - {on: bank, sql: "UPDATE account SET balance = balance + :amount WHERE id = :dst", rows: 1}
      - {on: bank, sql: "INSERT INTO child VALUES (:src)"}
      - {on: bank, sql: "SELECT balance FROM account WHERE id = :src", rows: 1}
  orphan:
    parameters: {id: bigint}
    steps: [{on: bank, sql: "INSERT INTO child VALUES (:id)"}]
  sleep:
    parameters: {seconds: double precision}
    steps: [{on: bank, sql: "SELECT pg_sleep(:seconds)"}]
  impatient:
    timeout: 50ms
    steps: [{on: bank, sql: "SELECT pg_sleep(60)"}]
`

// withBank adds the PostgreSQL resource and its procedures; nobody has an account yet.
func withBank(t testing.TB) bank {
	t.Helper()
	pg := postgresql(t)
	if err := pg.Exec(t.Context(), "bank", "SET lock_timeout = '1min'", "TRUNCATE account, child"); err != nil {
		t.Fatal(err)
	}
	return bank{"postgres", pg.DSN("bank"), bankProcedures}
}

// newFDT starts a server.
func newFDT(t testing.TB, b bank, tunes ...tune) *fdt {
	t.Helper()
	dir := t.TempDir()
	f := &fdt{t: t, outbox: filepath.Join(dir, "outbox"), claims: filepath.Join(dir, "claims")}
	for _, d := range []string{"outbox", "log", "claims", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(procedures, f.outbox, b.resource(), b.procedures)
	if err := os.WriteFile(filepath.Join(dir, "etc", "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "etc"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := procedure.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Open("outbox", f.outbox)
	if err != nil {
		t.Fatal(err)
	}
	rms := []txn.Resource{sp}
	if b.kind != "" {
		r, err := b.open()
		if err != nil {
			t.Fatal(err)
		}
		rms = append(rms, r)
	}
	log := slog.New(slog.DiscardHandler)
	f.wire = &pgwire.Server{Procedures: set, Listeners: map[string]pgwire.Listener{}, Logger: log}
	f.server = &drain.Server{Handler: f.wire.Handle, Idle: time.Hour, Logger: log}
	for _, tune := range tunes {
		tune(f, cfg)
	}
	f.manager, err = txn.Open(t.Context(), txn.Options{
		LogDir: filepath.Join(dir, "log"), ClaimDir: filepath.Join(dir, "claims"), MachineID: "0123456789abcdef0123456789abcdef",
		Resources: rms, Logger: log, Program: "test", Limits: f.limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wire.Manager = f.manager

	// Paths of unix sockets are short: not below TempDir.
	sockDir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	f.sock = filepath.Join(sockDir, ".s.PGSQL.7432")
	if err := os.Chmod(sockDir, 0o755); err != nil {
		t.Fatal(err)
	}
	f.dir = sockDir
	trust := pgwire.Listener{Auth: pgwire.Trust{}}
	if f.onTCP == nil {
		f.onTCP = &trust
	}
	tcp := f.listen("tcp", "127.0.0.1:0", *f.onTCP)
	f.tcp = tcp.Addr().String()
	all := []net.Listener{tcp, f.listen("unix", f.sock, trust)}
	for i, how := range f.onUnix {
		path := fmt.Sprintf("%s/.s.PGSQL.%d", f.dir, 7433+i)
		f.socks = append(f.socks, path)
		all = append(all, f.listen("unix", path, how))
	}
	for _, l := range all {
		f.serve(l)
	}
	t.Cleanup(func() {
		if err := f.server.Close(); err != nil {
			t.Error(err)
		}
		f.all.Wait()
		ctx := context.WithoutCancel(t.Context())
		if err := f.manager.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, r := range rms {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(sockDir); err != nil {
			t.Error(err)
		}
	})
	return f
}

// listen must be called for all listeners before the first is served.
func (f *fdt) listen(network, address string, how pgwire.Listener) net.Listener {
	f.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		f.t.Fatal(err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			f.t.Fatal(err)
		}
	}
	if how.Auth != nil {
		f.wire.Listeners[l.Addr().String()] = how
	}
	return l
}

func (f *fdt) serve(l net.Listener) {
	f.all.Go(func() {
		if err := f.server.Serve(l); !errors.Is(err, drain.ErrServerClosed) {
			f.t.Error(err)
		}
	})
}

// messages returns what was delivered, in order.
func (f *fdt) messages() []string {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.outbox, "new"))
	if err != nil {
		f.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(f.outbox, "new", e.Name()))
		if err != nil {
			f.t.Fatal(err)
		}
		list = append(list, string(b))
	}
	return list
}

// delivered fails unless just these messages, in any order, were delivered.
func (f *fdt) delivered(want ...string) {
	f.t.Helper()
	got := map[string]int{}
	for _, m := range f.messages() {
		got[m]++
	}
	for _, m := range want {
		got[m]--
	}
	for m, n := range got {
		if n != 0 {
			f.t.Errorf("message %q: %+d", m, n)
		}
	}
}

// staged counts transactions that still hold something in the spool.
func (f *fdt) staged() int {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.outbox, "tmp"))
	if err != nil {
		f.t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "fdt1-") {
			n++
		}
	}
	return n
}
