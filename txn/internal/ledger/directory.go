package ledger

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// directory is where the logs are:
//
//	id           whose it is, written once
//	incarnation  the highest incarnation ever given away, and which below it never were
//	lock         locked while id, incarnation or stores change
//	recovery     locked by who recovers
//	seal         locked while logs are sealed, shortened or read as a whole
//	N.log        the log of incarnation N, locked by it as long as it lives
//	old-ID/      what an earlier identity left: an operator adopts or abandons it
//	adopting     an adoption under way
//	stores       what operators have said of stores that are not found
type directory struct {
	dir    string
	id     xa.LogID
	sealed sync.Map // incarnations whose log this process knows to be sealed
	fault  Fault

	freezes freezes
}

// identity is the content of the file id. Machine and Birth bind it: on a
// cloned machine or in a restored backup they differ from what is found.
type identity struct {
	Log     xa.LogID `json:"log"`
	Machine string   `json:"machine"`
	Birth   string   `json:"birth"` // of the directory
	Self    string   `json:"self"`  // birth of the file itself

	// After is the log in whose place it came, by the rules or by an operator's word; zero: it is the directory's first.
	After xa.LogID `json:"after,omitzero"`
}

// differs tells what has changed since the identity was written.
func (i *identity) differs(was *identity) string {
	switch {
	case i.Machine != was.Machine:
		return fmt.Sprintf("it was written on machine %q, this is machine %q", was.Machine, i.Machine)
	case i.Birth != was.Birth:
		return "its directory is another one than that in which it was written"
	}
	return "its file id is a copy"
}

// errForeignLog: the logs found were made for another machine or directory.
// They were put aside; what they held in doubt stays so.
var errForeignLog = errors.New("the transaction log belongs to another machine or is a restored copy")

// openDirectory reads whose directory it is, or makes it ours. A foreign one is put
// aside, which foreign reports.
func openDirectory(ctx context.Context, opt *Options) (h *directory, foreign error, err error) {
	h = &directory{dir: opt.LogDir, fault: opt.Fault, freezes: freezes{events: opt.Events, limit: opt.Frozen}}
	machine := opt.Machine
	unlock, err := h.lock(ctx, "lock")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := h.endAdoption(machine); err != nil {
		return nil, nil, fmt.Errorf("end what fdtctl txn adopt began: %w", err)
	}
	found, err := h.readIdentity(machine)
	if missing := h.missing(opt.Last, found); missing != nil {
		return nil, nil, missing
	}
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
	h.id = xa.NewLogID()
	return h, foreign, h.writeIdentity(machine, found)
}

// ErrLogMissing: the log that served last is not in the directory, as where its volume is not mounted.
var ErrLogMissing = errors.New("the transaction log is missing")

