// Package resources opens the resource managers that a configuration names.
// What it returns belongs to the caller; after an error nothing stays open.
package resources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// Open opens every resource, in the order of their names, so that every
// process enlists them alike. All that fail are reported at once.
func Open(ctx context.Context, cfg *config.Config) ([]txn.Resource, error) {
	var list []txn.Resource
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Resources)) {
		r, err := open(ctx, cfg.Resources[name], cfg.Workers.Count)
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

// open opens one resource for one of so many workers, which share its pool.
func open(_ context.Context, r config.Resource, workers int) (txn.Resource, error) {
	share := max(1, r.Pool/max(1, workers))
	switch r.Type {
	case config.TypeSpool:
		return spool.Open(r.Name, r.Directory)
	case config.TypePostgres:
		return postgres.New(postgres.Options{Name: r.Name, DSN: r.DSN, PasswordFile: r.PasswordFile, Pool: share})
	case config.TypeMariaDB:
		return mariadb.New(mariadb.Options{Name: r.Name, DSN: r.DSN, PasswordFile: r.PasswordFile, Pool: share, Marker: r.Marker})
	}
	return nil, fmt.Errorf("resource %s: unknown type %q", r.Name, r.Type)
}
