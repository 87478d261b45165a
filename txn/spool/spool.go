// Package spool is a resource manager that is a directory: each committed
// message is one file in new/, for any program to take. A message is there
// exactly once and complete, or not at all, whatever dies in between; it does
// not wait for a consumer, nor does it limit how many files pile up.
//
// The directory holds
//
//	id               names this very spool
//	tmp/BRANCH/N        messages of open transactions
//	prepared/BRANCH/N   staged by phase one
//	prepared/BRANCH.committed, prepared/BRANCH.single
//	                    decided, being moved; empty: the proof of a commit
//	new/BRANCH.N        delivered; N counts from 000001, in the order of Put
//
// where BRANCH is the transaction's gid, a plus sign and the resource's name.
// All four are on one filesystem, so that rename(2) moves between them.
package spool

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/fdtserver/fdt/internal/foreign"
	"github.com/fdtserver/fdt/txn"
)

// Spool is a txn.Resource, txn.Forgetter and safe for concurrent use, also by
// several processes.
type Spool struct {
	name string
	dir  string
	// broken is the first failed fsync: what it was to make durable may be
	// lost though a second fsync succeeds (fsync(2)), so nothing is claimed
	// from then on.
	broken atomic.Pointer[error]
	fault  func(step string) error // nil but in tests
}

// Open makes sure that dir is a spool, creating what is missing inside of it.
// The directory itself must exist: its owner and mode are the operator's.
func Open(name, dir string) (*Spool, error) {
	if !validName(name) {
		return nil, fmt.Errorf("spool %q: not a name for a resource", name)
	}
	s := &Spool{name: name, dir: dir}
	if err := s.prepareDir(); err != nil {
		return nil, fmt.Errorf("spool %s: %w", name, err)
	}
	return s, nil
}

func (s *Spool) prepareDir() error {
	top, err := os.Stat(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; make it with: install -d -o fdt -g fdt -m 2770 %s", err, s.dir)
	}
	if err != nil {
		return err
	}
	for _, sub := range []string{"tmp", "prepared", "new"} {
		path := filepath.Join(s.dir, sub)
		// As open to the group as the umask lets it be; a setgid bit is inherited. Not by chmod(2): a sandbox with
		// RestrictSUIDSGID= refuses to set that bit, and without it chmod would take it away.
		if err := os.Mkdir(path, 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return fmt.Errorf("%s: not a directory", path)
		}
		if a, b := device(top), device(st); a != b {
			return fmt.Errorf("%s: on another filesystem than the spool: messages could not be moved by rename", path)
		}
	}
	if _, err = s.id(); errors.Is(err, fs.ErrNotExist) {
		err = s.makeID()
	}
	if err != nil {
		return err
	}
	return s.sync(s.dir) // also what a process made that died before it was durable
}

func device(st fs.FileInfo) uint64 {
	sys, _ := st.Sys().(*syscall.Stat_t)
	return sys.Dev
}

// makeID gives the spool its name; of several processes that try, one wins.
func (s *Spool) makeID() error {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails, crypto/rand.Read
	id := hex.EncodeToString(raw[:])
	temp := filepath.Join(s.dir, "tmp", "id-"+id)
	defer func() { _ = os.Remove(temp) }()
	err := s.write(temp, []byte(id+"\n"))
	if err == nil {
		err = s.sync(temp)
	}
	if err == nil {
		if there := os.Link(temp, filepath.Join(s.dir, "id")); !errors.Is(there, fs.ErrExist) {
			err = there
		}
	}
	return err
}

func (s *Spool) id() (string, error) {
	raw, _, err := foreign.Read(filepath.Join(s.dir, "id"), 64) // the group may write there, if the operator lets it
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(raw), "\n")
	if _, err := hex.DecodeString(id); err != nil || len(id) != 32 {
		return "", fmt.Errorf("%s: not the id of a spool: %q", filepath.Join(s.dir, "id"), raw)
	}
	return id, nil
}

// Name returns the name given to Open.
func (s *Spool) Name() string { return s.name }

// Close has nothing to free.
func (s *Spool) Close() error { return nil }

// Identity returns the content of the spool's id file, read anew each time.
func (s *Spool) Identity(context.Context) (string, error) {
	id, err := s.id()
	if err != nil {
		return "", fmt.Errorf("spool %s: %w", s.name, err)
	}
	return "spool:" + id, nil
}

// Enlist begins a branch; it writes nothing.
func (s *Spool) Enlist(_ context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	if err := s.sound(); err != nil {
		return nil, err
	}
	return &Branch{s: s, gid: opt.GID, readOnly: opt.ReadOnly, savepoints: map[string]int{}}, nil
}

// sound returns the failed fsync after which this process trusts nothing.
func (s *Spool) sound() error {
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("spool %s: failed before, restart to go on: %w", s.name, *err)
	}
	return nil
}

func (s *Spool) at(step string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(step)
}

// unpolled is for opening files and directories, on which O_NONBLOCK has no effect, open(2). Package os sets it otherwise to try
// epoll(7), which refuses them, and takes it back: four system calls more for each.
const unpolled = syscall.O_NONBLOCK | syscall.O_CLOEXEC

// write creates a file with that content; it does not make it durable.
func (s *Spool) write(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unpolled, 0o660)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	return errors.Join(err, s.at("write"), f.Chmod(0o660), f.Close())
}

// sync makes a file's content or a directory's entries durable.
func (s *Spool) sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unpolled, 0)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), s.at("sync "+filepath.Base(path)))
	if err != nil {
		err = fmt.Errorf("sync %s: %w", path, err)
		s.broken.CompareAndSwap(nil, &err)
	}
	return errors.Join(err, f.Close())
}

func (s *Spool) rename(from, to string) error {
	if err := s.at("rename " + filepath.Base(filepath.Dir(to))); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return os.Rename(from, to)
}

// unmoved tells whether a rename failed in a way that leaves no doubt, rename(2): nothing was changed. After an I/O error
// nobody knows, and what is missing or there already may be so by this very call, repeated by the file system's client.
func unmoved(err error) bool {
	failed, ok := errors.AsType[*os.LinkError](err)
	return ok && slices.ContainsFunc([]error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMLINK, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EXDEV, syscall.ENOTDIR,
		syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ENOMEM, syscall.EBUSY,
	}, func(errno error) bool { return errors.Is(failed.Err, errno) })
}

// entry is the name of a branch's directory.
func (s *Spool) entry(gid txn.GID, k kind) string { return entryName(gid, s.name, k) }

func (s *Spool) path(sub, entry string) string { return filepath.Join(s.dir, sub, entry) }
