package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/xa"
)

// withVote is a ledger whose claims are made, with a dead log that has a vote for x.
func withVote(t *testing.T) (f *Files, fail *string) {
	t.Helper()
	f, fail = opened(t)
	vote := Record{Kind: KindPrepared, At: time.Now(), GID: testGID(3, 2, xa.RoleExternal), ClientGID: "x"}
	opening := Record{Kind: KindOpen, Log: f.dir.id, Incarnation: 3, Through: 9}
	must(t, f.dir.rewrite(3, texts([]string{string(opening.encode()), string(vote.encode())})))
	f.dir.put(t, "incarnation", "3\n")
	must(t, f.rebuild(t.Context()))
	return f, fail
}

// TestRestoreFails is a table of what may fail where a claim is looked for that is not there: nobody is told that there is none.
func TestRestoreFails(t *testing.T) {
	name := ClientName("x")
	take := func(t *testing.T, f *Files) error { _, err := f.Take(t.Context(), name); return err }
	remove := func(t *testing.T, f *Files) { must(t, os.Remove(f.claims.path(name))) }
	removeAll := func(t *testing.T, f *Files) {
		remove(t, f)
		must(t, os.Remove(filepath.Join(f.claims.dir, rebuiltName)))
	}
	noLocks := func(t *testing.T, f *Files) { f.claims.locks = f.claims.dir }
	for what, c := range map[string]struct {
		spoil func(t *testing.T, f *Files)
		step  string // that fails
		try   func(t *testing.T, f *Files) error
		want  error
	}{
		"the lock of one":          {noLocks, "", take, unix.EISDIR},
		"the lock of one, tried":   {nil, "lock claim", func(t *testing.T, f *Files) error { _, err := f.TryTake(t.Context(), name); return err }, unix.EIO},
		"the lock of a new one":    {nil, "lock claim", func(t *testing.T, f *Files) error { _, err := f.Create(t.Context(), named("y")); return err }, unix.EIO},
		"the lock of a spoilt one": {nil, "lock claim", func(t *testing.T, f *Files) error { return f.mend(t.Context(), name) }, unix.EIO},
		"the lock of one to make":  {nil, "lock claim", func(t *testing.T, f *Files) error { _, err := f.restore(t.Context(), name, attempt); return err }, unix.EIO},
		"the locks of all":         {func(t *testing.T, f *Files) { removeAll(t, f); noLocks(t, f) }, "", func(t *testing.T, f *Files) error { _, err := f.remade(t.Context()); return err }, xa.ErrNoClaims},
		"the claim of all":         {removeAll, "write claim", take, xa.ErrNoClaims},
		"the logs' names":          {remove, "list logs", take, xa.ErrNoClaims},
		"a log":                    {remove, "open log", take, xa.ErrNoClaims},
		"who lives":                {func(t *testing.T, f *Files) { remove(t, f); f.dir.sealed.Delete(uint64(3)) }, "probe log", take, xa.ErrNoClaims},
		"the incarnations":         {remove, "read incarnation", take, xa.ErrNoClaims},
		"a record that is not where it was": {func(t *testing.T, f *Files) {
			remove(t, f)
			must(t, f.index.of(3).add(f.dir, NewContents(), 3))
			f.index.of(3).at[testGID(3, 2, xa.RoleExternal)] = []int64{1 << 20}
		}, "", take, xa.ErrNoClaims},
		"the logs of all":               {removeAll, "list logs", take, xa.ErrNoClaims},
		"the incarnations of all":       {removeAll, "read incarnation", take, xa.ErrNoClaims},
		"the claim itself":              {remove, "write claim", take, xa.ErrNoClaims},
		"sealing who died meanwhile":    {func(t *testing.T, f *Files) { remove(t, f); f.dir.sealed.Delete(uint64(3)) }, "lock seal", take, xa.ErrNoClaims},
		"a directory that is none":      {func(t *testing.T, f *Files) { f.claims.dir = f.dir.path("id") }, "", func(t *testing.T, f *Files) error { _, err := f.restore(t.Context(), name, attempt); return err }, unix.ENOTDIR},
		"a directory that is none, new": {func(t *testing.T, f *Files) { f.claims.dir = f.dir.path("id") }, "", func(t *testing.T, f *Files) error { _, err := f.claims.create(t.Context(), named("y")); return err }, unix.ENOTDIR},
	} {
		t.Run(what, func(t *testing.T) {
			f, fail := withVote(t)
			if c.spoil != nil {
				c.spoil(t, f)
			}
			*fail = c.step
			if err := c.try(t, f); !errors.Is(err, c.want) || errors.Is(err, os.ErrNotExist) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestNameUsedAgain: of a name that was used before, only what may still be asked for is looked up: what a record said to be over is
// not read again, whichever log has that record.
func TestNameUsedAgain(t *testing.T) {
	f, _ := opened(t)
	logs := map[uint64][]string{}
	for n := uint64(3); n <= 4; n++ {
		opening := Record{Kind: KindOpen, Log: f.dir.id, Incarnation: n, Through: 9}
		logs[n] = []string{string(opening.encode())}
	}
	add := func(n uint64, r Record) { r.At = time.Now(); logs[n] = append(logs[n], string(r.encode())) }
	gid := func(n uint64) xa.GID { return testGID(3, n, xa.RoleExternal) }
	for i, forgetIn := range []uint64{3, 4} {
		add(3, Record{Kind: KindPrepared, GID: gid(uint64(i)), ClientGID: "x"})
		add(forgetIn, Record{Kind: KindAbort, GID: gid(uint64(i))})
		add(forgetIn, Record{Kind: KindEnd, GID: gid(uint64(i))})
		add(forgetIn, Record{Kind: KindForget, GID: gid(uint64(i))})
	}
	add(3, Record{Kind: KindPrepared, GID: gid(2), ClientGID: "x"})
	for n, list := range logs {
		must(t, f.dir.rewrite(n, texts(list)))
	}
	f.dir.put(t, "incarnation", "4\n")
	must(t, f.rebuild(t.Context()))
	name := ClientName("x")
	for range 2 {
		must(t, os.Remove(f.claims.path(name)))
		if st, err := f.Peek(t.Context(), name); err != nil || st.GID != gid(2) {
			t.Errorf("%+v, %v", st, err)
		}
		if got := f.index.of(3).names[name]; len(got) != 1 || got[0] != gid(2) {
			t.Errorf("looked up: %v", got)
		}
	}
	must(t, f.RemoveForgotten(t.Context(), name, gid(1))) // the name is another's
	if _, err := f.Peek(t.Context(), name); err != nil {
		t.Error(err)
	}
	must(t, f.RemoveForgotten(t.Context(), name, gid(2)))
	must(t, f.RemoveForgotten(t.Context(), name, gid(2)))
	if _, err := os.Lstat(f.claims.path(name)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func named(gid string) State {
	return State{Transaction: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), ClientGID: gid, Phase: xa.Preparing}}
}

// TestRemadeAtWork: where all claims were deleted, one that somebody is at work on is left to him, and to the next who looks for any.
func TestRemadeAtWork(t *testing.T) {
	f, fail := withVote(t)
	c, err := f.Take(t.Context(), ClientName("x"))
	must(t, err)
	must(t, os.Remove(f.claims.path(ClientName("x"))))
	must(t, os.Remove(filepath.Join(f.claims.dir, rebuiltName)))
	if _, err := f.TryTake(t.Context(), ClientName("x")); !errors.Is(err, ErrHeld) {
		t.Error(err)
	}
	must(t, f.mend(t.Context(), ClientName("x")))
	for range 2 {
		if was, err := f.remade(t.Context()); err != nil || !was {
			t.Error(was, err)
		}
	}
	st := c.State
	st.Owner = "bob"
	*fail = "write claim"
	if err := c.Set(st); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	*fail = ""
	must(t, c.Set(st))
	must(t, c.Release())
	if was, err := f.remade(t.Context()); err != nil || !was {
		t.Error(was, err)
	}
	if was, err := f.remade(t.Context()); err != nil || was {
		t.Error(was, err)
	}
	if is, err := f.Peek(t.Context(), ClientName("x")); err != nil || is.Owner != "bob" {
		t.Errorf("%+v, %v", is, err)
	}
}

// TestRemoveDeleted: a claim that was deleted by hand may be removed.
func TestRemoveDeleted(t *testing.T) {
	f, _ := withVote(t)
	c, err := f.Take(t.Context(), ClientName("x"))
	must(t, err)
	must(t, os.Remove(f.claims.path(ClientName("x"))))
	must(t, c.Remove())
}

// TestLocksClosed: locks of which the file is closed cannot be had.
func TestLocksClosed(t *testing.T) {
	f, _ := withVote(t)
	file, err := os.Open(f.dir.path("id"))
	must(t, err)
	must(t, file.Close())
	if err := attempt(file, 1); err == nil {
		t.Error("taken")
	}
	s, err := f.dir.contents()
	must(t, err)
	for _, h := range s.Histories {
		if _, err := f.deriveSome(file, s, []*History{h}, f.claims.put); err == nil {
			t.Error("taken")
		}
	}
	if _, err := ofd.TryByte(file, 1); err == nil {
		t.Error("taken")
	}
}
