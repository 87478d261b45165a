package application

import (
	"fmt"
	"testing"

	"github.com/fdtserver/fdt/config"
)

// TestPlaces is a table of where spans say that a database is.
func TestPlaces(t *testing.T) {
	database := func(dsn string) config.Database { return config.Database{DSN: dsn} }
	for want, settings := range map[string]any{
		"[{db.system.name postgresql} {server.address db.example} {server.port 5433} {db.namespace bank}]": &config.Postgres{Database: database("postgres://fdt@db.example:5433/bank")},
		"[{db.system.name postgresql} {server.address /run/pg} {db.namespace bank}]":                       &config.Postgres{Database: database("host=/run/pg dbname=bank")},
		"[{db.system.name mariadb} {server.address db.example} {server.port 3307} {db.namespace bank}]":    &config.MariaDB{Database: database("fdt@tcp(db.example:3307)/bank")},
		"[{db.system.name mariadb} {server.address /run/my.sock}]":                                         &config.MariaDB{Database: database("fdt@unix(/run/my.sock)/")},
		"[]": &config.Spool{},
	} {
		if got := fmt.Sprint(places(&config.Config{Resources: map[string]config.Resource{"a": {Settings: settings}}})["a"]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, settings := range []any{&config.Postgres{Database: database("port=x")}, &config.MariaDB{Database: database("x")}} {
		if got := places(&config.Config{Resources: map[string]config.Resource{"a": {Settings: settings}}}); len(got) != 0 {
			t.Error(got)
		}
	}
}
