package resources

import (
	"context"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
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
	list, err := Open(t.Context(), &config.Config{
		Workers: config.Workers{Count: 100},
		Resources: map[string]config.Resource{
			"c": {Name: "c", Type: config.TypeSpool, Directory: t.TempDir()},
			"b": {Name: "b", Type: config.TypeMariaDB, DSN: my.DSN("fdt", "b"), Pool: 32},
			"a": {Name: "a", Type: config.TypePostgres, DSN: pg.DSN("postgres"), Pool: 32},
		},
	})
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
	found := Check(t.Context(), list)
	if len(found) != 2 || !strings.Contains(found[0], "max_prepared_transactions") || !strings.Contains(found[1], "innodb_flush_log_at_trx_commit") {
		t.Errorf("Check = %q", found)
	}
	for _, r := range list {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	_, err := Open(context.Background(), &config.Config{Resources: map[string]config.Resource{
		"a": {Name: "a", Type: config.TypePostgres, DSN: "port=many"},
		"b": {Name: "b", Type: config.TypeMariaDB, DSN: "nonsense"},
		"c": {Name: "c", Type: "abacus"},
		"d": {Name: "d", Type: config.TypeSpool, Directory: t.TempDir()},
	}})
	if err == nil {
		t.Fatal("Open succeeded")
	}
	for _, want := range []string{"resource a", "resource b", "resource c"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
