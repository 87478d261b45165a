package txntest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// decider is the resource under test.
func (s *suite) decider() txn.Decider {
	s.Helper()
	return deciderOf(s.T, s.r)
}

func deciderOf(t testing.TB, r txn.Resource) txn.Decider {
	t.Helper()
	d, ok := r.(txn.Decider)
	if !ok {
		t.Fatalf("%s is no Decider", r.Name())
	}
	return d
}

func (s *suite) commitDeciding(b txn.Branch, gid txn.GID) error {
	s.Helper()
	d, ok := b.(txn.DecidingBranch)
	if !ok {
		s.Fatal("the branch of a Decider is no DecidingBranch")
	}
	return d.CommitDeciding(s.Context(), gid, []byte("note"))
}

// wantStands checks the decision that stands when somebody wants to roll back.
func (s *suite) wantStands(gid txn.GID, want txn.Decision) {
	s.Helper()
	stand, err := s.decider().Decide(s.Context(), txn.Abort, gid)
	s.must(err)
	if len(stand) != 1 || stand[gid] != want {
		s.Errorf("%v stands, want %s", stand, want)
	}
}

// decides commits with the decision, which stays until it is dropped.
func (s *suite) decides() {
	s.must(s.decider().CanDecide(s.Context()))
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	s.wantWritten(1, 0)
	s.must(s.commitDeciding(b, gid))
	s.wantWritten(1, 1)
	s.wantDoubt()
	s.wantStands(gid, txn.Commit)
	other := s.gid(txn.RoleLocal, 1)
	s.wantStands(other, txn.Abort)
	again := deciderOf(s.T, s.open("r"))
	list, err := again.Decisions(s.Context(), s.log, 1)
	s.must(err)
	got := map[txn.GID]string{}
	for _, n := range list {
		got[n.GID] = n.Decision.String() + string(n.Note)
	}
	if len(list) != 2 || got[gid] != "commitnote" || got[other] != "abort" {
		s.Errorf("decisions: %v", got)
	}
	if list, err := again.Decisions(s.Context(), txn.NewLogID(), 1); err != nil || len(list) > 0 {
		s.Errorf("of another log: %v, %v", list, err)
	}
	for range 2 {
		s.must(again.DropDecisions(s.Context(), gid, other))
	}
	if list, err := again.Decisions(s.Context(), s.log, 1); err != nil || len(list) > 0 {
		s.Errorf("dropped: %v, %v", list, err)
	}
}

// decidedBefore: who wants to roll back was first.
func (s *suite) decidedBefore() {
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	s.wantStands(gid, txn.Abort)
	if err := s.commitDeciding(b, gid); err == nil || txn.InDoubt(err) {
		s.Errorf("after it was decided to roll back: %v", err)
	}
	s.must(b.Rollback(s.Context()))
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 1), 1).Commit(s.Context())) // no lock is left
	s.must(s.decider().DropDecisions(s.Context(), gid))
}

// decidingFenced: nothing of a fenced incarnation decides any more.
func (s *suite) decidingFenced() {
	gid := s.gid(txn.RoleLocal, 1)
	b := s.write(gid, 1)
	s.must(s.r.Fence(s.Context(), s.log, 1))
	s.wantStands(gid, txn.Abort)
	if err := s.commitDeciding(b, gid); err == nil {
		s.Error("a fenced branch commits")
	}
	_ = b.Rollback(s.Context()) // its session is gone
	s.wantWritten(1, 0)
	s.must(s.write(s.gid(txn.RoleLocal, 2), 1).Commit(s.Context()))
	s.must(s.decider().DropDecisions(s.Context(), gid))
}

// decidingCrash: decisions outlive the store's process.
func (s *suite) decidingCrash() {
	gid, other := s.gid(txn.RoleLocal, 1), s.gid(txn.RoleLocal, 1)
	s.must(s.commitDeciding(s.write(gid, 1), gid))
	s.wantStands(other, txn.Abort)
	s.Crash(s.T)
	s.wantStands(gid, txn.Commit)
	list, err := s.decider().Decisions(s.Context(), s.log, 1)
	if err != nil || len(list) != 2 {
		s.Errorf("decisions: %v, %v", list, err)
	}
	s.wantWritten(1, 1)
	s.must(s.decider().DropDecisions(s.Context(), gid, other))
	s.Crash(s.T)
	if list, err := s.decider().Decisions(s.Context(), s.log, 1); err != nil || len(list) > 0 {
		s.Errorf("dropped: %v, %v", list, err)
	}
}

// decidingCut loses every reply once: Decide tells the truth afterwards.
func (s *suite) decidingCut() {
	for at, more := 1, s.Lossy != nil; more; at++ {
		s.Run(fmt.Sprint(at), func(t *testing.T) {
			sub := &suite{Harness: s.Harness, T: t, log: txn.NewLogID()}
			sub.r = sub.open("r")
			more = sub.cutDeciding(at)
		})
	}
}

