package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// sslModes are libpq's.
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// postgresFault tells what is wrong with a connection string of PostgreSQL by its form, without any part of it, since a password may
// stand anywhere in one that cannot be read. It is empty for one that the driver reads.
func postgresFault(dsn string) string {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil && !strings.Contains(dsn, ",") { // of several hosts, Go takes some for no URL
			return "it is no URL that can be read; what is special in a URL is written as % and two digits"
		}
		if err != nil {
			return ""
		}
		return settingFault(u.Query().Get("port"), u.Query().Get("sslmode"))
	}
	for rest := strings.TrimSpace(dsn); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || strings.ContainsAny(key, " \t\r\n") {
			return "each part is a keyword, = and a value, as in host=/run/postgresql dbname=a user=fdt"
		}
		if rest, ok = afterValue(strings.TrimLeft(after, " \t\r\n")); !ok {
			return "a quote is not closed"
		}
	}
	found := keywords(dsn)
	return settingFault(found["port"], found["sslmode"])
}

// afterValue is what follows a value of libpq; ok tells whether its quote, if it has one, is closed.
func afterValue(s string) (rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case quoted && s[i] == '\'', !quoted && strings.IndexByte(" \t\r\n", s[i]) >= 0:
			return strings.TrimSpace(s[i+1:]), true
		}
	}
	return "", !quoted
}

// settingFault is about those settings of libpq whose values are few.
func settingFault(ports, mode string) string {
	for port := range strings.SplitSeq(ports, ",") {
		if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535) {
			return "a port is a number from 1 to 65535"
		}
	}
	if mode != "" && !slices.Contains(sslModes, mode) {
		return "sslmode is one of " + strings.Join(sslModes, ", ")
	}
	return ""
}

// mariadbFault is postgresFault for MariaDB.
func mariadbFault(dsn string) string {
	_, network, _ := mariadbDSN(dsn)
	front := dsn[:max(0, strings.LastIndexByte(dsn, '/'))]
	switch {
	case !strings.Contains(dsn, "/"):
		return "there is no / before the name of the database"
	case strings.Contains(front[strings.LastIndexByte(front, '@')+1:], "(") && !strings.HasSuffix(front, ")"):
		return "the address has no closing )"
	case network != "" && network != "tcp" && network != "unix":
		return "the server's address is unix(/path) or tcp(host:port)"
	}
	return ""
}
