package txn_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// status asks another process how a transaction stands.
func (p place) status(t *testing.T, id txn.XID, change ...func(*txn.Options)) txn.XactStatus {
	t.Helper()
	m := p.open(t, change...)
	defer closeAll(t, m)
	got, err := m.XactStatus(t.Context(), id)
	if err != nil {
		t.Error(err)
	}
	return got
}

func (p place) wantStatus(t *testing.T, id txn.XID, want txn.XactStatus) {
	t.Helper()
	if got := p.status(t, id); got != want {
		t.Errorf("transaction %d is %q, want %q", id, got, want)
	}
}

func named(t *testing.T, s *txn.Session) txn.XID {
	t.Helper()
	begin(t, s)
	id, err := s.XID(t.Context())
	again, aerr := s.XID(t.Context())
	if err := errors.Join(err, aerr); err != nil || id != again {
		t.Fatal(id, again, err)
	}
	return id
}

// TestXactStatus: what a client asks that lost the answer to COMMIT, or to the
// coordinator's words.
func TestXactStatus(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	_, err := s.XID(t.Context())
	wantErr(t, err, txn.ErrNoTransaction)

	empty := named(t, s)
	wantErr(t, s.Commit(t.Context()), nil)
	one := named(t, s)
	put(t, s, "a", "one")
	p.wantStatus(t, one, txn.XactInProgress)
	wantErr(t, s.Commit(t.Context()), nil)
	two := named(t, s)
	put(t, s, "a", "two")
	put(t, s, "b", "two")
	wantErr(t, s.Commit(t.Context()), nil)
	rolled := named(t, s)
	put(t, s, "a", "gone")
	wantErr(t, s.Rollback(t.Context()), nil)
	failed := named(t, s)
	put(t, s, "a", "gone")
	s.Fail(errBroken)
	p.wantStatus(t, failed, txn.XactAborted)
	wantErr(t, s.Commit(t.Context()), txn.ErrFailedTransaction)
	closed := named(t, s)
	wantErr(t, s.Close(t.Context()), nil)
	begin(t, m.NewSession(alice))
	silent := closed + 1 // a transaction that nobody has asked for
	open := m.NewSession(alice)
	begin(t, open)
	put(t, open, "b", "never")
	for id, want := range map[txn.XID]txn.XactStatus{
		0: txn.XactUnknown, silent: txn.XactUnknown, empty: txn.XactCommitted, one: txn.XactCommitted, two: txn.XactCommitted,
		rolled: txn.XactAborted, failed: txn.XactAborted, closed: txn.XactAborted,
	} {
		p.wantStatus(t, id, want)
	}
	for _, future := range []txn.XID{closed + 1<<20, closed + 1<<40, 1 << 63} {
		_, err := m.XactStatus(t.Context(), future)
		wantErr(t, err, txn.ErrFutureXID)
	}
	wantErr(t, open.Close(t.Context()), nil)
	wantErr(t, txn.Rotate(m, t.Context()), nil)
	p.wantStatus(t, two, txn.XactCommitted)
	p.wantStatus(t, rolled, txn.XactAborted)
	closeAll(t, m)
	p.reboot(t)
	p.wantStatus(t, two, txn.XactCommitted) // the worker has ended
	p.wantStatus(t, rolled, txn.XactAborted)
	m = p.open(t)
	p.recover(t, m)
	closeAll(t, m)
	p.wantStatus(t, one, txn.XactCommitted) // and its log is shortened
	p.wantStatus(t, closed, txn.XactAborted)
	want(t, p.delivered(t, "a"), "one", "two")

	// Acknowledged outcomes go with the next shortening, others in time.
	m = p.open(t, func(o *txn.Options) { o.Limits.Retain = time.Nanosecond })
	p.recover(t, m)
	for _, id := range []txn.XID{two, rolled, closed} {
		p.wantStatus(t, id, txn.XactUnknown)
	}
	closeAll(t, m)
}

