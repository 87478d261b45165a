// Package txntest is the conformance suite for resource managers: what passes
// it can be recovered by txn. It needs a real store, leaves nothing in it, and
// crashes it if the Harness can; what a failure of power loses it does not test.
package txntest

import (
	"context"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// Harness is a resource under test. Every function may be called from several
// goroutines, and reports what it cannot do by t.Fatal.
type Harness struct {
	// Open opens the one store as a resource of that name, as another process
	// would. Branches of one transaction on resources of different names must
	// not be taken for each other. The suite closes it. A txn.Decider is ready to
	// keep decisions.
	Open func(t testing.TB, name string) txn.Resource
	// Write makes a change in a branch. No id is written twice unless the
	// first was undone.
	Write func(ctx context.Context, b txn.Branch, id string) error
	// Written tells how many times the change was committed, as everybody
	// sees it.
	Written func(t testing.TB, id string) int
	// Abandon makes a branch's session stop as if its process had died, with
	// no word to the store. Nil if dying changes nothing.
	Abandon func(t testing.TB, b txn.Branch)
	// Lossy opens the store as Open does, and loses the reply to the request
	// with that number, from 1, and the connection with it. The function tells
	// how many requests there were. Nil if no reply can get lost.
	Lossy func(t testing.TB, name string, at int) (txn.Resource, func() int)
	// Crash ends the store without a word, as kill -9 does, and starts it again.
	// Nil if it has no process of its own: then nothing is lost with one.
	Crash func(t testing.TB)
	// Freeze has the store stand still, as under SIGSTOP: it keeps its connections
	// and answers nothing, until it is thawed. Nil if it has no process of its own.
	Freeze func(t testing.TB) (thaw func())
	// Unproven says that the store cannot prove how a branch ended that it
	// does not hold any more, whatever its Proof is for.
	Unproven bool
}

// suite is one test's share.
type suite struct {
	Harness
	*testing.T
	r   txn.Resource
	log txn.LogID
	seq uint64
}

// Run runs every test of the suite as a subtest.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Crash == nil {
		h.Crash = func(testing.TB) {}
	}
	tests := []test{
		{"Identity", (*suite).identity},
		{"OnePhase", (*suite).onePhase},
		{"Rollback", (*suite).rollback},
		{"CommitPrepared", (*suite).commitPrepared},
		{"RollbackPrepared", (*suite).rollbackPrepared},
		{"RollbackUnprepared", (*suite).rollbackUnprepared},
		{"Resolve", (*suite).resolve},
		{"ResolveAbort", (*suite).resolveAbort},
		{"ResolveUnknown", (*suite).resolveUnknown},
		{"ResolveAtOnce", (*suite).resolveAtOnce},
		{"Reopen", (*suite).reopen},
		{"ForeignLog", (*suite).foreignLog},
		{"FenceUnprepared", (*suite).fenceUnprepared},
		{"FencePrepared", (*suite).fencePrepared},
		{"FenceOthers", (*suite).fenceOthers},
		{"Savepoints", (*suite).savepoints},
		{"ReadOnly", (*suite).readOnly},
		{"Cancelled", (*suite).cancelled},
		{"Parallel", (*suite).parallel},
		{"CutAnywhere", (*suite).cutAnywhere},
		{"CrashAfter", (*suite).crashAfter},
		{"CrashUnderManager", (*suite).crashUnderManager},
		{"Sessions", (*suite).sessions},
		{"CutOff", (*suite).cutOff},
		{"Frozen", (*suite).frozen},
		{"Coordinated", (*suite).coordinated},
		{"Recovered", (*suite).recovered},
	}
	probe := h.Open(t, "r")
	if _, ok := probe.(txn.Decider); ok {
		tests = append(tests, deciding...)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{Harness: h, T: t, log: txn.NewLogID()}
			s.r = s.open("r")
			test.run(s)
			s.quiet()
		})
	}
}

type test struct {
	name string
	run  func(*suite)
}

// deciding are the tests of a Decider.
var deciding = []test{
	{"Decides", (*suite).decides},
	{"DecidedBefore", (*suite).decidedBefore},
	{"DecidingFenced", (*suite).decidingFenced},
	{"DecidingCrash", (*suite).decidingCrash},
	{"DecidingFrozen", (*suite).decidingFrozen},
	{"DecidingCut", (*suite).decidingCut},
	{"DecidingCoordinated", (*suite).decidingCoordinated},
}
