package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

func TestTransfer(t *testing.T) {
	pg, err := testdb.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close() }()
	my, err := testdb.StartMariaDB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = my.Close() }()
	tables := []string{"CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)", "INSERT INTO account VALUES (1, 100)"}
	if err := pg.Exec(t.Context(), "postgres", tables...); err != nil {
		t.Fatal(err)
	}
	if err := my.Database(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := my.Exec(t.Context(), "b", tables...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, sub := range []string{"log", "claims", "outbox"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rms, err := resources(dir, pg.DSN("postgres"), my.DSN("fdt", "b"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := txn.Open(t.Context(), txn.Options{
		LogDir: filepath.Join(dir, "log"), ClaimDir: filepath.Join(dir, "claims"), MachineID: "test", Resources: rms,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
		for _, r := range rms {
			_ = r.Close()
		}
	}()
	server := httptest.NewServer(routes(m, slog.New(slog.DiscardHandler)))
	defer server.Close()
	for _, c := range []struct {
		from, to, amount string
		want             int
	}{
		{"1", "1", "70", http.StatusOK},
		{"1", "1", "70", http.StatusConflict}, // no money
		{"1", "2", "10", http.StatusConflict}, // nobody
		{"1", "1", "x", http.StatusBadRequest},
	} {
		resp, err := http.PostForm(server.URL+"/transfer", url.Values{"from": {c.from}, "to": {c.to}, "amount": {c.amount}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%+v: %s", c, resp.Status)
		}
	}
	if list, err := filepath.Glob(filepath.Join(dir, "outbox", "new", "*")); err != nil || len(list) != 1 {
		t.Errorf("outbox %v, %v; want one message", list, err)
	}
	if err := pg.Exec(t.Context(), "postgres", "SELECT 1 / (balance = 30)::int FROM account"); err != nil {
		t.Errorf("PostgreSQL: %v", err)
	}
	// MariaDB's own way to fail where the balance is not 170.
	if err := my.Exec(t.Context(), "b", "CREATE TABLE want (balance bigint CHECK (balance = 170)) SELECT balance FROM account"); err != nil {
		t.Errorf("MariaDB: %v", err)
	}
}
