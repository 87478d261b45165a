package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/txn/xa"
)

// opened is a ledger of new directories, with a fault at the step that fail names.
func opened(t *testing.T) (f *Files, fail *string) {
	t.Helper()
	fail = new(string)
	opt := Options{LogDir: t.TempDir(), ClaimDir: t.TempDir(), Machine: "m1", Forces: &meter.Histogram{}, Events: silent{}}
	opt.Fault = func(step string) error {
		if step == *fail {
			return unix.EIO
		}
		return nil
	}
	f, _, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(t.Context(), false, nil) })
	return f, fail
}

// put writes a file of the directory of logs.
func (h *directory) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSpoiltDirectory is a table of directories in which something is not what it should be: whatever needs it says so.
func TestSpoiltDirectory(t *testing.T) {
	id := xa.LogID{7}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, f *Files)
		try   func(t *testing.T, f *Files) error
		want  error
	}{
		"an adoption that cannot be read": {
			func(t *testing.T, f *Files) { f.dir.put(t, "adopting", "nonsense") },
			func(_ *testing.T, f *Files) error { return f.dir.endAdoption("m1") }, nil,
		},
		"an adoption that cannot be told": {
			func(t *testing.T, f *Files) { must(t, os.Mkdir(f.dir.path("adopting.new"), 0o700)) },
			func(_ *testing.T, f *Files) error { return f.dir.adopt(adoption{f.dir.id, id, false}, "m1") }, unix.EISDIR,
		},
		"an adoption whose first step cannot be told": {
			func(t *testing.T, f *Files) {
				f.dir.put(t, "adopting", `{"from":"`+f.dir.id.String()+`","to":"`+id.String()+`"}`)
				must(t, os.Mkdir(f.dir.path("adopting.new"), 0o700))
			},
			func(_ *testing.T, f *Files) error { return f.dir.endAdoption("m1") }, unix.EISDIR,
		},
		"an adoption of what is no directory": {
			func(t *testing.T, f *Files) { f.dir.put(t, "old-"+id.String(), "") },
			func(_ *testing.T, f *Files) error { return f.dir.adopt(adoption{f.dir.id, id, true}, "m1") }, unix.ENOTDIR,
		},
		"a log put aside that is no directory": {
			func(t *testing.T, f *Files) { f.dir.put(t, "old-"+id.String(), "") },
			func(_ *testing.T, f *Files) error { _, err := f.Asides(); return err }, unix.ENOTDIR,
		},
		"what is put aside cannot be": {
			func(t *testing.T, f *Files) { f.dir.dir = f.dir.path("lock") },
			func(_ *testing.T, f *Files) error { return f.dir.putAside(id) }, unix.ENOTDIR,
		},
		"a directory for it that cannot be made": {
			func(t *testing.T, f *Files) {
				must(t, os.RemoveAll(f.dir.dir))
			},
			func(_ *testing.T, f *Files) error { return f.dir.putAside(id) }, fs.ErrNotExist,
		},
		"a last number that is none": {
			func(t *testing.T, f *Files) { f.dir.put(t, "incarnation", "nonsense") },
			func(_ *testing.T, f *Files) error { return f.dir.skip(1) }, nil,
		},
		"an identity that cannot be read": {
			func(t *testing.T, f *Files) { f.dir.put(t, "id", "nonsense") },
			func(_ *testing.T, f *Files) error { return f.dir.unchanged() }, nil,
		},
		"the lock of SkipOthers": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.dir.dir)) },
			func(t *testing.T, f *Files) error { return f.SkipOthers(t.Context(), 5) }, fs.ErrNotExist,
		},
		"logs that cannot be listed": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.dir.dir)) },
			func(t *testing.T, f *Files) error { return f.Damaged(t.Context()) }, fs.ErrNotExist,
		},
		"deciders of no directory": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.dir.dir)) },
			func(t *testing.T, f *Files) error { _, err := f.Deciders(); return err }, fs.ErrNotExist,
		},
		"logs from which the claims are made": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.dir.dir)) },
			func(t *testing.T, f *Files) error { return f.rebuild(t.Context()) }, xa.ErrNoClaims,
		},
		"claims deleted by hand, and logs that are gone": {
			func(t *testing.T, f *Files) {
				must(t, f.rebuild(t.Context()))
				must(t, os.Remove(filepath.Join(f.claims.dir, rebuiltName)))
				must(t, os.RemoveAll(f.dir.dir))
			},
			func(t *testing.T, f *Files) error { _, err := f.Create(t.Context(), State{}); return err }, xa.ErrNoClaims,
		},
		"claims deleted by hand, and a log that is a directory": {
			func(t *testing.T, f *Files) {
				must(t, f.rebuild(t.Context()))
				must(t, os.Remove(filepath.Join(f.claims.dir, rebuiltName)))
				must(t, os.Mkdir(f.dir.path(logName(3)), 0o700))
			},
			func(t *testing.T, f *Files) error { _, err := f.remade(t.Context()); return err }, xa.ErrNoClaims,
		},
		"a spoilt claim, and a log that is a directory": {
			func(t *testing.T, f *Files) {
				must(t, f.rebuild(t.Context()))
				must(t, os.WriteFile(filepath.Join(f.claims.dir, "x-1"), []byte("spoilt"), 0o600))
				must(t, os.Mkdir(f.dir.path(logName(3)), 0o700))
			},
			func(t *testing.T, f *Files) error { _, err := f.Peek(t.Context(), "x-1"); return err }, xa.ErrNoClaims,
		},
		"an adoption at the start": {
			func(t *testing.T, f *Files) { f.dir.put(t, "adopting", "nonsense") },
			func(t *testing.T, f *Files) error { _, _, err := Open(t.Context(), f.opt); return err }, nil,
		},
		"a log to abandon that is not there": {
			func(*testing.T, *Files) {},
			func(_ *testing.T, f *Files) error { return f.Abandon(id, nil) }, fs.ErrNotExist,
		},
		"a last number that is too low": {
			func(t *testing.T, f *Files) { f.dir.put(t, "incarnation", "0\n") },
			func(_ *testing.T, f *Files) error { _, err := f.dir.given(); return err }, nil,
		},
		"a sealed log that cannot be read": {
			func(_ *testing.T, f *Files) {
				f.dir.sealed.Store(uint64(3), true)
				f.dir.dir = f.dir.path("lock")
			},
			func(t *testing.T, f *Files) error { _, err := f.DeadLogs(t.Context())(3, xa.GID{}); return err }, unix.ENOTDIR,
		},
		"an index whose file is closed": {
			func(t *testing.T, f *Files) {
				file, err := os.Open(f.dir.path("lock"))
				must(t, err)
				must(t, file.Close())
				f.index.of(9).file = file
				t.Cleanup(func() { f.index.all = nil })
			},
			func(t *testing.T, f *Files) error { _, err := f.LookUp(t.Context(), 3); return err }, fs.ErrClosed,
		},
		"a record that is not where it was": {
			func(t *testing.T, f *Files) {
				_, err := f.Log(t.Context())
				must(t, err)
				must(t, f.index.of(1).add(f.dir, NewContents(), 1))
				f.index.of(1).at[xa.GID{}] = []int64{1 << 20}
			},
			func(_ *testing.T, f *Files) error { return f.index.of(1).add(f.dir, NewContents(), 1, xa.GID{}) }, nil,
		},
		"logs that are no directory": {
			func(t *testing.T, f *Files) {
				file := filepath.Join(t.TempDir(), "file")
				must(t, os.WriteFile(file, nil, 0o600))
				f.dir.dir = file
			},
			func(t *testing.T, f *Files) error { _, err := f.LookUp(t.Context(), 3); return err }, unix.ENOTDIR,
		},
		"a sealed log that is no directory": {
			func(t *testing.T, f *Files) {
				file := filepath.Join(t.TempDir(), "file")
				must(t, os.WriteFile(file, nil, 0o600))
				f.dir.dir = file
			},
			func(t *testing.T, f *Files) error { _, err := f.DeadLogs(t.Context())(3, xa.GID{}); return err }, unix.ENOTDIR,
		},
		"an index of what is no directory": {
			func(t *testing.T, f *Files) {
				file := filepath.Join(t.TempDir(), "file")
				must(t, os.WriteFile(file, nil, 0o600))
				f.dir.dir = file
			},
			func(_ *testing.T, f *Files) error { return f.index.of(3).add(f.dir, NewContents(), 3) }, unix.ENOTDIR,
		},
		"claims that cannot be listed": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.claims.dir)) },
			func(t *testing.T, f *Files) error { return f.Room(t.Context()) }, xa.ErrNoClaims,
		},
		"claims that cannot be asked for": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.claims.dir)) },
			func(t *testing.T, f *Files) error { _, err := f.TryTake(t.Context(), "x-1"); return err }, xa.ErrNoClaims,
		},
		"claims that cannot be read": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.claims.dir)) },
			func(t *testing.T, f *Files) error { _, err := f.Peek(t.Context(), "x-1"); return err }, xa.ErrNoClaims,
		},
		"claims that cannot be made": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.claims.dir)) },
			func(t *testing.T, f *Files) error { _, err := f.Create(t.Context(), State{}); return err }, xa.ErrNoClaims,
		},
		"claims to count that are gone": {
			func(t *testing.T, f *Files) { must(t, os.RemoveAll(f.claims.dir)) },
			func(_ *testing.T, f *Files) error { return f.Recount() }, fs.ErrNotExist,
		},
		"a claim that cannot go": {
			func(t *testing.T, f *Files) {
				must(t, os.MkdirAll(filepath.Join(f.claims.dir, "x-1", "full"), 0o700))
			},
			func(_ *testing.T, f *Files) error { return f.claims.clear() }, unix.ENOTEMPTY,
		},
		"a count of another size": {
			func(t *testing.T, f *Files) { must(t, os.WriteFile(f.claims.tally.path, []byte("x"), 0o600)) },
			func(_ *testing.T, f *Files) error { f.claims.tally.zero(); _, err := f.Kept(); return err }, nil,
		},
		"a count that is a directory": {
			func(t *testing.T, f *Files) { must(t, os.Mkdir(f.claims.tally.path, 0o700)) },
			func(t *testing.T, f *Files) error {
				if _, _, known := f.Counted("alice"); known {
					t.Error("a directory counts")
				}
				if f.InDoubt() != 0 || f.InDoubtOn("bank") != 0 {
					t.Error("in doubt by a directory")
				}
				if _, ok := f.claims.tally.named(byOwner, "alice"); ok {
					t.Error("a directory has owners")
				}
				return f.Recount()
			}, unix.EISDIR,
		},
		"a spoilt claim that is a directory": {
			func(t *testing.T, f *Files) {
				must(t, f.rebuild(t.Context()))
				must(t, os.Mkdir(filepath.Join(f.claims.dir, "x-1"), 0o700))
			},
			func(t *testing.T, f *Files) error { return f.mend(t.Context(), "x-1") }, unix.EISDIR,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := opened(t)
			c.spoil(t, f)
			if err := c.try(t, f); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestFailingSteps is a table of steps that fail, and of what says so.
func TestFailingSteps(t *testing.T) {
	for step, try := range map[string]func(f *Files) error{
		"open log": func(f *Files) error {
			if err := f.dir.rewrite(3, texts(nil)); err != nil {
				return err
			}
			if _, err := f.Deciders(); !errors.Is(err, unix.EIO) {
				return err
			}
			return f.Damaged(t.Context())
		},
		"list claims": func(f *Files) error { return f.Recount() },
	} {
		f, fail := opened(t)
		*fail = step
		if err := try(f); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", step, err)
		}
	}
	f, _ := opened(t)
	must(t, f.dir.rewrite(3, texts(nil)))
	f.dir.fault = func(step string) error {
		if step == "open log" {
			return fs.ErrNotExist // it goes between two looks
		}
		return nil
	}
	if err := f.index.of(3).add(f.dir, NewContents(), 3); err != nil {
		t.Error(err)
	}
}

