package txn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// verbose is a spool whose proofs no record holds.
type verbose struct{ *spool.Spool }

func (v verbose) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := v.Spool.Enlist(ctx, opt)
	return verboseBranch{b.(*spool.Branch)}, err
}

type verboseBranch struct{ *spool.Branch }

func (verboseBranch) Proof() txn.Proof { return txn.Proof(strings.Repeat("x", 1<<20)) }

// TestRecordTooLong: a record that the log does not take fails its step alone.
func TestRecordTooLong(t *testing.T) {
	t.Run("vote and commit", func(t *testing.T) {
		p := newFastPlace(t)
		m := p.withB(t, func(s *spool.Spool) txn.Resource { return verbose{s} })
		defer closeAll(t, m)
		s := m.NewSession(alice)
		for _, end := range []func() error{
			func() error { return s.Commit(t.Context()) },
			func() error { return s.Prepare(t.Context(), "x") },
		} {
			begin(t, s)
			put(t, s, "a", "1")
			put(t, s, "b", "2")
			if err := end(); err == nil || txn.InDoubt(err) {
				t.Errorf("got %v", err)
			}
		}
		wantErr(t, m.Err(), nil)
		p.wantMessages(t, 0, 0)
		p.wantTidy(t)
		wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	})
	for _, healed := range []bool{true, false} {
		p := newFastPlace(t)
		var writes, broken atomic.Int32
		m := p.open(t, failing("write claim", func() error {
			if writes.Add(1); writes.Load() == broken.Load() {
				return syscall.EIO
			}
			return nil
		}))
		prepared(t, m, "x")
		if !healed { // what the decider meant to do cannot be taken back from the claim: only recovery may say what it did
			broken.Store(writes.Load() + 2)
		}
		err := m.Decide(t.Context(), txn.Principal{User: strings.Repeat("x", 1<<20), Operator: true}, "x", txn.Abort)
		if err == nil || txn.InDoubt(err) != !healed || (m.Err() == nil) != healed {
			t.Errorf("got %v; the process goes on: %v", err, m.Err())
		}
		_ = m.Close(t.Context())
		m = p.open(t)
		p.recover(t, m)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		p.wantMessages(t, 1, 1)
		closeAll(t, m)
	}
}

// TestPendingTrouble: what becomes of the claim of a decision that a resource
// is yet to be told.
func TestPendingTrouble(t *testing.T) {
	for name, test := range map[string]struct {
		do       func(t *testing.T, p place, m *txn.Manager)
		left, in int // decisions still to be told by this process, messages in b
	}{
		"held": {func(t *testing.T, p place, m *txn.Manager) {
			done := p.atWork(t)
			txn.Retry(m, t.Context())
			p.wantMessages(t, 1, 1) // who works on it can but tell the same
			if list, err := m.List(t.Context()); err != nil || len(list) != 1 || list[0].Phase != txn.Committing {
				t.Errorf("ended while another works on it: %+v, %v", list, err)
			}
			done()
			retryUntilIdle(t, m)
		}, 0, 1},
		"gone":   {func(t *testing.T, p place, _ *txn.Manager) { wantErr(t, os.Remove(p.claim(t)), nil) }, 0, 1},
		"spoilt": {func(t *testing.T, p place, _ *txn.Manager) { wantErr(t, os.Truncate(p.claim(t), 0), nil) }, 0, 1},
		"unreadable": {func(t *testing.T, p place, _ *txn.Manager) {
			claim := p.claim(t)
			wantErr(t, errors.Join(os.Remove(claim), os.Mkdir(claim, 0o700)), nil)
		}, 1, 0},
		"taken over": {func(t *testing.T, p place, _ *txn.Manager) { p.say(t, `"claimant":1`, `"claimant":9`) }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			m, is := p.withDown(t)
			defer closeAll(t, m)
			halfCommitted(t, m, is)
			show, err := m.Show(t.Context(), "x")
			if err != nil || !strings.HasPrefix(show.Branches[1].State, "unreachable: ") {
				t.Errorf("%+v, %v", show, err)
			}
			is.Store(false)
			txn.Rested(m)
			test.do(t, p, m)
			txn.Retry(m, t.Context())
			if n := m.Counts().Pending; n != test.left {
				t.Errorf("%d left, want %d", n, test.left)
			}
			p.wantMessages(t, 1, test.in)
		})
	}
}

// TestEndNotNoted: the log fails when all resources know the decision. Whoever
// comes next finds that out.
func TestEndNotNoted(t *testing.T) {
	p := newFastPlace(t)
	is, broken := new(atomic.Bool), new(atomic.Bool)
	m := p.open(t, func(o *txn.Options) {
		o.Resources[1] = down{o.Resources[1].(*spool.Spool), is}
	}, failing("write", when(broken)))
	halfCommitted(t, m, is)
	is.Store(false)
	broken.Store(true)
	txn.Rested(m)
	txn.Retry(m, t.Context())
	wantErr(t, m.Err(), txn.ErrPoisoned)
	p.wantMessages(t, 1, 1)
	_ = m.Close(t.Context())
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantNoneOpen(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
}

// TestPoisonedWhileWaiting: who waits for a claim when the log fails decides
// nothing.
func TestPoisonedWhileWaiting(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	done := p.atWork(t)
	answer := make(chan error, 1)
	go func() { answer <- m.NewSession(alice).CommitPrepared(t.Context(), "x") }()
	testwait.Until(t, "it waits: the claim is open a second time", func() bool {
		open := 0
		files, _ := filepath.Glob("/proc/self/fd/*")
		for _, file := range files {
			if target, _ := os.Readlink(file); strings.HasPrefix(target, p.dir("claims")+"/x-") {
				open++
			}
		}
		return open == 2
	})
	logs, _ := filepath.Glob(p.dir("log") + "/*.log")
	raw, err := os.ReadFile(logs[0])
	wantErr(t, errors.Join(err, os.Remove(logs[0])), nil) // as a recoverer does that takes this process for dead
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	wantErr(t, s.Prepare(t.Context(), "y"), txn.ErrPoisoned)
	wantErr(t, testwait.For(t, "the answer", answer), txn.ErrPoisoned)
	done()
	_ = m.Close(t.Context())
	wantErr(t, os.WriteFile(logs[0], raw, 0o600), nil)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
}

// TestPresumeDown: a resource is down when a branch that no log knows is to be
// rolled back there.
func TestPresumeDown(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b commit", "commit: prepared"); !killed {
		t.Fatal("not killed")
	}
	away := true
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return absent{s, &away} })
	defer closeAll(t, m)
	for range 2 {
		p.recover(t, m)
	}
	if n := m.Counts().Pending; n != 1 {
		t.Errorf("%d left, want 1", n)
	}
	away = false
	txn.Rested(m)
	p.recover(t, m)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
}

