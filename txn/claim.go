package txn

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
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
)

// claims is what all processes must agree on: a directory in memory, derived
// from the logs and rebuilt from them at boot, with one file per external
// transaction, and per local one that waits for a resource. Whoever works on a
// transaction holds the lock of its file.
type claims struct {
	dir   string
	fault faultFunc
}

// claimState is what a claim's file says: its last complete line.
type claimState struct {
	Transaction

	// Claimant is the incarnation that carries it on: its home while it votes,
	// later who decided or took over. 0: its home died without a vote.
	Claimant uint64 `json:"claimant"`
	// Deciding is set while DecidingBy forces a decision: found set with the
	// lock free, that incarnation is dead and its log must be read.
	Deciding   Decision `json:"deciding,omitzero"`
	DecidingBy uint64   `json:"deciding_by,omitzero"`
	// Decision is what was decided.
	Decision Decision `json:"decision,omitzero"`
}

// claim is an open, locked claim.
type claim struct {
	claimState

	file  *os.File
	path  string
	fault faultFunc
}

// errHeld: somebody else works on the claim.
var errHeld = errors.New("the claim is held")

// claimName is the name of a transaction's claim: of ours its gid, of an outside
// coordinator's a hash, since that may hold any byte.
func claimName(t *Transaction) string {
	if t.ClientGID == "" {
		return t.GID.String()
	}
	return clientName(t.ClientGID)
}

func clientName(gid string) string {
	sum := sha256.Sum256([]byte(gid))
	return "x-" + hex.EncodeToString(sum[:16])
}

// path is where the claim of that name is.
func (c claims) path(name string) string { return filepath.Join(c.dir, name) }

func isClaimName(name string) bool {
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, gidPrefix)
}

// create makes a new claim, locked; fs.ErrExist if there is one of that name.
func (c claims) create(st claimState) (*claim, error) {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails, crypto/rand.Read
	temp := filepath.Join(c.dir, "new-"+hex.EncodeToString(nonce[:]))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return nil, err
	}
	cl := &claim{file: f, path: c.path(claimName(&st.Transaction)), fault: c.fault}
	_, err = ofd.TryLock(f) // nobody else knows it
	if err == nil {
		err = cl.set(st)
	}
	if err == nil {
		err = os.Link(temp, cl.path)
	}
	if err = errors.Join(err, os.Remove(temp)); err != nil {
		return nil, errors.Join(err, ofd.Close(f))
	}
	return cl, nil
}

// put makes a new claim that nobody can look for yet, and gives it back;
// fs.ErrExist if there is one of that name.
func (c claims) put(st claimState) error {
	if err := c.fault.at("write claim"); err != nil {
		return err
	}
	f, err := os.OpenFile(c.path(claimName(&st.Transaction)), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(st.line())
	return errors.Join(err, f.Close())
}

// take opens a claim and waits for its lock; fs.ErrNotExist if there is none.
func (c claims) take(ctx context.Context, name string) (*claim, error) {
	return c.open(name, func(f *os.File) error { return ofd.Lock(ctx, f) })
}

// tryTake is take that returns errHeld instead of waiting.
func (c claims) tryTake(name string) (*claim, error) {
	return c.open(name, func(f *os.File) error {
		ok, err := ofd.TryLock(f)
		if err == nil && !ok {
			return errHeld
		}
		return err
	})
}

func (c claims) open(name string, lock func(*os.File) error) (*claim, error) {
	for {
		cl := &claim{path: c.path(name), fault: c.fault}
		var err error
		if cl.file, err = os.OpenFile(cl.path, os.O_RDWR|os.O_APPEND|syscall.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		err = errors.Join(lock(cl.file), c.fault.at("take claim"))
		linked := false
		if err == nil {
			linked, err = ofd.Linked(cl.file)
		}
		if err == nil && !linked { // removed while we waited
			err = ofd.Close(cl.file)
			if err == nil {
				continue
			}
		}
		if err == nil {
			cl.claimState, err = readClaim(cl.path)
		}
		if err != nil {
			return nil, errors.Join(err, ofd.Close(cl.file))
		}
		return cl, nil
	}
}

// set writes a new state. It is appended as one line, so that a reader and
// whoever comes after a death find the last one that is whole.
func (cl *claim) set(st claimState) error {
	err := cl.fault.at("write claim")
	if err == nil {
		_, err = cl.file.Write(st.line())
	}
	if err == nil {
		cl.claimState = st
	}
	return err
}

// line is the state as it is appended to a claim's file, whose last line may
// have been cut off.
func (st *claimState) line() []byte {
	text, _ := json.Marshal(st) // never fails: there is no value of a field that has no text
	return append(append([]byte{'\n'}, text...), '\n')
}

// remove deletes the claim and frees its lock.
func (cl *claim) remove() error { return errors.Join(os.Remove(cl.path), ofd.Close(cl.file)) }

// release frees the lock.
func (cl *claim) release() error { return ofd.Close(cl.file) }

// readClaim reads a claim without its lock. Of a claim that is short, as all
// are that nobody has worked on, it does so with three system calls: there may
// be very many.
func readClaim(path string) (claimState, error) {
	raw, err := readShort(path)
	if err == nil && len(raw) == claimSize {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return claimState{}, err
	}
	st, err := parseClaim(raw)
	if err != nil {
		return claimState{}, fmt.Errorf("claim %s: %w", path, err)
	}
	return st, nil
}

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

// parseClaim returns the last line that is complete.
func parseClaim(raw []byte) (claimState, error) {
	for end := bytes.LastIndexByte(raw, '\n'); end > 0; { // what follows the last newline is not complete
		begin := bytes.LastIndexByte(raw[:end], '\n')
		line := raw[begin+1 : end]
		var st claimState
		if json.Unmarshal(line, &st) == nil {
			return st, nil
		}
		end = begin
	}
	return claimState{}, errors.New("no complete state")
}

// list reads every claim without locking it. One that cannot be read keeps none
// of the others away: the error names it. Nil if none could be looked for.
func (c claims) list() ([]claimState, error) {
	all := []claimState{}
	bad, err := c.each(func(st *claimState) { all = append(all, *st) })
	if err != nil {
		return nil, err
	}
	return all, bad
}

// each calls f for every claim, one after another, without locking it. It
// returns which could not be read, or why none could be looked for.
func (c claims) each(f func(*claimState)) (bad, err error) {
	dir, err := os.OpenFile(c.dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err = errors.Join(err, c.fault.at("list claims")); err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // read only
	var unread []error
	for {
		names, err := dir.Readdirnames(1000) // not all at once: there may be very many
		if errors.Is(err, io.EOF) {
			return errors.Join(unread...), nil
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !isClaimName(name) {
				continue
			}
			switch st, err := readClaim(c.path(name)); {
			case errors.Is(err, fs.ErrNotExist): // ended meanwhile
			case err != nil:
				unread = append(unread, err)
			default:
				f(&st)
			}
		}
	}
}
