package ledger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// This file makes claims anew that somebody has deleted by hand. A claim is a copy of what the logs say, so the logs tell what it
// was: they are asked before anybody is told that there is no transaction of a name.

// restore makes the claim of a name anew, if there is none and the logs have the transaction. It tells whether there is one then.
// The name's lock is held meanwhile: nobody decides, or ends it, between what the logs say and what the claim says.
func (f *Files) restore(ctx context.Context, name string, get func(*os.File, int64) error) (there bool, err error) {
	lock, err := f.claims.lock(name, get)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, ofd.Close(lock)) }()
	if _, err := os.Lstat(f.claims.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	h, s, err := f.ofName(ctx, name)
	if err != nil || h == nil {
		return false, err
	}
	return true, f.claims.putWhole(h.State(s))
}

// ofName returns what the logs say of the transaction of a claim's name that is open, or whose outcome is kept; nil if there is none.
func (f *Files) ofName(ctx context.Context, name string) (*History, *Contents, error) {
	logs, err := f.dir.logs()
	if err == nil {
		err = f.index.prune(logs)
	}
	if err == nil {
		err = f.sealAll(ctx, logs)
	}
	if err != nil {
		return nil, nil, err
	}
	return f.lookUpName(logs, name)
}

func (f *Files) lookUpName(logs []uint64, name string) (*History, *Contents, error) {
	var of []xa.GID
	for _, n := range logs {
		gids, err := f.index.of(n).named(f.dir, n, name)
		if err != nil {
			return nil, nil, err
		}
		of = append(of, gids...)
	}
	if len(of) == 0 {
		return nil, nil, nil
	}
	s, err := f.of(logs, of...)
	if err != nil {
		return nil, nil, err
	}
	sealed := map[uint64]bool{}
	for _, n := range logs {
		_, sealed[n] = f.dir.sealed.Load(n)
	}
	s.Supersede(sealed)
	var is *History
	for gid, h := range s.Histories {
		switch {
		case !f.Done(h):
			if ClaimName(&h.Tx) == name && !h.Unnamed {
				is = h
			}
		case !h.Superseded: // over by records of its own, which stay true: a name may be used without end
			for _, n := range logs {
				f.index.of(n).over(gid, name)
			}
		}
	}
	if is == nil {
		s = nil
	}
	return is, s, nil
}

// of returns what these logs say of transactions.
func (f *Files) of(logs []uint64, of ...xa.GID) (*Contents, error) {
	s := NewContents()
	if err := f.dir.tell(s); err != nil {
		return nil, err
	}
	for _, n := range logs {
		if err := f.index.of(n).add(f.dir, s, n, of...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// sealAll seals those of these logs whose incarnation is dead: only what is durable counts.
func (f *Files) sealAll(ctx context.Context, logs []uint64) error {
	for _, n := range logs {
		if _, known := f.dir.sealed.Load(n); known || n == f.Incarnation() {
			continue
		}
		alive, err := f.Alive(n)
		if err == nil && !alive {
			return f.locked(ctx, "seal", func() error { _, err := f.sealThem(ctx); return err })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remade sees to it that there are claims again after all had been deleted, and tells whether they had. One that somebody is at
// work on is left to the next who looks for any.
func (f *Files) remade(ctx context.Context) (was bool, err error) {
	if err := unix.Access(filepath.Join(f.claims.dir, rebuiltName), unix.F_OK); !errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err := f.remake(ctx); err != nil {
		return false, &rebuildError{err}
	}
	return true, nil
}

func (f *Files) remake(ctx context.Context) error {
	return f.locked(ctx, "seal", func() error {
		s, err := f.known(ctx)
		if err != nil {
			return err
		}
		return f.derive(s, f.claims.putWhole, func(h *History) bool { return h.Tx.GID.Role == xa.RoleExternal })
	})
}

// derive makes the claims that there are none of, of such transactions, from what the logs of the dead and the living said. The mark
// says that all were made; one that somebody is at work on is not, and left to the next who looks for any.
//
// Others may be at work, where the claims were deleted by hand, and may have gone on since the logs were read. So the locks of
// some names are taken, then what living processes have written of those is read once more, and the claims are made by that.
func (f *Files) derive(s *Contents, put func(State) error, of func(*History) bool) error {
	var list []*History
	for _, h := range s.Histories {
		if of(h) && !h.Unnamed && !f.Done(h) {
			list = append(list, h)
		}
	}
	lock, err := os.OpenFile(f.claims.locks, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	all := true
	for some := range slices.Chunk(list, 256) {
		var whole bool
		if whole, err = f.deriveSome(lock, s, some, put); err != nil {
			break
		}
		all = all && whole
	}
	if err = errors.Join(err, ofd.Close(lock)); err != nil || !all {
		return err
	}
	return f.Share(rebuiltName, []byte(f.dir.id.String()+"\n"))
}

func (f *Files) deriveSome(lock *os.File, s *Contents, some []*History, put func(State) error) (all bool, err error) {
	all = true
	var mine []*History
	var gids []xa.GID
	for _, h := range some {
		free, err := ofd.TryByte(lock, place(ClaimName(&h.Tx)))
		if err != nil {
			return false, err
		}
		if free {
			mine, gids = append(mine, h), append(gids, h.Tx.GID)
		}
		all = all && free
	}
	logs, err := f.dir.logs()
	var now *Contents
	if err == nil {
		living := slices.DeleteFunc(slices.Clone(logs), func(n uint64) bool { _, sealed := f.dir.sealed.Load(n); return sealed })
		now, err = f.of(living, gids...)
	}
	for _, h := range mine {
		is, by := h, s
		if err == nil && now.Histories[h.Tx.GID] != nil && h.Tx.GID.Role == xa.RoleExternal {
			is, by, err = f.lookUpName(logs, ClaimName(&h.Tx))
		}
		if err == nil && is != nil {
			err = put(is.State(by))
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return all, errors.Join(err, ofd.Free(lock))
}

// found looks for a claim, once more if there was none but the logs have the transaction, or it was spoilt.
func found[T any](ctx context.Context, f *Files, name string, look func() (T, error)) (T, error) {
	c, err := mended(ctx, f, name, look)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, barred(err)
	}
	there, rerr := f.remade(ctx)
	if rerr == nil && !there && strings.HasPrefix(name, "x-") {
		there, rerr = f.restore(ctx, name, wait(ctx))
		if rerr != nil {
			rerr = &rebuildError{rerr}
		}
	}
	switch {
	case rerr != nil:
		err = rerr
	case there:
		c, err = look()
	}
	return c, barred(err)
}

// mended looks for a claim, once more if it was spoilt.
func mended[T any](ctx context.Context, f *Files, name string, look func() (T, error)) (T, error) {
	c, err := look()
	if _, spoilt := errors.AsType[*spoiltError](err); spoilt {
		if err = f.mend(ctx, name); err == nil {
			c, err = look()
		}
	}
	return c, err
}

// named returns the transactions of a claim's name in log n, which it reads on in, without those that are known to be over.
func (i *index) named(h *directory, n uint64, name string) ([]xa.GID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(h, n); err != nil || i.file == nil {
		return nil, err
	}
	i.readOn(n, h.id)
	return slices.Clone(i.names[name]), nil
}

// over takes a transaction out of those of a claim's name.
func (i *index) over(gid xa.GID, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unname(gid, name)
}

func (i *index) unname(gid xa.GID, name string) {
	left := slices.DeleteFunc(i.names[name], func(g xa.GID) bool { return g == gid })
	if i.names[name] = left; len(left) == 0 {
		delete(i.names, name)
	}
}
