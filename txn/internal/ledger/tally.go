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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn/xa"
)

// tally counts the claims of all processes, in all, by owner and by resource, without looking at them: numbers
// in memory that the processes share. A process that dies in between leaves a
// number too high, never too low for long: whoever would refuse something for it counts
// the claims first, and sets it right, as each scan does.
type tally struct {
	path string

	mu  sync.Mutex
	raw []byte // the file, mapped; nil until it is needed
}

// Places of the numbers. Behind the first come pairs, the hash of a name and the number of what counts for it; a pair is never freed
// before the next boot.
const (
	tallyOpen  = 0 // transactions that have not ended
	tallyKept  = 1 // outcomes
	tallyDoubt = 2 // transactions that wait for a decision
	tallyPairs = 3
	tallyLen   = tallyPairs + 2*tallyMost
	tallyMost  = 4094 // names; of further ones none is counted, and no limit of theirs holds
)

// What is counted by name.
const (
	byOwner    = ""     // transactions that have not ended
	byResource = "\x00" // transactions in doubt with a branch there
)

// named returns the place of a name's number; false if there is none left.
func (t *tally) named(by, name string) (int, bool) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(by + name)) // never fails, hash.Hash
	key := int64(h.Sum64() | 1)       //nolint:gosec // any bits will do, but not zero
	for n := range tallyMost {
		i := tallyPairs + 2*int((uint64(key)>>1+uint64(n))%tallyMost) //nolint:gosec // below tallyMost
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

// counts are the places of the numbers in which a claim counts; nil is none.
func (t *tally) counts(st *State) (in []int) {
	add := func(by, name string) {
		if i, ok := t.named(by, name); ok {
			in = append(in, i)
		}
	}
	switch {
	case st == nil || st.Forgotten():
		return nil
	case st.Phase.Terminal():
		return []int{tallyKept}
	}
	in = append(in, tallyOpen)
	add(byOwner, st.Owner)
	if st.Phase == xa.Prepared {
		in = append(in, tallyDoubt)
		for i := range st.Branches {
			add(byResource, st.Branches[i].Resource)
		}
	}
	return in
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
	was, is := t.counts(before), t.counts(after)
	if slices.Equal(was, is) {
		return
	}
	for _, i := range was {
		t.add(i, -1)
	}
	for _, i := range is {
		t.add(i, 1)
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

// recount sets the numbers right by the claims that there are, as somebody reads them.
type recount struct {
	tally   *tally
	was, is map[int]int64
}

// NewRecount begins before the first claim is read.
func (f *Files) NewRecount() (Recounting, error) {
	r := &recount{tally: f.claims.tally, was: map[int]int64{}, is: map[int]int64{}}
	for i := range tallyLen {
		if i < tallyPairs || (i-tallyPairs)%2 == 1 {
			n, err := r.tally.get(i)
			if err != nil {
				return nil, err
			}
			r.was[i] = n
		}
	}
	return r, nil
}

// Add counts a claim.
func (r *recount) Add(st *State) {
	for _, i := range r.tally.counts(st) {
		r.is[i]++
	}
}

// Done corrects the numbers when all claims were read. What came or went meanwhile may have been read or not, so a number that has
// moved is only brought between what it was before and is now.
func (r *recount) Done() {
	for i, was := range r.was {
		now, _ := r.tally.get(i)
		is := r.is[i]
		if by := Off(was, now, is); by != 0 {
			r.tally.add(i, by)
		}
	}
}

// Off is by how much a number has to be corrected of which so many were counted, while it went from what it was to what it is now.
func Off(was, now, counted int64) int64 {
	return counted - min(max(counted, min(was, now)), max(was, now))
}

// Counted returns how many transactions have not ended, in all and of one owner; not known: there are no numbers, so no
// limits either.
func (f *Files) Counted(owner string) (all, mine int64, known bool) {
	all, err := f.claims.tally.get(tallyOpen)
	if err != nil {
		return 0, 0, false
	}
	if i, ok := f.claims.tally.named(byOwner, owner); ok {
		mine, err = f.claims.tally.get(i)
	}
	return all, mine, err == nil
}

// Kept returns how many outcomes there are.
func (f *Files) Kept() (int64, error) { return f.claims.tally.get(tallyKept) }

// InDoubt returns how many transactions wait for a decision.
func (f *Files) InDoubt() int { return f.claims.tally.atLeastNone(tallyDoubt) }

// InDoubtOn returns how many of those have a branch on a resource.
func (f *Files) InDoubtOn(resource string) int {
	i, ok := f.claims.tally.named(byResource, resource)
	if !ok {
		return 0
	}
	return f.claims.tally.atLeastNone(i)
}

// atLeastNone is a number, and zero where it is not known.
func (t *tally) atLeastNone(i int) int {
	n, _ := t.get(i)
	return int(max(0, n))
}

// Recount reads all claims and sets the numbers right.
func (f *Files) Recount() error {
	r, err := f.NewRecount()
	if err != nil {
		return err
	}
	if _, err := f.claims.each(r.Add); err != nil { // one that cannot be read is nobody's
		return err
	}
	r.Done()
	return nil
}

func newTally(dir string) *tally { return &tally{path: filepath.Join(dir, "counts")} }
