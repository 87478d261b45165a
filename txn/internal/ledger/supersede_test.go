package ledger

import (
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn/xa"
)

// TestSupersede: of several transactions of one name the last one stands, and what waits for its decision is the last
// one, whatever the clock said when it voted. What is yet to be decided, or told, loses no more than the name.
func TestSupersede(t *testing.T) {
	const (
		stands  = iota
		unnamed // and goes on
		over    // ended and forgotten
	)
	now := time.Unix(1_700_000_000, 0)
	at := func(d time.Duration) xa.Transaction { return xa.Transaction{Since: now.Add(d)} }
	type is struct {
		History
		become int
	}
	for name, test := range map[string][]is{
		"one": {{History{Prepared: true, Decision: xa.Commit}, stands}},
		"the end was lost": {
			{History{Prepared: true, Decision: xa.Commit, Tx: at(0)}, unnamed}, {History{Prepared: true, Tx: at(time.Hour)}, stands},
		},
		"the end was not lost": {
			{History{Prepared: true, Decision: xa.Commit, Ended: true, Tx: at(0)}, over}, {History{Prepared: true, Tx: at(time.Hour)}, stands},
		},
		"the clock was put back": {
			{History{Prepared: true, Decision: xa.Commit, Ended: true, Tx: at(time.Hour)}, over}, {History{Prepared: true, Tx: at(0)}, stands},
		},
		"the clock was put back, and the first was forgotten": {
			{History{Prepared: true, Decision: xa.Commit, Ended: true, Forgotten: true, Tx: at(time.Minute)}, over},
			{History{Prepared: true, Decision: xa.Commit, Tx: at(0)}, stands},
		},
		"the clock was put back, and the first was withdrawn": {
			{History{Ended: true, Tx: at(time.Minute)}, over}, {History{Prepared: true, Decision: xa.Commit, Tx: at(0)}, stands},
		},
		"the clock was put back, and one worker did both": {
			{History{Prepared: true, Decision: xa.Commit, Ended: true, opened: 1, Tx: at(time.Minute)}, over},
			{History{Prepared: true, Decision: xa.Abort, Ended: true, opened: 2, Tx: at(0)}, stands},
		},
		"both decided": {
			{History{Prepared: true, Decision: xa.Commit, Tx: at(0)}, unnamed},
			{History{Prepared: true, Decision: xa.Abort, Ended: true, Tx: at(1)}, stands},
		},
		"two wait": { // what was decided is not readable
			{History{Prepared: true, Tx: at(0)}, unnamed}, {History{Prepared: true, Tx: at(1)}, stands},
		},
		"three": {
			{History{Ended: true, Forgotten: true, Tx: at(0)}, over}, {History{Tx: at(1)}, over}, {History{Tx: at(2)}, stands},
		},
		"of one that lives": {
			{History{Tx: at(0), seen: []seen{{log: 1}, {log: 9}}}, unnamed}, {History{Prepared: true, Tx: at(1)}, stands},
		},
	} {
		s := NewContents()
		incarnation := func(i int) uint64 {
			if test[i].opened > 0 {
				return 1
			}
			return uint64(i + 1)
		}
		for i, h := range test {
			h.Tx.GID, h.Tx.ClientGID = testGID(incarnation(i), uint64(i+1), xa.RoleExternal), "x"
			s.Histories[h.Tx.GID] = &h.History
		}
		s.Histories[testGID(2, 1, xa.RoleLocal)] = &History{Tx: xa.Transaction{GID: testGID(2, 1, xa.RoleLocal)}}
		handsOff := testGID(3, 9, xa.RoleExternal)
		s.Histories[handsOff] = &History{Tx: xa.Transaction{GID: handsOff, ClientGID: "x", HandsOff: "of a newer version", Since: time.Time{}.Add(-1)}}
		s.Supersede(map[uint64]bool{1: true, 2: true, 3: true})
		for i, was := range test {
			h := s.Histories[testGID(incarnation(i), uint64(i+1), xa.RoleExternal)]
			want := was.History
			want.Tx = h.Tx
			want.Unnamed = was.become != stands && !was.Forgotten
			want.Superseded = was.become == over && !was.Forgotten
			want.Ended, want.Forgotten = was.Ended || was.become == over, was.become == over
			if h.Unnamed != want.Unnamed || h.Superseded != want.Superseded || h.Ended != want.Ended || h.Forgotten != want.Forgotten {
				t.Errorf("%s: %d: %+v, want %+v", name, i, *h, want)
			}
		}
		if h := s.Histories[handsOff]; h.Unnamed || h.Ended {
			t.Errorf("%s: what is left to an operator: %+v", name, h)
		}
	}
}

// TestSupersedeOfOneWorker: the clock was put back between two transactions of one name, of which the first was forgotten.
func TestSupersedeOfOneWorker(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	first, later := testGID(1, 1, xa.RoleExternal), testGID(1, 2, xa.RoleExternal)
	for name, end := range map[string][]Record{
		"forgotten": {{Kind: KindEnd, GID: first}, {Kind: KindForget, GID: first}},
		"ended":     {{Kind: KindEnd, GID: first}},
	} {
		s := NewContents()
		add := func(list ...Record) {
			for _, r := range list {
				s.Add(1, r)
			}
		}
		add(Record{Kind: KindPrepared, GID: first, ClientGID: "x", At: now.Add(time.Minute)},
			Record{Kind: KindCommit, GID: first, At: now.Add(time.Minute)})
		add(end...)
		add(Record{Kind: KindPrepared, GID: later, ClientGID: "x", At: now}, Record{Kind: KindCommit, GID: later, At: now})
		s.Supersede(map[uint64]bool{1: true})
		if h := s.Histories[later]; h.Unnamed || h.Ended || h.Forgotten {
			t.Errorf("%s: the later one: %+v", name, h)
		}
		if h := s.Histories[first]; !h.Ended || !h.Forgotten {
			t.Errorf("%s: the first one: %+v", name, h)
		}
	}
}
