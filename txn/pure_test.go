package txn

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testgolden"
	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// TestTables is the whole behaviour of both state machines.
func TestTables(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, "session")
	for s := Idle; s <= Closed; s++ {
		for e := EventBegin; e <= EventClose; e++ {
			to, err := s.next(e)
			line(&out, s, e, to, err)
		}
		fmt.Fprintf(&out, "%-10s terminal: %t\n", s, s.Terminal())
	}
	fmt.Fprintln(&out, "\ntransaction of an outside coordinator")
	for p := Preparing; p <= Aborted; p++ {
		for e := claimVote; e <= claimEnd; e++ {
			to, err := e.after(p)
			line(&out, p, e, to, err)
		}
		fmt.Fprintf(&out, "%-10s terminal: %t\n", p, p.Terminal())
	}
	testgolden.Compare(t, filepath.Join("testdata", "tables.golden"), out.String())
}

func line(out *strings.Builder, from, event, to fmt.Stringer, err error) {
	if err != nil {
		fmt.Fprintf(out, "%-10s %-11s refused: %s %s\n", from, event, SQLState(err), err)
		return
	}
	fmt.Fprintf(out, "%-10s %-11s -> %s\n", from, event, to)
}

func TestNames(t *testing.T) {
	for _, v := range []fmt.Stringer{Ending(99), State(99), Event(99), Phase(99), claimEvent(99), Decision(99), verb(99), verbAlarm} {
		if v.String() == "" {
			t.Errorf("%#v has no name", v)
		}
	}
	for p := Preparing; p <= Aborted; p++ {
		text, err := p.MarshalText()
		var back Phase
		if err = errors.Join(err, back.UnmarshalText(text)); err != nil || back != p {
			t.Errorf("%s: %s, %v", p, back, err)
		}
	}
	for _, d := range []Decision{Commit, Abort} {
		text, err := d.MarshalText()
		var back Decision
		if err = errors.Join(err, back.UnmarshalText(text)); err != nil || back != d {
			t.Errorf("%s: %s, %v", d, back, err)
		}
	}
	if new(Phase).UnmarshalText([]byte("x")) == nil || new(Decision).UnmarshalText([]byte("x")) == nil {
		t.Error("an unknown name is read")
	}
}

func TestErrors(t *testing.T) {
	wrapped := fmt.Errorf("commit: %w", fmt.Errorf("%w: connection refused", ErrUnreachable))
	if SQLState(wrapped) != "08007" || !InDoubt(wrapped) || InDoubt(ErrRolledBack) || InDoubt(nil) {
		t.Error("a wrapped error has lost its meaning")
	}
	if SQLState(errors.New("x")) != "XX000" {
		t.Error("an error of no class")
	}
	for _, e := range []*Error{ErrPoisoned, ErrUnknownOutcome, ErrUnknownGID} {
		if e.Error() == "" || len(e.SQLState()) != 5 {
			t.Errorf("%+v", e)
		}
	}
}

func gidOf(incarnation, sequence uint64, role Role) GID {
	return GID{Log: LogID{1}, Incarnation: incarnation, Sequence: sequence, Role: role}
}

// FuzzPlan: whatever a log says, recovery has a plan.
func FuzzPlan(f *testing.F) {
	for _, r := range []ledger.Record{
		{Kind: ledger.KindOpen, Log: LogID{1}, Incarnation: 1, Through: 65536},
		{Kind: ledger.KindPrepared, GID: gidOf(1, 1, RoleExternal), ClientGID: "x", Branches: []BranchID{{Resource: "a", Proof: "77"}}},
		{Kind: ledger.KindHeuristic, GID: gidOf(1, 1, RoleExternal), Decision: Commit},
		{Kind: "of the future", GID: gidOf(1, 1, RoleExternal)},
	} {
		raw, _ := json.Marshal(r)
		f.Add(raw)
	}
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r ledger.Record
		if json.Unmarshal(payload, &r) != nil || r.Kind == "" {
			return
		}
		s := ledger.NewContents()
		s.Add(1, r)
		plan(s, findings{dead: map[uint64]bool{1: true}, fenced: func(string, uint64) bool { return true }})
	})
}

