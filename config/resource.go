package config

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// DialsTCP reports whether the workers need the network to reach the resource. Unix sockets and spools need none.
func (r Resource) DialsTCP() bool {
	switch r.Type {
	case TypePostgres:
		_, hosts := postgresDSN(r.DSN)
		return slices.ContainsFunc(hosts, func(h string) bool { return h != "" && h[0] != '/' && h[0] != '@' })
	case TypeMariaDB:
		_, network := mariadbDSN(r.DSN)
		return network != "unix"
	}
	return false
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

// mariadbDSN tells whether [user[:password]@][network[(address)]]/database holds a password, and its network.
func mariadbDSN(dsn string) (password bool, network string) {
	front := dsn
	if i := strings.LastIndexByte(dsn, '/'); i >= 0 {
		front = dsn[:i]
	}
	if i := strings.LastIndexByte(front, '@'); i >= 0 {
		password = strings.Contains(front[:i], ":")
		front = front[i+1:]
	}
	network, _, _ = strings.Cut(front, "(")
	return password, network
}

// resources checks each resource against its type.
func (d *decoder) resources(c *Config) {
	spools := make(map[string]string) // directory: path of the resource
	for _, name := range slices.Sorted(maps.Keys(c.Resources)) {
		r, path := c.Resources[name], "resources."+name
		var needed string
		var foreign []string
		switch r.Type {
		case TypeSpool:
			needed, foreign = "directory", []string{"dsn", "password_file", "pool", "marker"}
			if other, taken := spools[r.Directory]; taken && r.Directory != "" {
				d.at(path+".directory", "give each a directory of its own", "%s is already the directory of %s", r.Directory, other)
			}
			spools[r.Directory] = path
		case TypePostgres:
			needed, foreign = "dsn", []string{"directory", "marker"}
			d.dsn(&r, path)
		case TypeMariaDB:
			needed, foreign = "dsn", []string{"directory"}
			d.dsn(&r, path)
		default:
			continue
		}
		for _, key := range foreign {
			if d.places[path+"."+key] != nil {
				d.at(path+"."+key, "leave it out", "a %s has no %s", r.Type, key)
			}
		}
		if d.places[path+"."+needed] == nil {
			d.at(path, "", "a %s needs the key %q", r.Type, needed)
		}
		c.Resources[name] = r
	}
	d.decider(c)
}

// decider checks who keeps decisions.
func (d *decoder) decider(c *Config) {
	const path = "transaction.decider"
	name := c.Transaction.Decider
	switch r, ok := c.Resources[name]; {
	case name == "", ok && r.Type == "": // the latter is a fault by itself
	case !ok:
		d.at(path, didYouMean(name, slices.Collect(maps.Keys(c.Resources))), "there is no resource %q", name)
	case r.Type != TypePostgres:
		d.at(path, "name a postgres, or leave it out", "%s is a %s, which cannot keep decisions", name, r.Type)
	}
}

func (d *decoder) dsn(r *Resource, path string) {
	if r.Pool == 0 && d.places[path+".pool"] == nil {
		r.Pool = 32
	}
	password, _ := postgresDSN(r.DSN)
	if r.Type == TypeMariaDB {
		password, _ = mariadbDSN(r.DSN)
	}
	if password {
		d.at(path+".dsn", "put it into a file that only root and fdt can read, and name that as password_file",
			"a password does not belong in the configuration")
	}
}
