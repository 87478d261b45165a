package txn

import (
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

var (
	both    = []Decision{Commit, Abort}
	commit  = []Decision{Commit}
	abort   = []Decision{Abort}
	nobody  []Decision
	decider = [2][]Decision{both, nobody}
	rivals  = [2][]Decision{commit, abort}
)

// scenarios bound what happens in the model, each in another direction.
var scenarios = []scenario{
	{name: "rivals", wants: [2][]Decision{both, both}},
	{name: "rivals, a fault", wants: rivals, faults: 1},
	{name: "rivals, a death", wants: rivals, deaths: 1, scans: 1},
	{name: "an operator, a death", wants: rivals, oper: true, deaths: 1, scans: 1},
	{name: "an operator, power", wants: decider, oper: true, cuts: 1, scans: 1},
	{name: "two deaths", wants: decider, deaths: 2, scans: 1},
	{name: "a death, a fault", wants: decider, deaths: 1, faults: 1, scans: 1},
	{name: "power", wants: decider, cuts: 1, scans: 1},
	{name: "power, a fault", wants: decider, cuts: 1, faults: 1, scans: 1},
	{name: "again", wants: rivals, again: true, forget: true},
	{name: "again, power", wants: rivals, again: true, cuts: 1, scans: 1},
	{name: "again, acknowledged, power", wants: rivals, again: true, forget: true, cuts: 1, scans: 1},
	{name: "again, a death", wants: decider, again: true, forget: true, deaths: 1},
	{name: "local", local: true, deaths: 2, faults: 1, cuts: 1, scans: 2},
	{name: "local, named", local: true, named: true, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "local, answered early", local: true, early: true, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "one phase", local: true, way: inOnePhase, deaths: 2, faults: 2, cuts: 1, scans: 2},
	{name: "decider", local: true, way: byDecider, deaths: 2, faults: 1, scans: 2},
	{name: "decider, faults", local: true, way: byDecider, deaths: 1, faults: 2, scans: 1},
	{name: "decider, power", local: true, way: byDecider, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "decider, answered early", local: true, way: byDecider, early: true, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "local, unsolicited", local: true, unsolicited: true, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "decider, unsolicited", local: true, way: byDecider, unsolicited: true, deaths: 1, faults: 1, cuts: 1, scans: 1},
	{name: "decider, it alone has written", local: true, way: byDecider, reads: true, deaths: 1, faults: 2, cuts: 1, scans: 1},
}

// TestModel walks through every state.
func TestModel(t *testing.T) {
	for _, m := range scenarios {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			states, rests, err := m.walk()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d of rest", states, rests)
		})
	}
}

// change alters what the rules say is to be done.
type change func(was job, in input, to job, do []effect) []effect

// by has the rules altered.
func (c change) by() func(*scenario) {
	return func(m *scenario) {
		m.next = func(was job, in input) (job, []effect) {
			to, do := was.next(in)
			return to, c(was, in, to, slices.Clone(do))
		}
	}
}

// learning has the rules learn something else.
func learning(f func(was job, in *input)) func(*scenario) {
	return func(m *scenario) {
		m.next = func(was job, in input) (job, []effect) {
			f(was, &in)
			return was.next(in)
		}
	}
}

// softly has a record written without waiting for the disk.
func softly(k ledger.Kind) func(*scenario) {
	return change(func(_ job, _ input, _ job, do []effect) []effect {
		for i := range do {
			if do[i].do == doForce && do[i].record == k {
				do[i].do = doNote
			}
		}
		return do
	}).by()
}

// early has one effect done before another of its list.
func early(what, before func(effect) bool) func(*scenario) {
	return change(func(_ job, _ input, _ job, do []effect) []effect {
		from, to := slices.IndexFunc(do, what), slices.IndexFunc(do, before)
		if from < 0 || to < 0 || to > from {
			return do
		}
		e := do[from]
		return slices.Insert(slices.Delete(do, from, from+1), to, e)
	}).by()
}

// without leaves effects out.
func without(what func(effect) bool) func(*scenario) {
	return change(func(_ job, _ input, _ job, do []effect) []effect {
		if len(do) == 1 {
			return do
		}
		return slices.DeleteFunc(do, what)
	}).by()
}

func does(a act) func(effect) bool { return func(e effect) bool { return e.do == a } }

