package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// server is the cluster that the tests of this package share. Its databases are a and b, and the role app has no rights beyond them.
var server *testdb.Postgres

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// secureAddress is where the server listens besides its socket, on the port that is the default: an address of this process alone.
var secureAddress = fmt.Sprintf("127.54.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)

func run(m *testing.M) (code int, err error) {
	server, err = testdb.StartPostgres("deadlock_timeout=100ms", "listen_addresses="+secureAddress)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	err = server.Exec(context.Background(), "postgres", "CREATE ROLE app LOGIN", "CREATE DATABASE a OWNER app", "CREATE DATABASE b OWNER app")
	if err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func dsn(database string) string {
	return strings.Replace(server.DSN(database), "user=fdt", "user=app", 1)
}

// open returns a resource on a database, and fails the test if one of its connections is still out at the end.
func open(t *testing.T, opt Options) *Resource {
	t.Helper()
	if opt.Name == "" {
		opt.Name = "bank"
	}
	if opt.DSN == "" {
		opt.DSN = dsn("a")
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := r.pool.InUse() + r.recover.InUse(); n != 0 {
			t.Errorf("%d connections are still out", n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// table makes a table of two accounts for the test alone.
func table(t *testing.T, database string) string {
	t.Helper()
	name := "t" + fmt.Sprint(sequence.Add(1))
	admin(t, database, "CREATE TABLE "+name+" (id int PRIMARY KEY, balance numeric NOT NULL CHECK (balance >= 0))", "INSERT INTO "+name+" VALUES (1, 100), (2, 100)",
		"ALTER TABLE "+name+" OWNER TO app")
	return name
}

func admin(t *testing.T, database string, statements ...string) {
	t.Helper()
	if err := server.Exec(context.Background(), database, statements...); err != nil {
		t.Fatal(err)
	}
}

// value asks the database, as the superuser.
func value(t *testing.T, database, query string) string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	var v string
	if err := c.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

var sequence atomic.Uint64

// logID is that of the tests; each test takes incarnations of its own from sequence.
var logID = txn.LogID{0xfd, 0x7}

func newGID(role txn.Role) txn.GID {
	n := sequence.Add(1)
	return txn.GID{Log: logID, Incarnation: n, Sequence: n, Role: role}
}

func enlist(t *testing.T, r *Resource, opt txn.BranchOptions) *Branch {
	t.Helper()
	if opt.GID.IsZero() {
		opt.GID = newGID(txn.RoleLocal)
	}
	b, err := r.Enlist(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return b.(*Branch)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, b *Branch, sql string, args ...any) txn.Outcome {
	t.Helper()
	out, err := b.Exec(t.Context(), sql, args)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func prepare(t *testing.T, b *Branch) {
	t.Helper()
	vote, err := b.Prepare(t.Context(), b.opt.GID)
	if err != nil || vote != txn.VotePrepared {
		t.Fatalf("Prepare = %v, %v", vote, err)
	}
}

// isPrepared tells whether the server holds the gid.
func isPrepared(t *testing.T, r *Resource, gid txn.GID) bool {
	t.Helper()
	found, err := r.InDoubt(t.Context(), gid.Log)
	must(t, err)
	for _, f := range found {
		if f.GID == gid {
			if age := time.Since(f.Since); age < 0 || age > time.Hour {
				t.Errorf("prepared %v ago", age)
			}
			return true
		}
	}
	return false
}

// proxy starts a proxy in front of the server, and returns the connection string of database a through it.
func proxy(t testing.TB) (*testdb.Proxy, string) {
	t.Helper()
	p, err := testdb.NewProxy(filepath.Join(server.Dir(), ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, p.Through(dsn("a"))
}

// proxied returns a resource whose connections pass through a proxy, and one that goes straight to the server.
func proxied(t *testing.T, opt Options) (*testdb.Proxy, *Resource, *Resource) {
	t.Helper()
	p, dsn := proxy(t)
	straight := open(t, opt)
	opt.DSN = dsn
	return p, open(t, opt), straight
}
