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

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// Open opens every resource, in the order of their names, so that every
// process enlists them alike. All that fail are reported at once. Workers give
// the directory in memory through which all of them, of all generations, keep
// to each resource's pool; a process that only recovers has no use for it.
func Open(cfg *config.Config, budgets string) ([]txn.Resource, error) {
	var list []txn.Resource
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Resources)) {
		r, err := open(cfg, cfg.Resources[name], budgets)
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
	if r.Pool == 0 {
		return 0
	}
	return max(1, r.Pool/max(1, cfg.Workers.Count))
}

// open opens one resource for one of the workers, which has its share of the
// pool at most; while generations overlap, whatever the others leave of it.
func open(cfg *config.Config, r config.Resource, budgets string) (txn.Resource, error) {
	share, processes := share(cfg, r), max(1, cfg.Workers.Count)*(1+cfg.Drain.Generations)
	budget := ""
	if budgets != "" {
		budget = filepath.Join(budgets, "pool-"+r.Name)
	}
	switch r.Type {
	case config.TypeSpool:
		return spool.Open(r.Name, r.Directory)
	case config.TypePostgres:
		return postgres.New(postgres.Options{
			Name: r.Name, DSN: r.DSN, PasswordFile: r.PasswordFile, Pool: share, Budget: budget, Total: r.Pool, Processes: processes,
			Decider: r.Name == cfg.Transaction.Decider, LockTimeout: cfg.Transaction.LockTimeout,
		})
	case config.TypeMariaDB:
		return mariadb.New(mariadb.Options{
			Name: r.Name, DSN: r.DSN, PasswordFile: r.PasswordFile, Pool: share, Budget: budget, Total: r.Pool, Processes: processes,
			Marker: r.Marker,
		})
	}
	return nil, fmt.Errorf("resource %s: unknown type %q", r.Name, r.Type)
}
