package txn

import (
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// TestRulesAreStill: the rules do nothing themselves.
func TestRulesAreStill(t *testing.T) {
	for _, name := range []string{"rules.go", "flow.go", "plan.go", "state.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); !slices.Contains([]string{"cmp", "fmt", "slices", "github.com/fdtserver/fdt/txn/internal/ledger"}, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

var taskNames = map[task]string{
	taskVote: "vote", taskDecide: "decide", taskCommit: "commit", taskAdopt: "adopt", taskFinish: "finish",
	taskConclude: "conclude", taskForget: "forget", taskRehearse: "rehearse", taskAsk: "ask", taskTakeIn: "take in",
}

var stageNames = []string{
	"begin", "voting", "retiring", "voted", "reading", "learned", "doubt", "withdrawing", "taken", "deciding", "undecided", "telling",
	"missing", "ending", "forgetting", "forgotten", "asking", "committing", "proving", "end",
}

// String names what the rules look at.
func (c facts) String() string {
	if c.gid.IsZero() {
		return ""
	}
	text := []string{c.phase.String(), "by", map[uint64]string{0: "nobody", 1: "its home", 2: "us", 3: "another"}[c.claimant]}
	for _, f := range []struct {
		is   bool
		text string
	}{
		{c.deciding != 0, "being decided"}, {c.operator, "by an operator"}, {c.hazard, "with a hazard"}, {c.handsOff, "hands off"}, {c.forgotten != 0, "forgotten"},
		{c.gid.Role == RoleLocal, "local"},
	} {
		if f.is {
			text = append(text, f.text)
		}
	}
	return strings.Join(text, " ")
}

// String names what became of the effects.
func (in input) String() string {
	text := []string{[]string{"begins", "done", "none", "failed", "unsure"}[in.result]}
	if in.of != 0 {
		text = append(text, actNames[in.of])
	}
	if c := in.claim.String(); c != "" {
		text = append(text, c+",")
	}
	if s := in.said; s != (said{}) {
		text = append(text, strings.Trim(fmt.Sprintf("%+v", s), "{}"))
	}
	for _, f := range []struct {
		is   bool
		text string
	}{
		{in.refused, "refused"}, {in.owed, "owed"}, {in.vote == voteYes, "yes"}, {in.vote == voteNo, "no"},
		{in.vote == voteReadOnly, "read only"}, {in.vote == voteTaken, "taken"}, {in.gone, "the client is gone"},
		{in.missing, "some not told"}, {in.hazard, "hazard"}, {in.stands == Commit, "committed"}, {in.stands == Abort, "rolled back"},
	} {
		if f.is {
			text = append(text, f.text)
		}
	}
	return strings.Join(text, " ")
}

// claimsFound are those that a task may find.
func claimsFound(task task) (list []facts) {
	gid := gidOf(1, 1, RoleExternal)
	for p := Preparing; p <= Aborted; p++ {
		c := facts{gid: gid, phase: p}
		switch p {
		case Committing, Committed:
			c.decision = Commit
		case Aborting, Aborted:
			c.decision = Abort
		}
		for _, by := range []uint64{0, 1, 2, 3} {
			c.claimant = by
			list = append(list, c)
		}
	}
	more := list[:len(list):len(list)]
	for _, c := range more {
		switch {
		case c.claimant == 1 && c.phase <= Prepared:
			c.deciding, c.decidingBy = Commit, 3
		case c.claimant == 3 && c.phase == Committed:
			c.forgotten = 3
		case c.claimant == 2 && c.phase == Committed:
			c.hazard = true
		case c.claimant == 2 && c.decision != 0:
			c.operator = true
		case c.claimant == 2 && c.phase == Prepared:
			c.handsOff = true
		case c.claimant == 3 && c.phase == Committing && task != taskVote:
			c.gid.Role = RoleLocal
		default:
			continue
		}
		list = append(list, c)
	}
	return list
}

// outcomes is all that may become of effects.
func outcomes(j job, do []effect) (all []input) {
	for _, e := range do {
		switch e.do {
		case doCreate, doTake, doTry:
			all = append(all, input{result: none, of: e.do}, input{result: failed, of: e.do})
		case doForce, doDecide, doCommit:
			all = append(all, input{result: failed, of: e.do}, input{result: unsure, of: e.do})
		case doRead, doIntend, doPublish, doAcknowledge, doRelease, doRemove, doNote, doAsk, doProve:
			all = append(all, input{result: failed, of: e.do})
		}
	}
	ends := []input{{result: done}}
	vary := func(f ...func(*input)) {
		var more []input
		for _, in := range ends {
			for _, f := range f {
				with := in
				f(&with)
				more = append(more, with)
			}
		}
		ends = more
	}
	same := func(*input) {}
	for _, e := range do {
		switch e.do {
		case doTake, doTry:
			var found []func(*input)
			for _, c := range claimsFound(j.task) {
				found = append(found, func(in *input) { in.claim = c })
			}
			vary(found...)
			ends = append(ends, input{result: done, claim: facts{gid: gidOf(1, 1, RoleExternal), phase: Prepared, claimant: 1}, refused: true})
			switch {
			case j.task == taskVote && j.at == atVoted:
				ends = append(ends, input{result: done, claim: facts{gid: j.gid, phase: Preparing, claimant: 2}, gone: true})
			case j.task == taskAdopt:
				ends = append(ends, input{result: done, claim: facts{gid: j.gid, phase: Committing, claimant: 3, decision: Commit}, owed: true})
			}
		case doRead:
			vary(same, func(in *input) { in.said.alive = true }, func(in *input) { in.said.prepared = true },
				func(in *input) { in.said.decision = Commit }, func(in *input) { in.said.decision, in.said.operator = Abort, true },
				func(in *input) { in.said.decision, in.said.ended, in.said.hazard = Commit, true, true })
		case doPrepare:
			vary(func(in *input) { in.vote = voteYes }, func(in *input) { in.vote = voteNo },
				func(in *input) { in.vote = voteReadOnly }, func(in *input) { in.vote = voteTaken })
		case doTell:
			vary(same, func(in *input) { in.missing = true }, func(in *input) { in.hazard = true })
		case doAsk, doProve:
			vary(func(in *input) { in.stands = Commit }, func(in *input) { in.stands = Abort })
		case doUndo:
			vary(same, func(in *input) { in.missing = true })
		}
	}
	return append(all, ends...)
}

// TestRules shows all that the rules say, whatever a task meets.
func TestRules(t *testing.T) {
	x, l := gidOf(1, 1, RoleExternal), gidOf(1, 1, RoleLocal)
	var lines []string
	for i, j := range []job{
		{task: taskVote, gid: x}, {task: taskVote, gid: x, named: true}, {task: taskDecide, wants: Commit},
		{task: taskDecide, wants: Abort}, {task: taskDecide, wants: Commit, operator: true},
		{task: taskCommit, gid: l}, {task: taskCommit, gid: l, named: true}, {task: taskAdopt, gid: x},
		{task: taskFinish, gid: x}, {task: taskFinish, gid: x, hazard: true}, {task: taskConclude, gid: x}, {task: taskForget},
		{task: taskForget, operator: true},
		{task: taskCommit, gid: l, early: true}, {task: taskCommit, gid: l, way: byDecider},
		{task: taskCommit, gid: l, way: byDecider, early: true}, {task: taskCommit, gid: l, way: inOnePhase},
		{task: taskRehearse, gid: l}, {task: taskAsk, gid: l, way: byDecider}, {task: taskTakeIn, gid: l, way: byDecider},
	} {
		j.self = 2
		type waits struct {
			at      job
			effects string
		}
		seen := map[waits]bool{}
		told := map[string]bool{}
		for open := []pointKey{{j, input{}}}; len(open) > 0; open = open[1:] {
			was, in := open[0].was, open[0].in
			to, do := was.next(in)
			line := fmt.Sprintf("%02d %-8s %02d %-11s %-70s %-11s", i, taskNames[j.task], was.at, stageNames[was.at], in, stageNames[to.at])
			for _, e := range do {
				line += " " + e.String() + ";"
			}
			if !told[line] {
				told[line] = true
				lines = append(lines, strings.TrimSuffix(line, ";"))
			}
			w := waits{to, fmt.Sprint(do)} // a task may wait twice at one stage
			if to.at == atEnd || seen[w] {
				continue
			}
			seen[w] = true
			for _, in := range outcomes(to, do) {
				open = append(open, pointKey{to, in})
			}
		}
	}
	slices.Sort(lines)
	testgolden.Compare(t, filepath.Join("testdata", "rules.golden"), strings.Join(lines, "\n")+"\n")
}