func TestClientGID(t *testing.T) {
	for _, bad := range []string{"", strings.Repeat("x", 200), "a\x00b", "\xff"} {
		if err := checkClientGID(bad); !errors.Is(err, ErrGIDInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"x", strings.Repeat("x", 199), "ü/../'", "fdt1-"} {
		if err := checkClientGID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// life is a scenario: the records in the order of writing, each in a log.
type life struct {
	name    string
	records []entry
	found   map[string][]PreparedBranch
	dead    []uint64
	damaged []uint64
	highest uint64
	own     uint64
	atWork  map[uint64]bool
}

type entry struct {
	log uint64
	ledger.Record
}

func (l life) survey(prefix int) *ledger.Contents {
	s := ledger.NewContents()
	s.Highest = max(l.highest, 2)
	for _, e := range l.records[:prefix] {
		s.Begin(e.log)
		s.Add(e.log, e.Record)
	}
	for _, n := range l.damaged {
		s.Damaged[n] = errors.New("a hole")
	}
	return s
}

// TestPlan shows what recovery does after every prefix of some lives: the
// process that writes dies after each record in turn.
func TestPlan(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	open := func(n uint64) entry {
		return entry{n, ledger.Record{Kind: ledger.KindOpen, At: at, Log: LogID{1}, Incarnation: n, Through: 100}}
	}
	x, l := gidOf(1, 1, RoleExternal), gidOf(1, 2, RoleLocal)
	both := []BranchID{{Resource: "a"}, {Resource: "b"}}
	in := func(log uint64, k ledger.Kind, g GID) entry {
		r := ledger.Record{Kind: k, At: at, GID: g, ClientGID: "x", Branches: both}
		if k == ledger.KindHeuristic {
			r.Decision = Commit
		}
		return entry{log, r}
	}
	held := func(g ...GID) map[string][]PreparedBranch {
		var list []PreparedBranch
		for _, g := range g {
			list = append(list, PreparedBranch{GID: g})
		}
		return map[string][]PreparedBranch{"a": list, "b": list}
	}
	var out strings.Builder
	for _, life := range []life{
		{name: "external, committed by its home", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x), in(1, ledger.KindCommit, x), in(1, ledger.KindEnd, x), in(1, ledger.KindForget, x),
		}},
		{name: "external, decided by another that lives", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x), in(2, ledger.KindAbort, x), in(2, ledger.KindEnd, x),
		}},
		{name: "external, decided by another that died", dead: []uint64{2}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x), in(2, ledger.KindCommit, x), in(1, ledger.KindEnd, x),
		}},
		{name: "a tombstone while voting, the home lives", dead: []uint64{2}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPreparing, x), in(2, ledger.KindAbort, x),
		}},
		{name: "a tombstone while voting, the home died", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPreparing, x), in(2, ledger.KindAbort, x),
		}},
		{name: "an operator's decision", dead: []uint64{1, 2}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x), in(2, ledger.KindHeuristic, x), in(2, ledger.KindEnd, x),
		}},
		{name: "local", dead: []uint64{1}, found: held(l), records: []entry{
			open(1), in(1, ledger.KindCommit, l), in(1, ledger.KindEnd, l),
		}},
		{name: "local, its home lives", found: held(l), records: []entry{open(1), in(1, ledger.KindCommit, l)}},
		{name: "decided twice", dead: []uint64{1, 2}, found: held(x), records: []entry{
			open(1), open(2), in(1, ledger.KindPrepared, x), in(1, ledger.KindCommit, x), in(2, ledger.KindAbort, x),
		}},
		{name: "a record of the future", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), in(1, ledger.KindPrepared, x), in(1, "suspended", x), in(1, ledger.KindCommit, x),
		}},
		{name: "a damaged log", dead: nil, damaged: []uint64{1}, found: held(x, l), records: []entry{
			open(1), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x),
		}},
		{name: "no log any more", dead: nil, found: held(x, gidOf(2, 1, RoleLocal)), records: []entry{open(2)}},
		{name: "an older copy of the log", dead: []uint64{1}, found: held(gidOf(9, 1, RoleLocal), gidOf(1, 101, RoleLocal)), records: []entry{open(1)}},
		{name: "its own, come back", own: 1, found: held(x, l), records: []entry{
			open(1), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x), in(1, ledger.KindCommit, x), in(1, ledger.KindEnd, x), in(1, ledger.KindForget, x),
		}},
		{name: "its own, at work", own: 1, atWork: map[uint64]bool{1: true, 2: true}, found: held(x, l), records: []entry{
			open(1), in(1, ledger.KindPreparing, x),
		}},
		{name: "of a role the resource cannot keep", dead: []uint64{1}, found: held(gidOf(1, 1, RoleLocal)), records: []entry{
			open(1), in(1, ledger.KindPreparing, x), in(1, ledger.KindPrepared, x),
		}},
	} {
		fmt.Fprintf(&out, "# %s; dead: %v\n", life.name, life.dead)
		for n := 0; n <= len(life.records); n++ {
			what := "nothing yet"
			if n > 0 {
				e := life.records[n-1]
				what = fmt.Sprintf("log %d: %s", e.log, e.Kind)
			}
			dead := map[uint64]bool{}
			for _, d := range life.dead {
				dead[d] = true
			}
			s := life.survey(n)
			var do []string
			for _, a := range plan(s, findings{dead: dead, found: life.found, fenced: func(string, uint64) bool { return true }, own: life.own, atWork: life.atWork}) {
				text := fmt.Sprintf("%s %d-%d-%c", a.verb, a.gid.Incarnation, a.gid.Sequence, a.gid.Role)
				if a.resource != "" {
					text += " on " + a.resource
				}
				if a.decision != 0 {
					text += " (" + a.decision.String() + ")"
				}
				if a.why != "" {
					text += ": " + a.why
				}
				do = append(do, text)
			}
			fmt.Fprintf(&out, "%-20s => %s\n", what, strings.Join(do, "; "))
		}
		fmt.Fprintln(&out)
	}
	testgolden.Compare(t, filepath.Join("testdata", "plan.golden"), out.String())
}

