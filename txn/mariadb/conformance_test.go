package mariadb

import (
	"context"
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/txntest"
)

func TestConformance(t *testing.T) {
	admin(t, "a", "CREATE TABLE IF NOT EXISTS written (id VARCHAR(64) PRIMARY KEY)")
	t.Run("marker", func(t *testing.T) { conform(t, "fdt_marker") })
	t.Run("no marker", func(t *testing.T) { conform(t, "") })
}

func conform(t *testing.T, marker string) {
	txntest.Run(t, txntest.Harness{
		Open: func(t testing.TB, name string) txn.Resource {
			r, err := New(Options{Name: name, DSN: server.DSN("fdt", "a"), Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		Write: func(ctx context.Context, b txn.Branch, id string) error {
			_, err := b.(*Branch).Exec(ctx, "INSERT INTO written VALUES (?)", []any{id})
			return err
		},
		Written: func(t testing.TB, id string) (n int) {
			r, err := New(Options{Name: "reader", DSN: server.DSN("fdt", "a")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if err := r.privileged(t.Context(), func(c *conn) error {
				return c.QueryRowContext(t.Context(), "SELECT count(*) FROM written WHERE id = ?", id).Scan(&n)
			}); err != nil {
				t.Fatal(err)
			}
			return n
		},
		Lossy: func(t testing.TB, name string, at int) (txn.Resource, func() int) {
			proxy, dsn := proxy(t)
			r, err := New(Options{Name: name, DSN: dsn, Marker: marker})
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
			// The socket closes, nobody says goodbye.
			c, err := b.(*Branch).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Raw(func(any) error { return errAbandoned }); !errors.Is(err, errAbandoned) {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		},
		Unproven: marker == "",
	})
}

var errAbandoned = errors.New("abandoned")
