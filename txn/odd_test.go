package txn

import (
	"errors"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// TestPlanDamaged: of a vote that may be among what is lost nothing is presumed.
func TestPlanDamaged(t *testing.T) {
	s := ledger.NewContents()
	s.Highest = 1
	s.Add(1, ledger.Record{Kind: ledger.KindPreparing, GID: gidOf(1, 1, RoleExternal)})
	s.Damaged[1] = errors.New("a hole")
	if do := plan(s, findings{dead: map[uint64]bool{1: true}}); len(do) > 0 {
		t.Errorf("got %+v", do)
	}
}

// TestPlanTombstone: the tombstone of a vote is for the worker that collects it, and of nobody else but who made it once
// that worker's log is gone, or cannot tell.
func TestPlanTombstone(t *testing.T) {
	x := gidOf(1, 1, RoleExternal)
	abort := ledger.Record{Kind: ledger.KindAbort, GID: x, ClientGID: "x", Branches: []BranchID{{Resource: "a"}}}
	finish := []action{{verb: verbFinish, gid: x, decision: Abort}}
	for name, test := range map[string]struct {
		home     bool
		damaged  error
		dead     uint64
		claimant uint64
		want     []action
	}{
		"the home lives":                     {home: true, dead: 2, claimant: 1},
		"the home died":                      {home: true, dead: 1, claimant: 1, want: finish},
		"its log is gone":                    {dead: 2, claimant: 2, want: finish},
		"its log is gone, who made it lives": {dead: 3, claimant: 2},
		"its log is damaged":                 {home: true, damaged: errors.New("a hole"), dead: 2, claimant: 2, want: finish},
	} {
		s := ledger.NewContents()
		s.Highest = 5
		s.Begin(2)
		if test.home {
			s.Begin(1)
		}
		if test.damaged != nil {
			s.Damaged[1] = test.damaged
		}
		h := s.Add(2, abort)
		do := plan(s, findings{
			dead: map[uint64]bool{test.dead: true}, found: map[string][]PreparedBranch{"a": {{GID: x}}},
			fenced: func(string, uint64) bool { return true },
		})
		if !slices.Equal(do, test.want) {
			t.Errorf("%s: %v, want %v", name, do, test.want)
		}
		if st := h.State(s); st.Claimant != test.claimant || ledger.ClaimName(&st.Transaction) != ledger.ClientName("x") || st.HandsOff != "" {
			t.Errorf("%s: claim %+v", name, st)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct {
		tx   Transaction
		want string
	}{
		{Transaction{Phase: Prepared, HandsOff: "a hole"}, "left to an operator: a hole"},
		{Transaction{Phase: Committing}, "a worker is telling its resources"},
		{Transaction{Phase: Committed}, ""},
	} {
		if got := leftOpen(&test.tx, nil); got != test.want {
			t.Errorf("%+v: %q", test.tx, got)
		}
	}
}

// TestUnprepared: what a resource's silence about a branch means at each moment.
func TestUnprepared(t *testing.T) {
	for want, tx := range map[string]Transaction{
		"not prepared":                          {Phase: Preparing},
		"gone, see the hazard":                  {Phase: Committed, Hazard: "resource b: the branch is gone"},
		"gone, and yet to be told the decision": {Phase: Committing, Waits: []string{"b"}},
		"committed":                             {Phase: Committing, Waits: []string{"a"}},
		"rolled back":                           {Phase: Aborting},
	} {
		if got := unprepared(&tx, "b"); got != want {
			t.Errorf("%+v: %s, want %s", tx, got, want)
		}
	}
}
