package pgwire_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
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

// TestFaultOfAQuery: what a query hits that nobody foresaw ends neither the session nor the worker.
func TestFaultOfAQuery(t *testing.T) {
	var journal logbook
	f := newFDT(t, bank{}, logged(&journal), func(f *fdt, _ *config.Config) {
		f.wire.Elsewhere = func(context.Context) []pgwire.Activity { panic("nobody foresaw this") }
	})
	c := f.connect("a")
	c.want("SELECT * FROM pg_stat_activity", "E ERROR XX000 internal error: the query cannot be evaluated", "Z I")
	if line := journal.wait(t, "please report it"); !strings.Contains(line, "nobody foresaw this") {
		t.Error(line)
	}
	c.want("SELECT 1 AS one", "T one:23/4/0", "D 1", "C SELECT 1", "Z I")
}

// TestClientAddress is where the client is, on TCP.
func TestClientAddress(t *testing.T) {
	f := newFDT(t, bank{})
	c := connect(t, "tcp", f.tcp, "a")
	_, port, err := net.SplitHostPort(c.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.want("SELECT inet_client_addr(), inet_client_port()", "T inet_client_addr:869/-1/0 inet_client_port:23/4/0", "D 127.0.0.1|"+port, "C SELECT 1", "Z I")
}