// TestNothingThere: what is not there is not missed.
func TestNothingThere(t *testing.T) {
	f, _ := opened(t)
	must(t, f.dir.seal(99))
	must(t, move(f.dir.path("none"), f.dir.dir, nil))
	must(t, os.Mkdir(f.dir.path("old-nonsense"), 0o700))
	if list, err := f.Asides(); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	if m := (&directory{dir: f.dir.path("none")}).machine(); m != "" {
		t.Errorf("the machine is %q", m)
	}
	if (&History{}).Whole() {
		t.Error("nothing is whole")
	}
	f.dir.put(t, "incarnation", fmt.Sprintln(uint64(xa.MaxIncarnation)))
	must(t, f.dir.skip(1)) // there are none left to give away
}

// TestRemade: claims that were deleted by hand are made anew of the transactions of outside coordinators, and of no others.
func TestRemade(t *testing.T) {
	f, _ := opened(t)
	must(t, f.rebuild(t.Context()))
	opening := Record{Kind: KindOpen, Log: f.dir.id, Incarnation: 3, Through: 9}
	local, external := testGID(3, 1, xa.RoleLocal), testGID(3, 2, xa.RoleExternal)
	var all []string
	for _, r := range []Record{opening, {Kind: KindCommit, At: time.Now(), GID: local}, {Kind: KindPrepared, At: time.Now(), GID: external, ClientGID: "x"}} {
		all = append(all, string(r.encode()))
	}
	must(t, f.dir.rewrite(3, texts(all)))
	must(t, os.Remove(filepath.Join(f.claims.dir, rebuiltName)))
	if was, err := f.remade(t.Context()); err != nil || !was {
		t.Fatal(was, err)
	}
	names, err := filepath.Glob(filepath.Join(f.claims.dir, "*-*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != ClientName("x") {
		t.Errorf("%q, %v", names, err)
	}
}

// TestRecountForgotten: an outcome that is forgotten does not count.
func TestRecountForgotten(t *testing.T) {
	f, _ := opened(t)
	c, err := f.Create(t.Context(), State{Transaction: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), ClientGID: "x", Phase: xa.Committed}, ForgottenBy: 1})
	must(t, err)
	must(t, c.Release())
	must(t, f.Recount())
	if n, err := f.Kept(); err != nil || n != 0 {
		t.Error(n, err)
	}
}

