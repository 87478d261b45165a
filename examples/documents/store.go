package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/fdtserver/fdt/txn"
)

// Store is a txn.Resource and txn.Forgetter: a directory that holds
//
//	id              names this very store
//	now/NAME        the documents
//	open/BRANCH/    those of transactions at work
//	prepared/BRANCH/
//	decided/BRANCH/ committed, and being moved to now/; empty: the proof of that
//	decided/BRANCH.alone/  likewise in one phase, of which nobody asks for a proof
//
// A rename decides, and what comes after it can be done again by anybody. Of two
// transactions that write one document the later commit stands.
type Store struct {
	name, dir string
	longest   int
	broken    atomic.Bool             // a sync failed, and what it was to make durable may be lost though another succeeds
	syncs     func(path string) error // fsync(2)
}

// Open opens the store in a directory, and makes what is missing inside of it.
func Open(name, dir string, longest int) (*Store, error) {
	s := &Store{name: name, dir: dir, longest: longest, syncs: fsync}
	for _, sub := range []string{"now", "open", "prepared", "decided"} {
		if err := os.Mkdir(s.path(sub), 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	id := s.path("id")
	temp := s.path("open", "id-"+rand.Text())
	err := errors.Join(os.WriteFile(temp, []byte(rand.Text()), 0o660), s.sync(temp))
	if err == nil {
		err = os.Link(temp, id) // of several processes one wins
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return s, errors.Join(err, os.Remove(temp), s.sync(dir))
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sync makes files, or the entries of directories, durable.
func (s *Store) sync(paths ...string) error {
	for _, path := range paths {
		if err := s.syncs(path); err != nil {
			s.broken.Store(true)
			return err
		}
	}
	if s.broken.Load() {
		return errors.New("what was to be durable before may be lost; a new process begins anew")
	}
	return nil
}

// entry is a branch's directory. Two resources may be one store.
func (s *Store) entry(gid txn.GID) string { return gid.String() + "+" + s.name }

// Name is the resource's in the configuration.
func (s *Store) Name() string { return s.name }

// Close has nothing to free.
func (s *Store) Close() error { return nil }

// Identity is the content of id.
func (s *Store) Identity(context.Context) (string, error) {
	id, err := os.ReadFile(s.path("id"))
	return "documents:" + string(id), err
}

// Enlist begins a branch.
func (s *Store) Enlist(_ context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	if s.broken.Load() {
		return nil, s.sync()
	}
	return &Branch{s: s, gid: opt.GID, readOnly: opt.ReadOnly, marks: map[string]int{}}, nil
}

// each calls f for each branch of that log in one of the directories.
func (s *Store) each(sub string, id txn.LogID, f func(gid txn.GID, e fs.DirEntry, alone bool) error) error {
	list, err := os.ReadDir(s.path(sub))
	if err != nil {
		return err
	}
	for _, e := range list {
		name, alone := strings.CutSuffix(e.Name(), ".alone")
		text, of, _ := strings.Cut(name, "+")
		gid, err := txn.ParseGID(text)
		if err != nil || gid.Log != id || of != s.name {
			continue
		}
		if err := f(gid, e, alone); err != nil {
			return err
		}
	}
	return nil
}

// InDoubt lists what is prepared, and completes what was committed in one phase
// by a process that died.
func (s *Store) InDoubt(_ context.Context, id txn.LogID) (found []txn.PreparedBranch, err error) {
	err = s.each("decided", id, func(_ txn.GID, e fs.DirEntry, alone bool) error {
		if !alone {
			return nil // the coordinator knows
		}
		return s.deliver(e.Name())
	})
	return found, errors.Join(err, s.each("prepared", id, func(gid txn.GID, e fs.DirEntry, _ bool) error {
		if info, err := e.Info(); err == nil { // else it was just resolved
			found = append(found, txn.PreparedBranch{GID: gid, Since: info.ModTime()})
		}
		return nil
	}))
}

// Fence removes what the dead incarnation had not prepared: a process that is
// gone does nothing any more.
func (s *Store) Fence(_ context.Context, id txn.LogID, incarnation uint64) error {
	return s.each("open", id, func(gid txn.GID, e fs.DirEntry, _ bool) error {
		if gid.Incarnation != incarnation {
			return nil
		}
		return os.RemoveAll(s.path("open", e.Name()))
	})
}

// Resolve carries a decision out.
func (s *Store) Resolve(_ context.Context, gid txn.GID, d txn.Decision, _ txn.Proof) (txn.Resolution, error) {
	prepared, decided := s.path("prepared", s.entry(gid)), s.path("decided", s.entry(gid))
	if d == txn.Abort {
		if _, err := os.Stat(decided); !errors.Is(err, fs.ErrNotExist) {
			return txn.ResolvedAgainst, err
		}
		gid.Role = txn.RoleLocal // as which it began
		err := errors.Join(os.RemoveAll(prepared), s.sync(s.path("prepared")), os.RemoveAll(s.path("open", s.entry(gid))))
		return txn.ResolvedDone, err
	}
	err := os.Rename(prepared, decided)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	switch err := s.deliver(filepath.Base(decided)); {
	case errors.Is(err, fs.ErrNotExist):
		return txn.ResolvedUnknown, nil
	default:
		return txn.ResolvedDone, err
	}
}

// deliver moves documents of a decided branch to their place. Others may be at
// it, too.
func (s *Store) deliver(entry string) error {
	list, err := os.ReadDir(s.path("decided", entry))
	if err != nil {
		return err
	}
	if err := s.sync(s.path("decided"), s.path("prepared"), s.path("open")); err != nil { // the decision, before anybody sees it
		return err
	}
	for _, e := range list {
		_, name, _ := strings.Cut(e.Name(), "-")
		if err := os.Rename(s.path("decided", entry, e.Name()), s.path("now", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.sync(s.path("now")); err != nil {
		return err
	}
	if strings.HasSuffix(entry, ".alone") {
		return os.RemoveAll(s.path("decided", entry))
	}
	return s.sync(s.path("decided", entry))
}

// Forget removes the proof of a commit.
func (s *Store) Forget(_ context.Context, gid txn.GID) error {
	return os.RemoveAll(s.path("decided", s.entry(gid)))
}

// Branch is the documents of one transaction.
type Branch struct {
	s        *Store
	gid      txn.GID
	readOnly bool
	files    []string       // in open/BRANCH, in the order written: NUMBER-NAME
	marks    map[string]int // savepoints: how many files there were
}

// Write replaces a document when the transaction commits.
func (b *Branch) Write(name, text string) error {
	if b.readOnly {
		return txn.ErrReadOnly
	}
	if len(text) > b.s.longest {
		return fmt.Errorf("a document has at most %d bytes", b.s.longest)
	}
	if err := os.Mkdir(b.dir(), 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	file := fmt.Sprintf("%06d-%s", len(b.files), name) // the last one of a name is the last to be moved
	if err := os.WriteFile(filepath.Join(b.dir(), file), []byte(text), 0o660); err != nil {
		return err
	}
	b.files = append(b.files, file)
	return nil
}

func (b *Branch) dir() string { return b.s.path("open", b.s.entry(b.gid)) }

// flush makes what was written durable.
func (b *Branch) flush() error {
	for _, file := range b.files {
		if err := b.s.sync(filepath.Join(b.dir(), file)); err != nil {
			return err
		}
	}
	return b.s.sync(b.dir())
}

// Prepare is phase one.
func (b *Branch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	if len(b.files) == 0 {
		return txn.VoteReadOnly, b.Rollback(ctx)
	}
	if err := b.flush(); err != nil {
		return 0, err
	}
	if err := os.Rename(b.dir(), b.s.path("prepared", b.s.entry(gid))); errors.Is(err, fs.ErrExist) {
		return 0, txn.NotOurs.Mark(err)
	} else if err != nil {
		return 0, err
	}
	return txn.VotePrepared, b.s.sync(b.s.path("prepared"), b.s.path("open"))
}

// Proof is empty: a directory in decided/ is the proof.
func (b *Branch) Proof() txn.Proof { return "" }

// Commit is the commit in one phase.
func (b *Branch) Commit(ctx context.Context) error {
	if len(b.files) == 0 {
		return b.Rollback(ctx)
	}
	if err := b.flush(); err != nil {
		return errors.Join(err, b.Rollback(ctx))
	}
	entry := b.s.entry(b.gid) + ".alone"
	err := os.Rename(b.dir(), b.s.path("decided", entry))
	if err == nil {
		err = b.s.deliver(entry)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // who scans has delivered it
		return fmt.Errorf("%w: %w", txn.ErrUnknownOutcome, err)
	}
	return nil
}

// Rollback undoes what is not prepared.
func (b *Branch) Rollback(context.Context) error { return os.RemoveAll(b.dir()) }

// CommitPrepared is phase two.
func (b *Branch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	how, err := b.s.Resolve(ctx, gid, txn.Commit, "")
	if err == nil && how != txn.ResolvedDone {
		err = txn.ErrHeuristicHazard
	}
	return err
}

// RollbackPrepared undoes what Prepare did or began.
func (b *Branch) RollbackPrepared(ctx context.Context, gid txn.GID) error {
	_, err := b.s.Resolve(ctx, gid, txn.Abort, "")
	return errors.Join(err, b.Rollback(ctx))
}

// Savepoint notes how much is written.
func (b *Branch) Savepoint(_ context.Context, name string) error {
	b.marks[name] = len(b.files)
	return nil
}

// RollbackTo undoes what was written since.
func (b *Branch) RollbackTo(_ context.Context, name string) error {
	keep, ok := b.marks[name]
	if !ok {
		return txn.ErrNoSavepoint
	}
	for _, file := range b.files[keep:] {
		if err := os.Remove(filepath.Join(b.dir(), file)); err != nil {
			return err
		}
	}
	b.files = b.files[:keep]
	return nil
}

// Release forgets the savepoint.
func (b *Branch) Release(_ context.Context, name string) error {
	if _, ok := b.marks[name]; !ok {
		return txn.ErrNoSavepoint
	}
	delete(b.marks, name)
	return nil
}
