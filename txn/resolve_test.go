package txn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

var root = txn.Principal{User: "root", Operator: true}

// absent is a spool that may be down, but lets branches vote.
type absent struct {
	*spool.Spool

	down *bool
}

func (a absent) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if *a.down {
		return 0, errBroken
	}
	return a.Spool.Resolve(ctx, gid, d, p)
}

func (a absent) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := a.Spool.Enlist(ctx, opt)
	return absentBranch{b.(*spool.Branch), a.down}, err
}

type absentBranch struct {
	*spool.Branch

	down *bool
}

func (b absentBranch) CommitPrepared(ctx context.Context, gid txn.GID) error {
	if *b.down {
		return errBroken
	}
	return b.Branch.CommitPrepared(ctx, gid)
}

// resolved is what ResolveAll told, by name.
func resolved(t *testing.T, m *txn.Manager, rest txn.Decision) (map[string]txn.Settled, error) {
	t.Helper()
	all, err := m.ResolveAll(t.Context(), root, rest)
	told := map[string]txn.Settled{}
	for _, s := range all {
		told[s.Name()] = s
	}
	return told, err
}

// TestResolveAll: what is decided is finished once its resource is back, what
// was abandoned is rolled back, what is in doubt stays unless an operator
// decides, and what a worker is about is its own.
func TestResolveAll(t *testing.T) {
	p := newFastPlace(t)
	_, err := p.open(t).ResolveAll(t.Context(), alice, 0)
	wantErr(t, err, txn.ErrNotOwner)
	down := true
	flaky := func(o *txn.Options) { o.Resources[1] = absent{o.Resources[1].(*spool.Spool), &down} }

	if _, killed := p.worker(t, "begin put:a put:b prepare:abandoned", "vote: prepared"); !killed {
		t.Fatal("not killed")
	}
	worker := p.open(t, flaky) // alive all the time
	for _, gid := range []string{"commit", "rollback", "doubt"} {
		prepared(t, worker, gid)
	}
	s := worker.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "commit"), txn.ErrUnreachable)
	wantErr(t, s.RollbackPrepared(t.Context(), "rollback"), txn.ErrUnreachable)
	begin(t, s)
	put(t, s, "a", "local in a")
	put(t, s, "b", "local in b")
	local := s.GID().String()
	wantErr(t, s.Commit(t.Context()), nil)

	m := p.open(t, flaky)
	told, err := resolved(t, m, 0)
	wantErr(t, err, nil)
	for gid, phase := range map[string]txn.Phase{
		"commit": txn.Committing, "rollback": txn.Aborting, "doubt": txn.Prepared, local: txn.Committing, "abandoned": txn.Preparing,
	} {
		if got := told[gid]; got.Phase != phase || got.Left == "" {
			t.Errorf("%s: %s, left because of %q", gid, got.Phase, got.Left)
		}
	}
	if got := told["commit"].Left; !strings.Contains(got, errBroken.Error()) && !strings.Contains(got, "a moment ago") {
		t.Errorf("committing, left because of %q", got)
	}
	closeAll(t, m)

	down = false
	m = p.open(t, flaky)
	told, err = resolved(t, m, 0)
	wantErr(t, err, nil)
	for gid, phase := range map[string]txn.Phase{
		"commit": txn.Committed, "rollback": txn.Aborted, local: txn.Committed, "abandoned": txn.Aborted,
	} {
		if got := told[gid]; got.Phase != phase || got.Left != "" {
			t.Errorf("%s: %s, left because of %q", gid, got.Phase, got.Left)
		}
	}
	if got := told["doubt"].Left; got != "waits for the decision of its coordinator, user alice" {
		t.Errorf("in doubt, left because of %q", got)
	}
	want(t, p.delivered(t, "b"), "commit in b", "local in b")

	told, err = resolved(t, m, txn.Abort)
	wantErr(t, err, nil)
	if got := told["doubt"]; len(told) != 1 || got.Phase != txn.Aborted || !got.Heuristic || got.Left != "" {
		t.Errorf("%+v", told)
	}
	told, err = resolved(t, m, 0)
	if err != nil || len(told) != 0 {
		t.Errorf("%+v, %v", told, err)
	}
	p.wantTidy(t)
	closeAll(t, m)
	closeAll(t, worker)
}

