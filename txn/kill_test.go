package txn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// outcome is what the table of records promises for a crash at a step.
type outcome int

const (
	nothing   outcome = iota // rolled back, unknown
	doubt                    // in doubt: both decisions are possible
	delivered                // both messages are there
)

// TestCrashAtEveryStep kills a worker at each step of the record table. Then
// the machine goes on, or reboots; recovery must find the outcome that the
// table says.
func TestCrashAtEveryStep(t *testing.T) {
	const (
		vote = "begin put:a put:b prepare:x"
		yes  = vote + " commit-prepared:x"
		no   = vote + " rollback-prepared:x"
		oper = vote + " operator-commit:x"
		own  = "begin put:a put:b commit"
		one  = "begin put:a put:a commit"
		last = "begin put:a last:b commit"
	)
	for _, test := range []crash{
		{vote, "vote: claimed", nothing},
		{vote, "vote: preparing", nothing},
		{vote, "send prepare a", nothing},
		{vote, "got prepare a", nothing},
		{vote, "send prepare b", nothing},
		{vote, "got prepare b", nothing},
		{vote, "vote: prepared", nothing},
		{vote, "vote: durable", doubt},
		{vote, "vote: published", doubt},
		{yes, "decide: claimed", doubt},
		{yes, "decide: durable", delivered},
		{yes, "decide: published", delivered},
		{yes, "send resolve a", delivered},
		{yes, "got resolve a", delivered},
		{yes, "send resolve b", delivered},
		{yes, "got resolve b", delivered},
		{yes, "phase two: told", delivered},
		{yes, "end: noted", delivered},
		{oper, "decide: claimed", doubt},
		{oper, "decide: durable", delivered},
		{oper, "decide: published", delivered},
		{oper, "send resolve a", delivered},
		{oper, "got resolve b", delivered},
		{oper, "phase two: told", delivered},
		{oper, "end: noted", delivered},
		{no, "decide: claimed", doubt},
		{no, "decide: durable", nothing},
		{no, "decide: published", nothing},
		{no, "send resolve a", nothing},
		{no, "got resolve a", nothing},
		{no, "send resolve b", nothing},
		{no, "got resolve b", nothing},
		{no, "phase two: told", nothing},
		{no, "end: noted", nothing},
		{own, "send prepare a", nothing},
		{own, "got prepare a", nothing},
		{own, "send prepare b", nothing},
		{own, "got prepare b", nothing},
		{own, "commit: prepared", nothing},
		{own, "commit: durable", delivered},
		{own, "send commit prepared a", delivered},
		{own, "got commit prepared a", delivered},
		{own, "send commit prepared b", delivered},
		{own, "got commit prepared b", delivered},
		{own, "commit: told", delivered},
		{last, "send last b", nothing},
		{last, "got last b", nothing},
		{last, "send prepare a", nothing},
		{last, "got prepare a", nothing},
		{last, "commit: prepared", nothing},
		{last, "commit: durable", delivered},
		{last, "got commit prepared a", delivered},
		{last, "got commit prepared b", delivered},
		{"begin put:a last:b rollback", "got last b", nothing},
		{one, "send commit a", nothing},
		{one, "got commit a", delivered},
	} {
		for _, reboot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/reboot=%t", test.script, test.die, reboot), func(t *testing.T) {
				t.Parallel()
				p := newFastPlace(t)
				p.crash(t, test)
				if reboot {
					p.reboot(t)
				}
				p.check(t, test.want, test.script == one)
			})
		}
		t.Run(fmt.Sprintf("%s/%s/cluster", test.script, test.die), func(t *testing.T) {
			t.Parallel()
			p := newClusterPlace(t)
			p.crash(t, test)
			p.anotherHost(t).check(t, test.want, test.script == one)
		})
	}
}

// crash is a worker's death at a step of what it does, and what is to come of that.
type crash struct {
	script, die string
	want        outcome
}

func (p place) crash(t *testing.T, c crash) {
	t.Helper()
	if _, killed := p.worker(t, c.script, c.die); !killed {
		t.Fatal("the worker did not come by that step")
	}
	if p.clustered() {
		p.wantGone(t)
	}
}

