package txn

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, got)
	}
}

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
			to, err := p.next(e)
			line(&out, p, e, to, err)
		}
		fmt.Fprintf(&out, "%-10s terminal: %t\n", p, p.Terminal())
	}
	golden(t, "tables.golden", out.String())
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

func TestGID(t *testing.T) {
	longest := GID{LogID{255}, maxIncarnation, maxSequence, RoleExternal}
	if s := longest.String(); len(s) > MaxGIDLen {
		t.Errorf("%s has %d bytes", s, len(s))
	}
	for _, g := range []GID{longest, gidOf(1, 1, RoleLocal)} {
		back, err := ParseGID(g.String())
		if err != nil || back != g || g.IsZero() {
			t.Errorf("%s: %s, %v", g, back, err)
		}
	}
	good := gidOf(7, 12, RoleLocal).String()
	for _, bad := range []string{
		"", "fdt1-", good + "L", good + "-", strings.Replace(good, "-7-", "-07-", 1), strings.Replace(good, "-7-", "-0-", 1),
		strings.Replace(good, "-7-", "-+7-", 1), strings.Replace(good, "-12-", "-x-", 1), strings.Replace(good, "-L", "-l", 1),
		strings.Replace(good, "-L", "-", 1), strings.Replace(good, "fdt1", "fdt2", 1), strings.ToUpper(good),
		strings.Replace(good, "-7-", "-10000000000-", 1), "fdt1-" + strings.Repeat("g", 32) + "-1-1-L", "fdt1-01-1-1-L",
		good + strings.Repeat("0", 64),
	} {
		if g, err := ParseGID(bad); err == nil || !g.IsZero() {
			t.Errorf("%q is read as %s", bad, g)
		}
	}
}

func FuzzGID(f *testing.F) {
	f.Add(gidOf(1, 1, RoleLocal).String())
	f.Add("fdt1-00000000000000000000000000000000-1-1-X")
	f.Add("fdt1-0-1-1-X")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGID(text)
		if err == nil && (g.String() != text || len(text) > MaxGIDLen) {
			t.Errorf("%q is read as %s", text, g)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, r := range []record{
		{Kind: kindOpen, Log: LogID{1}, Incarnation: 1, Through: 65536},
		{Kind: kindPrepared, GID: gidOf(1, 1, RoleExternal), ClientGID: "x", Branches: []BranchID{{Resource: "a", Proof: "77"}}},
		{Kind: kindHeuristic, GID: gidOf(1, 1, RoleExternal), Decision: Commit},
		{Kind: "of the future", GID: gidOf(1, 1, RoleExternal)},
	} {
		f.Add(r.encode())
	}
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, known, err := decodeRecord(payload)
		if err != nil {
			return
		}
		if again, _, err := decodeRecord(r.encode()); err != nil || again.Kind != r.Kind || again.GID != r.GID || again.Decision != r.Decision {
			t.Errorf("%q is read as %+v, then %+v, %v", payload, r, again, err)
		}
		s := newSurvey()
		s.add(1, r, known)
		for _, h := range s.histories {
			_, _ = h.phase(), h.done(time.Now(), time.Hour)
		}
		plan(s, findings{dead: map[uint64]bool{1: true}, fenced: func(string, uint64) bool { return true }})
	})
}

func FuzzClaim(f *testing.F) {
	st := claimState{Transaction: Transaction{GID: gidOf(1, 1, RoleExternal), ClientGID: "x", Phase: Prepared}, Claimant: 1}
	whole, err := json.Marshal(st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\n" + string(whole) + "\n"))
	f.Add([]byte("\n" + string(whole) + "\n\n" + string(whole[:40])))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := parseClaim(raw)
		if err != nil {
			return
		}
		again, err := parseClaim(append(slices.Clone(raw), "\n{\"gid\":\"fd"...)) // dies while it writes
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(again)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("a line that is not whole changes %s to %s, %v", a, b, err)
		}
	})
}

func FuzzLogName(f *testing.F) {
	f.Add("0000000001.log")
	f.Add("1.log")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseLogName(name); ok && (logName(n) != name || n == 0) {
			t.Errorf("%q is read as %d", name, n)
		}
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
}

type entry struct {
	log uint64
	record
}

func (l life) survey(prefix int) *survey {
	s := newSurvey()
	s.highest = max(l.highest, 2)
	for _, e := range l.records[:prefix] {
		_, known := kinds[e.Kind]
		s.records[e.log] = append(s.records[e.log], logged{})
		s.add(e.log, e.record, known)
	}
	for _, n := range l.damaged {
		s.damaged[n] = errors.New("a hole")
	}
	return s
}

