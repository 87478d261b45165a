package bank

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// TestBackupLock: under FLUSH TABLES WITH READ LOCK, as backups take it, MariaDB drops no proof. That keeps no decision waiting that
// another resource can be told, and no scan; when the lock is gone, the proof goes.
func TestBackupLock(t *testing.T) {
	v := newVault(t)
	proxy, m := v.between(t, "bank_a")
	s := m.NewSession(txn.Principal{User: "teller"})
	must(t, s.Begin(t.Context(), txn.TxOptions{}))
	must(t, errors.Join(add(t.Context(), s, "bank_a", 1), add(t.Context(), s, "bank_b", 1)))
	must(t, s.Commit(t.Context()))

	db, err := sql.Open("mysql", v.my.DSN("root", "bank"))
	must(t, err)
	defer func() { must(t, db.Close()) }()
	backup, err := db.Conn(t.Context())
	must(t, err)
	_, err = backup.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK")
	must(t, err)
	count := func(query string) (n int) {
		must(t, db.QueryRowContext(t.Context(), query).Scan(&n))
		return n
	}

	ctx, stop := context.WithCancel(t.Context())
	recovered := make(chan error, 1)
	go func() { recovered <- m.Recover(ctx) }()
	testwait.Until(t, "the proof is to be dropped, and waits", func() bool {
		return count("SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DELETE FROM%'") > 0
	})
	must(t, s.Begin(t.Context(), txn.TxOptions{}))
	must(t, add(t.Context(), s, "bank_a", 2))
	proxy.Rule(cut("ROLLBACK"))
	if err := s.Rollback(t.Context()); err == nil || m.Counts().Pending != 1 {
		t.Errorf("Rollback without a network: %v, %d left over", err, m.Counts().Pending)
	}
	proxy.Rule(nil)
	scanned := m.Stats().Scanned
	testwait.Until(t, "PostgreSQL is told, and a scan ends", func() bool {
		return m.Counts().Pending == 0 && m.Stats().Scanned.After(scanned)
	})
	if n := count("SELECT count(*) FROM fdt_marker"); n != 1 {
		t.Errorf("%d proofs under the lock, want 1", n)
	}
	_, err = backup.ExecContext(t.Context(), "UNLOCK TABLES")
	must(t, errors.Join(err, backup.Close()))
	testwait.Until(t, "the proof is dropped", func() bool { return count("SELECT count(*) FROM fdt_marker") == 0 })
	proxy.Release()
	stop()
	must(t, testwait.For(t, "the end of recovery", recovered))
	must(t, s.Close(t.Context()))
}
