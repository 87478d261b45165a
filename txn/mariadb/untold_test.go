package mariadb

import (
	"strings"
	"testing"
)

// TestDSNIsNotTold: what is wrong with a DSN is told without any part of it.
func TestDSNIsNotTold(t *testing.T) {
	for dsn, want := range map[string]string{
		"hunter2":                               "invalid DSN: missing the slash separating the database name",
		"fdt:hunter2/db":                        "default addr for network",
		"fdt@tcp(db)/hunter2%zz":                "invalid dbname",
		"fdt@tcp(db)/a?parseTime=hunter2":       "invalid bool value",
		"fdt@tcp(db)/a?tls=hunter2":             "invalid value / unknown config name",
		"fdt@tcp(hunter2/a":                     "invalid DSN: network address not terminated (missing closing brace)",
		"fdt@tcp(db)/a?timeTruncate=hunter2":    "invalid timeTruncate value",
		"fdt@tcp(db)/a?readTimeout=hunter2":     "time",
		"fdt@tcp(db)/a?maxAllowedPacket=hunter": "strconv.Atoi",
	} {
		_, err := New(Options{Name: "bank", DSN: dsn})
		if err == nil || strings.Contains(err.Error(), "hunter") || !strings.HasPrefix(err.Error(), "resource bank: dsn: "+want) {
			t.Errorf("of %s is said %v", dsn, err)
		}
	}
}
