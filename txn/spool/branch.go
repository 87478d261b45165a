package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/fdtserver/fdt/txn"
)

// Branch is the messages of one transaction. Beyond txn.Branch it has Put.
type Branch struct {
	s          *Spool
	gid        txn.GID // under which it stages, whatever it is prepared as
	readOnly   bool
	count      int
	savepoints map[string]int // count at the time
}

// Put adds a message; it is staged, not durable. The body may be empty. In a
// read-only transaction ErrReadOnly.
func (b *Branch) Put(_ context.Context, body []byte) error {
	if b.readOnly {
		return fmt.Errorf("spool %s: %w", b.s.name, txn.ErrReadOnly)
	}
	if b.count == maxMessages {
		return fmt.Errorf("spool %s: more than %d messages in one transaction", b.s.name, maxMessages)
	}
	if b.count == 0 {
		if err := os.Mkdir(b.dir(), 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
			return b.s.fail("put", err)
		}
	}
	file := b.message(b.count + 1)
	if err := b.s.write(file, body); err != nil {
		return errors.Join(b.s.fail("put", err), removeIfThere(file))
	}
	b.count++
	return nil
}

func (b *Branch) dir() string { return b.s.path("tmp", b.s.entry(b.gid, staged)) }

func (b *Branch) message(n int) string { return b.dir() + "/" + messageName(n) }

// Prepare makes the messages durable under gid. Without any it votes
// VoteReadOnly.
func (b *Branch) Prepare(_ context.Context, gid txn.GID) (txn.Vote, error) {
	if b.count == 0 {
		return txn.VoteReadOnly, b.clear()
	}
	if err := b.flush(); err != nil {
		return 0, b.s.fail("prepare", err)
	}
	if err := b.s.stage(b.dir(), b.s.entry(gid, staged)); err != nil {
		return 0, b.s.fail("prepare", err)
	}
	return txn.VotePrepared, nil
}

// flush makes the staged messages and their directory durable.
func (b *Branch) flush() error {
	if err := b.s.sound(); err != nil {
		return err
	}
	for n := range b.count {
		if err := b.s.sync(b.message(n + 1)); err != nil {
			return err
		}
	}
	return b.s.sync(b.dir())
}

// Proof is empty: an emptied directory proves a commit.
func (b *Branch) Proof() txn.Proof { return "" }

// Commit delivers in one phase. A single message needs no more than a rename;
// several are decided by one rename first, so that a crash among them is
// completed by recovery.
func (b *Branch) Commit(ctx context.Context) error {
	if b.count == 0 {
		return b.clear()
	}
	if err := b.flush(); err != nil {
		return errors.Join(b.s.fail("commit", err), b.Rollback(ctx))
	}
	var err error
	if b.count == 1 {
		err = b.s.deliverOne(b.dir(), b.gid)
	} else {
		err = b.s.stage(b.dir(), b.s.entry(b.gid, single))
	}
	if unmoved(err) {
		return errors.Join(b.s.fail("commit", err), b.Rollback(ctx))
	}
	if err == nil && b.count > 1 {
		err = b.s.deliver(b.gid, single)
	}
	if err != nil {
		return b.s.fail("commit", fmt.Errorf("%w: %w", txn.ErrUnknownOutcome, err))
	}
	return nil
}

// Rollback deletes the messages.
func (b *Branch) Rollback(context.Context) error { return b.clear() }

func (b *Branch) clear() error {
	if err := os.RemoveAll(b.dir()); err != nil {
		return b.s.fail("roll back", err)
	}
	return nil
}

// CommitPrepared delivers what Prepare staged.
func (b *Branch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	how, err := b.s.Resolve(ctx, gid, txn.Commit, "")
	if err == nil && how != txn.ResolvedDone {
		return b.s.fail("commit", fmt.Errorf("%s: %w", gid, txn.ErrHeuristicHazard))
	}
	return err
}

// RollbackPrepared deletes what Prepare staged, or had begun to.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	_, err := b.s.Resolve(ctx, gid, txn.Abort, "")
	return errors.Join(err, b.clear())
}

// Savepoint remembers how many messages there are.
func (b *Branch) Savepoint(_ context.Context, name string) error {
	b.savepoints[name] = b.count
	return nil
}

// RollbackTo deletes the messages put since.
func (b *Branch) RollbackTo(_ context.Context, name string) error {
	keep, ok := b.savepoints[name]
	if !ok {
		return b.s.fail("roll back to savepoint", txn.ErrNoSavepoint)
	}
	for ; b.count > keep; b.count-- {
		if err := removeIfThere(b.message(b.count)); err != nil {
			return b.s.fail("roll back to savepoint", err)
		}
	}
	return nil
}

// Release forgets the savepoint.
func (b *Branch) Release(_ context.Context, name string) error {
	if _, ok := b.savepoints[name]; !ok {
		return b.s.fail("release savepoint", txn.ErrNoSavepoint)
	}
	delete(b.savepoints, name)
	return nil
}

func (s *Spool) fail(doing string, err error) error {
	return fmt.Errorf("spool %s: %s: %w", s.name, doing, err)
}

// removeIfThere deletes a file that may never have been made.
func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
