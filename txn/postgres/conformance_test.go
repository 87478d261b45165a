package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/txntest"
)

func TestConformance(t *testing.T) {
	admin(t, "a", "CREATE TABLE IF NOT EXISTS written (id text PRIMARY KEY)", "ALTER TABLE written OWNER TO app")
	admin(t, "a", DeciderSQL("app")...)
	txntest.Run(t, txntest.Harness{
		Open: func(t testing.TB, name string) txn.Resource {
			r, err := New(Options{Name: name, DSN: dsn("a")})
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		Write: func(ctx context.Context, b txn.Branch, id string) error {
			_, err := b.(*Branch).Exec(ctx, "INSERT INTO written VALUES ($1)", []any{id})
			return err
		},
		Written: func(t testing.TB, id string) (n int) {
			r, err := New(Options{Name: "reader", DSN: dsn("a")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if err := r.privileged(t.Context(), func(c *conn) error {
				return c.pg.QueryRow(t.Context(), "SELECT count(*) FROM written WHERE id = $1", id).Scan(&n)
			}); err != nil {
				t.Fatal(err)
			}
			return n
		},
		Lossy: func(t testing.TB, name string, at int) (txn.Resource, func() int) {
			proxy, dsn := proxy(t)
			r, err := New(Options{Name: name, DSN: dsn})
			if err != nil {
				t.Fatal(err)
			}
			return r, proxy.Lose(at)
		},
		Crash: func(t testing.TB) {
			if err := errors.Join(server.Kill(), server.Start()); err != nil {
				t.Fatal(err)
			}
		},
		Freeze: func(t testing.TB) (thaw func()) {
			if err := server.Freeze(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := server.Thaw(); err != nil {
					t.Error(err)
				}
			}
		},
		Abandon: func(t testing.TB, b txn.Branch) {
			if err := b.(*Branch).c.pg.PgConn().Conn().Close(); err != nil {
				t.Fatal(err)
			}
		},
	})
}
