package application

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// paused is a Manager with a PostgreSQL that can be paused, and a spool that cannot.
type paused struct {
	*testing.T
	*pauses

	list []txn.Resource
	said *bytes.Buffer
}

func newPaused(t *testing.T) paused {
	t.Helper()
	server, err := testdb.StartPostgres("max_prepared_transactions=4", "fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := &config.Config{Workers: config.Workers{Count: 1}, Resources: map[string]config.Resource{
		"store":  {Name: "store", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: server.DSN("postgres"), Pool: 4}}},
		"bank":   {Name: "bank", Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: server.DSN("postgres"), Pool: 4}}},
		"outbox": {Name: "outbox", Type: config.TypeSpool, Settings: &config.Spool{Directory: t.TempDir()}},
	}}
	list, err := resources.Open(cfg, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	said := new(bytes.Buffer)
	log := slog.New(slog.NewTextHandler(said, nil))
	manager, err := txn.Open(t.Context(), txn.Options{LogDir: t.TempDir(), ClaimDir: t.TempDir(), MachineID: "here", Resources: list, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	recovering, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := manager.Recover(recovering); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		all.Wait()
		err := manager.Close(context.Background())
		for _, r := range list {
			err = errors.Join(err, r.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return paused{t, &pauses{dir: snapshot.Dir(t.TempDir()), manager: manager, log: log, of: map[string]snapshot.Pause{}}, list, said}
}

// asks has the resource be as an operator wants it.
func (p paused) asks(pause *snapshot.Pause) {
	p.Helper()
	err := p.dir.Resume("bank", "root")
	if pause != nil {
		err = errors.Join(err, p.dir.Ask("bank", snapshot.Asker{ID: "1", By: pause.By, Since: pause.Since}))
		if pause.Detached {
			err = errors.Join(err, p.dir.Detach("bank", "1"))
		}
	}
	if err = errors.Join(err, p.look(p.Context())); err != nil {
		p.Fatal(err)
	}
}

// use is what holds the one resource that can be paused.
func (p paused) use() control.Use {
	p.Helper()
	all := p.uses([]string{"bank", "outbox", "none"})
	if len(all) != 1 {
		p.Fatalf("%+v", all)
	}
	return all["bank"]
}

func (p paused) begin() *txn.Session {
	p.Helper()
	s := p.manager.NewSession(txn.Principal{User: "alice"})
	if err := s.Begin(p.Context(), txn.TxOptions{}); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			p.Error(err)
		}
	})
	return s
}

// TestPauses has new branches wait while those that are open end, lets go of the database, and goes on.
func TestPauses(t *testing.T) {
	p := newPaused(t)
	open := p.begin()
	if _, err := open.Branch(t.Context(), "bank"); err != nil {
		t.Fatal(err)
	}
	before, since := p.begin(), time.Now()
	p.asks(&snapshot.Pause{Since: since, By: "root"})
	if u := p.use(); u.State != control.ResourcePausing || u.Branches != 1 || u.Waiting != 0 {
		t.Errorf("%+v", u)
	}
	if _, err := before.Branch(t.Context(), "bank"); err != nil || p.use().Branches != 2 {
		t.Errorf("what began before may still come: %v, %+v", err, p.use())
	}
	if err := before.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := p.begin()
	began := make(chan error, 1)
	go func() {
		_, err := late.Branch(t.Context(), "bank")
		began <- err
	}()
	testwait.Until(t, "a transaction waits", func() bool { return p.use().Waiting == 1 })
	if w := p.manager.Stats().Resources["bank"].Waiting; w != 1 {
		t.Errorf("%d wait", w)
	}

	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the client is gone"))
	if _, err := p.begin().Branch(gone, "bank"); !errors.Is(err, txn.ErrPaused) || txn.SQLState(err) != "57P03" || !strings.Contains(err.Error(), "the client is gone") {
		t.Error(err)
	}
	hasty := p.begin()
	hasty.Limit(time.Millisecond, 0)
	if _, err := hasty.Branch(t.Context(), "bank"); !errors.Is(err, txn.ErrTimeout) {
		t.Error(err)
	}
	other := p.begin()
	if _, err := other.Branch(t.Context(), "outbox"); err != nil {
		t.Errorf("of another resource: %v", err)
	}
	if err := errors.Join(other.Await(t.Context(), "bank"), p.begin().Await(t.Context(), "outbox"), p.begin().Await(t.Context(), "none")); err != nil {
		t.Errorf("who holds something, or needs something else, does not wait beforehand: %v", err)
	}
	if err := p.begin().Await(gone, "bank"); !errors.Is(err, txn.ErrPaused) {
		t.Error(err)
	}

	p.asks(&snapshot.Pause{Since: since, By: "root", Detached: true}) // too early: it stays connected for what is open
	if u := p.use(); u.Branches != 1 || u.Connections == 0 {
		t.Errorf("%+v", u)
	}
	if err := open.Prepare(t.Context(), "kept"); err != nil { // what is open may end
		t.Fatal(err)
	}
	if u := p.use(); u.Branches != 0 || u.Untold != 0 {
		t.Errorf("%+v", u)
	}
	testwait.Until(t, "no connection is open", func() bool { return p.look(t.Context()) == nil && p.use().Connections == 0 })
	if u := p.use(); u.State != control.ResourcePaused {
		t.Errorf("%+v", u)
	}
	if _, err := p.list[0].Identity(t.Context()); !errors.Is(err, txn.ErrPaused) {
		t.Errorf("the database is asked: %v", err)
	}
	if faults := p.manager.Rehearse(t.Context(), nil); len(faults) != 0 {
		t.Errorf("the rehearsal: %v", faults)
	}
	decider := p.manager.NewSession(txn.Principal{User: "alice"})
	if err := decider.CommitPrepared(t.Context(), "kept"); !txn.InDoubt(err) {
		t.Errorf("it is decided, and cannot be told: %v", err)
	}
	if u := p.use(); u.Untold != 1 || u.Connections != 0 {
		t.Errorf("%+v", u)
	}

	p.asks(nil)
	if err := testwait.For(t, "the branch", began); err != nil {
		t.Error(err)
	}
	if err := p.begin().Await(t.Context(), "bank"); err != nil {
		t.Error(err)
	}
	testwait.Until(t, "what was decided is told", func() bool { return p.use().Untold == 0 })
	if err := decider.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPausedAgain: a pause that ended between two looks ends here, too; and while one cannot be read, none ends.
func TestPausedAgain(t *testing.T) {
	p := newPaused(t)
	p.asks(&snapshot.Pause{Since: time.Unix(1, 0), By: "root", Detached: true})
	p.asks(&snapshot.Pause{Since: time.Unix(2, 0), By: "root"})
	if _, err := p.list[0].Identity(t.Context()); err != nil || p.use().State != control.ResourcePausing {
		t.Errorf("it has let go of the database: %v, %+v", err, p.use())
	}
	damaged := filepath.Join(string(p.dir), "paused", "other.json")
	if err := errors.Join(os.WriteFile(damaged, []byte("{"), 0o600), p.dir.Resume("bank", "root")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.look(t.Context()); err == nil || p.use().State != control.ResourcePausing {
			t.Errorf("%v, %+v", err, p.use())
		}
	}
	if err := os.Remove(damaged); err != nil {
		t.Fatal(err)
	}
	p.asks(nil)
	if u := p.use(); u.State != "" {
		t.Errorf("%+v", u)
	}
	p.manager.Resume(t.Context(), "outbox") // which is nothing to it
	for text, times := range map[string]int{"a resource is paused: who needs it": 1, "fdt has no connection to it": 1, "a resource is used again": 2, "no pause ends": 1} {
		if n := strings.Count(p.said.String(), text); n != times {
			t.Errorf("%q is said %d times, not %d:\n%s", text, n, times, p.said)
		}
	}
}

// TestPauseTogether: a transaction that is on one of the databases that are being paused may go on to the others, or none would end.
func TestPauseTogether(t *testing.T) {
	p := newPaused(t)
	now := time.Now()
	pause := func(name string) {
		t.Helper()
		if err := errors.Join(p.dir.Ask(name, snapshot.Asker{ID: "1", Since: now}), p.look(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	pause("store")
	s := p.begin()
	if _, err := s.Branch(t.Context(), "bank"); err != nil {
		t.Fatal(err)
	}
	pause("bank")
	if _, err := s.Branch(t.Context(), "store"); err != nil {
		t.Error(err)
	}
}
