package config

import "testing"

// TestDSNFaults: those that no driver reads are told apart by their form, and nothing of them is told; see the drivers' own word in
// package resources.
func TestDSNFaults(t *testing.T) {
	for dsn, want := range map[string]string{
		"":                                       "",
		"host=/run/postgresql dbname = a":        "",
		"host='a b' user=it\\'s":                 "",
		"postgres://fdt@h/a?sslmode=verify-full": "",
		"postgres://fdt@h1:5432,h2:5433/a":       "",
		"postgres://fdt@h1:x,h2/a":               "",
		"postgresql://fdt@h:port/a":              "it is no URL that can be read; what is special in a URL is written as % and two digits",
		"postgresql://h/a?port=0":                "a port is a number from 1 to 65535",
		"host=h port=5432,65536":                 "a port is a number from 1 to 65535",
		"host=h port=ssl":                        "a port is a number from 1 to 65535",
		"host=h sslmode=on":                      "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full",
		"host=h user":                            "each part is a keyword, = and a value, as in host=/run/postgresql dbname=a user=fdt",
		"host=h user fdt=1":                      "each part is a keyword, = and a value, as in host=/run/postgresql dbname=a user=fdt",
		"=h":                                     "each part is a keyword, = and a value, as in host=/run/postgresql dbname=a user=fdt",
		"host='h":                                "a quote is not closed",
		"host='h\\'":                             "a quote is not closed",
	} {
		if got := postgresFault(dsn); got != want {
			t.Errorf("PostgreSQL, %q: %q, not %q", dsn, got, want)
		}
	}
	for dsn, want := range map[string]string{
		"fdt@unix(/run/mysqld/mysqld.sock)/b": "",
		"fdt@tcp(192.0.2.1:3306)/b":           "",
		"fdt@tcp/b":                           "",
		"/b":                                  "",
		"b":                                   "there is no / before the name of the database",
		"fdt@unix(/run/mysqld.sock/b":         "the address has no closing )",
		"fdt@192.0.2.1:3306/b":                "the server's address is unix(/path) or tcp(host:port)",
		"fdt@udp(192.0.2.1:3306)/b":           "the server's address is unix(/path) or tcp(host:port)",
	} {
		if got := mariadbFault(dsn); got != want {
			t.Errorf("MariaDB, %q: %q, not %q", dsn, got, want)
		}
	}
}