// TestPlanUnfenced: what may still change is not touched.
func TestPlanUnfenced(t *testing.T) {
	s := ledger.NewContents()
	s.Highest = 1
	s.Add(1, ledger.Record{Kind: ledger.KindOpen, Log: LogID{1}, Incarnation: 1, Through: 100})
	l := gidOf(1, 1, RoleLocal)
	f := findings{dead: map[uint64]bool{1: true}, found: map[string][]PreparedBranch{"a": {{GID: l}}}}
	f.fenced = func(string, uint64) bool { return false }
	if do := plan(s, f); len(do) > 0 {
		t.Errorf("got %+v", do)
	}
}

// TestAwaits: who waits for the same, for another reason, has done so since the first.
func TestAwaits(t *testing.T) {
	s := new(Session)
	for range 2 {
		s.places.awaits(Wait{Resource: "bank", For: ForConnection, Why: "first"})
		first, _ := s.Waiting()
		s.places.awaits(Wait{Resource: "bank", For: ForConnection, Why: "next"})
		if w, waits := s.Waiting(); !waits || w.Why != "next" || !w.Since.Equal(first.Since) || first.Since.IsZero() {
			t.Errorf("%+v, then %+v", first, w)
		}
		s.places.awaits(Wait{})
		if w, waits := s.Waiting(); waits {
			t.Errorf("%+v", w)
		}
	}
}
