package bank

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// vault is a PostgreSQL and a MariaDB, and a worker that recovers when it is told to.
type vault struct {
	pg  *testdb.Postgres
	my  *testdb.MariaDB
	m   *txn.Manager
	rms []txn.Resource
	log txn.LogID
}

// newVault has MariaDB flush what it does not flush at once so late that it never does by itself, and commit nothing of its own, as
// statistics of a table that has changed, which would flush it, too.
func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{}
	var err error
	v.pg, err = testdb.StartPostgres()
	must(t, err)
	t.Cleanup(func() { must(t, v.pg.Close()) })
	v.my, err = testdb.StartMariaDB("innodb_flush_log_at_timeout=2700", "innodb_stats_auto_recalc=OFF")
	must(t, err)
	t.Cleanup(func() { must(t, v.my.Close()) })
	must(t, v.pg.Exec(t.Context(), "postgres", "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)",
		"CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
	must(t, v.my.Database(t.Context(), "bank"))
	must(t, v.my.Exec(t.Context(), "bank", "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)"))
	at := place{log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: v.pg.DSN("postgres"), mariadb: v.my.DSN("fdt", "bank")}
	v.m, v.rms, err = at.manager(t.Context(), "vault", nil)
	must(t, err)
	t.Cleanup(func() {
		err := v.m.Close(context.Background())
		for _, r := range v.rms {
			err = errors.Join(err, r.Close())
		}
		must(t, err)
	})
	return v
}

func (v *vault) begin(t *testing.T) *txn.Session {
	t.Helper()
	s := v.m.NewSession(txn.Principal{User: "teller"})
	must(t, s.Begin(t.Context(), txn.TxOptions{}))
	return s
}

// crash kills MariaDB and starts it again.
func (v *vault) crash(t *testing.T) {
	t.Helper()
	must(t, errors.Join(v.my.Kill(), v.my.Start()))
}

// prepared lists what MariaDB holds of this log.
func (v *vault) prepared(t *testing.T) (gids []string) {
	t.Helper()
	testwait.Until(t, "the list of prepared branches", func() bool {
		list, err := v.rms[1].InDoubt(t.Context(), v.log)
		gids = nil
		for _, b := range list {
			gids = append(gids, b.GID.String())
		}
		return err == nil
	})
	return gids
}

// settled recovers until MariaDB holds no more than these, and checks that row 1 holds n in both and can be locked.
func (v *vault) settled(t *testing.T, n int, rest ...string) {
	t.Helper()
	testwait.Until(t, fmt.Sprintf("MariaDB holds %q alone", rest), func() bool {
		recoverOnce(t, v.m)
		return slices.Equal(v.prepared(t), rest)
	})
	(&pair{pg: v.pg, my: v.my}).want(t, n)
}

// TestAcknowledgedEndComesBack: MariaDB does not flush XA ROLLBACK, and brings the branch back after a crash. The worker that had
// noted the end lives on, and settles it with its next scan, for whatever reason it was rolled back. What waits for its coordinator,
// or is in a session's hands, it leaves alone.
func TestAcknowledgedEndComesBack(t *testing.T) {
	v := newVault(t)
	for name, undone := range map[string]func(t *testing.T){
		"ROLLBACK PREPARED": func(t *testing.T) {
			s := v.begin(t)
			must(t, errors.Join(add(t.Context(), s, "bank_a", 1), add(t.Context(), s, "bank_b", 1)))
			v.log = s.GID().Log
			must(t, s.Prepare(t.Context(), "r"))
			must(t, s.RollbackPrepared(t.Context(), "r"))
		},
		"phase one fails elsewhere": func(t *testing.T) {
			s := v.begin(t)
			must(t, errors.Join(add(t.Context(), s, "bank_a", 1), add(t.Context(), s, "bank_b", 1)))
			b, err := s.Branch(t.Context(), "bank_a")
			must(t, err)
			_, err = b.(interface {
				Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error)
			}).Exec(t.Context(), "INSERT INTO late VALUES (1), (1)", nil)
			must(t, err)
			v.log = s.GID().Log
			if err := s.Commit(t.Context()); err == nil || txn.InDoubt(err) {
				t.Fatalf("Commit: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			back := 0
			testwait.Until(t, "a branch that is back", func() bool {
				undone(t)
				v.crash(t)
				back = len(v.prepared(t))
				return back > 0
			})
			if back != 1 {
				t.Errorf("%d branches are back", back)
			}
			v.settled(t, 0)
			must(t, v.m.Scan(t.Context()))
		})
	}
	t.Run("beside one in doubt and one at work", func(t *testing.T) {
		doubt := v.begin(t)
		must(t, add(t.Context(), doubt, "bank_b", 2))
		gid := doubt.GID()
		must(t, doubt.Prepare(t.Context(), "d"))
		work := v.begin(t)
		must(t, add(t.Context(), work, "bank_a", 1))
		b, err := work.Branch(t.Context(), "bank_b")
		must(t, err)
		must(t, add(t.Context(), work, "bank_b", 1))
		if vote, err := b.Prepare(t.Context(), work.GID()); err != nil || vote != txn.VotePrepared {
			t.Fatal(vote, err)
		}
		all := v.prepared(t)
		if len(all) != 2 {
			t.Errorf("prepared: %q", all)
		}
		for range 3 {
			recoverOnce(t, v.m)
		}
		if now := v.prepared(t); !slices.Equal(now, all) {
			t.Errorf("prepared: %q, after recovery %q", all, now)
		}
		must(t, b.RollbackPrepared(t.Context(), work.GID()))
		must(t, work.Close(t.Context()))
		v.settled(t, 0, gid.String())
		must(t, doubt.CommitPrepared(t.Context(), "d"))
		v.settled(t, 0)
	})
}

// recoverOnce scans, and waits until what follows from that is told. A database that was just started may not answer yet.
func recoverOnce(t *testing.T, m *txn.Manager) {
	t.Helper()
	if _, err := m.ResolveAll(t.Context(), txn.Principal{User: "root", Operator: true}, 0); err != nil {
		t.Log("recovery: ", err)
	}
}
