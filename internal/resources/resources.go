// Package resources opens the resource managers that a configuration names.
// What it returns belongs to the caller; after an error nothing stays open.
package resources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// Open opens every resource, in the order of their names, so that every
// process enlists them alike. All that fail are reported at once.
func Open(ctx context.Context, cfg *config.Config) ([]txn.Resource, error) {
	var list []txn.Resource
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Resources)) {
		r, err := open(ctx, cfg.Resources[name])
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

func open(_ context.Context, r config.Resource) (txn.Resource, error) {
	if r.Type == config.TypeSpool {
		return spool.Open(r.Name, r.Directory)
	}
	return nil, fmt.Errorf("resource %s: type %s is not served by this build", r.Name, r.Type)
}