// TestFailedRollback: a statement failed, and its branch cannot be undone now.
func TestFailedRollback(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	tmp := p.dir("a/tmp")
	wantErr(t, errors.Join(os.Rename(tmp, tmp+".away"), os.WriteFile(tmp, nil, 0o600)), nil)
	s.Fail(errBroken)
	wantErr(t, errors.Join(os.Remove(tmp), os.Rename(tmp+".away", tmp)), nil)
	wantErr(t, s.Commit(t.Context()), txn.ErrFailedTransaction)
	if n := m.Counts().Pending; n != 1 {
		t.Errorf("%d left over, want 1", n)
	}
	retryUntilIdle(t, m)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
}

// TestScanMeets has something happen between the moment at which a scan reads
// the logs and that at which it acts.
func TestScanMeets(t *testing.T) {
	other := func(p place, words string) func(t *testing.T) error {
		return func(t *testing.T) error {
			m := p.open(t)
			s := m.NewSession(alice)
			var err error
			for word := range strings.FieldsSeq(words) {
				if err == nil {
					err = obey(t.Context(), m, s, word)
				}
			}
			t.Cleanup(func() { closeAll(t, m) }) // it lives on
			return errors.Join(err, s.Acknowledge())
		}
	}
	for name, test := range map[string]struct {
		at    string
		words string // of another worker
		want  int    // messages
		open  int    // in doubt
	}{
		"decided and forgotten": {"list claims", "commit-prepared:x", 1, 0},
		"given anew":            {"list claims", "rollback-prepared:x begin prepare:x", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, "begin put:a put:b prepare:x wait", "vote: published"); !killed {
				t.Fatal("not killed")
			}
			var once atomic.Bool
			m := p.open(t, failing(test.at, func() error {
				if once.Swap(true) {
					return nil
				}
				return other(p, test.words)(t)
			}))
			defer closeAll(t, m)
			p.recover(t, m)
			p.wantMessages(t, test.want, test.want)
			p.wantNoneOpen(t, m)
			p.recover(t, m)
			if n := m.Counts().InDoubt; n != test.open {
				t.Errorf("%d in doubt, want %d", n, test.open)
			}
		})
	}
}

// TestScanFails: recovery makes a claim that was missing, and cannot make sure
// that it is not too late for that. It takes it back.
func TestScanFails(t *testing.T) {
	p := newFastPlace(t)
	living := p.open(t)
	defer closeAll(t, living)
	wantErr(t, started(t, living), nil)
	if _, killed := p.worker(t, "begin put:a put:b commit", "commit: durable"); !killed {
		t.Fatal("not killed")
	}
	var made, off atomic.Bool
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			switch {
			case step == "write claim":
				made.Store(true)
			case step == "lock seal" && made.Load() && !off.Load():
				return syscall.EIO
			}
			return nil
		})
	})
	defer closeAll(t, m)
	wantErr(t, m.Scan(t.Context()), syscall.EIO)
	if left, _ := filepath.Glob(p.dir("claims") + "/fdt1-*"); len(left) > 0 {
		t.Errorf("claims: %q", left)
	}
	off.Store(true)
	p.recover(t, m)
	retryUntilIdle(t, m)
	p.wantMessages(t, 1, 1)
}

// TestNoIncarnation: a recoverer that can begin no log takes nothing over.
func TestNoIncarnation(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b prepare:x commit-prepared:x", "decide: durable"); !killed {
		t.Fatal("not killed")
	}
	way := p.dir("log/incarnation.new")
	wantErr(t, os.Mkdir(way, 0o700), nil)
	m := p.open(t)
	defer closeAll(t, m)
	wantErr(t, m.Scan(t.Context()), syscall.EISDIR)
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), syscall.EISDIR)
	begin(t, s)
	_, err := s.XID(t.Context())
	wantErr(t, err, syscall.EISDIR)
	wantErr(t, errors.Join(s.Rollback(t.Context()), os.Remove(way)), nil)
	p.recover(t, m)
	p.wantMessages(t, 1, 1)
	p.wantNoneOpen(t, m)
}

// TestBranchIsBack: a resource is restored as it was before it was told a
// commit that all had acknowledged. It is told again.
func TestBranchIsBack(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	then := filepath.Join(t.TempDir(), "b")
	wantErr(t, os.CopyFS(then, os.DirFS(p.dir("b"))), nil)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
	closeAll(t, m)
	wantErr(t, errors.Join(os.RemoveAll(p.dir("b")), os.CopyFS(p.dir("b"), os.DirFS(then))), nil)
	p.wantMessages(t, 1, 0)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantMessages(t, 1, 1)
	p.wantTidy(t)
}