func writes(k ledger.Kind) func(effect) bool { return func(e effect) bool { return e.record == k } }

func publishes(p Phase) func(effect) bool {
	return func(e effect) bool { return e.do == doPublish && e.claim.phase == p && e.claim.deciding == 0 }
}

// mutants are the rules, each broken, with the promise that is broken by that.
var mutants = []struct {
	name, scenario string
	breaks         func(*scenario)
	promise        string
}{
	{"a vote is seen before it is durable", "two deaths", early(publishes(Prepared), writes(ledger.KindPrepared)), "prepared for ever"},
	{"a vote is not forced", "power", softly(ledger.KindPrepared), "a vote that is not durable"},
	{"a vote is answered before it is durable", "power", early(does(doAnswer), writes(ledger.KindPrepared)), "a vote that is not durable"},
	{"a commit is told before it is durable", "power", early(does(doTell), writes(ledger.KindCommit)), "committed without a durable decision"},
	{"a commit is seen before it is durable", "rivals, a death", early(publishes(Committing), writes(ledger.KindCommit)), "committed without a durable decision"},
	{"a commit is not forced", "power", softly(ledger.KindCommit), "committed without a durable decision"},
	{"a rollback is not forced", "power", softly(ledger.KindAbort), "rolled back after the vote without a decision"},
	{"an operator's decision is not forced", "an operator, power", softly(ledger.KindHeuristic), "without a"},
	{"nobody sees that it is being decided", "rivals, a death", without(does(doIntend)), "prepared for ever"},
	{"the lock is given back before the decision is durable", "rivals, a death", early(does(doRelease), writes(ledger.KindAbort)), "prepared for ever"},
	{"a decision that may be durable lets go of the claim", "rivals, a fault", change(func(_ job, _ input, _ job, do []effect) []effect {
		for i := range do {
			if do[i].do == doHold {
				do[i].do = doRelease
			}
		}
		return do
	}).by(), "the claim is preparing for ever"},
	{"nobody reads the log of a dead decider", "rivals, a death", learning(func(was job, in *input) {
		if was.claim.deciding != 0 {
			in.said.decision = 0
		}
	}), "prepared for ever"},
	{"the vote does not look for a tombstone", "rivals, a fault", learning(func(was job, in *input) {
		if was.at == atVoted {
			in.claim.phase = Preparing
		}
	}), "prepared for ever"},
	{"a vote that may be durable is withdrawn", "a death, a fault", learning(func(was job, in *input) {
		if was.task == taskVote && in.result == unsure {
			in.result = failed
		}
	}), "can be decided for ever, but is not prepared"},
	{"a decision that may be durable is taken back", "a death, a fault", learning(func(was job, in *input) {
		if was.task == taskDecide && in.result == unsure {
			in.result = failed
		}
	}), "prepared for ever"},
	{"the end is noted before all know", "two deaths", change(func(_ job, _ input, to job, do []effect) []effect {
		if i := slices.IndexFunc(do, does(doTell)); i >= 0 {
			return slices.Insert(do, i, note(ledger.KindEnd, to.gid))
		}
		return do
	}).by(), "prepared for ever"},
	{"what some could not be told is ended", "a death, a fault", learning(func(was job, in *input) { in.missing = false }), "prepared for ever"},
	{"what some could not be told is nobody's", "a death, a fault", without(does(doOwe)), "for ever"},
	{"a name is given away again, and that is not forced", "again, power", softly(ledger.KindForget), "what is not committed is told to be"},
	{"a name is given away again, and nobody is told", "again, power", without(writes(ledger.KindForget)), "what is not committed is told to be"},
	{"a name is free before it is durable that its outcome is forgotten", "again, acknowledged, power", change(func(was job, _ input, _ job, do []effect) []effect {
		if i := slices.IndexFunc(do, does(doSweep)); i >= 0 {
			return []effect{do[0], {do: doRemove}, do[len(do)-1]}
		}
		return do
	}).by(), "what is not committed is told to be"},
	{"the sessions of the dead are not ended", "two deaths", func(m *scenario) { m.unfenced = true }, "keep their locks"},
	{"the living are taken for dead", "rivals", func(m *scenario) { m.wants, m.expired, m.scans = decider, true, 1 }, "the claim is preparing for ever"},
	{"a local commit is not forced", "local", softly(ledger.KindCommit), "committed without a durable decision"},
	{"a local commit is told before it is durable", "local", early(does(doTell), writes(ledger.KindCommit)), "committed without a durable decision"},
	{"a local commit that may be durable is rolled back", "local", learning(func(was job, in *input) {
		if in.result == unsure {
			in.result = failed
		}
	}), "is told to commit in state 3"},
	{"a local commit is answered before it is durable", "local, answered early", early(does(doReply), writes(ledger.KindCommit)), "a commit that is not durable"},
	{"the decider decides before the others are prepared", "decider", change(func(was job, _ input, _ job, do []effect) []effect {
		if i := slices.IndexFunc(do, does(doPrepare)); i >= 0 && was.task == taskCommit {
			return slices.Insert(do, i, effect{do: doDecide})
		}
		return do
	}).by(), "half a transaction"},
	{"a commit is told before the decider has decided", "decider", early(does(doTell), does(doDecide)), "committed without a durable decision"},
	{"a commit is answered before the decider has decided", "decider, answered early", early(does(doReply), does(doDecide)), "a commit that is not durable"},
	{"a lost decision is taken for none", "decider, faults", learning(func(_ job, in *input) {
		if in.of == doDecide && in.result == unsure {
			in.result = failed
		}
	}), "is told to abort in state 2"},
	{"a lost decision is taken for one to commit", "decider, faults", learning(func(_ job, in *input) {
		if in.of == doDecide && in.result == unsure {
			*in = input{result: done}
		}
	}), "a commit that is not durable"},
	{"nobody asks again for a lost decision", "decider, faults", without(func(e effect) bool { return e.asking }), "for ever"},
	{"the log does not say who decides", "decider", without(writes(ledger.KindDecider)), "half a transaction"},
	{"the log says who decides, and that is not forced", "decider, power", softly(ledger.KindDecider), "half a transaction"},
	{"recovery does not ask the decider", "decider", func(m *scenario) { m.presumes = true }, "half a transaction"},
	{"recovery only looks what the decider has, while a decision is on its way", "decider", func(m *scenario) { m.looks = true }, "half a transaction"},
	{"a rollback passes over what voted before it was asked", "decider, unsolicited", func(m *scenario) { m.forgets = true }, "resource 1 keeps transaction 0 prepared for ever"},
	{"the decider drops a decision before our log has it", "decider, faults", early(does(doSweep), writes(ledger.KindCommit)), "decided both ways"},
	{"the decider drops a decision that some do not know", "decider, faults", learning(func(_ job, in *input) { in.missing = false }), "prepared for ever"},
	{"a lost answer of one phase is taken for a refusal", "one phase", learning(func(_ job, in *input) {
		if in.of == doCommit && in.result == unsure {
			in.result = failed
		}
	}), "sessions of transaction 0 keep their locks for ever"},
	{"a lost answer of one phase is taken for a commit", "one phase", learning(func(_ job, in *input) {
		if in.of == doCommit && in.result == unsure {
			*in = input{result: done}
		}
	}), "a commit that is not durable"},
	{"nobody ends what may still commit in one phase", "one phase", without(does(doOwe)), "keep their locks for ever"},
	{"a local commit is ended before all know", "local", change(func(_ job, _ input, to job, do []effect) []effect {
		if i := slices.IndexFunc(do, does(doTell)); i >= 0 {
			return slices.Insert(do, i, note(ledger.KindEnd, to.gid))
		}
		return do
	}).by(), "prepared for ever"},
	{"a claim that failed to be decided says so for ever", "rivals, a fault", without(func(e effect) bool { return e.do == doPublish && e.claim.phase == Prepared }), "the claim is preparing for ever"},
}

// TestMutants breaks each rule in turn, which must break a promise.
func TestMutants(t *testing.T) {
	for _, test := range mutants {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(scenarios, func(m scenario) bool { return m.name == test.scenario })
			if i < 0 {
				t.Fatal("no scenario")
			}
			m := scenarios[i]
			test.breaks(&m)
			n, _, err := m.walk()
			if err == nil {
				t.Fatalf("all promises are kept in %d states: the model does not look close enough", n)
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			t.Logf("after %d states: %s", n, first)
			if !strings.Contains(err.Error(), test.promise) {
				t.Errorf("got %s, want %s", first, test.promise)
			}
		})
	}
}
