package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// The test binary is a process with a spool, too: given these variables, it
// does as told and dies by SIGKILL at the n-th step.
const (
	envDir = "FDT_TEST_SPOOL"
	envDo  = "FDT_TEST_DO"
	envDie = "FDT_TEST_DIE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		var die int
		if _, err := fmt.Sscan(os.Getenv(envDie), &die); err != nil {
			panic(err)
		}
		s, err := spool.Open("r", dir)
		if err != nil {
			panic(err)
		}
		n := 0
		s.SetFault(func(string) error {
			if n++; n == die {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // it takes a moment
			}
			return nil
		})
		if err := work(context.Background(), s, os.Getenv(envDo)); err != nil {
			panic(err)
		}
		testcover.Exit(m, 0)
	}
	os.Exit(m.Run())
}

var (
	local    = txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: 1, Role: txn.RoleLocal}
	external = txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: 1, Role: txn.RoleExternal}
)

var messages = []string{"one", "two", "three"}

// work puts three messages and ends the transaction in one of several ways.
func work(ctx context.Context, s *spool.Spool, how string) error {
	b, err := s.Enlist(ctx, txn.BranchOptions{GID: local})
	if err != nil {
		return err
	}
	list := messages
	if how == "commit one" {
		list = list[:1]
	}
	for _, m := range list {
		if err := b.(*spool.Branch).Put(ctx, []byte(m)); err != nil {
			return errors.Join(err, b.Rollback(ctx))
		}
	}
	switch how {
	case "commit", "commit one":
		return b.Commit(ctx)
	case "rollback":
		return b.Rollback(ctx)
	}
	if _, err := b.Prepare(ctx, external); err != nil {
		return errors.Join(err, b.RollbackPrepared(ctx, external))
	}
	if how == "abort" {
		_, err = s.Resolve(ctx, external, txn.Abort, "")
	} else {
		_, err = s.Resolve(ctx, external, txn.Commit, "")
	}
	return err
}

// contents are the messages delivered, in the order of their names.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir + "/new")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		raw, err := os.ReadFile(filepath.Join(dir, "new", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	return all
}

// recovered does what a coordinator's recovery does with a spool whose user
// died, and decides what is in doubt as it was decided before.
func recovered(t *testing.T, dir, how string) {
	t.Helper()
	s, err := spool.Open("r", dir)
	if err != nil {
		t.Fatal(err)
	}
	d := txn.Commit
	if how == "abort" {
		d = txn.Abort
	}
	if err := s.Fence(t.Context(), local.Log, 1); err != nil {
		t.Fatal(err)
	}
	found, err := s.InDoubt(t.Context(), local.Log)
	if err != nil {
		t.Fatal(err)
	}
	staged := false
	for _, b := range found {
		staged = true
		if how, err := s.Resolve(t.Context(), b.GID, d, ""); err != nil || how != txn.ResolvedDone {
			t.Errorf("resolve: %d, %v", how, err)
		}
	}
	if how == "prepare" && !staged { // decided, perhaps half carried out
		if _, err := s.Resolve(t.Context(), external, d, ""); err != nil {
			t.Error(err)
		}
	}
	if err := s.Forget(t.Context(), external); err != nil {
		t.Error(err)
	}
}

// TestCrash kills a process at every step of every way to end a transaction.
// Recovery then finds all messages, in order, or none.
func TestCrash(t *testing.T) {
	for _, how := range []string{"commit", "commit one", "rollback", "prepare", "abort"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				dir := t.TempDir()
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
				cmd.Env = append(os.Environ(), envDir+"="+dir, envDo+"="+how, envDie+"="+fmt.Sprint(n))
				out, err := cmd.CombinedOutput()
				exit, ok := errors.AsType[*exec.ExitError](err)
				died := ok && exit.Sys().(syscall.WaitStatus).Signaled()
				if err != nil && !died {
					t.Fatalf("%v\n%s", err, out)
				}
				recovered(t, dir, how)
				got := contents(t, dir)
				all := messages
				if how == "commit one" {
					all = all[:1]
				}
				if len(got) > 0 && !slices.Equal(got, all) {
					t.Errorf("step %d: delivered %q", n, got)
				}
				if left := leftIn(t, dir); len(left) > 0 {
					t.Errorf("step %d: left %q", n, left)
				}
				if !died {
					if end := len(got) > 0; end != (how != "rollback" && how != "abort") {
						t.Errorf("in the end delivered %q", got)
					}
					return
				}
			}
		})
	}
}

func leftIn(t *testing.T, dir string) (left []string) {
	t.Helper()
	for _, sub := range []string{"tmp", "prepared"} {
		list, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			left = append(left, sub+"/"+e.Name())
		}
	}
	return left
}

