package pgwire_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire"
)

// TestOwnAnswers shows what differs from call to call.
func TestOwnAnswers(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.wire.Logger = nil })
	old := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(old) })
	c := f.connect("a")
	for text, want := range map[string]string{
		"SELECT version()":                    "D PostgreSQL 15.0 (fdt), a transaction server that speaks PostgreSQL's protocol",
		"SELECT pg_backend_pid() AS pid":      "D ",
		"SELECT now(), current_timestamp":     "D 20",
		"SHOW ALL":                            "D application_name||Name of the client's application.",
		"SELECT clock_timestamp()::text":      "D 20",
		"SELECT * FROM pg_prepared_xacts":     "C SELECT 0",
		"SELECT '{}'::xid8[]":                 "D {}",
		"SHOW transaction_timeout":            "D 0",
		"SET nonsense.x = y; SHOW nonsense.x": "C SET",
	} {
		got := c.query(text)
		if len(got) < 3 || !strings.HasPrefix(got[1], want) && !strings.HasPrefix(got[0], want) || got[len(got)-1] != "Z I" {
			t.Errorf("%s: %q", text, got)
		}
	}
	refused := connect(t, "unix", f.sock, "")
	refused.answers("no user", refused.hello, "E FATAL 28000 no PostgreSQL user name specified in startup packet", "closed")
}

// TestFailure is an error like any other, with an SQLSTATE.
func TestFailure(t *testing.T) {
	var err error = &pgwire.Failure{Code: "57014", Message: "late"}
	s, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok || s.SQLState() != "57014" || err.Error() != "late" {
		t.Error(err)
	}
}
