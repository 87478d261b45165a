package resources

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

func TestOpenAndCheck(t *testing.T) {
	pg, err := testdb.StartPostgres("max_prepared_transactions=0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close() }()
	my, err := testdb.StartMariaDB("innodb-flush-log-at-trx-commit=2")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = my.Close() }()
	if err := my.Database(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	list, err := Open(&config.Config{
		Workers: config.Workers{Count: 100},
		Resources: map[string]config.Resource{
			"c": {Name: "c", Type: config.TypeSpool, Settings: &config.Spool{Directory: t.TempDir()}},
			"b": {Name: "b", Type: config.TypeMariaDB, Settings: &config.MariaDB{Database: config.Database{DSN: my.DSN("fdt", "b"), Pool: 32}}},
			"a": {Name: "a", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: pg.DSN("postgres"), Pool: 32}}},
		},
	}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Name())
		if id, err := r.Identity(t.Context()); err != nil || id == "" {
			t.Errorf("%s: Identity = %q, %v", r.Name(), id, err)
		}
	}
	if got := strings.Join(names, ""); got != "abc" {
		t.Errorf("opened in the order %s: processes that differ in it deadlock", got)
	}
	found, faults := Check(t.Context(), list)
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), "max_prepared_transactions") || len(found) != 2 ||
		!strings.Contains(found[0], "innodb_flush_log_at_trx_commit") || !strings.Contains(found[1], "100 processes may open 332") {
		t.Errorf("Check = %q, %v", found, faults)
	}
	for _, r := range list {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	_, err := Open(&config.Config{Resources: map[string]config.Resource{
		"a": {Name: "a", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: "port=many"}}},
		"b": {Name: "b", Type: config.TypeMariaDB, Settings: &config.MariaDB{Database: config.Database{DSN: "nonsense"}}},
		"c": {Name: "c", Type: "abacus"},
		"d": {Name: "d", Type: config.TypeSpool, Settings: &config.Spool{Directory: t.TempDir()}},
	}}, "/nonexistent", nil)
	if err == nil {
		t.Fatal("Open succeeded")
	}
	for _, want := range []string{"resource a", "resource b", "resource c"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// TestBudget: the workers of several generations together never have more connections than the pool, as the server counts them, and all
// get their turn.
func TestBudget(t *testing.T) {
	pg, err := testdb.StartPostgres("max_prepared_transactions=10")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close() }()
	const pool, workers, generations, each = 4, 2, 3, 40
	cfg := &config.Config{
		Workers:   config.Workers{Count: workers},
		Resources: map[string]config.Resource{"a": {Name: "a", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: pg.DSN("postgres"), Pool: pool}}}},
	}
	budgets := t.TempDir()
	var all sync.WaitGroup
	for n := range uint64(workers * generations) {
		list, err := Open(cfg, budgets, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = list[0].Close() }()
		for range 2 {
			all.Go(func() {
				for range each {
					b, err := list[0].Enlist(t.Context(), txn.BranchOptions{GID: txn.GID{Incarnation: n + 1, Sequence: 1, Role: txn.RoleLocal}})
					if err == nil {
						err = b.Rollback(t.Context())
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	watch, err := pgx.Connect(t.Context(), pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(context.WithoutCancel(t.Context())) }()
	most := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		var n int
		if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'fdt1-%'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	t.Logf("%d connections at most, of %d", most, pool)
	if most > pool || most == 0 {
		t.Errorf("%d connections at once, the pool is %d", most, pool)
	}
}

// TestConnectionStrings: what the drivers do not read is a fault of the configuration, before anybody opens it; and what is one, they do not
// read.
func TestConnectionStrings(t *testing.T) {
	for kind, dsns := range map[string][]string{
		"postgres": {"host=h dbname=a", "host=h user", "host='h", "=h", "host=h port=0", "host=h port=ssl", "host=h sslmode=on", "host='a b' user=it\\'s",
			"postgres://fdt@h/a", "postgres://fdt@h:port/a", "postgres://fdt@h1:5432,h2:5433/a", "postgres://h/a?sslmode=on", "host=h connect_timeout=3"},
		"mariadb": {"fdt@unix(/run/m.sock)/b", "fdt@tcp(h:1)/b", "fdt@tcp/b", "/b", "b", "fdt@unix(/run/m.sock/b", "fdt@h:3306/b"},
	} {
		for _, dsn := range dsns {
			cfg, fault := config.Parse([]config.Text{{Name: "c.yaml", Text: "resources: {x: {type: " + kind + ", dsn: \"" + strings.ReplaceAll(dsn, `\`, `\\`) + "\"}}"}})
			list, refused := Open(&config.Config{Workers: config.Workers{Count: 1}, Resources: map[string]config.Resource{
				"x": {Name: "x", Type: kind, Settings: settings(kind, dsn)},
			}}, t.TempDir(), nil)
			if (fault != nil) != (refused != nil) {
				t.Errorf("%s, %q: the configuration says %v, and the driver %v (%v)", kind, dsn, fault, refused, cfg != nil)
			}
			for _, r := range list {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func settings(kind, dsn string) any {
	d := config.Database{DSN: dsn, Pool: 1}
	if kind == "mariadb" {
		return &config.MariaDB{Database: d}
	}
	return &config.Postgres{Database: d}
}
