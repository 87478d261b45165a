package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tally counts the claims of all processes, in all and by owner, without looking at them: numbers
// in memory that the processes share. A process that dies in between leaves a
// number too high, never too low for long: whoever would refuse something for it counts
// the claims first, and sets it right.
type tally struct {
	path string

	mu  sync.Mutex
	raw []byte // the file, mapped; nil until it is needed
}

// Places of the numbers. Behind the first two come pairs, the hash of an owner and the number of
// its transactions that have not ended; a pair is never freed before the next boot.
const (
	tallyOpen   = 0 // transactions that have not ended
	tallyKept   = 1 // outcomes
	tallyOwners = 2
	tallyLen    = tallyOwners + 2*tallyMost
	tallyMost   = 4095 // owners; of further ones none is counted, and no limit of theirs holds
)

// owner returns the place of an owner's number; false if there is none left.
func (t *tally) owner(name string) (int, bool) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails, hash.Hash
	key := int64(h.Sum64() | 1)  //nolint:gosec // any bits will do, but not zero
	for n := range tallyMost {
		i := tallyOwners + 2*int((uint64(key)>>1+uint64(n))%tallyMost) //nolint:gosec // below tallyMost
		is, err := t.at(i)
		if err != nil {
			return 0, false
		}
		if is.Load() == key || is.CompareAndSwap(0, key) || is.Load() == key {
			return i + 1, true
		}
	}
	return 0, false
}

// at returns one of the numbers.
func (t *tally) at(i int) (*atomic.Int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.raw == nil {
		raw, err := mapped(t.path, tallyLen*8)
		if err != nil {
			return nil, fmt.Errorf("count of the claims: %w", err)
		}
		t.raw = raw
	}
	return (*atomic.Int64)(unsafe.Pointer(&t.raw[8*i])), nil //nolint:gosec // within the page-aligned mapping, and aligned
}

// mapped is a file in memory, made if need be: whole before it has its name, so that no page
// is allocated by a first write to the mapping, which a full file system would end with a signal.
func mapped(path string, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		var nonce [12]byte
		_, _ = rand.Read(nonce[:]) // never fails, crypto/rand.Read
		temp := filepath.Join(filepath.Dir(path), "new-"+hex.EncodeToString(nonce[:]))
		err = os.WriteFile(temp, make([]byte, size), 0o600)
		if err == nil {
			if there := os.Link(temp, path); !errors.Is(there, fs.ErrExist) { // by another process
				err = there
			}
		}
		if gone := os.Remove(temp); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		if err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != int64(size) {
		err = fmt.Errorf("%s: %d bytes instead of %d", path, info.Size(), size)
	}
	var raw []byte
	if err == nil {
		raw, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	return raw, errors.Join(err, f.Close())
}

func (t *tally) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	raw := t.raw
	t.raw = nil
	if raw == nil {
		return nil
	}
	return unix.Munmap(raw)
}

// moved notes that a claim was made (nil before), changed, or removed (nil after).
// Numbers that cannot be kept are only ever too low, and limits then let more in.
func (t *tally) moved(before, after *State) {
	for _, c := range []struct {
		st *State
		by int64
	}{{before, -1}, {after, 1}} {
		switch {
		case c.st == nil || c.st.Forgotten():
		case c.st.Phase.Terminal():
			t.add(tallyKept, c.by)
		default:
			t.add(tallyOpen, c.by)
			if i, ok := t.owner(c.st.Owner); ok {
				t.add(i, c.by)
			}
		}
	}
}

func (t *tally) add(i int, by int64) {
	if n, err := t.at(i); err == nil {
		n.Add(by)
	}
}

// get returns a number.
func (t *tally) get(i int) (int64, error) {
	n, err := t.at(i)
	if err != nil {
		return 0, err
	}
	return n.Load(), nil
}

// zero sets all numbers to zero.
func (t *tally) zero() {
	for i := range tallyLen {
		n, err := t.at(i)
		if err != nil {
			return
		}
		n.Store(0)
	}
}

// recount counts the claims, and corrects the numbers by what they were off when it began.
func (c claims) recount() error {
	is := map[int]int64{}
	was := map[int]int64{}
	for i := range tallyLen {
		if i == tallyOpen || i == tallyKept || i > tallyOwners && (i-tallyOwners)%2 == 1 {
			n, err := c.tally.get(i)
			if err != nil {
				return err
			}
			was[i] = n
		}
	}
	_, err := c.each(func(st *State) { // one that cannot be read is nobody's
		switch {
		case st.Forgotten():
			return
		case st.Phase.Terminal():
			is[tallyKept]++
			return
		}
		is[tallyOpen]++
		if i, ok := c.tally.owner(st.Owner); ok {
			is[i]++
		}
	})
	if err != nil {
		return err
	}
	for i, n := range was {
		if by := is[i] - n; by != 0 {
			c.tally.add(i, by)
		}
	}
	return nil
}

// Counted returns how many transactions have not ended, in all and of one owner; not known: there are no numbers, so no
// limits either.
func (f *Files) Counted(owner string) (all, mine int64, known bool) {
	all, err := f.claims.tally.get(tallyOpen)
	if err != nil {
		return 0, 0, false
	}
	if i, ok := f.claims.tally.owner(owner); ok {
		mine, err = f.claims.tally.get(i)
	}
	return all, mine, err == nil
}

// Kept returns how many outcomes there are.
func (f *Files) Kept() (int64, error) { return f.claims.tally.get(tallyKept) }

// Recount sets the numbers right by the claims that there are.
func (f *Files) Recount() error { return f.claims.recount() }

func newTally(dir string) *tally { return &tally{path: filepath.Join(dir, "tally")} }
