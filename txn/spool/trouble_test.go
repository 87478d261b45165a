package spool_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestOpenTrouble: what stands where a spool should be.
func TestOpenTrouble(t *testing.T) {
	for name, test := range map[string]struct {
		dir   string
		stand func(dir string) error
		want  error
	}{
		"below a file": {"f/x", func(dir string) error { return os.WriteFile(filepath.Dir(dir), nil, 0o600) }, syscall.ENOTDIR},
		"a file":       {"f", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, syscall.ENOTDIR},
		"a link to nowhere": {"d", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("nowhere", dir+"/tmp"))
		}, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), test.dir)
			if err := test.stand(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := spool.Open("r", dir); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// scene is a spool with a branch of two messages.
type scene struct {
	t   *testing.T
	dir string
	s   *spool.Spool
	b   *spool.Branch
}

func newScene(t *testing.T) scene {
	t.Helper()
	c := scene{t: t, dir: t.TempDir()}
	var err error
	if c.s, err = spool.Open("r", c.dir); err != nil {
		t.Fatal(err)
	}
	c.b = c.branch(local, "one", "two")
	return c
}

func (c scene) branch(gid txn.GID, bodies ...string) *spool.Branch {
	c.t.Helper()
	b, err := c.s.Enlist(c.t.Context(), txn.BranchOptions{GID: gid})
	for _, body := range bodies {
		if err == nil {
			err = b.(*spool.Branch).Put(c.t.Context(), []byte(body))
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return b.(*spool.Branch)
}

func (c scene) must(errs ...error) {
	c.t.Helper()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// entry is where a branch is in tmp/ or prepared/.
func (c scene) entry(sub string, gid txn.GID, suffix string) string {
	return filepath.Join(c.dir, sub, gid.String()+"+r"+suffix)
}

// without resolves a branch that is not there while a directory cannot be looked into, which is no proof of anything.
func (c scene) without(sub string, d txn.Decision) error {
	dir := filepath.Join(c.dir, sub)
	c.must(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600))
	how, err := c.s.Resolve(c.t.Context(), external, d, "")
	if how != 0 {
		c.t.Errorf("resolved: %d", how)
	}
	c.must(os.Remove(dir), os.Rename(dir+".away", dir))
	return err
}

// TestTaken: what somebody took away, or put there, fails the step that meets
// it, and nothing is claimed.
func TestTaken(t *testing.T) {
	ctx := t.Context()
	staged := func(c scene, name string) string { return filepath.Join(c.entry("tmp", local, ""), name) }
	for name, test := range map[string]func(c scene) error{
		"the branch, at the next message": func(c scene) error {
			c.must(os.RemoveAll(c.entry("tmp", local, "")))
			return c.b.Put(ctx, nil)
		},
		"a message, at prepare": func(c scene) error {
			c.must(os.Remove(staged(c, "000002")))
			_, err := c.b.Prepare(ctx, external)
			return err
		},
		"tmp, at rollback": func(c scene) error {
			c.must(os.RemoveAll(c.dir+"/tmp"), os.WriteFile(c.dir+"/tmp", nil, 0o600))
			return c.b.Rollback(ctx)
		},
		"a message's place, at rollback to a savepoint": func(c scene) error {
			c.must(c.b.Savepoint(ctx, "s"), c.b.Put(ctx, nil), os.Remove(staged(c, "000003")), os.MkdirAll(staged(c, "000003/x"), 0o700))
			return c.b.RollbackTo(ctx, "s")
		},
		"a proof's place, at forget": func(c scene) error {
			c.must(os.MkdirAll(c.entry("prepared", external, ".committed")+"/x", 0o700))
			return c.s.Forget(ctx, external)
		},
		"the proofs, at abort":      func(c scene) error { return c.without("prepared", txn.Abort) },
		"the deliveries, at abort":  func(c scene) error { return c.without("new", txn.Abort) },
		"the deliveries, at commit": func(c scene) error { return c.without("new", txn.Commit) },
		"a failed fsync, at prepare": func(c scene) error {
			other := c.branch(txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: 2, Role: txn.RoleLocal}, "x")
			c.s.SetFault(func(string) error { return syscall.EIO })
			if _, err := c.b.Prepare(ctx, external); !errors.Is(err, syscall.EIO) {
				c.t.Errorf("got %v", err)
			}
			c.s.SetFault(nil)
			_, err := other.Prepare(ctx, external)
			return err
		},
		"a name, at delivery by a scan": func(c scene) error {
			c.must(os.Mkdir(c.entry("prepared", local, ".single"), 0o700), os.WriteFile(c.entry("prepared", local, ".single")+"/000001", nil, 0o600))
			c.s.SetFault(func(string) error { return syscall.EIO })
			_, err := c.s.InDoubt(ctx, local.Log)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			if err := test(c); err == nil {
				t.Error("nothing is said of it")
			}
			if all := contents(t, c.dir); len(all) > 0 {
				t.Errorf("delivered: %q", all)
			}
		})
	}
}

// TestMeanwhile: what another process did meanwhile is no fault.
func TestMeanwhile(t *testing.T) {
	ctx := t.Context()
	gid := func(n uint64, r txn.Role) txn.GID {
		return txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: n, Role: r}
	}

	t.Run("a scan", func(t *testing.T) {
		c := newScene(t)
		gone := []string{c.entry("prepared", gid(2, txn.RoleLocal), ".single"), c.entry("prepared", gid(3, txn.RoleExternal), "")}
		rolledBack := c.entry("tmp", gid(4, txn.RoleExternal), ".rolledback")
		first := c.entry("prepared", gid(1, txn.RoleLocal), ".single")
		for _, dir := range append(gone, rolledBack, first) {
			c.must(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/000001", []byte(filepath.Base(dir)), 0o600))
		}
		c.s.SetFault(func(step string) error {
			if step == "rename new" {
				return errors.Join(os.RemoveAll(gone[0]), os.RemoveAll(gone[1]))
			}
			return nil
		})
		list, err := c.s.InDoubt(ctx, local.Log)
		if err != nil || len(list) != 1 || !list[0].Since.IsZero() {
			t.Errorf("in doubt: %+v, %v", list, err)
		}
		if all := contents(t, c.dir); len(all) != 1 || all[0] != filepath.Base(first) {
			t.Errorf("delivered: %q", all)
		}
		if _, err := os.Stat(rolledBack); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was rolled back is still there: %v", err)
		}
	})

	t.Run("a delivery", func(t *testing.T) {
		c := newScene(t)
		if _, err := c.b.Prepare(ctx, external); err != nil {
			t.Fatal(err)
		}
		proof := c.entry("prepared", external, ".committed")
		c.must(os.WriteFile(c.entry("prepared", external, "")+"/note", nil, 0o600)) // no message of ours
		c.s.SetFault(func(step string) error {
			if step == "sync prepared" {
				return os.RemoveAll(proof) // the other one had all told, and forgot
			}
			return nil
		})
		for range 2 {
			if how, err := c.s.Resolve(ctx, external, txn.Commit, ""); how != txn.ResolvedDone || err != nil {
				t.Errorf("resolved: %d, %v", how, err)
			}
		}
		if all := contents(t, c.dir); len(all) != 2 || all[0] != "one" || all[1] != "two" {
			t.Errorf("delivered: %q", all)
		}
	})
}