// TestPlan shows what recovery does after every prefix of some lives: the
// process that writes dies after each record in turn.
func TestPlan(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	open := func(n uint64) entry {
		return entry{n, record{Kind: kindOpen, At: at, Log: LogID{1}, Incarnation: n, Through: 100}}
	}
	x, l := gidOf(1, 1, RoleExternal), gidOf(1, 2, RoleLocal)
	both := []BranchID{{Resource: "a"}, {Resource: "b"}}
	in := func(log uint64, k kind, g GID) entry {
		r := record{Kind: k, At: at, GID: g, ClientGID: "x", Branches: both}
		if k == kindHeuristic {
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
			open(1), in(1, kindPreparing, x), in(1, kindPrepared, x), in(1, kindCommit, x), in(1, kindEnd, x), in(1, kindForget, x),
		}},
		{name: "external, decided by another that lives", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPreparing, x), in(1, kindPrepared, x), in(2, kindAbort, x), in(2, kindEnd, x),
		}},
		{name: "external, decided by another that died", dead: []uint64{2}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPreparing, x), in(1, kindPrepared, x), in(2, kindCommit, x), in(1, kindEnd, x),
		}},
		{name: "a tombstone while voting, the home lives", dead: []uint64{2}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPreparing, x), in(2, kindAbort, x),
		}},
		{name: "a tombstone while voting, the home died", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPreparing, x), in(2, kindAbort, x),
		}},
		{name: "an operator's decision", dead: []uint64{1, 2}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPreparing, x), in(1, kindPrepared, x), in(2, kindHeuristic, x), in(2, kindEnd, x),
		}},
		{name: "local", dead: []uint64{1}, found: held(l), records: []entry{
			open(1), in(1, kindCommit, l), in(1, kindEnd, l),
		}},
		{name: "local, its home lives", found: held(l), records: []entry{open(1), in(1, kindCommit, l)}},
		{name: "decided twice", dead: []uint64{1, 2}, found: held(x), records: []entry{
			open(1), open(2), in(1, kindPrepared, x), in(1, kindCommit, x), in(2, kindAbort, x),
		}},
		{name: "a record of the future", dead: []uint64{1}, found: held(x), records: []entry{
			open(1), in(1, kindPrepared, x), in(1, "suspended", x), in(1, kindCommit, x),
		}},
		{name: "a damaged log", dead: nil, damaged: []uint64{1}, found: held(x, l), records: []entry{
			open(1), in(1, kindPreparing, x), in(1, kindPrepared, x),
		}},
		{name: "no log any more", dead: nil, found: held(x, gidOf(2, 1, RoleLocal)), records: []entry{open(2)}},
		{name: "an older copy of the log", dead: []uint64{1}, found: held(gidOf(9, 1, RoleLocal), gidOf(1, 101, RoleLocal)), records: []entry{open(1)}},
		{name: "of a role the resource cannot keep", dead: []uint64{1}, found: held(gidOf(1, 1, RoleLocal)), records: []entry{
			open(1), in(1, kindPreparing, x), in(1, kindPrepared, x),
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
			for _, a := range plan(s, findings{dead: dead, found: life.found, fenced: func(string, uint64) bool { return true }}) {
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
	golden(t, "plan.golden", out.String())
}

// TestPlanUnfenced: what may still change is not touched.
func TestPlanUnfenced(t *testing.T) {
	s := newSurvey()
	s.highest = 1
	s.add(1, record{Kind: kindOpen, Log: LogID{1}, Incarnation: 1, Through: 100}, true)
	l := gidOf(1, 1, RoleLocal)
	f := findings{dead: map[uint64]bool{1: true}, found: map[string][]PreparedBranch{"a": {{GID: l}}}}
	f.fenced = func(string, uint64) bool { return false }
	if do := plan(s, f); len(do) > 0 {
		t.Errorf("got %+v", do)
	}
}

// TestNeeded: whatever order the logs of one transaction are shortened in, and
// wherever that stops, what is left never makes it rise from the dead.
func TestNeeded(t *testing.T) {
	x := gidOf(1, 1, RoleExternal)
	at := time.Now()
	all := map[uint64][]record{
		1: {{Kind: kindPreparing, At: at, GID: x}, {Kind: kindPrepared, At: at, GID: x}},
		2: {{Kind: kindCommit, At: at, GID: x}},
		3: {{Kind: kindEnd, At: at, GID: x}},
		4: {{Kind: kindForget, At: at, GID: x}},
	}
	survey := func() *survey {
		s := newSurvey()
		for n, records := range all {
			s.records[n] = []logged{}
			for i, r := range records {
				s.records[n] = append(s.records[n], logged{int64(i), s.add(n, r, true), kinds[r.Kind].rank})
			}
		}
		return s
	}
	done := func(h *history) bool { return h.done(at, time.Hour) }
	swept := func(GID) bool { return true }
	for _, order := range [][]uint64{{1, 2, 3, 4}, {4, 3, 2, 1}, {3, 1, 4, 2}, {2, 4, 1, 3}} {
		saved := map[uint64][]record{1: all[1], 2: all[2], 3: all[3], 4: all[4]}
		for range 5 {
			for _, n := range order {
				var keep []record
				for _, i := range survey().needed(n, done, swept) {
					keep = append(keep, all[n][i])
				}
				all[n] = keep
				if h := survey().histories[x]; h != nil && !done(h) {
					t.Fatalf("order %v: shortening log %d leaves %s", order, n, h.phase())
				}
			}
		}
		for n, records := range all {
			if len(records) > 0 {
				t.Errorf("order %v: log %d keeps %+v", order, n, records)
			}
		}
		all = saved
	}
	s := survey()
	if keep := s.needed(2, done, func(GID) bool { return false }); len(keep) != 1 {
		t.Error("a decision goes though a resource still keeps its proof")
	}
}

func TestDone(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		h    history
		want bool
	}{
		{"not ended", history{}, false},
		{"acknowledged", history{ended: true, forgotten: true, tx: Transaction{GID: gidOf(1, 1, RoleExternal)}}, true},
		{"local", history{ended: true, tx: Transaction{GID: gidOf(1, 1, RoleLocal)}}, true},
		{"local with a hazard", history{ended: true, decision: Commit, tx: Transaction{GID: gidOf(1, 1, RoleLocal), Hazard: "!"}}, false},
		{"never voted", history{ended: true, tx: Transaction{GID: gidOf(1, 1, RoleExternal)}}, true},
		{"heuristic", history{ended: true, decision: Commit, tx: Transaction{GID: gidOf(1, 1, RoleExternal), Heuristic: true}}, false},
		{"fresh", history{ended: true, decision: Commit, decidedAt: now, tx: Transaction{GID: gidOf(1, 1, RoleExternal)}}, false},
		{"old", history{ended: true, decision: Commit, decidedAt: now.Add(-2 * time.Hour), tx: Transaction{GID: gidOf(1, 1, RoleExternal)}}, true},
		{"hands off", history{ended: true, forgotten: true, tx: Transaction{HandsOff: "!"}}, false},
	} {
		if got := test.h.done(now, time.Hour); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// TestDueOrder: what is left over is tried in the order of its beginning, also
// where a later incarnation has lower sequence numbers.
func TestDueOrder(t *testing.T) {
	var l leftovers
	l.init()
	want := []GID{
		gidOf(1, 7, RoleExternal), gidOf(1, 1<<40, RoleLocal), gidOf(2, 1, RoleExternal), gidOf(2, 3, RoleLocal), gidOf(1<<33, 2, RoleLocal),
	}
	for _, i := range []int{3, 0, 4, 2, 1} {
		l.add(&leftover{gid: want[i]})
	}
	var got []GID
	for _, lo := range l.due(time.Now()) {
		got = append(got, lo.gid)
	}
	if !slices.Equal(got, want) {
		t.Errorf("due %v, want %v", got, want)
	}
}

// TestVoteStands: what has voted stays so, in whatever order its first moments
// are read: nothing may roll it back.
func TestVoteStands(t *testing.T) {
	gid := gidOf(1, 1, RoleExternal)
	vote := record{Kind: kindPrepared, GID: gid, Branches: []BranchID{{Resource: "a", Proof: "7"}}}
	var h history
	h.add(1, vote, true)
	h.add(2, record{Kind: kindPreparing, GID: gid, Branches: []BranchID{{Resource: "a"}}}, true)
	if h.phase() != Prepared || len(h.tx.Branches) != 1 || h.tx.Branches[0].Proof != "7" {
		t.Errorf("%s, %+v", h.phase(), h.tx)
	}
}
