package txn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// The test binary is a worker, too: given these variables, it does as told and
// dies by SIGKILL at the step named.
const (
	envPlace  = "FDT_TEST_PLACE"
	envScript = "FDT_TEST_SCRIPT" // what to do
	envDie    = "FDT_TEST_DIE"    // step at which to die, or "stop " and that at which to stop, or "fail " and that which fails
)

func TestMain(m *testing.M) {
	if root := os.Getenv(envPlace); root != "" {
		if err := child(root, os.Getenv(envScript), os.Getenv(envDie)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			testcover.Exit(m, 1)
		}
		testcover.Exit(m, 0)
	}
	code := m.Run()
	if err := errors.Join(closeBank(), closeClusters()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// child is a worker's life: the script's words, one after another.
func child(root, script, die string) error {
	ctx := context.Background()
	hook := func(step string) error {
		if step == die {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it takes a moment
		}
		if die == "stop "+step {
			stopHere()
		}
		if die == "fail "+step {
			return errDown
		}
		return nil
	}
	p := place{root}
	opt := txn.Options{LogDir: p.dir("log"), ClaimDir: p.dir("claims"), MachineID: "m1", Program: "child"}
	for _, name := range []string{"a", "b"} {
		s, err := spool.Open(name, p.dir(name))
		if err != nil {
			return err
		}
		opt.Resources = append(opt.Resources, faulty{s, hook})
	}
	bank, err := bankOf(p, hook)
	if err != nil {
		return err
	}
	if bank != nil {
		opt.Resources, opt.Decider, opt.Cluster = append(opt.Resources, bank), "bank", p.clustered()
	}
	txn.SetFault(&opt, hook)
	m, err := txn.Open(ctx, opt)
	if err != nil {
		return err
	}
	s := m.NewSession(alice)
	for word := range strings.FieldsSeq(script) {
		if err := obey(ctx, m, s, word); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		fmt.Println("did " + word)
	}
	return errors.Join(s.Close(ctx), m.Close(ctx))
}

// faulty is a spool that dies before a request is sent or after the reply came.
type faulty struct {
	*spool.Spool

	at func(step string) error
}

func (f faulty) around(what string, do func() error) error {
	err := f.at("send " + what + " " + f.Name())
	if err == nil {
		err = do()
	}
	_ = f.at("got " + what + " " + f.Name())
	return err
}

func (f faulty) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := f.Spool.Enlist(ctx, opt)
	return faultyBranch{b, f}, err
}

func (f faulty) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (how txn.Resolution, err error) {
	err = f.around("resolve", func() error {
		how, err = f.Spool.Resolve(ctx, gid, d, p)
		return err
	})
	return how, err
}

type faultyBranch struct {
	txn.Branch

	f faulty
}

func (b faultyBranch) Prepare(ctx context.Context, gid txn.GID) (vote txn.Vote, err error) {
	err = b.f.around("prepare", func() error {
		vote, err = b.Branch.Prepare(ctx, gid)
		return err
	})
	return vote, err
}

func (b faultyBranch) Commit(ctx context.Context) error {
	return b.f.around("commit", func() error { return b.Branch.Commit(ctx) })
}

func (b faultyBranch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	return b.f.around("commit prepared", func() error { return b.Branch.CommitPrepared(ctx, gid) })
}

// ExecLast puts a message, and votes.
func (b faultyBranch) ExecLast(ctx context.Context, gid txn.GID, last txn.Statement) (out txn.Outcome, voted bool, err error) {
	err = b.f.around("last", func() error {
		err := b.Branch.(*spool.Branch).Put(ctx, []byte(last.SQL))
		if err == nil {
			_, err = b.Branch.Prepare(ctx, gid)
		}
		return err
	})
	return txn.Outcome{Rows: 1}, err == nil, err
}

func obey(ctx context.Context, m *txn.Manager, s *txn.Session, word string) error {
	verb, arg, _ := strings.Cut(word, ":")
	switch verb {
	case "begin":
		return s.Begin(ctx, txn.TxOptions{})
	case "put":
		resource, body, given := strings.Cut(arg, "=")
		if !given {
			body = "message"
		}
		b, err := s.Branch(ctx, resource)
		if err != nil {
			return err
		}
		return b.(faultyBranch).Branch.(*spool.Branch).Put(ctx, []byte(body))
	case "last":
		_, done, err := s.ExecLast(ctx, arg, txn.Statement{SQL: "message"})
		if err == nil && !done {
			err = errors.New("it was not done")
		}
		return err
	case "pay":
		return pay(ctx, s, os.Getenv(envPlace))
	case "xid":
		id, err := s.XID(ctx)
		fmt.Println("xid", id)
		return err
	case "commit":
		return s.Commit(ctx)
	case "refused-commit":
		if err := s.Commit(ctx); !errors.Is(err, txn.ErrRolledBack) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	case "lost-commit", "sure-commit", "lost-prepare", "sure-prepare":
		err := s.Commit
		if strings.HasSuffix(verb, "prepare") {
			err = func(ctx context.Context) error { return s.Prepare(ctx, arg) }
		}
		if err := err(ctx); strings.HasPrefix(verb, "lost") && err == nil || strings.HasPrefix(verb, "sure") && err != nil && !txn.InDoubt(err) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	case "prepare":
		return s.Prepare(ctx, arg)
	case "commit-prepared":
		return s.CommitPrepared(ctx, arg)
	case "half-commit-prepared":
		if err := s.CommitPrepared(ctx, arg); !errors.Is(err, txn.ErrUnreachable) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	case "rollback-prepared":
		return s.RollbackPrepared(ctx, arg)
	case "operator-commit":
		return m.Decide(ctx, txn.Principal{User: "root", Operator: true}, arg, txn.Commit)
	case "rollback":
		return s.Rollback(ctx)
	case "ack":
		return s.Acknowledge()
	case "scan":
		return m.Scan(ctx)
	case "try-scan": // somebody else may have taken over
		_ = m.Scan(ctx)
		return nil
	case "recover":
		err := m.Scan(ctx)
		txn.Retry(m, ctx)
		return errors.Join(err, txn.Sweep(m, ctx))
	case "rotate":
		return txn.Rotate(m, ctx)
	case "die":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "wait":
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return errors.New("no such word")
}

// worker runs the script in a process of its own and returns what it said. It
// reports whether the process died at the step.
func (p place) worker(t *testing.T, script, die string) (said string, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envPlace+"="+p.root, envScript+"="+script, envDie+"="+die)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status, _ := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() && status.Signal() == syscall.SIGKILL {
			return string(out), true
		}
	}
	if err != nil {
		t.Fatalf("worker: %v\n%s", err, out)
	}
	return string(out), false
}

// waiting starts a worker that stays after its script until it is killed.
func (p place) waiting(t *testing.T, script string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envPlace+"="+p.root, envScript+"="+script+" wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range strings.Fields(script) {
		if !lines.Scan() {
			t.Fatalf("the worker ended early: %v", cmd.Wait())
		}
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	}
}
