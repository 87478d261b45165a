package postgres

import (
	"strings"
	"testing"
)

// TestDSNIsNotTold: what is wrong with a connection string is told without any part of it.
func TestDSNIsNotTold(t *testing.T) {
	for dsn, want := range map[string]string{
		"hunter2":                        "failed to parse as keyword/value",
		"host=a pass='hunter2":           "failed to parse as keyword/value",
		"host=a port=hunter2":            "invalid port",
		"host=a sslmode=hunter2":         "failed to configure TLS",
		"postgres://fdt:x/@hunter2@db/a": "",
		"postgres://fdt:hunter2@db:y/a":  "",
	} {
		_, err := New(Options{Name: "bank", DSN: dsn})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.HasPrefix(err.Error(), "resource bank: dsn: "+want) {
			t.Errorf("of %s is said %v", dsn, err)
		}
	}
}
