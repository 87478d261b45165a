package mariadb

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/txn"
)

// TestCutOwnNetwork cuts a branch off whose program dials itself, so that only the server can end its session.
func TestCutOwnNetwork(t *testing.T) {
	admin(t, "a", "CREATE TABLE IF NOT EXISTS written (id VARCHAR(64) PRIMARY KEY)")
	mysql.RegisterDialContext("own", func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address)
	})
	r, err := New(Options{Name: "r", DSN: strings.Replace(server.DSN("fdt", "a"), "@unix(", "@own(", 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	gid := txn.GID{Log: txn.NewLogID(), Incarnation: 1, Sequence: 1, Role: txn.RoleLocal}
	write := func() *Branch {
		b, err := r.Enlist(t.Context(), txn.BranchOptions{GID: gid})
		if err == nil {
			_, err = b.(*Branch).Exec(t.Context(), "INSERT INTO written VALUES ('own')", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.(*Branch)
	}
	b := write()
	proof, was := b.Cut()
	if found, err := r.Resolve(t.Context(), gid, txn.Abort, proof); !was || err != nil || found != txn.ResolvedDone {
		t.Fatal(was, found, err)
	}
	gid.Sequence++
	if err := write().Rollback(t.Context()); err != nil { // the row is free
		t.Error(err)
	}
	if err := b.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}