// TestFail fails every step in turn. What was not promised is not delivered; a
// failed sync is never made good by a second one.
func TestFail(t *testing.T) {
	for _, how := range []string{"commit", "commit one", "rollback", "prepare", "abort"} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			s, err := spool.Open("r", dir)
			if err != nil {
				t.Fatal(err)
			}
			calls, step := 0, ""
			s.SetFault(func(name string) error {
				if calls++; calls == n {
					step = name
					return syscall.EIO
				}
				return nil
			})
			err = work(t.Context(), s, how)
			if step == "" {
				if err != nil {
					t.Errorf("%s: %v", how, err)
				}
				break
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s, %s fails: got %v", how, step, err)
			}
			if strings.HasPrefix(step, "sync") {
				if _, err := s.Enlist(t.Context(), txn.BranchOptions{GID: local}); !errors.Is(err, syscall.EIO) {
					t.Errorf("%s, %s failed: the spool goes on: %v", how, step, err)
				}
				if _, err := s.Resolve(t.Context(), external, txn.Commit, ""); !errors.Is(err, syscall.EIO) {
					t.Errorf("%s, %s failed: the spool resolves: %v", how, step, err)
				}
			}
			promised := strings.HasPrefix(how, "commit") && !txn.InDoubt(err)
			if got := contents(t, dir); promised && len(got) > 0 {
				t.Errorf("%s, %s fails: told of a rollback, but delivered %q", how, step, got)
			}
			recovered(t, dir, how)
			if got := contents(t, dir); len(got) > 0 && len(got) != 3 && how != "commit one" {
				t.Errorf("%s, %s fails: delivered %q", how, step, got)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	if _, err := spool.Open("r", filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	for _, name := range []string{"", "a/b", "a.b", strings.Repeat("x", 65)} {
		if _, err := spool.Open(name, t.TempDir()); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open("r", dir); err == nil {
		t.Error("a file for a directory")
	}
	dir = t.TempDir()
	if err := os.WriteFile(dir+"/id", []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open("r", dir); err == nil {
		t.Error("a spoilt id goes unnoticed")
	}
	dir = t.TempDir()
	s, err := spool.Open("r", dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/id"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Identity(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an id that is gone: %v", err)
	}
}

func TestOtherFilesystem(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir+"/new", "tmpfs", 0, ""); err != nil {
		t.Skipf("NOT TESTED: a second filesystem: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir+"/new", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if _, err := spool.Open("r", dir); err == nil || !strings.Contains(err.Error(), "another filesystem") {
		t.Errorf("got %v", err)
	}
}

// TestDiskFull: a message that does not fit is refused, and the transaction
// can go on without it.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("NOT TESTED: a full disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := spool.Open("r", dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Enlist(t.Context(), txn.BranchOptions{GID: local})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.(*spool.Branch).Put(t.Context(), make([]byte, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if err := b.(*spool.Branch).Put(t.Context(), []byte("fits")); err != nil {
		t.Error(err)
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if got := contents(t, dir); !slices.Equal(got, []string{"fits"}) {
		t.Errorf("delivered %q", got)
	}
}

func TestBranchRefuses(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open("r", dir)
	if err != nil {
		t.Fatal(err)
	}
	enlist := func() *spool.Branch {
		b, err := s.Enlist(t.Context(), txn.BranchOptions{GID: local})
		if err != nil {
			t.Fatal(err)
		}
		return b.(*spool.Branch)
	}
	b := enlist()
	b.SetCount(spool.MaxMessages)
	if err := b.Put(t.Context(), nil); err == nil {
		t.Error("a message too many")
	}
	b = enlist()
	if err := b.RollbackTo(t.Context(), "s1"); !errors.Is(err, txn.ErrNoSavepoint) {
		t.Error(err)
	}
	if err := b.Release(t.Context(), "s1"); !errors.Is(err, txn.ErrNoSavepoint) {
		t.Error(err)
	}
	if err := b.CommitPrepared(t.Context(), external); !errors.Is(err, txn.ErrHeuristicHazard) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := b.Put(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InDoubt(ctx, local.Log); !errors.Is(err, gone) {
		t.Error(err)
	}
	if err := b.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"put":    enlist().Put(t.Context(), nil),
		"fence":  s.Fence(t.Context(), local.Log, 1),
		"forget": s.Forget(t.Context(), external), // nothing there to forget
	} {
		if (err == nil) != (what == "forget") {
			t.Errorf("%s without the directory: %v", what, err)
		}
	}
	_, own := s.InDoubt(t.Context(), local.Log)
	_, others := s.InDoubtOfOthers(t.Context(), local.Log)
	for _, err := range []error{own, others} {
		if err == nil || !strings.HasPrefix(err.Error(), "spool r: scan: ") {
			t.Errorf("branches in doubt without the directory: %v", err)
		}
	}
}

// TestConsumerWasFaster: messages that were taken already are not missed.
func TestConsumerWasFaster(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open("r", dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := work(t.Context(), s, "prepare"); err != nil {
		t.Fatal(err)
	}
	list, _ := filepath.Glob(dir + "/new/*")
	for _, f := range list {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	for d, want := range map[txn.Decision]txn.Resolution{txn.Commit: txn.ResolvedDone, txn.Abort: txn.ResolvedAgainst} {
		if how, err := s.Resolve(t.Context(), external, d, ""); err != nil || how != want {
			t.Errorf("%s: %d, %v", d, how, err)
		}
	}
	if err := s.Forget(t.Context(), external); err != nil {
		t.Fatal(err)
	}
	if how, err := s.Resolve(t.Context(), external, txn.Commit, ""); err != nil || how != txn.ResolvedUnknown {
		t.Errorf("after Forget: %d, %v", how, err)
	}
}

// TestOpenIsDurable: a spool whose maker died before it was durable is made so by who opens it next, or is not opened.
func TestOpenIsDurable(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("NOT TESTED: strace is not installed")
	}
	dir := t.TempDir()
	if _, err := spool.Open("r", dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1",
		os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envDir+"="+dir, envDie+"=0", envDo+"=")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "ptrace") {
		t.Skipf("NOT TESTED: strace may not trace here: %s", out)
	}
	if err == nil || !strings.Contains(string(out), "sync "+dir+": ") {
		t.Errorf("the directory was not made durable: %v\n%s", err, out)
	}
}
