package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestClaimIsDirectory: what is in the place of a claim fails who needs that
// one, and hides no other.
func TestClaimIsDirectory(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	claim := p.claim(t)
	wantErr(t, errors.Join(os.Remove(claim), os.Mkdir(claim, 0o700)), nil)
	prepared(t, m, "y")
	wantErr(t, s.Acknowledge(), syscall.EISDIR)
	wantErr(t, m.Scan(t.Context()), syscall.EISDIR)
	if n := m.Counts().InDoubt; n != 1 {
		t.Errorf("%d in doubt, want 1", n)
	}
	wantErr(t, os.Remove(claim), nil)
	p.recover(t, m)
}

// TestNoClaimAtBoot: while a claim cannot be made anew, nobody decides.
func TestNoClaimAtBoot(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	p.reboot(t)
	bad := p.open(t, failing("write claim", eio))
	wantErr(t, bad.NewSession(alice).CommitPrepared(t.Context(), "x"), syscall.EIO)
	wantErr(t, bad.Scan(t.Context()), syscall.EIO)
	closeAll(t, bad)
	m = p.open(t)
	defer closeAll(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
}

// TestNameTakenMeanwhile: between the end of a name's last transaction and the
// next one, another worker's is there.
func TestNameTakenMeanwhile(t *testing.T) {
	p := newFastPlace(t)
	var claim string
	var theirs []byte
	m := p.open(t, failing("write claim", func() error {
		if left, _ := filepath.Glob(p.dir("claims") + "/x-*"); theirs == nil || len(left) > 0 {
			return nil
		}
		return os.WriteFile(claim, theirs, 0o600)
	}))
	defer closeAll(t, m)
	prepared(t, m, "x")
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	claim = p.claim(t)
	raw, err := os.ReadFile(claim)
	wantErr(t, err, nil)
	theirs = raw
	begin(t, s)
	put(t, s, "a", "again")
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	p.wantMessages(t, 1, 1)
	p.wantTidy(t)
}

// TestTakenOverMeanwhile: what recovery found at work, and another living
// worker carries on when it looks again, stays that one's.
func TestTakenOverMeanwhile(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b prepare:x commit-prepared:x", "send resolve b"); !killed {
		t.Fatal("not killed")
	}
	m, other := p.open(t), p.open(t)
	defer closeAll(t, m)
	wantErr(t, started(t, other), nil)
	done := p.atWork(t)
	p.recover(t, m)
	before := p.messages(t)
	p.say(t, `"claimant":1`, `"claimant":2`)
	done()
	retryUntilIdle(t, m)
	want(t, p.messages(t), before...)
	closeAll(t, other)
	p.recover(t, m)
	retryUntilIdle(t, m)
	p.wantMessages(t, 1, 1)
}

// TestBranchGone: the branch of a voted transaction is not there when it is to
// commit, and nothing proves that it has: that is said, and kept.
func TestBranchGone(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	branches, err := filepath.Glob(p.dir("a") + "/prepared/*")
	if err != nil || len(branches) != 1 {
		t.Fatal(branches, err)
	}
	wantErr(t, os.RemoveAll(branches[0]), nil)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
	show, err := m.Show(t.Context(), "x")
	if err != nil || !strings.Contains(show.Hazard, "resource a: the branch is gone, its outcome unknown") {
		t.Errorf("%+v, %v", show, err)
	}
	p.wantMessages(t, 0, 1)
}

// TestDecidedByHand: somebody committed a branch of what is to be rolled back:
// that is said, and kept.
func TestDecidedByHand(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	show, err := m.Show(t.Context(), "x")
	wantErr(t, err, nil)
	_, err = p.spools(t)[0].Resolve(t.Context(), show.GID, txn.Commit, "")
	wantErr(t, err, nil)
	wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "x"), txn.ErrHeuristicHazard)
	show, err = m.Show(t.Context(), "x")
	if err != nil || !strings.Contains(show.Hazard, "resource a: the branch has the opposite outcome") {
		t.Errorf("%+v, %v", show, err)
	}
	p.wantMessages(t, 1, 0)
}

// TestAcknowledgeBusy: an outcome that somebody looks at, or has forgotten,
// needs no word from its client.
func TestAcknowledgeBusy(t *testing.T) {
	for name, way := range map[string]func(p place) (undo func()){
		"busy": func(p place) func() { return p.atWork(t) },
		"gone": func(p place) func() {
			wantErr(t, os.Remove(p.claim(t)), nil)
			return func() {}
		},
	} {
		p := newFastPlace(t)
		m := p.open(t)
		s := m.NewSession(alice)
		prepared(t, m, name)
		wantErr(t, s.CommitPrepared(t.Context(), name), nil)
		undo := way(p)
		wantErr(t, s.Acknowledge(), nil)
		undo()
		closeAll(t, m)
	}
}