// TestRecountMoving: what comes while claims are read is counted once, whether it was read or not, and what a death has left is not.
func TestRecountMoving(t *testing.T) {
	for _, read := range []bool{true, false} {
		f, _ := opened(t)
		must(t, f.rebuild(t.Context()))
		f.claims.tally.add(tallyDoubt, 7)
		r, err := f.NewRecount()
		must(t, err)
		st := State{Transaction: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), ClientGID: "x", Phase: xa.Prepared, Branches: []xa.BranchID{{Resource: "bank"}}}}
		c, err := f.Create(t.Context(), st)
		must(t, err)
		must(t, c.Release())
		if read {
			r.Add(&st)
		}
		r.Done()
		if on := f.InDoubtOn("bank"); on != 1 {
			t.Errorf("read: %v; at the bank: %d", read, on)
		}
		must(t, f.Recount())
		if n, on := f.InDoubt(), f.InDoubtOn("bank"); n != 1 || on != 1 {
			t.Errorf("read: %v; in doubt: %d, at the bank: %d", read, n, on)
		}
	}
}

// TestRebuildErrorSays: a full disk is told as one.
func TestRebuildErrorSays(t *testing.T) {
	for why, want := range map[error]*xa.Error{unix.ENOSPC: xa.ErrNoRoom, unix.EIO: xa.ErrNoClaims} {
		if err := (&rebuildError{why}); !errors.Is(err, want) || !errors.Is(err, why) {
			t.Errorf("%v is not %v", err, want)
		}
	}
}

