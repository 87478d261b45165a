package pgwire

import (
	"context"
	"errors"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

func (se *session) savepoint(ctx context.Context, name string) error {
	if err := se.block("SAVEPOINT"); err != nil {
		return err
	}
	if err := se.spend(savepointCost); err != nil {
		return err
	}
	name = strings.Clone(name) // the text that it is a part of may be long
	err := se.txn.Savepoint(ctx, name)
	if err == nil {
		se.settings.savepoint(name)
		se.spent -= savepointCost
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
	se.settings.release(se.settings.find(name))
	for _, po := range se.portals.named { // those of the savepoint are its predecessor's now
		po.it.depth = min(po.it.depth, se.settings.depth())
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
	se.settings.rollbackTo(se.settings.find(name))
	for name, po := range se.portals.named {
		if po.it.depth >= se.settings.depth() { // what was bound since is gone with the rest
			se.ends(name)
		}
	}
	return nil
}