// TestXactStatusAcknowledged: the answer stays until the log is shortened, and
// is then unknown, never wrong.
func TestXactStatusAcknowledged(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	ids := map[txn.XID]txn.XactStatus{}
	for i, end := range []func() error{
		func() error { return s.Commit(t.Context()) },
		func() error { return s.Rollback(t.Context()) },
	} {
		id := named(t, s)
		put(t, s, "a", "x")
		wantErr(t, end(), nil)
		wantErr(t, s.Acknowledge(), nil)
		wantErr(t, s.Acknowledge(), nil)
		ids[id] = []txn.XactStatus{txn.XactCommitted, txn.XactAborted}[i]
		p.wantStatus(t, id, ids[id])
	}
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	wantErr(t, txn.Rotate(m, t.Context()), nil)
	for id := range ids {
		p.wantStatus(t, id, txn.XactUnknown)
	}
	closeAll(t, m)
	if logs, _ := filepath.Glob(p.dir("log") + "/*.log"); len(logs) > 0 {
		t.Errorf("left: %q", logs)
	}
}

// TestXactStatusOfPrepared: a client may have asked before it handed the
// transaction to a coordinator.
func TestXactStatusOfPrepared(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	id := func(name string) txn.XID {
		id := named(t, s)
		put(t, s, "a", name)
		put(t, s, "b", name)
		wantErr(t, s.Prepare(t.Context(), name), nil)
		p.wantStatus(t, id, txn.XactInProgress)
		return id
	}
	c, r, open := id("c"), id("r"), id("open")
	refused := named(t, s)
	wantErr(t, s.Prepare(t.Context(), "c"), txn.ErrDuplicateGID)
	wantErr(t, s.CommitPrepared(t.Context(), "c"), nil)
	other := p.open(t)
	wantErr(t, other.NewSession(alice).RollbackPrepared(t.Context(), "r"), nil)
	check := func() {
		t.Helper()
		p.wantStatus(t, c, txn.XactCommitted)
		p.wantStatus(t, r, txn.XactAborted)
		p.wantStatus(t, open, txn.XactInProgress)
		p.wantStatus(t, refused, txn.XactAborted)
	}
	check()
	closeAll(t, m)
	closeAll(t, other)
	check()
	p.reboot(t)
	check()
	m = p.open(t)
	p.recover(t, m)
	check()
	s = m.NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "r"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "c"), nil)
	wantErr(t, s.Acknowledge(), nil)
	for range 3 { // the acknowledgement goes after what it is about
		closeAll(t, m)
		for _, id := range []txn.XID{c, r} {
			if got := p.status(t, id); got == txn.XactInProgress || id == c && got == txn.XactAborted || id == r && got == txn.XactCommitted {
				t.Errorf("transaction %d is %q", id, got)
			}
		}
		m = p.open(t)
		p.recover(t, m)
	}
	p.wantStatus(t, c, txn.XactUnknown)
	p.wantStatus(t, open, txn.XactInProgress)
	wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "open"), nil)
	closeAll(t, m)
}

// TestXactStatusAfterCrash kills the worker at each step of a commit, and asks
// before and after recovery, with and without a reboot.
func TestXactStatusAfterCrash(t *testing.T) {
	const (
		two  = "begin xid put:a put:b commit"
		one  = "begin xid put:a commit"
		vote = "begin xid put:a put:b prepare:x"
	)
	for _, test := range []struct {
		script, die string
		want        txn.XactStatus
	}{
		{two, "send prepare a", txn.XactAborted},
		{two, "commit: prepared", txn.XactAborted},
		{two, "commit: durable", txn.XactCommitted},
		{two, "got commit prepared b", txn.XactCommitted},
		{two, "commit: told", txn.XactCommitted},
		{one, "got prepare a", txn.XactAborted},
		{one, "commit: durable", txn.XactCommitted},
		{vote, "vote: preparing", txn.XactAborted},
		{vote, "vote: prepared", txn.XactAborted},
		{vote, "vote: durable", txn.XactInProgress},
		{vote + " commit-prepared:x", "decide: durable", txn.XactCommitted},
		{vote + " rollback-prepared:x", "decide: durable", txn.XactAborted},
	} {
		for _, reboot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/reboot=%t", test.script, test.die, reboot), func(t *testing.T) {
				t.Parallel()
				p := newFastPlace(t)
				said, killed := p.worker(t, test.script, test.die)
				if !killed {
					t.Fatal("the worker did not come by that step")
				}
				_, after, _ := strings.Cut(said, "xid ")
				number, _, _ := strings.Cut(after, "\n")
				n, err := strconv.ParseUint(number, 10, 64)
				if err != nil {
					t.Fatal(err, said)
				}
				if reboot {
					p.reboot(t)
				}
				// Before recovery it may be open, but not otherwise than it ends.
				if got := p.status(t, txn.XID(n)); got != test.want && got != txn.XactInProgress {
					t.Errorf("before recovery %q", got)
				}
				m := p.open(t)
				defer closeAll(t, m)
				for range 2 {
					p.recover(t, m)
					p.wantStatus(t, txn.XID(n), test.want)
				}
			})
		}
	}
}

