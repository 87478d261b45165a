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
// returns what an operator should know. It waits for databases that do not
// answer no longer than ctx lasts, and says that they do not.
func Check(ctx context.Context, list []txn.Resource) []string {
	found := make([][]string, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		c, ok := r.(interface {
			Check(context.Context) (warnings []string, err error)
		})
		if !ok {
			continue
		}
		wg.Go(func() {
			warnings, err := c.Check(ctx)
			if err != nil {
				warnings = append(warnings, err.Error())
			}
			found[i] = warnings
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}

// open opens one resource for one of the workers, which has its share of the
// pool at most; while generations overlap, whatever the others leave of it.
func open(cfg *config.Config, r config.Resource, budgets string) (txn.Resource, error) {
	workers := max(1, cfg.Workers.Count)
	share, processes := max(1, r.Pool/workers), workers*(1+cfg.Drain.Generations)
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
		})
	case config.TypeMariaDB:
		return mariadb.New(mariadb.Options{
			Name: r.Name, DSN: r.DSN, PasswordFile: r.PasswordFile, Pool: share, Budget: budget, Total: r.Pool, Processes: processes,
			Marker: r.Marker,
		})
	}
	return nil, fmt.Errorf("resource %s: unknown type %q", r.Name, r.Type)
}
