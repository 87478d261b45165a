package txn

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// samples are a record and a claim with something in every field.
func samples() (record, claimState) {
	gid := GID{Log: LogID{0xfe, 1}, Incarnation: 7, Sequence: 4711, Role: RoleExternal}
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	branches := []BranchID{{Resource: "a", Identity: "1/2/a", Proof: "77"}, {Resource: "b", Identity: "x/b"}}
	r := record{
		Kind: kindPrepared, At: at, GID: gid, ClientGID: "c-1", Named: true, Owner: "alice", Addr: "unix", Database: "d",
		Decider: "bob", Decision: Abort, Hazard: "lost", Branches: branches, Log: gid.Log, Incarnation: 8, Through: 65536,
		Program: "fdt-worker 7-2",
	}
	st := claimState{
		Transaction: Transaction{
			GID: gid, ClientGID: "c-1", Phase: Committing, Heuristic: true, Hazard: "lost", HandsOff: "two decisions", Owner: "alice", Addr: "unix", Database: "d",
			Since: at, Decider: "bob", Branches: branches,
		},
		Claimant: 7, Deciding: Commit, DecidingBy: 9, Decision: Commit,
	}
	return r, st
}

// complete fails if a field was left out: samples must grow with its types.
func complete(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		if f := v.Type().Field(i); v.Field(i).IsZero() {
			t.Errorf("the sample has nothing in %s.%s", v.Type(), f.Name)
		} else if f.Anonymous {
			complete(t, v.Field(i))
		}
	}
}

func text(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is written is read the quick way, as encoding/json reads it.
func TestQuick(t *testing.T) {
	r, st := samples()
	complete(t, reflect.ValueOf(r))
	complete(t, reflect.ValueOf(st))
	for _, r := range []record{r, {Kind: kindEnd, At: r.At, GID: r.GID}, {}} {
		if got, ok := (&quick{rest: text(t, r)}).record(); !ok || !reflect.DeepEqual(got, r) {
			t.Errorf("record: %t, got %+v, want %+v", ok, got, r)
		}
	}
	for _, st := range []claimState{st, {Transaction: Transaction{GID: r.GID, Phase: Prepared, Branches: r.Branches}}} {
		if got, ok := (&quick{rest: text(t, st)}).claim(); !ok || !reflect.DeepEqual(got, st) {
			t.Errorf("claim: %t, got %+v, want %+v", ok, got, st)
		}
	}
}

// It reads nothing that encoding/json refuses or reads otherwise.
func FuzzQuick(f *testing.F) {
	r, st := samples()
	for _, v := range []any{r, st, record{Kind: kindEnd}, record{Kind: kindOpen, ClientGID: "ä\"\\\n"}} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		"", "{", "{}", "{}}", "[]", `{"kind":"end"`, `{"kind":"end",}`, `{"kind" :"end"}`, `{"incarnation":007}`, `{"incarnation":-1}`, `{"incarnation":}`,
		`{"incarnation":99999999999999999999}`, `{"named":false}`, `{"named":true}`, `{"branches":[]}`, `{"branches":[{}]}`, `{"branches":[{"x":1}]}`,
		`{"branches":[{},]}`, `{"kind":"end","kind":"open"}`, `{"gid":"x"}`, `{"at":"x"}`, `{"claimant":1}`, `{"phase":"x"}`, `{"deciding":""}`,
		`{"kind":"e`, `{"kind":"\u0065nd"}`, "{\"kind\":\"e\x00\"}", "{\"kind\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Count(string(b), `"branches"`) > 1 {
			return // a second one is merged into the first by encoding/json
		}
		if got, ok := (&quick{rest: b}).record(); ok {
			var want record
			if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("record %q: got %+v, want %+v, %v", b, got, want, err)
			}
		}
		if got, ok := (&quick{rest: b}).claim(); ok {
			var want claimState
			if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("claim %q: got %+v, want %+v, %v", b, got, want, err)
			}
		}
	})
}