// TestXactStatusFails: without the log, or with what it says in doubt, nothing
// is answered.
func TestXactStatusFails(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	id := named(t, s)
	wantErr(t, s.Commit(t.Context()), nil)
	prepare := named(t, s)
	wantErr(t, s.Prepare(t.Context(), "x"), nil)
	closeAll(t, m)
	logs, err := filepath.Glob(p.dir("log") + "/*.log")
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(raw), `"kind":"named"`)
	raw[at] ^= 1
	if err := os.WriteFile(logs[0], raw, 0o640); err != nil {
		t.Fatal(err)
	}
	m = p.open(t)
	defer closeAll(t, m)
	for range 3 {
		_, err := m.XactStatus(t.Context(), id)
		wantErr(t, err, txn.ErrUnknownOutcome)
	}
	_, err = m.XactStatus(t.Context(), prepare)
	wantErr(t, err, txn.ErrUnknownOutcome)
}

// flip damages the first record of a log that holds the text, in place, and
// returns what makes it whole again.
func flip(t *testing.T, log, text string) (undo func()) {
	t.Helper()
	raw, err := os.ReadFile(log)
	at := strings.Index(string(raw), text)
	if err != nil || at < 0 {
		t.Fatalf("%s: %v", log, err)
	}
	write := func(b byte) {
		t.Helper()
		f, err := os.OpenFile(log, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{b}, int64(at))
		wantErr(t, errors.Join(err, f.Close()), nil)
	}
	write(raw[at] ^ 1)
	return func() { write(raw[at]) }
}

// TestXactStatusWhileDamaged: what a living worker's log has lost, or another's
// that may hold the decision, is not answered.
func TestXactStatusWhileDamaged(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	first, s := m.NewSession(alice), m.NewSession(alice)
	id := named(t, first)
	open := named(t, s)
	put(t, s, "a", "x")
	wantErr(t, s.Prepare(t.Context(), "x"), nil)
	other := p.open(t)
	for range 2 {
		o := other.NewSession(alice)
		named(t, o)
		wantErr(t, o.Rollback(t.Context()), nil)
	}
	asker := p.open(t)
	unknown := func(id txn.XID) {
		t.Helper()
		_, err := asker.XactStatus(t.Context(), id)
		wantErr(t, err, txn.ErrUnknownOutcome)
	}
	whole := flip(t, p.dir("log/0000000001.log"), `"kind":"named"`)
	unknown(id)
	whole()
	whole = flip(t, p.dir("log/0000000002.log"), `"kind":"named"`)
	unknown(open)
	whole()
	p.wantStatus(t, open, txn.XactInProgress)
	claim := p.claim(t)
	raw, err := os.ReadFile(claim)
	wantErr(t, errors.Join(err, os.Remove(claim), os.Mkdir(claim, 0o700)), nil)
	_, err = asker.XactStatus(t.Context(), open)
	wantErr(t, err, syscall.EISDIR)
	wantErr(t, errors.Join(os.Remove(claim), os.WriteFile(claim, raw, 0o600), first.Rollback(t.Context())), nil)
	for _, m := range []*txn.Manager{m, other, asker} {
		closeAll(t, m)
	}
}

// TestXactStatusDecisionLost: the log that held the decision is gone, and what
// is left says only that the coordinator has acknowledged the outcome.
func TestXactStatusDecisionLost(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	id := named(t, s)
	put(t, s, "a", "x")
	wantErr(t, s.Prepare(t.Context(), "x"), nil)
	other := p.open(t)
	wantErr(t, other.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	closeAll(t, other)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	p.wantStatus(t, id, txn.XactCommitted)
	wantErr(t, os.Remove(p.dir("log/0000000002.log")), nil)
	p.wantStatus(t, id, txn.XactUnknown)
	closeAll(t, m)
}
