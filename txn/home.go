package txn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn/internal/ofd"
)

// home is the directory of the logs:
//
//	id           whose it is, written once
//	incarnation  the highest incarnation ever given away
//	lock         locked while id or incarnation change
//	recovery     locked by who recovers
//	seal         locked while logs are sealed, shortened or read as a whole
//	N.log        the log of incarnation N, locked by it as long as it lives
//	old-ID/      what an earlier identity left: never touched again
type home struct {
	dir    string
	id     LogID
	sealed sync.Map // incarnations whose log this process knows to be sealed
	fault  faultFunc
}

// identity is the content of the file id. Machine and Birth bind it: on a
// cloned machine or in a restored backup they differ from what is found.
type identity struct {
	Log     LogID  `json:"log"`
	Machine string `json:"machine"`
	Birth   string `json:"birth"` // of the directory
	Self    string `json:"self"`  // birth of the file itself
}

// ErrForeignLog: the logs found were made for another machine or directory.
// They were put aside; what they held in doubt stays so.
var errForeignLog = errors.New("the transaction log belongs to another machine or is a restored copy")

// openHome reads whose directory it is, or makes it ours. A foreign one is put
// aside, which foreign reports.
func openHome(ctx context.Context, dir, machine string, fault faultFunc) (h *home, foreign error, err error) {
	h = &home{dir: dir, fault: fault}
	unlock, err := h.lock(ctx, "lock")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	found, err := h.readIdentity(machine)
	switch {
	case err == nil:
		h.id = found
		return h, nil, nil
	case errors.Is(err, errForeignLog):
		foreign = err
		if err := h.putAside(found); err != nil {
			return nil, nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	h.id = NewLogID()
	return h, foreign, h.writeIdentity(machine)
}

// lock takes a lock file of the directory, which unlock gives back.
func (h *home) lock(ctx context.Context, name string) (unlock func() error, err error) {
	f, err := os.OpenFile(h.path(name), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(h.fault.at("lock "+name), ofd.Lock(ctx, f)); err != nil {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return func() error { return ofd.Close(f) }, nil
}

// tryLock is lock that does not wait: unlock is nil if somebody else has it.
func (h *home) tryLock(name string) (unlock func() error, err error) {
	f, err := os.OpenFile(h.path(name), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return nil, err
	}
	ok, err := ofd.TryLock(f)
	if err = errors.Join(err, h.fault.at("try lock "+name)); err != nil || !ok {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return func() error { return ofd.Close(f) }, nil
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// readIdentity returns whose the directory is; errForeignLog if that is not
// us, fs.ErrNotExist if it is nobody's.
func (h *home) readIdentity(machine string) (LogID, error) {
	raw, err := os.ReadFile(h.path("id"))
	if err = errors.Join(err, h.fault.at("read id")); err != nil {
		return LogID{}, err
	}
	is, err := h.identify("id", machine)
	var was identity
	if err = errors.Join(err, json.Unmarshal(raw, &was)); err != nil {
		return LogID{}, fmt.Errorf("%s: %w", h.path("id"), err)
	}
	is.Log = was.Log
	if is != was {
		return was.Log, fmt.Errorf("%w: %s was written as %+v, found as %+v", errForeignLog, h.path("id"), was, is)
	}
	return was.Log, nil
}

func (h *home) writeIdentity(machine string) error {
	err := os.WriteFile(h.path("id.new"), nil, 0o640)
	us, unknown := h.identify("id.new", machine)
	if err = errors.Join(err, unknown); err != nil {
		return err
	}
	us.Log = h.id
	raw, _ := json.Marshal(us) // never fails: texts
	return h.replace("id", raw)
}

// identify tells whose the directory is now, if that file of it is its id.
func (h *home) identify(file, machine string) (identity, error) {
	dir, err := birth(h.dir)
	self, unknown := birth(h.path(file))
	return identity{Machine: machine, Birth: dir, Self: self}, errors.Join(err, unknown)
}

// birth tells one file from a copy of it: the time at which its inode was
// made, which cannot be set, or the inode's number where that is not kept.
func birth(path string) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_INO, &st); err != nil {
		return "", &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		return fmt.Sprintf("time %d.%09d", st.Btime.Sec, st.Btime.Nsec), nil
	}
	return fmt.Sprintf("inode %d", st.Ino), nil
}

// putAside moves what belongs to another identity out of the way.
func (h *home) putAside(was LogID) error {
	to := h.path("old-" + was.String())
	err := os.Mkdir(to, 0o750)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	list, failed := os.ReadDir(h.dir)
	err = errors.Join(err, failed)
	for _, e := range list {
		if _, ok := parseLogName(e.Name()); ok || e.Name() == "incarnation" {
			err = errors.Join(err, os.Rename(h.path(e.Name()), filepath.Join(to, e.Name())))
		}
	}
	return errors.Join(err, syncDir(to), h.syncDir())
}

// replace writes a whole file durably, in one step for every reader. An
// existing temporary file is written over and keeps its inode.
func (h *home) replace(name string, content []byte) error {
	temp := h.path(name + ".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close(), h.fault.at("write "+name)); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, h.path(name)), h.syncDir())
}

// highest returns the highest incarnation ever given away, 0 if none.
func (h *home) highest() (uint64, error) {
	raw, err := os.ReadFile(h.path("incarnation"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err = errors.Join(err, h.fault.at("read incarnation")); err != nil {
		return 0, err
	}
	n, err := parseNumber(strings.TrimSpace(string(raw)), maxIncarnation)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", h.path("incarnation"), err)
	}
	return n, nil
}

// allocate gives away the next incarnation; it is durable before it is used.
func (h *home) allocate(ctx context.Context) (n uint64, err error) {
	unlock, err := h.lock(ctx, "lock")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if n, err = h.highest(); err != nil {
		return 0, err
	}
	files, err := h.logs()
	if err != nil {
		return 0, err
	}
	for _, f := range files { // a counter older than its logs is a restored one
		n = max(n, f)
	}
	if n++; n > maxIncarnation {
		return 0, errors.New("no incarnation numbers left")
	}
	return n, h.replace("incarnation", []byte(strconv.FormatUint(n, 10)+"\n"))
}

// logs lists the incarnations that have a log, in ascending order.
func (h *home) logs() ([]uint64, error) {
	list, err := os.ReadDir(h.dir)
	if err = errors.Join(err, h.fault.at("list logs")); err != nil {
		return nil, err
	}
	var found []uint64
	for _, e := range list { // sorted by name, so by number
		if n, ok := parseLogName(e.Name()); ok {
			found = append(found, n)
		}
	}
	return found, nil
}

func logName(incarnation uint64) string { return fmt.Sprintf("%010d.log", incarnation) }

func parseLogName(name string) (uint64, bool) {
	text, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(text, 10, 64)
	return n, ok && err == nil && n > 0 && logName(n) == name
}

// syncDir makes the names in the directory durable.
func (h *home) syncDir() error { return errors.Join(syncDir(h.dir), h.fault.at("sync directory")) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	return err
}