// missing reports that the log that served last is neither the one that was found, nor one that this has taken the place of, nor
// put aside. What it had in doubt is unknown without it, so it is waited for.
func (h *directory) missing(last, found xa.LogID) error {
	if last == (xa.LogID{}) || last == found {
		return nil
	}
	if _, err := os.Lstat(h.asideDir(last)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if found == (xa.LogID{}) {
		return fmt.Errorf("%w: there is none in %s, where log %s was; is its volume mounted?", ErrLogMissing, h.dir, last)
	}
	var is identity
	raw, err := os.ReadFile(h.path("id"))
	if err = errors.Join(err, json.Unmarshal(raw, &is)); err != nil || is.After == last {
		return err
	}
	return fmt.Errorf("%w: %s has log %s, where log %s was; is the right volume mounted?", ErrLogMissing, h.dir, found, last)
}

// lock takes a lock file of the directory, which unlock gives back.
func (h *directory) lock(ctx context.Context, name string) (unlock func() error, err error) {
	f, err := os.OpenFile(h.path(name), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(h.fault.At("lock "+name), h.wait(ctx, name, f)); err != nil {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return func() error { return ofd.Close(f) }, nil
}

// tryLock is lock that does not wait: unlock is nil if somebody else has it.
func (h *directory) tryLock(ctx context.Context, name string) (unlock func() error, err error) {
	f, err := os.OpenFile(h.path(name), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := ofd.TryLock(f)
	if ok {
		sign(f)
	} else if err == nil {
		h.freezes.look(ctx, name, f, time.Now())
	}
	if err = errors.Join(err, h.fault.At("try lock "+name)); err != nil || !ok {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return func() error { return ofd.Close(f) }, nil
}

func (h *directory) path(name string) string { return filepath.Join(h.dir, name) }

// readIdentity returns whose the directory is; errForeignLog if that is not
// us, fs.ErrNotExist if it is nobody's.
func (h *directory) readIdentity(machine string) (xa.LogID, error) {
	raw, err := os.ReadFile(h.path("id"))
	if err = errors.Join(err, h.fault.At("read id")); err != nil {
		return xa.LogID{}, err
	}
	is, err := h.identify("id", machine)
	var was identity
	if err = errors.Join(err, json.Unmarshal(raw, &was)); err != nil {
		return xa.LogID{}, fmt.Errorf("%s: %w", h.path("id"), err)
	}
	is.Log, is.After = was.Log, was.After
	if is != was {
		return was.Log, fmt.Errorf("%w: log %s, %s", errForeignLog, was.Log, is.differs(&was))
	}
	return was.Log, nil
}

// writeIdentity makes the directory that of h.id, which comes in the place of another log.
func (h *directory) writeIdentity(machine string, after xa.LogID) error {
	err := os.WriteFile(h.path("id.new"), nil, 0o600)
	us, unknown := h.identify("id.new", machine)
	if err = errors.Join(err, unknown); err != nil {
		return err
	}
	us.Log, us.After = h.id, after
	raw, _ := json.Marshal(us) // never fails: texts
	return h.replace("id", raw)
}

// identify tells whose the directory is now, if that file of it is its id.
func (h *directory) identify(file, machine string) (identity, error) {
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

// putAside moves what belongs to another identity out of the way. A directory
// without a log is not kept: such a log had nothing open.
func (h *directory) putAside(was xa.LogID) error {
	logs, err := h.logs()
	if err != nil {
		return err
	}
	to := h.asideDir(was)
	if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	raw, err := os.ReadFile(h.path("id"))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "id"), raw, 0o600)
	}
	err = errors.Join(err, move(h.dir, to, h.fault))
	if kept, lerr := (&directory{dir: to}).logs(); err == nil && lerr == nil && len(logs)+len(kept) == 0 {
		err = os.RemoveAll(to)
	}
	return errors.Join(err, h.syncDir())
}

// replace writes a whole file durably, in one step for every reader. An
// existing temporary file is written over and keeps its inode.
func (h *directory) replace(name string, content []byte) error {
	temp := h.path(name + ".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close(), h.fault.At("write "+name)); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, h.path(name)), h.syncDir())
}

// given is the content of the file incarnation: the highest number ever given away, and below it those that never were. Another
// copy of the log may have given these.
type given struct {
	highest uint64
	skipped []span
}

// span is a row of numbers, both ends in it.
type span struct{ from, through uint64 }

// text is a line with the highest number, then one with each span.
func (g *given) text() []byte {
	text := fmt.Appendf(nil, "%d\n", g.highest)
	for _, s := range g.skipped {
		text = fmt.Appendf(text, "%d-%d\n", s.from, s.through)
	}
	return text
}

// parse reads what text wrote.
func (g *given) parse(text string) (err error) {
	number := func(text string) uint64 {
		n, bad := strconv.ParseUint(text, 10, 64)
		if bad == nil && (n == 0 || n > xa.MaxIncarnation) {
			bad = fmt.Errorf("%d: not a number from 1 to %d", n, uint64(xa.MaxIncarnation))
		}
		err = errors.Join(err, bad)
		return n
	}
	highest, skipped, _ := strings.Cut(strings.TrimSpace(text), "\n")
	g.highest = number(highest)
	for line := range strings.Lines(skipped) {
		from, through, _ := strings.Cut(strings.TrimSpace(line), "-")
		g.skipped = append(g.skipped, span{number(from), number(through)})
	}
	return err
}

// given reads which incarnations were ever given away: none, if there is no file.
func (h *directory) given() (g given, err error) {
	raw, err := os.ReadFile(h.path("incarnation"))
	if errors.Is(err, fs.ErrNotExist) {
		return given{}, nil
	}
	if err = errors.Join(err, h.fault.At("read incarnation")); err != nil {
		return given{}, err
	}
	if err := g.parse(string(raw)); err != nil {
		return given{}, fmt.Errorf("%s: %w", h.path("incarnation"), err)
	}
	return g, nil
}

// allocate gives away the next incarnation; it is durable before it is used.
func (h *directory) allocate(ctx context.Context) (n uint64, err error) {
	unlock, err := h.lock(ctx, "lock")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := h.unchanged(); err != nil {
		return 0, err
	}
	g, err := h.given()
	if err != nil {
		return 0, err
	}
	files, err := h.logs()
	if err != nil {
		return 0, err
	}
	for _, f := range files { // a counter older than its logs is a restored one
		g.highest = max(g.highest, f)
	}
	if g.highest++; g.highest > xa.MaxIncarnation {
		return 0, errors.New("no incarnation numbers left")
	}
	return g.highest, h.replace("incarnation", g.text())
}

// beyond is how many incarnations another copy may have begun above those that are known of it: some thousand lives of workers.
const beyond = 4096

// skip keeps numbers from being given away that another copy of the log has given away, or may have since this one was taken:
// through n and some more. Otherwise what a resource holds of them would be taken for what a worker of ours has left behind,
// and be rolled back; so it is left alone. The caller holds the lock "lock".
func (h *directory) skip(n uint64) error {
	g, err := h.given()
	if err != nil {
		return err
	}
	s := span{g.highest + 1, min(max(n, g.highest)+beyond, xa.MaxIncarnation)}
	if s.from > s.through {
		return nil // there are none left to give away
	}
	g.highest, g.skipped = s.through, append(g.skipped, s)
	return h.replace("incarnation", g.text())
}

// errReplaced: another log has taken this one's place.
var errReplaced = errors.New("another transaction log was adopted in the place of this one")

// unchanged tells whether the directory still has the log that was opened. The
// caller holds the lock "lock".
func (h *directory) unchanged() error {
	raw, err := os.ReadFile(h.path("id"))
	var is identity
	if err = errors.Join(err, json.Unmarshal(raw, &is)); err != nil {
		return fmt.Errorf("%s: %w", h.path("id"), err)
	}
	_, err = os.Lstat(h.path("adopting"))
	switch {
	case is.Log != h.id || err == nil:
		return errReplaced
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// logs lists the incarnations that have a log, in ascending order.
func (h *directory) logs() ([]uint64, error) {
	list, err := os.ReadDir(h.dir)
	if err = errors.Join(err, h.fault.At("list logs")); err != nil {
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
func (h *directory) syncDir() error { return errors.Join(syncDir(h.dir), h.fault.At("sync directory")) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	return err
}
