package application

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestHealth asks a PostgreSQL, as Debian installs it, that goes away, stands still and comes back, and a spool: each state has its
// word, its beginning and its reason, and the Manager hears of it.
func TestHealth(t *testing.T) {
	start := func(prepared string) *testdb.Postgres {
		server, err := testdb.StartPostgres("max_prepared_transactions="+prepared, "fsync=off")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		return server
	}
	server, bare := start("2"), start("0")
	cfg := &config.Config{Workers: config.Workers{Count: 1}, Resources: map[string]config.Resource{
		"bank":   {Name: "bank", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: server.DSN("postgres"), Pool: 4}}},
		"bare":   {Name: "bare", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: bare.DSN("postgres"), Pool: 4}}},
		"outbox": {Name: "outbox", Type: config.TypeSpool, Settings: &config.Spool{Directory: t.TempDir()}},
	}}
	list, err := resources.Open(cfg, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, r := range list {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	var said bytes.Buffer
	var mu sync.Mutex
	heard := map[string]bool{} // whether it answered, as the Manager was told last
	h := &health{
		list: list, every: time.Millisecond, within: time.Second, look: func(context.Context) error { return nil }, log: slog.New(slog.NewTextHandler(&said, nil)),
		of: map[string]control.Resource{"bank": {Name: "bank", Type: "postgres"}, "bare": {Name: "bare", Type: "postgres"}, "outbox": {Name: "outbox", Type: "spool"}},
		heard: func(_ context.Context, resource string, err error) {
			mu.Lock()
			defer mu.Unlock()
			heard[resource] = err == nil
		},
	}
	h.first.Add(len(list))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { h.run(ctx) })
	defer all.Wait()
	defer cancel()
	h.asked(t.Context())
	if o := h.known()["outbox"]; o.State != control.ResourceReachable || o.Type != "spool" || o.Since.IsZero() || o.Latency <= 0 {
		t.Errorf("%+v", o)
	}
	if b := h.known()["bare"]; b.State != control.ResourceUnfit || !strings.HasPrefix(b.Fault, "PostgreSQL has max_prepared_transactions = 0") {
		t.Errorf("%+v", b)
	}
	late, stop := context.WithCancel(t.Context())
	stop()
	h.asked(late) // returns, as it was asked, or its context has ended
	for _, step := range []struct {
		what   string
		do     func() error
		state  string
		reason string // of the fault; empty: there is none
		warns  string // among the warnings; empty: there are none
	}{
		{"set small", func() error { return nil }, control.ResourceReachable, "", "max_prepared_transactions is 2"},
		{"gone", server.Stop, control.ResourceUnreachable, "no such file", "max_prepared_transactions is 2"},
		{"back", server.Start, control.ResourceReachable, "", "max_prepared_transactions is 2"},
		{"standing still", server.Freeze, control.ResourceUnreachable, "no answer within 1s", "max_prepared_transactions is 2"},
		{"going on", server.Thaw, control.ResourceReachable, "", "max_prepared_transactions is 2"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		var is control.Resource
		testwait.Until(t, step.what, func() bool {
			is = h.known()["bank"]
			mu.Lock()
			defer mu.Unlock()
			return is.State == step.state && (step.reason == "") == (is.Fault == "") && strings.Contains(is.Fault, step.reason) &&
				heard["bank"] == (step.state != control.ResourceUnreachable)
		})
		if got := strings.Join(is.Warnings, "\n"); (step.warns == "") != (got == "") || !strings.Contains(got, step.warns) {
			t.Errorf("%s: warnings %q", step.what, got)
		}
		if strings.HasPrefix(is.Fault, "resource") || (is.Latency > 0) != (step.state == control.ResourceReachable) {
			t.Errorf("%s: %+v", step.what, is)
		}
	}
	cancel()
	all.Wait()
	for _, text := range []string{"resource bare: PostgreSQL has max_prepared_transactions = 0", "resource bank: max_prepared_transactions is 2"} {
		if n := strings.Count(said.String(), text); n == 0 {
			t.Errorf("the journal does not tell: %s\n%s", text, said.String())
		}
	}
	if n := strings.Count(said.String(), "max_prepared_transactions is 2"); n != 1 {
		t.Errorf("told %d times, of one warning", n)
	}
}