// TestResolveWhileVoting leaves alone what a worker collects votes for, and
// what its coordinator decides meanwhile.
func TestResolveWhileVoting(t *testing.T) {
	p := newFastPlace(t)
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
	put(t, s, "a", "x")
	vote := make(chan error, 1)
	go func() { vote <- s.Prepare(t.Context(), "x") }()
	testwait.For(t, "the vote has begun", inVote)
	other := p.open(t)
	defer closeAll(t, other)
	told, err := resolved(t, other, txn.Abort)
	if err != nil || told["x"].Phase != txn.Preparing || told["x"].Left != "its worker collects the votes" {
		t.Errorf("%+v, %v", told, err)
	}
	close(goOn)
	wantErr(t, testwait.For(t, "the vote", vote), nil)
	decided := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == "lock recovery" {
				_ = s.CommitPrepared(t.Context(), "x")
				_ = s.Acknowledge()
			}
			return nil
		})
	})
	defer closeAll(t, decided)
	if told, err := resolved(t, decided, txn.Abort); err != nil || len(told) != 0 {
		t.Errorf("%+v, %v", told, err)
	}
	want(t, p.delivered(t, "a"), "x")
}

// TestUnreadableClaim: one claim that cannot be read keeps no other transaction
// from being seen, recovered and settled, and is named.
func TestUnreadableClaim(t *testing.T) {
	p := newFastPlace(t)
	for _, x := range []string{"bad", "good"} {
		if _, killed := p.worker(t, "begin put:a put:b prepare:"+x+" commit-prepared:"+x, "decide: claimed"); !killed {
			t.Fatal("not killed")
		}
	}
	m := p.open(t)
	all, err := m.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("List: %v, %v", all, err)
	}
	var bad string
	for _, path := range claimFiles(t, p) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(`"client_gid":"bad"`)) {
			bad = path
		}
	}
	if err := errors.Join(os.Remove(bad), os.Mkdir(bad, 0o700)); err != nil { // one that is spoilt would be made anew
		t.Fatal(err)
	}
	named := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v does not name %s", what, err, bad)
		}
	}
	all, err = m.List(t.Context())
	named("List", err)
	if len(all) != 1 || all[0].ClientGID != "good" {
		t.Errorf("listed %v", all)
	}
	if _, err := m.Show(t.Context(), "good"); err != nil {
		t.Error(err)
	}
	_, err = m.Show(t.Context(), "bad")
	named("Show", err)
	named("Scan", m.Scan(t.Context()))
	settled, err := m.ResolveAll(t.Context(), root, txn.Commit)
	named("ResolveAll", err)
	if len(settled) != 1 || settled[0].ClientGID != "good" || settled[0].Left != "" {
		t.Errorf("settled %+v", settled)
	}
	if got := len(p.delivered(t, "a")); got != 1 {
		t.Errorf("%d delivered", got)
	}
}

func claimFiles(t *testing.T, p place) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(p.options(t).ClaimDir, "x-*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("claims: %v, %v", list, err)
	}
	return list
}

// TestResolveLinear: what one transaction costs does not grow with the number of
// those that wait, or whose outcome is kept. Steps are counted, not time.
func TestResolveLinear(t *testing.T) {
	cost := func(n int, rest txn.Decision) int64 {
		p := newFastPlace(t)
		var steps atomic.Int64
		m := p.open(t, func(o *txn.Options) { o.Logger = nil })
		for i := range n {
			prepared(t, m, fmt.Sprint("kept ", i))
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), fmt.Sprint("kept ", i)), nil)
			prepared(t, m, fmt.Sprint("open ", i))
		}
		closeAll(t, m) // as a worker that died
		m = p.open(t, func(o *txn.Options) {
			o.Logger = nil
			txn.SetFault(o, func(string) error { steps.Add(1); return nil })
		})
		defer closeAll(t, m)
		steps.Store(0)
		all, err := m.ResolveAll(t.Context(), root, rest)
		if err != nil || len(all) != n {
			t.Fatalf("%d, %v", len(all), err)
		}
		for i := range all {
			if _, err := m.Show(t.Context(), all[i].Name()); err != nil {
				t.Error(err)
			}
		}
		return steps.Load()
	}
	for _, rest := range []txn.Decision{0, txn.Commit} {
		const n = 40
		small, large := cost(n, rest), cost(4*n, rest)
		t.Logf("%s: %d steps for %d, %d for %d", rest, small, n, large, 4*n)
		if large > 5*small {
			t.Errorf("%s: %d steps for %d, %d for %d", rest, small, n, large, 4*n)
		}
	}
}