func (s *suite) cutDeciding(at int) bool {
	lossy, asked := s.Lossy(s.T, "r", at)
	ctx, cancel := context.WithTimeout(s.Context(), testwait.Patience)
	defer cancel()
	gid, other := s.gid(txn.RoleLocal, 1), s.gid(txn.RoleLocal, 1)
	d := deciderOf(s.T, lossy)
	answered := false
	if b, err := lossy.Enlist(ctx, txn.BranchOptions{GID: gid}); err == nil {
		if err = s.Write(ctx, b, s.id(1)); err == nil {
			err = s.commitDeciding(b, gid)
			answered = err == nil
		}
		if err != nil {
			_ = b.Rollback(ctx)
		}
	}
	_ = d.CanDecide(ctx)
	stood, _ := d.Decide(ctx, txn.Abort, other)
	_, _ = d.Decisions(ctx, s.log, 1)
	_ = d.DropDecisions(ctx, other)
	s.must(lossy.Close())
	s.must(s.r.Fence(s.Context(), s.log, 1))
	stand, err := s.decider().Decide(s.Context(), txn.Abort, gid)
	s.must(err)
	s.wantWritten(1, map[txn.Decision]int{txn.Commit: 1, txn.Abort: 0}[stand[gid]])
	if answered && stand[gid] != txn.Commit || stood[other] == txn.Commit {
		s.Errorf("answered %t, then %s stands; of another %s", answered, stand[gid], stood[other])
	}
	s.must(s.decider().DropDecisions(s.Context(), gid, other))
	return asked() >= at
}

// decidingCoordinated runs whole transactions through a Manager of which one
// resource decides, and one that is taken over.
func (s *suite) decidingCoordinated() {
	at := machine{s.TempDir(), s.TempDir()}
	decide := func(o *txn.Options) { o.Decider = "one" }
	m := s.manager(at, decide)
	s.must(s.begin(m, 1, 2).Commit(s.Context()))
	s.must(s.begin(m, 3, 4).Rollback(s.Context()))
	s.must(s.begin(m, 5).Commit(s.Context()))
	session := s.begin(m, 6, 7)
	id := session.GID().Log
	s.must(session.Prepare(s.Context(), "x"))
	s.must(session.CommitPrepared(s.Context(), "x"))
	s.must(session.Acknowledge())
	if faults := m.Rehearse(s.Context(), nil); len(faults) > 0 {
		s.Errorf("Rehearse: %v", faults)
	}
	s.must(m.Close(s.Context()))
	if list, err := s.decider().Decisions(s.Context(), id, 1); err != nil || len(list) > 0 {
		s.Errorf("decisions are left: %v, %v", list, err)
	}
	for n, times := range []int{0, 1, 1, 0, 0, 1, 1, 1} {
		if n > 0 {
			s.wantWritten(n, times)
		}
	}
}

// freezing is a resource whose branches vote yes, and then the store stands still.
type freezing struct {
	txn.Resource

	freeze func()
}

func (f freezing) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := f.Resource.Enlist(ctx, opt)
	return freezingBranch{b, f.freeze}, err
}

type freezingBranch struct {
	txn.Branch

	freeze func()
}

func (b freezingBranch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	vote, err := b.Branch.Prepare(ctx, gid)
	b.freeze()
	return vote, err
}

// decidingFrozen has the store stand still when it is to decide: the client is
// answered that nobody knows, which is learned when it goes on.
func (s *suite) decidingFrozen() {
	if s.Freeze == nil {
		s.Skip("the store cannot stand still by itself")
	}
	const within = 100 * time.Millisecond
	var thaw func()
	two := freezing{s.open("two"), func() { thaw = s.Freeze(s.T) }}
	m := s.manager(machine{s.TempDir(), s.TempDir()}, func(o *txn.Options) {
		o.Decider, o.Resources[1] = "one", two
		o.Limits = txn.Limits{Ask: within, Tell: within, Phase: time.Hour, Enlist: time.Hour}
	})
	session := m.NewSession(who)
	s.must(session.Begin(s.Context(), txn.TxOptions{}))
	for n, name := range []string{"one", "two"} {
		b, err := session.Branch(s.Context(), name)
		s.must(err)
		if f, ok := b.(freezingBranch); ok {
			b = f.Branch
		}
		s.must(s.Write(s.Context(), b, s.id(n+1)))
	}
	var err error
	s.answered("COMMIT with the decision", nil, func() error { err = session.Commit(s.Context()); return nil })
	if !txn.InDoubt(err) {
		s.Errorf("COMMIT with the decision: %v", err)
	}
	thaw()
	root := txn.Principal{User: "root", Operator: true}
	testwait.Until(s.T, "all is told", func() bool {
		_, err := m.ResolveAll(s.Context(), root, 0)
		return err == nil && m.Counts().Pending == 0
	})
	s.wantWritten(2, s.Written(s.T, s.id(1)))
	s.must(m.Close(s.Context()))
}
