package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// bank is the service on databases of its own.
type bank struct {
	*testing.T

	dir     string
	pg      *testdb.Postgres
	my      *testdb.MariaDB
	manager *txn.Manager
	server  *httptest.Server
}

// newBank serves one account in each database, both with the number 1 and 100 in it.
func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{T: t, dir: t.TempDir()}
	var err error
	if b.pg, err = testdb.StartPostgres(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.pg.Close() })
	if b.my, err = testdb.StartMariaDB(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.my.Close() })
	tables := []string{"CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)", "INSERT INTO account VALUES (1, 100)"}
	if err := errors.Join(b.pg.Exec(t.Context(), "postgres", tables...), b.my.Database(t.Context(), "b"), b.my.Exec(t.Context(), "b", tables...)); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"log", "claims", "outbox"} {
		if err := os.Mkdir(filepath.Join(b.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rms, err := resources(b.dir, b.pg.DSN("postgres"), b.my.DSN("fdt", "b"))
	if err != nil {
		t.Fatal(err)
	}
	b.manager, err = txn.Open(t.Context(), txn.Options{
		LogDir: filepath.Join(b.dir, "log"), ClaimDir: filepath.Join(b.dir, "claims"), MachineID: "test", Resources: rms,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.server = httptest.NewServer(routes(b.manager, slog.New(slog.DiscardHandler), time.Hour))
	t.Cleanup(func() {
		b.server.Close()
		err := b.manager.Close(context.Background())
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return b
}

// transfer asks for one and compares the status.
func (b *bank) transfer(from, to, amount string, want int) {
	b.Helper()
	resp, err := http.PostForm(b.server.URL+"/transfer", url.Values{"from": {from}, "to": {to}, "amount": {amount}})
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		b.Errorf("%s from %s to %s: %s, want %d", amount, from, to, resp.Status, want)
	}
}

// balance asks for one and compares the answer.
func (b *bank) balance(account string, status int, want string) {
	b.Helper()
	resp, err := http.Get(b.server.URL + "/balance?account=" + account)
	if err != nil {
		b.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != status || strings.TrimSpace(string(text)) != want {
		b.Errorf("balance of %s: %s, %q, %v; want %q", account, resp.Status, text, err, want)
	}
}

// postgres runs a statement behind the service's back.
func (b *bank) postgres(statement string) {
	b.Helper()
	if err := b.pg.Exec(b.Context(), "postgres", statement); err != nil {
		b.Error(err)
	}
}

func TestTransfer(t *testing.T) {
	b := newBank(t)
	b.balance("1", http.StatusOK, "100")
	b.balance("2", http.StatusConflict, "refused: there is no account 2")
	b.balance("x", http.StatusBadRequest, "account must be a positive number")
	b.transfer("1", "1", "70", http.StatusOK)
	b.balance("1", http.StatusOK, "30")

	b.postgres("UPDATE account SET balance = 60")
	b.transfer("1", "1", "70", http.StatusConflict) // no money
	b.transfer("1", "2", "10", http.StatusConflict) // nobody
	b.transfer("1", "1", "x", http.StatusBadRequest)
	outbox := filepath.Join(b.dir, "outbox")
	if err := os.Rename(outbox, outbox+".away"); err != nil {
		t.Fatal(err)
	}
	b.transfer("1", "1", "10", http.StatusServiceUnavailable) // none without its note
	if err := os.Rename(outbox+".away", outbox); err != nil {
		t.Fatal(err)
	}
	b.balance("1", http.StatusOK, "30") // remembered: what was rolled back changed nothing
	b.transfer("1", "1", "20", http.StatusOK)
	b.balance("1", http.StatusOK, "40") // of 60

	var notes []string
	list, err := filepath.Glob(filepath.Join(outbox, "new", "*"))
	for _, name := range list {
		text, rerr := os.ReadFile(name)
		err = errors.Join(err, rerr)
		notes = append(notes, string(text))
	}
	if want := []string{"70 from 1 to 1\n", "20 from 1 to 1\n"}; err != nil || !slices.Equal(notes, want) {
		t.Errorf("outbox %q, %v; want %q", notes, err, want)
	}
	b.postgres("SELECT 1 / (balance = 40)::int FROM account")
	// MariaDB's own way to fail where the balance is not 190.
	if err := b.my.Exec(t.Context(), "b", "CREATE TABLE want (balance bigint CHECK (balance = 190)) SELECT balance FROM account"); err != nil {
		t.Errorf("MariaDB: %v", err)
	}
}

// TestReadBeforeChange: a balance that was read before a change is not remembered after it.
func TestReadBeforeChange(t *testing.T) {
	b := newBank(t)
	known := newBalances(time.Hour)
	conn, err := pgx.Connect(t.Context(), b.pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE account"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := known.get(t.Context(), b.manager.NewSession(txn.Principal{}), 1)
		done <- err
	}()
	testwait.Until(t, "waiting for the lock", func() (waiting bool) {
		if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
	known.forget(1)
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := testwait.For(t, "the balance", done); err != nil || len(known.known) != 0 {
		t.Errorf("%v, remembered %v", err, known.known)
	}
	if got, err := known.get(t.Context(), b.manager.NewSession(txn.Principal{}), 1); err != nil || got != 100 || len(known.known) != 1 {
		t.Errorf("%d, %v, remembered %v", got, err, known.known)
	}
}