// check recovers and compares with the promise.
func (p place) check(t *testing.T, want outcome, oneSpool bool) {
	t.Helper()
	m := p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	p.wantNoneOpen(t, m)
	s := m.NewSession(alice)
	if want == doubt {
		if n := m.Counts().InDoubt; n != 1 {
			t.Errorf("%d in doubt, want 1", n)
		}
		if err := s.CommitPrepared(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		want = delivered
	} else if n := m.Counts().InDoubt; n != 0 {
		t.Errorf("%d in doubt, want 0", n)
	}
	n := map[outcome]int{nothing: 0, delivered: 1}[want]
	if oneSpool {
		p.wantMessages(t, 2*n, 0)
	} else {
		p.wantMessages(t, n, n)
	}
	if err := s.CommitPrepared(t.Context(), "x"); want == nothing && err == nil {
		t.Error("COMMIT PREPARED of what is gone is answered with ok")
	}
	_ = s.RollbackPrepared(t.Context(), "x")
	_ = s.Acknowledge()
	p.recover(t, m)
	p.wantTidy(t)
}

// recover scans and tells what was decided, as Recover does in the end.
func (p place) recover(t *testing.T, m *txn.Manager) {
	t.Helper()
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	txn.Retry(m, t.Context())
}

// wantNoneOpen checks that what was decided is finished, though nobody asks.
func (p place) wantNoneOpen(t *testing.T, m *txn.Manager) {
	t.Helper()
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tx := range list {
		if tx.Phase != txn.Prepared && !tx.Phase.Terminal() {
			t.Errorf("%s is still %s after recovery", tx.Name(), tx.Phase)
		}
	}
}

func (p place) wantMessages(t *testing.T, a, b int) {
	t.Helper()
	if n := len(p.delivered(t, "a")); n != a {
		t.Errorf("%d messages in a, want %d", n, a)
	}
	if n := len(p.delivered(t, "b")); n != b {
		t.Errorf("%d messages in b, want %d", n, b)
	}
}

// wantTidy checks that nothing is staged; the emptied proof of a commit may
// be.
func (p place) wantTidy(t *testing.T) {
	t.Helper()
	for _, left := range p.untidy() {
		t.Errorf("left: %s", left)
	}
}

// untidy lists what is staged, and is no emptied proof of a commit.
func (p place) untidy() (left []string) {
	for _, name := range []string{"a", "b"} {
		for _, sub := range []string{"tmp", "prepared"} {
			dir := p.dir(name) + "/" + sub
			list, err := os.ReadDir(dir)
			if err != nil {
				left = append(left, err.Error())
			}
			for _, e := range list {
				if strings.HasPrefix(e.Name(), "id-") {
					continue // of who died while the spool was made
				}
				if inside, _ := os.ReadDir(dir + "/" + e.Name()); len(inside) > 0 || !strings.HasSuffix(e.Name(), ".committed") {
					left = append(left, name+"/"+sub+"/"+e.Name())
				}
			}
		}
	}
	return left
}

// TestAllWorkersKilled is the operator's nightmare: every process dies by
// SIGKILL with a transaction in doubt, then the machine reboots.
func TestAllWorkersKilled(t *testing.T) {
	p := newPlace(t)
	kill1 := p.waiting(t, "begin put:a put:b prepare:x begin put:a")
	kill2 := p.waiting(t, "begin put:b put:a")
	m := p.open(t)
	p.recover(t, m) // both live: nothing happens to them
	if n := m.Counts().InDoubt; n != 1 {
		t.Errorf("%d in doubt, want 1", n)
	}
	closeAll(t, m)
	kill1()
	kill2()
	p.wantMessages(t, 0, 0)
	m = p.open(t)
	p.recover(t, m)
	if n := m.Counts().InDoubt; n != 1 {
		t.Errorf("%d in doubt after the kill, want 1", n)
	}
	closeAll(t, m)
	p.reboot(t)
	said, _ := p.worker(t, "commit-prepared:x", "")
	if !strings.Contains(said, "did commit-prepared:x") {
		t.Error(said)
	}
	p.wantMessages(t, 1, 1)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	if err := m.NewSession(alice).CommitPrepared(t.Context(), "x"); err != nil {
		t.Error(err) // nobody has acknowledged the outcome
	}
	p.wantTidy(t)
	p.wantMessages(t, 1, 1)
}

// TestManyDeciders lets several processes decide one transaction at once, in
// both directions: they agree, and it is carried out once.
func TestManyDeciders(t *testing.T) {
	for range 5 {
		p := newPlace(t)
		kill := p.waiting(t, "begin put:a put:b prepare:x")
		type result struct {
			commit bool
			err    error
		}
		results := make(chan result, 6)
		for i := range 6 {
			m := p.open(t)
			defer closeAll(t, m)
			go func() {
				s := m.NewSession(alice)
				if i%2 == 0 {
					results <- result{true, s.CommitPrepared(t.Context(), "x")}
				} else {
					results <- result{false, s.RollbackPrepared(t.Context(), "x")}
				}
			}()
		}
		won := map[bool]int{}
		for range 6 {
			r := testwait.For(t, "an answer", results)
			switch {
			case r.err == nil:
				won[r.commit]++
			case !errors.Is(r.err, txn.ErrAlreadyCommitted) && !errors.Is(r.err, txn.ErrAlreadyRolledBack):
				t.Error(r.err)
			}
		}
		if won[true] != 3 && won[false] != 3 || won[true]*won[false] != 0 {
			t.Errorf("%d commits and %d rollbacks were answered with ok", won[true], won[false])
		}
		n := won[true] / 3
		p.wantMessages(t, n, n)
		kill()
	}
}

// TestRollbackWhileVoting sends ROLLBACK PREPARED from another process while
// the vote is under way, and kills neither, one or the other.
func TestRollbackWhileVoting(t *testing.T) {
	p := newPlace(t)
	inVote, goOn := make(chan struct{}), make(chan struct{})
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "vote: prepared" {
				close(inVote)
				<-goOn
			}
			return nil
		})
	})
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	put(t, s, "b", "2")
	vote := make(chan error, 1)
	go func() { vote <- s.Prepare(t.Context(), "x") }()
	testwait.For(t, "the vote has begun", inVote)
	other := p.open(t)
	defer closeAll(t, other)
	o := other.NewSession(alice)
	wantErr(t, o.CommitPrepared(t.Context(), "x"), txn.ErrBusyGID)
	wantErr(t, o.RollbackPrepared(t.Context(), "x"), nil)
	wantErr(t, o.CommitPrepared(t.Context(), "x"), txn.ErrAlreadyRolledBack)
	close(goOn)
	wantErr(t, testwait.For(t, "the vote", vote), txn.ErrRolledBack)
	p.recover(t, other)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
	wantErr(t, o.RollbackPrepared(t.Context(), "x"), nil)
}

