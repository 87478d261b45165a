package ledger

import (
	"strings"
	"testing"
)

func TestAudit(t *testing.T) {
	for _, test := range []struct {
		name   string
		say    func(l *Ledger)
		a, b   map[string]int
		expect string // in the one complaint; empty: none
	}{
		{"good", func(l *Ledger) { l.Say(Try, "x"); l.Say(Done, "x") }, map[string]int{"x": 1}, map[string]int{"x": 1}, ""},
		{"unknown outcome", func(l *Ledger) { l.Say(Try, "y") }, nil, nil, ""},
		{"half", func(l *Ledger) { l.Say(Try, "y") }, map[string]int{"y": 1}, nil, "y is found so often: map[a:1 b:0]"},
		{"twice", func(l *Ledger) { l.Say(Done, "y") }, map[string]int{"y": 1}, map[string]int{"y": 2}, "y is found so often: map[a:1 b:2]"},
		{"gone", func(l *Ledger) { l.Say(Done, "y") }, nil, nil, "y was acknowledged and is nowhere"},
		{"undead", func(l *Ledger) { l.Say(Failed, "y") }, map[string]int{"y": 1}, map[string]int{"y": 1}, "y was rolled back and is there"},
		{"odd", func(l *Ledger) { l.SayOdd("y", "no such thing") }, nil, nil, "y: a client was told what must not be"},
		{"stranger", func(*Ledger) {}, map[string]int{"z": 1}, nil, "a holds 2 transfers, known are 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l Ledger
			l.Say(Done, "good")
			test.say(&l)
			places := map[string]map[string]int{"a": {"good": 1}, "b": {"good": 1}}
			for id, n := range test.a {
				places["a"][id] = n
			}
			for id, n := range test.b {
				places["b"][id] = n
			}
			complaints, _ := l.Audit(places)
			// One that is in one place only is also missed in the sums of the places.
			if all := strings.Join(complaints, "\n"); test.expect == "" && all != "" || !strings.Contains(all, test.expect) {
				t.Errorf("complaints: %q, want %q", complaints, test.expect)
			}
		})
	}
	if complaints, _ := new(Ledger).Audit(nil); len(complaints) != 1 {
		t.Errorf("an empty ledger: %q", complaints)
	}
}

func TestDecided(t *testing.T) {
	var l Ledger
	if _, decided := l.Decided("x"); decided {
		t.Error("decided before anything was said")
	}
	l.Say(Abort, "x")
	l.Say(Commit, "y")
	for id, want := range map[string]bool{"x": false, "y": true} {
		if commit, decided := l.Decided(id); commit != want || !decided {
			t.Errorf("%s: commit %t, decided %t", id, commit, decided)
		}
	}
	if got := l.String(); got != "map[abort:1 commit:1]" {
		t.Error(got)
	}
}
