package spool

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sort"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// stage moves a directory of messages into prepared/, durably. One that is there
// already is not ours to replace, and rename(2) does not.
func (s *Spool) stage(from, entry string) error {
	if err := s.rename(from, s.path("prepared", entry)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = txn.NotOurs.Mark(err)
		}
		return err
	}
	return errors.Join(s.sync(s.path("prepared", "")), s.sync(s.path("tmp", "")))
}

// deliverOne moves the only message of a transaction from its own directory.
func (s *Spool) deliverOne(dir string, gid txn.GID) error {
	name := messageName(1)
	if err := s.rename(dir+"/"+name, s.path("new", deliveredName(gid, s.name, name))); err != nil {
		return err
	}
	return errors.Join(s.sync(s.path("new", "")), os.Remove(dir))
}

// deliver moves the messages of a decided transaction to new/, in order. Two
// processes may do so at once: each message is moved by one of them, and none
// before those ahead of it.
func (s *Spool) deliver(gid txn.GID, k kind) error {
	dir := s.path("prepared", s.entry(gid, k))
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && k == single {
		return s.sync(s.path("new", "")) // another process was faster, perhaps not done
	}
	if err != nil {
		return err
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	for _, e := range list {
		if _, ok := parseMessage(e.Name()); !ok {
			continue
		}
		err := s.rename(dir+"/"+e.Name(), s.path("new", deliveredName(gid, s.name, e.Name())))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(s.sync(s.path("new", "")), s.sync(s.path("prepared", ""))); err != nil {
		return err
	}
	if k == single {
		return removeIfThere(dir)
	}
	return syncIfThere(s, dir)
}

// Resolve tells a staged transaction the decision. Delivering it leaves its
// directory, emptied, as the proof until Forget.
func (s *Spool) Resolve(_ context.Context, gid txn.GID, d txn.Decision, _ txn.Proof) (txn.Resolution, error) {
	if err := s.sound(); err != nil {
		return 0, err
	}
	how, err := s.resolve(gid, d)
	if err != nil {
		return 0, s.fail(d.String()+" "+gid.String(), err)
	}
	return how, nil
}

func (s *Spool) resolve(gid txn.GID, d txn.Decision) (txn.Resolution, error) {
	if d == txn.Abort {
		return s.abort(gid)
	}
	err := s.rename(s.path("prepared", s.entry(gid, staged)), s.path("prepared", s.entry(gid, committed)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	switch err := s.deliver(gid, committed); {
	case err == nil:
		return txn.ResolvedDone, nil
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	if there, err := s.delivered(gid); there || err != nil {
		return txn.ResolvedDone, err
	}
	return txn.ResolvedUnknown, nil
}

func (s *Spool) abort(gid txn.GID) (txn.Resolution, error) {
	there, err := exists(s.path("prepared", s.entry(gid, committed)))
	if err == nil && !there {
		there, err = s.delivered(gid)
	}
	if there || err != nil {
		return txn.ResolvedAgainst, err
	}
	doomed := s.path("tmp", s.entry(gid, aborted))
	err = s.rename(s.path("prepared", s.entry(gid, staged)), doomed)
	if errors.Is(err, fs.ErrNotExist) { // or it is not prepared, under the name by which it began
		gid.Role = txn.RoleLocal
		return txn.ResolvedDone, os.RemoveAll(s.path("tmp", s.entry(gid, staged)))
	}
	if err != nil {
		return 0, err
	}
	if err := errors.Join(s.sync(s.path("prepared", "")), s.sync(s.path("tmp", ""))); err != nil {
		return 0, err
	}
	return txn.ResolvedDone, os.RemoveAll(doomed)
}

// delivered tells whether the first message still lies in new/.
func (s *Spool) delivered(gid txn.GID) (bool, error) {
	return exists(s.path("new", deliveredName(gid, s.name, messageName(1))))
}

// exists tells whether the path is there; an error is no answer.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Forget removes the proof of a commit.
func (s *Spool) Forget(_ context.Context, gid txn.GID) error {
	if err := removeIfThere(s.path("prepared", s.entry(gid, committed))); err != nil {
		return s.fail("forget", err)
	}
	return nil
}

// InDoubt lists what is staged and undecided. On the way it completes what was
// committed in one phase by a process that died, and deletes what was rolled
// back by one.
func (s *Spool) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	list, err := s.inDoubt(ctx, id)
	if err != nil {
		return nil, s.fail("scan", err)
	}
	return list, nil
}

func (s *Spool) inDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	if err := s.eachEntry(ctx, "tmp", only(id), func(e fs.DirEntry, gid txn.GID, k kind) error {
		if k == aborted {
			return os.RemoveAll(s.path("tmp", e.Name()))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var found []txn.PreparedBranch
	err := s.eachEntry(ctx, "prepared", only(id), func(e fs.DirEntry, gid txn.GID, k kind) error {
		switch k {
		case single:
			return s.deliver(gid, single)
		case committed, aborted: // the coordinator knows
		case staged:
			found = append(found, txn.PreparedBranch{GID: gid, Since: modTime(e)})
		}
		return nil
	})
	return found, err
}

// InDoubtOfOthers lists what is staged and undecided of other logs.
func (s *Spool) InDoubtOfOthers(ctx context.Context, id txn.LogID) (found []txn.PreparedBranch, err error) {
	if err := s.eachEntry(ctx, "prepared", func(log txn.LogID) bool { return log != id }, func(e fs.DirEntry, gid txn.GID, k kind) error {
		if k == staged {
			found = append(found, txn.PreparedBranch{GID: gid, Since: modTime(e)})
		}
		return nil
	}); err != nil {
		return nil, s.fail("scan", err)
	}
	return found, nil
}

func only(id txn.LogID) func(txn.LogID) bool { return func(log txn.LogID) bool { return log == id } }

// eachEntry calls f for every transaction of such logs in tmp/ or prepared/.
func (s *Spool) eachEntry(ctx context.Context, sub string, of func(txn.LogID) bool, f func(fs.DirEntry, txn.GID, kind) error) error {
	list, err := os.ReadDir(s.path(sub, ""))
	if err != nil {
		return err
	}
	for _, e := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		gid, resource, k, ok := parseEntry(e.Name())
		if !ok || !of(gid.Log) || resource != s.name {
			continue
		}
		if err := f(e, gid, k); err != nil {
			return err
		}
	}
	return nil
}

func modTime(e fs.DirEntry) time.Time {
	info, err := e.Info()
	if err != nil {
		return time.Time{} // taken meanwhile
	}
	return info.ModTime()
}

// Fence deletes what the dead incarnation had not prepared. A process that is
// gone can no longer change a directory, so there is nothing to wait for.
func (s *Spool) Fence(ctx context.Context, id txn.LogID, incarnation uint64) error {
	err := s.eachEntry(ctx, "tmp", only(id), func(e fs.DirEntry, gid txn.GID, _ kind) error {
		if gid.Incarnation != incarnation {
			return nil
		}
		return os.RemoveAll(s.path("tmp", e.Name()))
	})
	if err != nil {
		return s.fail("fence", err)
	}
	return nil
}

// syncIfThere makes a directory durable that another process may just have
// taken away.
func syncIfThere(s *Spool, dir string) error {
	if err := s.sync(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
