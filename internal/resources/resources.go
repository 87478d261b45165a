// Package resources opens the resource managers that a configuration names.
// What it returns belongs to the caller; after an error nothing stays open.
package resources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// Open opens every resource, in the order of their names, so that every
// process enlists them alike. All that fail are reported at once. Workers give
// the directory in memory through which all of them, of all generations, keep
// to each resource's pool; a process that only recovers has no use for it. more
// are the openers of the program's own types.
func Open(cfg *config.Config, budgets string, more map[string]Opener) ([]txn.Resource, error) {
	var list []txn.Resource
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Resources)) {
		r, err := open(cfg, cfg.Resources[name], budgets, more)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, r)
	}
	if errs != nil {
		for _, r := range list {
			errs = append(errs, r.Close())
		}
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// Check asks every database whether its settings suit transactions, and
// returns what an operator should know of those that answer, and why others do
// not serve at all. It waits for databases that do not answer no longer than
// ctx lasts.
func Check(ctx context.Context, list []txn.Resource) (unsuited []string, faults []error) {
	found := make([][]string, len(list))
	faults = make([]error, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() { found[i], faults[i] = CheckOne(ctx, r) })
	}
	wg.Wait()
	return slices.Concat(found...), slices.DeleteFunc(faults, func(err error) bool { return err == nil })
}

// CheckOne is Check for one resource. One that has no settings to be asked for, as a spool, is asked who it is.
func CheckOne(ctx context.Context, r txn.Resource) (unsuited []string, err error) {
	if c, ok := r.(interface {
		Check(ctx context.Context) (warnings []string, err error)
	}); ok {
		return c.Check(ctx)
	}
	_, err = r.Identity(ctx)
	return nil, err
}

// beside is how many descriptors a resource needs beside its pool: its budget's file, and recovery's connections.
const beside = 8

// Descriptors is how many file descriptors the resources of one worker hold at most.
func Descriptors(cfg *config.Config) int {
	n := 0
	for _, r := range cfg.Resources {
		n += beside + share(cfg, r)
	}
	return n
}

// share is one worker's part of a pool; a spool has none.
func share(cfg *config.Config, r config.Resource) int {
	if r.Pool() == 0 {
		return 0
	}
	return max(1, r.Pool()/max(1, cfg.Workers.Count))
}

// Opening is what a resource is opened with beside its settings.
type Opening struct {
	Name        string
	Pool        int    // connections that this process may have at most, of Total
	Total       int    // those of all processes
	Processes   int    // how many there are of these, with those of generations that drain
	Budget      string // the file by which they keep to Total; empty: no budget
	Decider     bool   // it is the one that keeps decisions
	LockTimeout time.Duration
}

// Opener opens the resources of one type.
type Opener func(o Opening, settings any) (txn.Resource, error)

// openers are those of fdt's own types.
var openers = map[string]Opener{
	config.TypeSpool: OpenerOf(func(o Opening, s *config.Spool) (txn.Resource, error) { return spool.Open(o.Name, s.Directory) }),
	config.TypePostgres: OpenerOf(func(o Opening, s *config.Postgres) (txn.Resource, error) {
		return postgres.New(postgres.Options{
			Name: o.Name, DSN: s.DSN, PasswordFile: s.PasswordFile, Pool: o.Pool, Budget: o.Budget, Total: o.Total, Processes: o.Processes,
			Decider: o.Decider, LockTimeout: o.LockTimeout,
		})
	}),
	config.TypeMariaDB: OpenerOf(func(o Opening, s *config.MariaDB) (txn.Resource, error) {
		return mariadb.New(mariadb.Options{
			Name: o.Name, DSN: s.DSN, PasswordFile: s.PasswordFile, Pool: o.Pool, Budget: o.Budget, Total: o.Total, Processes: o.Processes,
			Marker: s.Marker,
		})
	}),
}

// OpenerOf is one for the settings that a type has.
func OpenerOf[S any](open func(Opening, *S) (txn.Resource, error)) Opener {
	return func(o Opening, settings any) (txn.Resource, error) {
		s, _ := settings.(*S) // as its type says
		return open(o, s)
	}
}

// open opens one resource for one of the workers, which has its share of the
// pool at most; while generations overlap, whatever the others leave of it.
func open(cfg *config.Config, r config.Resource, budgets string, more map[string]Opener) (txn.Resource, error) {
	o := Opening{
		Name: r.Name, Pool: share(cfg, r), Total: r.Pool(), Processes: max(1, cfg.Workers.Count) * (1 + cfg.Drain.Generations),
		Decider: r.Name == cfg.Transaction.Decider, LockTimeout: cfg.Transaction.LockTimeout,
	}
	if budgets != "" {
		o.Budget = filepath.Join(budgets, "pool-"+r.Name)
	}
	opens, ok := openers[r.Type]
	if !ok {
		opens, ok = more[r.Type]
	}
	if !ok {
		return nil, fmt.Errorf("resource %s: a %s is known to the program of the workers, and not to this one", r.Name, r.Type)
	}
	return opens(o, r.Settings)
}
