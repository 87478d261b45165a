package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/txn/xa"
)

// This file is what becomes of a log that was written on another machine, or that is a copy: it is put aside, and an operator adopts
// or abandons it.

// ErrNotAdopted: something speaks against adopting a log.
var ErrNotAdopted = errors.New("the log cannot be adopted")

// ErrInPlace: the log that took its place must stay for now.
var ErrInPlace = errors.New("the log in its place must stay")

// Asides names the logs that were put aside and not abandoned, in ascending order.
func (f *Files) Asides() ([]xa.LogID, error) { return f.dir.listAside() }

// AsideDir is where the log of that identity was put; an error if it was not.
func (f *Files) AsideDir(id xa.LogID) (string, error) {
	dir := f.dir.asideDir(id)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("no log %s was put aside here: %w", id, err)
	}
	return dir, nil
}

// ReadAside returns what a log says that was put aside, where it is and on which machine it was written, if that is
// known. Nobody writes there any more.
func (f *Files) ReadAside(id xa.LogID) (s *Contents, dir, machine string, err error) {
	if dir, err = f.AsideDir(id); err != nil {
		return nil, "", "", err
	}
	old := &directory{dir: dir, id: id, fault: f.opt.Fault}
	if s, err = old.contents(); err != nil {
		return nil, "", "", err
	}
	sealed := map[uint64]bool{}
	for n := range s.records {
		sealed[n] = s.Damaged[n] == nil
	}
	s.Supersede(sealed)
	return s, dir, old.machine(), nil
}

// Elsewhere tells whether a directory of another service on this machine has the log of that identity: as its own, or put aside. A copy
// that the other service has not found to be one yet is neither.
func (f *Files) Elsewhere(dir string, id xa.LogID) (own, aside bool, err error) {
	other := &directory{dir: dir}
	is, err := other.readIdentity(f.opt.Machine)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errForeignLog) {
		is, err = xa.LogID{}, nil
	}
	asides, aerr := other.listAside()
	return is == id, slices.Contains(asides, id), errors.Join(err, aerr)
}

// Abandon gives up a log that was put aside. What is said of it is kept there.
func (f *Files) Abandon(id xa.LogID, said []byte) error {
	dir, err := f.AsideDir(id)
	if err != nil {
		return err
	}
	old := &directory{dir: dir, id: id, fault: f.opt.Fault}
	return old.replace(abandoned, said)
}

// Adopt makes a log that was put aside the directory's own again, in place of the one that is there, of which check tells why it must stay.
// The ledger is of no use afterwards but to be closed. An adoption is on disk before its first step, so whoever opens the directory next ends
// one that was cut off.
func (f *Files) Adopt(ctx context.Context, id xa.LogID, check func(*Contents) error) (err error) {
	for _, name := range []string{"recovery", "seal", "lock"} {
		unlock, err := f.dir.lock(ctx, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	all, err := f.dir.logs()
	if err != nil {
		return err
	}
	for _, n := range all {
		if alive, err := f.dir.alive(n); alive || err != nil {
			return errors.Join(err, fmt.Errorf("%w, %w: incarnation %d runs, systemctl stop fdt", ErrNotAdopted, ErrInPlace, n))
		}
	}
	s, err := f.dir.contents()
	if err == nil {
		err = check(s)
	}
	if err != nil {
		return err
	}
	if err := f.dir.adopt(adoption{From: f.dir.id, To: id}, f.opt.Machine); err != nil {
		return fmt.Errorf("adopt log %s: %w", id, err)
	}
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	return nil
}

// asideDir is where the log of that identity is put.
func (h *directory) asideDir(id xa.LogID) string { return h.path("old-" + id.String()) }

// abandoned is the file that says who gave up a log that was put aside.
const abandoned = "abandoned"

// listAside names the logs that were put aside and not abandoned, in ascending order.
func (h *directory) listAside() ([]xa.LogID, error) {
	paths, _ := filepath.Glob(h.path("old-*")) // the pattern is sound
	var list []xa.LogID
	for _, p := range paths {
		var id xa.LogID
		if id.UnmarshalText([]byte(strings.TrimPrefix(filepath.Base(p), "old-"))) != nil {
			continue
		}
		switch _, err := os.Lstat(filepath.Join(p, abandoned)); {
		case errors.Is(err, fs.ErrNotExist):
			list = append(list, id)
		case err != nil:
			return nil, err
		}
	}
	return list, nil
}

// machine is where the log in the directory was written; empty if that is not known.
func (h *directory) machine() string {
	raw, err := os.ReadFile(h.path("id"))
	var was identity
	if errors.Join(err, json.Unmarshal(raw, &was)) != nil {
		return ""
	}
	return was.Machine
}

// adoption is the content of the file that says which log is about to take the
// place of which. What was begun is ended by whoever opens the directory next.
type adoption struct {
	From    xa.LogID `json:"from"`
	To      xa.LogID `json:"to"`
	Cleared bool     `json:"cleared"` // all of From has been put aside
}

// adopt begins an adoption and carries it out. The caller holds the lock "lock".
func (h *directory) adopt(a adoption, machine string) error {
	raw, _ := json.Marshal(a) // never fails: texts
	if err := h.replace("adopting", raw); err != nil {
		return err
	}
	return h.endAdoption(machine)
}

// endAdoption carries out an adoption that was begun, if there is one. Each of
// its steps may be done twice. The caller holds the lock "lock".
func (h *directory) endAdoption(machine string) error {
	raw, err := os.ReadFile(h.path("adopting"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var a adoption
	if err = errors.Join(err, json.Unmarshal(raw, &a)); err != nil {
		return fmt.Errorf("%s: %w", h.path("adopting"), err)
	}
	if !a.Cleared {
		if err := h.putAside(a.From); err != nil {
			return err
		}
		a.Cleared = true
		raw, _ = json.Marshal(a) // never fails: texts
		if err := h.replace("adopting", raw); err != nil {
			return err
		}
	}
	from := h.asideDir(a.To)
	if err := move(from, h.dir, h.fault); err != nil {
		return err
	}
	h.id = a.To
	if err := errors.Join(h.fault.At("adopt: moved"), h.skip(0), h.writeIdentity(machine, a.From)); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(from), os.Remove(h.path("adopting")), h.syncDir())
}

// SkipOthers sees to it that no incarnation is given away that another copy of the log has begun, as a resource shows: one
// above those that were given away here. It is for before this process begins its own.
func (f *Files) SkipOthers(ctx context.Context, shown uint64) (err error) {
	unlock, err := f.dir.lock(ctx, "lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	g, err := f.dir.given()
	if err != nil || shown <= g.highest {
		return err
	}
	return f.dir.skip(shown)
}

// move moves what belongs to a log from one directory to another, durably.
func move(from, to string, fault Fault) error {
	list, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // moved before
	}
	for _, e := range list {
		if _, ok := parseLogName(e.Name()); ok || e.Name() == "incarnation" {
			if err = errors.Join(err, fault.At("move "+e.Name())); err == nil {
				err = os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
			}
		}
	}
	return errors.Join(err, syncDir(to), syncDir(from))
}
