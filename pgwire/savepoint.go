package pgwire

import (
	"context"
	"errors"
	"maps"

	"github.com/fdtserver/fdt/txn"
)

func (se *session) savepoint(ctx context.Context, name string) error {
	if err := se.block("SAVEPOINT"); err != nil {
		return err
	}
	err := se.txn.Savepoint(ctx, name)
	if err == nil {
		se.settings.savepoint(name)
	}
	return err
}

func noSavepoint(name string, err error) error {
	if errors.Is(err, txn.ErrNoSavepoint) {
		err = errorf("3B001", "savepoint %q does not exist", name)
	}
	return err
}

func (se *session) release(ctx context.Context, name string) error {
	if err := se.block("RELEASE SAVEPOINT"); err != nil {
		return err
	}
	if err := se.txn.Release(ctx, name); err != nil {
		return noSavepoint(name, err)
	}
	se.settings.release(name)
	for _, po := range se.portals { // those of the savepoint are its predecessor's now
		po.depth = min(po.depth, se.settings.depth())
	}
	return nil
}

func (se *session) rollbackTo(ctx context.Context, name string) error {
	if err := se.block("ROLLBACK TO SAVEPOINT"); err != nil {
		return err
	}
	if err := se.txn.RollbackTo(ctx, name); err != nil {
		return noSavepoint(name, err)
	}
	se.settings.rollbackTo(name)
	// What was bound since is gone with the rest.
	maps.DeleteFunc(se.portals, func(_ string, po *portal) bool { return po.depth >= se.settings.depth() })
	return nil
}
