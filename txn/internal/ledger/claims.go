package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// claims is what all processes must agree on: a directory in memory, derived
// from the logs and rebuilt from them at boot, with one file per external
// transaction, and per local one that waits for a resource. Whoever works on a
// transaction holds the lock of its file.
type claims struct {
	dir   string
	fault Fault
	tally *tally
}

// path is where the claim of that name is.
func (c claims) path(name string) string { return filepath.Join(c.dir, name) }

func isClaimName(name string) bool {
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, xa.GIDPrefix)
}

// create makes a new claim, locked; fs.ErrExist if there is one of that name.
func (c claims) create(st State) (*Claim, error) {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails, crypto/rand.Read
	temp := filepath.Join(c.dir, "new-"+hex.EncodeToString(nonce[:]))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	row := &claimFile{c, f, c.path(ClaimName(&st.Transaction))}
	_, err = ofd.TryLock(f) // nobody else knows it
	if err == nil {
		err = row.append(st)
	}
	if err == nil {
		err = os.Link(temp, row.path)
	}
	if err = errors.Join(err, os.Remove(temp)); err != nil {
		return nil, errors.Join(err, ofd.Close(f))
	}
	c.tally.moved(nil, &st)
	return &Claim{State: st, row: row}, nil
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

// take opens a claim and waits for its lock; fs.ErrNotExist if there is none.
func (c claims) take(ctx context.Context, name string) (*Claim, error) {
	return c.open(name, func(f *os.File) error { return ofd.Lock(ctx, f) })
}

// tryTake is take that returns ErrHeld instead of waiting.
func (c claims) tryTake(name string) (*Claim, error) {
	return c.open(name, func(f *os.File) error {
		ok, err := ofd.TryLock(f)
		if err == nil && !ok {
			return ErrHeld
		}
		return err
	})
}

func (c claims) open(name string, lock func(*os.File) error) (*Claim, error) {
	for {
		f, err := os.OpenFile(c.path(name), os.O_RDWR|os.O_APPEND|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = errors.Join(lock(f), c.fault.At("take claim"))
		linked := false
		if err == nil {
			linked, err = ofd.Linked(f)
		}
		if err == nil && !linked { // removed while we waited
			err = ofd.Close(f)
			if err == nil {
				continue
			}
		}
		var st State
		if err == nil {
			st, err = readClaim(c.path(name))
		}
		if err != nil {
			return nil, errors.Join(err, ofd.Close(f))
		}
		return &Claim{State: st, row: &claimFile{c, f, c.path(name)}}, nil
	}
}

// claimFile is a claim's file, locked.
type claimFile struct {
	claims

	file *os.File
	path string
}

// write appends a state as one line, so that a reader and whoever comes after a death find the last one that is whole.
func (c *claimFile) write(was, is State) error {
	if err := c.append(is); err != nil {
		return err
	}
	if was.Phase.Terminal() != is.Phase.Terminal() || was.Forgotten() != is.Forgotten() || was.Owner != is.Owner {
		c.tally.moved(&was, &is)
	}
	return nil
}

func (c *claimFile) append(st State) error {
	linked, err := true, c.fault.At("write claim")
	if err == nil {
		linked, err = ofd.Linked(c.file)
	}
	if err == nil && !linked {
		err = fmt.Errorf("%w: claim %s was deleted by hand", xa.ErrUnknownOutcome, c.path)
	}
	if err == nil {
		_, err = c.file.Write(st.line())
	}
	return err
}

func (c *claimFile) remove(was State) error {
	err := os.Remove(c.path)
	if err == nil {
		c.tally.moved(&was, nil)
	}
	return errors.Join(err, ofd.Close(c.file))
}

func (c *claimFile) release() error { return ofd.Close(c.file) }

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