// TestMended: a claim that is gone, or that another has mended meanwhile, is left as it is.
func TestMended(t *testing.T) {
	f, _ := opened(t)
	must(t, f.rebuild(t.Context()))
	must(t, f.mend(t.Context(), "x-1"))
	st := State{Transaction: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), ClientGID: "x", Phase: xa.Prepared}}
	c, err := f.Create(t.Context(), st)
	must(t, err)
	must(t, c.Release())
	must(t, f.mend(t.Context(), ClientName("x")))
	if is, err := f.Peek(t.Context(), ClientName("x")); err != nil || is.Phase != xa.Prepared {
		t.Errorf("%+v, %v", is, err)
	}
}

// TestTallyFull: of more owners than there are places none is counted.
func TestTallyFull(t *testing.T) {
	f, _ := opened(t)
	f.claims.tally.zero()
	for i := range tallyMost {
		n, err := f.claims.tally.at(tallyPairs + 2*i)
		must(t, err)
		n.Store(math.MaxInt64 - 1) // even, as no owner's is
	}
	if i, ok := f.claims.tally.named(byOwner, "alice"); ok {
		t.Errorf("a place for one more: %d", i)
	}
}

// TestProcessOf: only what the kernel says of a process that there is names a holder.
func TestProcessOf(t *testing.T) {
	if h, _, err := processOf(math.MaxInt32); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%+v, %v", h, err)
	}
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "lock"), os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	if h, ok := signed(f); ok {
		t.Errorf("a file that cannot be read is signed by %+v", h)
	}
}

// TestDecode refuses what this program does not know.
func TestDecode(t *testing.T) {
	if _, err := Decode([]byte(`{"kind":"of the future"}`)); err == nil || !strings.Contains(err.Error(), "of a newer version") {
		t.Error(err)
	}
	sent := Record{Kind: KindEnd, GID: testGID(1, 1, xa.RoleLocal)}
	if r, err := Decode(sent.Encode()); err != nil || r.GID != sent.GID {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestDiffers says what has changed of an identity.
func TestDiffers(t *testing.T) {
	is := identity{Machine: "a", Birth: "b", Self: "c"}
	for want, was := range map[string]identity{"on machine": {Machine: "x", Birth: "b", Self: "c"}, "another one": {Machine: "a", Birth: "x", Self: "c"}, "its file id is a copy": {Machine: "a", Birth: "b", Self: "x"}} {
		if got := is.differs(&was); !strings.Contains(got, want) {
			t.Errorf("%+v: %s", was, got)
		}
	}
}

// TestDecidedInFails: what cannot be forced is not noted.
func TestDecidedInFails(t *testing.T) {
	f, fail := opened(t)
	l, err := f.Log(t.Context())
	must(t, err)
	if n := l.Incarnation(); n != 1 {
		t.Errorf("the first incarnation is %d", n)
	}
	*fail = "sync"
	if err := l.(*logFile).DecidedIn(xa.BranchID{Resource: "a"}); !errors.Is(err, unix.EIO) || l.(*logFile).Decider() {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
