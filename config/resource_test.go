package config

import "testing"

func TestConnectionStrings(t *testing.T) {
	for _, c := range []struct {
		typ, dsn      string
		tcp, password bool
	}{
		{TypePostgres, "", false, false},
		{TypePostgres, "dbname=a", false, false},
		{TypePostgres, "host=/run/postgresql dbname=a user=fdt", false, false},
		{TypePostgres, "host = '/run/my pg' dbname=a", false, false},
		{TypePostgres, "host=db1,/run/postgresql", true, false},
		{TypePostgres, `user=a\ b host=db`, true, false},
		{TypePostgres, `user='it\'s' host=db`, true, false},
		{TypePostgres, "hostaddr=10.0.0.1", true, false},
		{TypePostgres, "host=@abstract", false, false},
		{TypePostgres, "password=x", false, true},
		{TypePostgres, "application_name='password=x' host=/run", false, false},
		{TypePostgres, "postgres:///a?host=/run/postgresql", false, false},
		{TypePostgres, "postgresql://fdt@db/a", true, false},
		{TypePostgres, "postgresql://fdt:x@/a", false, true},
		{TypePostgres, "postgresql:///a?password=x", false, true},
		{TypePostgres, "postgres://fdt@db1:1,db2:2/a", true, false},
		{TypePostgres, "postgres://fdt:x@db1:1,db2:2/a", true, true},
		{TypePostgres, "postgres://fdt:x@%zz/a", true, true},
		{TypePostgres, "postgres://fdt@%zz/a", true, false},
		{TypePostgres, "postgres://fdt:x/@y@db/a", true, true},
		{TypePostgres, "postgres://%zz/a", true, false},
		{TypeMariaDB, "fdt@unix(/run/mysqld/mysqld.sock)/b", false, false},
		{TypeMariaDB, "fdt@tcp(127.0.0.1:3306)/b", true, false},
		{TypeMariaDB, "fdt:x@unix(/run/mysqld/mysqld.sock)/b", false, true},
		{TypeMariaDB, "fdt:a@b/c@tcp(db)/b", true, true},
		{TypeMariaDB, "/b", true, false},
		{TypeMariaDB, "b", true, false},
		{TypeSpool, "", false, false},
	} {
		r, password := dialing(c.typ, c.dsn), false
		switch c.typ {
		case TypePostgres:
			password, _ = postgresDSN(c.dsn)
		case TypeMariaDB:
			password, _, _ = mariadbDSN(c.dsn)
		}
		if r.DialsTCP() != c.tcp || password != c.password {
			t.Errorf("%s %q: TCP %v, password %v", c.typ, c.dsn, r.DialsTCP(), password)
		}
	}
}

// FuzzConnectionStrings: nothing panics, and a password in a plain place is found.
func FuzzConnectionStrings(f *testing.F) {
	for _, s := range []string{"host=a b='c\\'d'", "postgres://a:b@c/d?host=e", "a:b@tcp(c)/d", "=", "a='"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		for _, typ := range []string{TypePostgres, TypeMariaDB} {
			dialing(typ, dsn).DialsTCP()
		}
		if password, _ := postgresDSN("password=x " + dsn); !password {
			t.Errorf("password=x %s: not found", dsn)
		}
	})
}

// dialing is a resource with that connection string, if its type has one.
func dialing(typ, dsn string) Resource {
	r := Resource{Type: typ}
	t, _ := typeNamed(ownTypes(), typ)
	r.Settings = t.make()
	switch s := r.Settings.(type) {
	case *Postgres:
		s.DSN = dsn
	case *MariaDB:
		s.DSN = dsn
	}
	return r
}
