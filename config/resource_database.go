package config

import (
	"net/url"
	"slices"
	"strings"
)

// Database is what resources that are databases have in common.
type Database struct {
	DSN          string // holds no password
	PasswordFile string // empty: none needed
	Pool         int    // connections over all workers together
}

// Postgres is a resource of type postgres.
type Postgres struct{ Database }

// MariaDB is a resource of type mariadb.
type MariaDB struct {
	Database
	Marker string // the table that proves commits; empty: none
}

// connections are those that a resource asks of its database when nothing else is said.
const connections = 32

var postgresType = typed(ResourceType{Name: TypePostgres, takes: takesSQL, decides: true},
	Postgres{Database{Pool: connections}},
	func(s *Postgres) []field {
		return s.fields("a connection string or URL as for libpq.")
	},
	func(d *decoder, _ *Config, s *Postgres, path string) {
		password, _ := postgresDSN(s.DSN)
		d.dsn(password, postgresFault(s.DSN), path)
	})

var mariadbType = typed(ResourceType{Name: TypeMariaDB, takes: takesSQL, dialect: DialectMariaDB},
	MariaDB{Database: Database{Pool: connections}},
	func(s *MariaDB) []field {
		return append(s.fields("user@unix(/path)/database or user@tcp(host:port)/database. Without a password."),
			field{key: "marker", kind: text(&s.Marker, schema{Pattern: sqlName.pattern.String()}, sqlName.check),
				doc: "a table, made if it is not there, with a row for each commit that is not on record yet, to prove it. Default: none."})
	},
	func(d *decoder, _ *Config, s *MariaDB, path string) {
		password, _, _ := mariadbDSN(s.DSN)
		d.dsn(password, mariadbFault(s.DSN), path)
	})

func (s *Database) fields(dsn string) []field {
	return []field{
		{key: "dsn", required: true, kind: private(text(&s.DSN, schema{}, nil)), doc: dsn},
		{key: "password_file", kind: private(text(&s.PasswordFile, schema{Pattern: "^/"}, checkUntold)),
			doc: "a file that holds the password and nothing else. Default: none is needed."},
		{key: "pool", kind: number(&s.Pool, 1, maxCount),
			doc: "connections over all workers together. Default: 32."},
	}
}

// dsn reports a password that stands in a connection string, or why it cannot be read. It tells nothing of it.
func (d *decoder) dsn(password bool, why, path string) {
	path += ".dsn"
	if password {
		d.at(path, "put it into a file that only root and fdt can read, and name that as password_file",
			"a password does not belong in the configuration")
	} else if why != "" {
		d.at(path, "", "%s cannot be read: %s", path, why)
	}
}

// named are the sockets that the connection string names, and the file of the password.
func (s *Database) named(sockets ...string) (all []Named) {
	for _, name := range sockets {
		if strings.HasPrefix(name, "/") {
			all = append(all, Named{Path: "dsn", Name: name, Socket: true})
		}
	}
	if s.PasswordFile != "" {
		all = append(all, Named{Path: "password_file", Name: s.PasswordFile})
	}
	return all
}

func (s *Postgres) named() []Named {
	_, hosts := postgresDSN(s.DSN)
	return s.Database.named(hosts...)
}

func (s *MariaDB) named() []Named {
	_, network, address := mariadbDSN(s.DSN)
	if network != "unix" {
		address = ""
	}
	return s.Database.named(address)
}

func (s *Database) connections() int { return s.Pool }

func (s *Postgres) dialsTCP() bool {
	_, hosts := postgresDSN(s.DSN)
	return slices.ContainsFunc(hosts, func(h string) bool { return h != "" && h[0] != '/' && h[0] != '@' })
}

func (s *MariaDB) dialsTCP() bool {
	_, network, _ := mariadbDSN(s.DSN)
	return network != "unix"
}

// postgresDSN tells whether a connection string of libpq holds a password, and which hosts it names.
func postgresDSN(dsn string) (password bool, hosts []string) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil { // several hosts with ports are no URL to Go; what cannot be read may need the network
			_, rest, _ := strings.Cut(dsn, "://")
			login := rest[:max(0, strings.LastIndexByte(rest, '@'))] // a slash may belong to a password that was not escaped
			return strings.Contains(login, ":"), []string{"unknown"}
		}
		_, password = u.User.Password()
		query := u.Query()
		hosts = append(strings.Split(u.Hostname(), ","), strings.Split(query.Get("host"), ",")...)
		return password || query.Has("password"), append(hosts, query.Get("hostaddr"))
	}
	for key, val := range keywords(dsn) {
		switch key {
		case "password":
			password = true
		case "host", "hostaddr":
			hosts = append(hosts, strings.Split(val, ",")...)
		}
	}
	return password, hosts
}

// keywords splits a keyword = value connection string as libpq does: values may stand in single quotes, and a
// backslash keeps the next character.
func keywords(dsn string) map[string]string {
	found := make(map[string]string)
	for {
		key, rest, ok := strings.Cut(dsn, "=")
		if !ok {
			return found
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		var val strings.Builder
		quoted := strings.HasPrefix(rest, "'")
		i := 0
		if quoted {
			i = 1
		}
		for ; i < len(rest); i++ {
			c := rest[i]
			if c == '\\' && i+1 < len(rest) {
				i++
				c = rest[i]
			} else if quoted && c == '\'' || !quoted && strings.IndexByte(" \t\r\n", c) >= 0 {
				i++
				break
			}
			val.WriteByte(c)
		}
		found[strings.TrimSpace(key)] = val.String()
		dsn = rest[i:]
	}
}

// mariadbDSN tells whether [user[:password]@][network[(address)]]/database holds a password, its network and the
// address there.
func mariadbDSN(dsn string) (password bool, network, address string) {
	front := dsn
	if i := strings.LastIndexByte(dsn, '/'); i >= 0 {
		front = dsn[:i]
	}
	if i := strings.LastIndexByte(front, '@'); i >= 0 {
		password = strings.Contains(front[:i], ":")
		front = front[i+1:]
	}
	network, address, _ = strings.Cut(front, "(")
	return password, network, strings.TrimSuffix(address, ")")
}
