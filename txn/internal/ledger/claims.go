package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// claims is what all processes must agree on: a directory in memory, derived
// from the logs and rebuilt from them at boot, with one file per external
// transaction, and per local one that waits for a resource. Whoever works on a
// transaction holds the lock of its claim's name, which is one byte of a file
// beside the logs, and the lock of the claim's file.
//
// The name's lock is what counts. Were it the file's alone, and somebody deleted
// that while a decision is forced, the next would make it anew from logs that do
// not have the decision yet, and could decide the opposite.
type claims struct {
	dir   string
	locks string // the file with the locks of the names
	fault Fault
	tally *tally
}

// path is where the claim of that name is.
func (c claims) path(name string) string { return filepath.Join(c.dir, name) }

func isClaimName(name string) bool {
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, xa.GIDPrefix)
}

// place is the byte whose lock is that of a name. Two names of one byte only wait for each other.
func place(name string) int64 {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(name)) // never fails, hash.Hash
	return int64(sum.Sum64() >> 2) //nolint:gosec // 62 bits
}

// lock opens the file with the locks and takes that of a name, as get does it.
func (c claims) lock(name string, get func(f *os.File, at int64) error) (*os.File, error) {
	f, err := os.OpenFile(c.locks, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = c.fault.At("lock claim")
	if err == nil {
		err = get(f, place(name))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// wait waits for a lock until ctx ends.
func wait(ctx context.Context) func(*os.File, int64) error {
	return func(f *os.File, at int64) error { return ofd.LockByte(ctx, f, at) }
}

// attempt is wait that returns ErrHeld instead.
func attempt(f *os.File, at int64) error {
	ok, err := ofd.TryByte(f, at)
	if err == nil && !ok {
		err = ErrHeld
	}
	return err
}

// create makes a new claim, locked; fs.ErrExist if there is one of that name.
// Without one nobody holds the name for long, so it waits for that.
func (c claims) create(ctx context.Context, st State) (*Claim, error) {
	name := ClaimName(&st.Transaction)
	switch _, err := os.Lstat(c.path(name)); {
	case err == nil:
		return nil, &fs.PathError{Op: "create", Path: c.path(name), Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	lock, err := c.lock(name, wait(ctx))
	if err != nil {
		return nil, err
	}
	f, err := c.fresh(name, st)
	if err != nil {
		return nil, errors.Join(err, ofd.Close(lock))
	}
	c.tally.moved(nil, &st)
	return Held(st, &claimFile{c, f, lock, c.path(name)}), nil
}

// fresh makes the file of a claim, locked: whole before it has its name. The
// caller holds the lock of the name.
func (c claims) fresh(name string, st State) (*os.File, error) {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails, crypto/rand.Read
	temp := filepath.Join(c.dir, "new-"+hex.EncodeToString(nonce[:]))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = ofd.TryLock(f) // nobody else knows it
	if err == nil {
		err = c.fault.At("write claim")
	}
	if err == nil {
		_, err = f.Write(st.line())
	}
	if err == nil {
		err = os.Link(temp, c.path(name))
	}
	if err = errors.Join(err, os.Remove(temp)); err != nil {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return f, nil
}

// put makes a new claim that nobody can look for yet, and gives it back;
// fs.ErrExist if there is one of that name.
func (c claims) put(st State) error {
	if err := c.fault.At("write claim"); err != nil {
		return err
	}
	f, err := os.OpenFile(c.path(ClaimName(&st.Transaction)), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(st.line())
	c.tally.moved(nil, &st)
	return errors.Join(err, f.Close())
}

// putWhole is put of a claim that others may look for: it is whole before it has its name. The caller holds that name's lock.
func (c claims) putWhole(st State) error {
	f, err := c.fresh(ClaimName(&st.Transaction), st)
	if err != nil {
		return err
	}
	c.tally.moved(nil, &st)
	return ofd.Close(f)
}

// take opens a claim and waits for its lock; fs.ErrNotExist if there is none.
func (c claims) take(ctx context.Context, name string) (*Claim, error) {
	return c.open(name, wait(ctx), func(f *os.File) error { return ofd.Lock(ctx, f) })
}

// tryTake is take that returns ErrHeld instead of waiting.
func (c claims) tryTake(name string) (*Claim, error) {
	return c.open(name, attempt, func(f *os.File) error {
		ok, err := ofd.TryLock(f)
		if err == nil && !ok {
			return ErrHeld
		}
		return err
	})
}

func (c claims) open(name string, get func(*os.File, int64) error, getFile func(*os.File) error) (*Claim, error) {
	lock, err := c.lock(name, get)
	if err != nil {
		return nil, err
	}
	f, st, err := c.openFile(name, getFile)
	if err != nil {
		return nil, errors.Join(err, ofd.Close(lock))
	}
	return Held(st, &claimFile{c, f, lock, c.path(name)}), nil
}

// openFile opens and reads the file of a claim. The caller holds the lock of the name.
func (c claims) openFile(name string, lock func(*os.File) error) (*os.File, State, error) {
	f, err := os.OpenFile(c.path(name), os.O_RDWR|os.O_APPEND|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, State{}, err
	}
	err = errors.Join(lock(f), c.fault.At("take claim"))
	var st State
	if err == nil {
		st, err = readClaim(c.path(name))
	}
	if err != nil {
		return nil, State{}, errors.Join(err, ofd.Close(f))
	}
	return f, st, nil
}

// claimFile is a claim's file, locked.
type claimFile struct {
	claims

	file *os.File
	lock *os.File // has the lock of the name
	path string
}

// Write appends a state as one line, so that a reader and whoever comes after a death find the last one that is whole.
func (c *claimFile) Write(was, is State) error {
	if err := c.append(is); err != nil {
		return err
	}
	c.tally.moved(&was, &is)
	return nil
}

// append adds a state to the file. One that was deleted by hand is made anew.
func (c *claimFile) append(st State) error {
	linked, err := ofd.Linked(c.file)
	if err == nil && !linked {
		return c.again(st)
	}
	if err = errors.Join(err, c.fault.At("write claim")); err == nil {
		_, err = c.file.Write(st.line())
	}
	return err
}

// again makes the file anew.
func (c *claimFile) again(st State) error {
	f, err := c.fresh(filepath.Base(c.path), st)
	if err == nil {
		err = ofd.Close(c.file)
		c.file = f
	}
	return err
}

// Remove deletes the file, if nobody has by hand.
func (c *claimFile) Remove(was State) error {
	err := os.Remove(c.path)
	if err == nil {
		c.tally.moved(&was, nil)
	}
	if errors.Is(err, fs.ErrNotExist) { // deleted by hand
		err = nil
	}
	return errors.Join(err, ofd.Close(c.file), ofd.Close(c.lock))
}

// Release gives both locks back.
func (c *claimFile) Release() error { return errors.Join(ofd.Close(c.file), ofd.Close(c.lock)) }

// line is the state as it is appended to a claim's file, whose last line may
// have been cut off.
func (st *State) line() []byte {
	text, _ := json.Marshal(st) // never fails: there is no value of a field that has no text
	return append(append([]byte{'\n'}, text...), '\n')
}

// readClaim reads a claim without its lock. Of a claim that is short, as all
// are that nobody has worked on, it does so with three system calls: there may
// be very many.
func readClaim(path string) (State, error) {
	raw, err := readShort(path)
	if err == nil && len(raw) == claimSize {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return State{}, err
	}
	st, ok := parseClaim(raw)
	if !ok {
		return State{}, &spoiltError{path}
	}
	return st, nil
}

// spoiltError reports a claim of which nothing can be read, as nobody leaves one who writes claims.
type spoiltError struct{ path string }

func (e *spoiltError) Error() string { return "claim " + e.path + ": no complete state" }

// claimSize is above what a claim's file has in bytes as a rule.
const claimSize = 4096

// readShort returns the first claimSize bytes of a file.
func readShort(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	raw := make([]byte, claimSize)
	n, err := unix.Read(fd, raw)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return raw[:n], nil
}

// parseClaim returns the last line that is complete, if there is one.
func parseClaim(raw []byte) (st State, ok bool) {
	for end := bytes.LastIndexByte(raw, '\n'); end > 0; { // what follows the last newline is not complete
		begin := bytes.LastIndexByte(raw[:end], '\n')
		line := raw[begin+1 : end]
		var st State
		if json.Unmarshal(line, &st) == nil {
			return st, true
		}
		end = begin
	}
	return State{}, false
}

// each calls f for every claim, one after another, without locking it. It
// returns which could not be read, or why none could be looked for.
func (c claims) each(f func(*State)) (unread []error, err error) {
	dir, err := os.OpenFile(c.dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err = errors.Join(err, c.fault.At("list claims")); err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // read only
	for {
		names, err := dir.Readdirnames(1000) // not all at once: there may be very many
		if errors.Is(err, io.EOF) {
			return unread, nil
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !isClaimName(name) {
				continue
			}
			err := c.fault.At("read claim")
			var st State
			if err == nil {
				st, err = readClaim(c.path(name))
			}
			switch {
			case errors.Is(err, fs.ErrNotExist): // ended meanwhile
			case err != nil:
				unread = append(unread, err)
			default:
				f(&st)
			}
		}
	}
}