// TestDeciderDiesWhileVoting leaves a tombstone, or only the wish for one,
// that the vote must find.
func TestDeciderDiesWhileVoting(t *testing.T) {
	for _, test := range []struct {
		die  string
		want error
	}{
		{"decide: claimed", nil},
		{"decide: durable", txn.ErrRolledBack},
		{"decide: published", txn.ErrRolledBack},
	} {
		t.Run(test.die, func(t *testing.T) {
			p := newPlace(t)
			inVote, goOn := make(chan struct{}), make(chan struct{})
			m := p.open(t, func(o *txn.Options) {
				txn.SetFault(o, func(step string) error {
					if step == "vote: prepared" {
						close(inVote)
						<-goOn
					}
					return nil
				})
			})
			defer closeAll(t, m)
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "a", "1")
			vote := make(chan error, 1)
			go func() { vote <- s.Prepare(t.Context(), "x") }()
			testwait.For(t, "the vote has begun", inVote)
			if _, killed := p.worker(t, "rollback-prepared:x", test.die); !killed {
				t.Error("the decider lived")
			}
			close(goOn)
			wantErr(t, testwait.For(t, "the vote", vote), test.want)
			p.recover(t, m)
			if test.want == nil {
				wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
				p.wantMessages(t, 1, 0)
			} else {
				p.wantMessages(t, 0, 0)
				wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrAlreadyRolledBack)
			}
			p.recover(t, m)
			p.wantTidy(t)
		})
	}
}

// TestClientDiesWhileVoting: nobody would hear the vote, so there is none.
func TestClientDiesWhileVoting(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client hung up")
	m := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "vote: prepared" {
				cancel(gone)
			}
			return nil
		})
	})
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	err := s.Prepare(ctx, "x")
	wantErr(t, err, txn.ErrRolledBack)
	wantErr(t, err, gone)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	wantErr(t, s.Close(ctx), nil)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
}

// TestRecoverForEver runs the loops until what is pending is told and its proof
// dropped.
func TestRecoverForEver(t *testing.T) {
	p := newPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b commit", "commit: durable"); !killed {
		t.Fatal("not killed")
	}
	m := p.open(t, func(o *txn.Options) { o.Limits.Scan = time.Second })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Recover(ctx) }()
	testwait.Until(t, "delivered, and the proofs dropped", func() bool {
		proofs := 0
		for _, name := range []string{"a", "b"} {
			list, err := os.ReadDir(p.dir(name) + "/prepared")
			if err != nil {
				t.Fatal(err)
			}
			proofs += len(list)
		}
		return len(p.delivered(t, "a")) == 1 && len(p.delivered(t, "b")) == 1 && proofs == 0
	})
	stop()
	if err := testwait.For(t, "the end of recovery", done); err != nil {
		t.Error(err)
	}
	closeAll(t, m)
}
